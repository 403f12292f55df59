"""`minimix train`: from options to a run folder."""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import kernels
from ..errors import DiskError, MinimixError
from ..train.config import PRESETS, Config, option
from ..version import __version__
from .parser import command, number, print_line, whole
from .results import print_test

if TYPE_CHECKING:
    from ..data import Dataset


SECTIONS = {  # by the first setting of each
    "data": "what is learned from",
    "hidden_dim": "the network",
    "crop": "what happens to an image before it is learned from",
    "epochs": "how it is learned",
}


def add(commands: Any) -> None:
    parser = command(
        commands,
        run,
        "train",
        "Train a ConvMixer, by default on CIFAR-10 for ten minutes.",
        epilog="In parentheses: the setting of the preset laptop; then what others set it to.",
    )
    group: Any = parser.add_argument_group("the run")
    group.add_argument("--preset", choices=PRESETS, help="the recipe that options change (laptop)")
    group.add_argument(
        "--out", type=Path, metavar="RUN", help="folder to write to (runs/PRESET-NUMBER)"
    )
    group.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="RUN",
        help="go on with the run in this folder, or in --out",
    )
    group.add_argument(
        "--save-every",
        type=number,
        default=60.0,
        metavar="SECONDS",
        help="time between checkpoints; one follows each epoch in any case (60)",
    )
    group.add_argument("--quiet", action="store_true", help="print the result and nothing before")
    for f in fields(Config):
        if f.name in SECTIONS:
            group = parser.add_argument_group(SECTIONS[f.name])
        form: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(f.name)}
        if f.type == "bool":
            form["action"] = argparse.BooleanOptionalAction
        elif f.metadata["choices"]:
            form["choices"] = f.metadata["choices"]
        else:
            form["type"] = {"int": whole, "float": number, "str": str}[str(f.type)]
            form["metavar"] = {"int": "N", "float": "X", "str": "TEXT"}[str(f.type)]
        group.add_argument(option(f.name), **form)


def _help(name: str) -> str:
    """What a setting means, and what it is in each preset."""
    laptop, *others = ((preset, getattr(config, name)) for preset, config in PRESETS.items())
    values = [f"{laptop[1]}", *(f"{preset} {v}" for preset, v in others if v != laptop[1])]
    help = next(f.metadata["help"] for f in fields(Config) if f.name == name)
    return f"{help} ({'; '.join(values)})".replace("%", "%%")


def run(args: argparse.Namespace) -> int:
    from ..data import load
    from ..kernels.threads import get_num_threads
    from ..train import Run, loop
    from ..train.interrupt import Interrupted
    from ..train.progress import clock
    from ..train.saved import config_of

    given = {f.name: getattr(args, f.name) for f in fields(Config) if hasattr(args, f.name)}
    config = _checked(args, lambda: replace(PRESETS[args.preset or "laptop"], **given))
    say: Callable[[str], None] = (lambda line: None) if args.quiet else print_line

    with Run(_run_folder(args), say) as run:
        if args.resume is not None:
            if run.found is None:
                raise MinimixError(f"{run.folder} holds no checkpoint; begin without --resume")
            if run.model.exists():
                say(f"{run.folder} is trained to its end: minimix evaluate {run.folder}")
                return 0
            config = replace(config_of(run.found[1]), **given)
        elif run.found is not None:
            raise MinimixError(
                f"{run.folder} holds a run already; go on with it, minimix train --resume "
                f"{run.folder}, or choose another --out"
            )
        data = load(config.data, say=say)
        _checked(args, lambda: config.check_data(data))
        config = replace(
            config,
            data=_where(config.data, data),  # so that a resumed run does not look elsewhere
            threads=config.threads or get_num_threads(),
        )

        model = config.model(data.n_classes)
        say(f"data   {data.name}, {data.source}")
        say(f"model  {config.name}, {model.n_parameters():,} parameters")
        say(f"run    {run.folder}, seed {config.seed}, {config.threads} threads")
        if run.found is None:
            run.describe(_about(config))
        else:
            say(f"going on from {run.saved}")
        try:
            test = loop.train(config, data, run, save_every=args.save_every, quiet=args.quiet)
        except Interrupted as stop:
            print_line(f"stopped, and saved; go on with: minimix train --resume {run.folder}")
            return 128 + stop.signal
        except DiskError as error:
            way = f"; {run.saved} is whole: make room, then minimix train --resume {run.folder}"
            raise MinimixError(f"{error}{way if run.saved else ''}") from error
        say(f"trained for {clock(run.seconds())}")
        print_test(test, data)
        print(f"checkpoint {run.model}")
    return 0


def _checked(args: argparse.Namespace, make: Callable[[], Any]) -> Any:
    """What `make` gives; its ValueError is a mistake in an option, and ends with 2."""
    try:
        return make()
    except ValueError as error:
        args.parser.error(str(error))


def _run_folder(args: argparse.Namespace) -> Path:
    """The folder that --resume or --out names, or the next free runs/PRESET-NUMBER."""
    if args.resume is None:
        if args.out is not None:
            return args.out
        numbered = (Path("runs", f"{args.preset or 'laptop'}-{n}") for n in itertools.count(1))
        return next(folder for folder in numbered if not folder.exists())
    folder = args.out if args.resume == Path() else args.resume
    if folder is None or args.out not in (None, folder):
        args.parser.error("--resume takes one run folder: --resume RUN, or --resume --out RUN")
    if args.preset is not None:
        args.parser.error("--preset cannot change a run that is resumed: it keeps its settings")
    if not folder.is_dir():
        raise MinimixError(f"there is no run folder {folder} to go on with")
    return folder


def _where(given: str, data: Dataset) -> str:
    """What a resumed run is to load: the set that was found, or the same path from anywhere."""
    if given in ("auto", "cifar10", "shapes10"):
        return data.name
    return str(Path(given).expanduser().absolute())


def _about(config: Config) -> dict[str, Any]:
    """For run.json: what someone who wants to do it again needs to know."""
    import numpy as np

    return {
        "command": shlex.join(["minimix", *sys.argv[1:]]),
        "settings": asdict(config),
        "versions": {
            "minimix": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "backend": kernels.backend_name(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
