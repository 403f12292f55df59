"""`minimix train`: from options to a run folder."""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files, kernels
from ..errors import DiskError, MinimixError
from ..train.config import PRESETS, Config, option
from ..version import __version__
from .parser import command, number, path, print_line, seconds, translated, whole
from .results import print_test

if TYPE_CHECKING:
    from ..data import Dataset

SECTIONS = {  # by the first setting of each
    "data": "Data",
    "hidden_dim": "Network",
    "crop": "Augmentation of the training images",
    "epochs": "Optimization",
}


def add(commands: Any) -> None:
    parser = command(
        commands,
        run,
        "train",
        "Train a ConvMixer, by default on CIFAR-10 (seven minutes on two cores).",
        epilog="Defaults are in parentheses: that of the preset laptop, then those of other "
        "presets\nwhere they differ.",
    )
    group: Any = parser.add_argument_group("Run")
    group.add_argument(
        "--preset", choices=PRESETS, help="the recipe to start from; options change it (laptop)"
    )
    group.add_argument(
        "--out", type=path, metavar="RUN", help="the run folder to write to (runs/PRESET-NUMBER)"
    )
    group.add_argument(
        "--resume",
        nargs="?",
        type=path,
        const=True,
        metavar="RUN",
        help="continue the run in this folder, or in --out",
    )
    group.add_argument(
        "--save-every",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="time between checkpoints within an epoch; one always follows an epoch (60)",
    )
    group.add_argument("--quiet", action="store_true", help="print the final result only")
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
    """What a setting means, and its value in each preset."""
    shown = {True: "on", False: "off"}
    values = {preset: getattr(config, name) for preset, config in PRESETS.items()}
    words = {k: shown[v] if isinstance(v, bool) else str(v) for k, v in values.items()}
    default = words.pop("laptop")
    others = "".join(f"; {preset}: {word}" for preset, word in words.items() if word != default)
    help = next(f.metadata["help"] for f in fields(Config) if f.name == name)
    return translated(f"{help} ({default}{others})").replace("%", "%%")


def run(args: argparse.Namespace) -> int:
    from ..data import load
    from ..kernels import get_num_threads
    from ..runs import RunFolder
    from ..train import TrainingState, loop
    from ..train.interrupt import Interrupted
    from ..train.progress import clock
    from ..train.trained import config_of

    given = {f.name: getattr(args, f.name) for f in fields(Config) if hasattr(args, f.name)}
    config = _checked(args, lambda: replace(PRESETS[args.preset or "laptop"], **given))
    say: Callable[[str], None] = (lambda line: None) if args.quiet else print_line

    with RunFolder(_run_folder(args), say) as folder:
        resume = f"minimix train --resume {shlex.quote(str(folder.path))}"
        if args.resume is not None:
            if folder.checkpoint is None:
                way = "choose another --out" if folder.begun else "start without --resume"
                raise MinimixError(f"{folder.path} holds no checkpoint; {way}")
            if folder.finished():
                say(f"{folder.path} has been trained to the end: minimix evaluate {folder.path}")
                return 0
            began = config_of(folder.checkpoint.facts)
            config = _checked(args, lambda: replace(began, **given))
        elif folder.begun:
            way = f"continue it with {resume}, or " if folder.checkpoint else ""
            raise MinimixError(f"{folder.path} holds a run already; {way}choose another --out")
        data = load(config.data, say=say)
        _checked(args, lambda: config.check_data(config.limited(data)))
        config = replace(
            config,
            data=_where(config.data, data),  # so that a resumed run does not look elsewhere
            threads=config.threads or get_num_threads(),
        )
        state = TrainingState.build(config, data, folder.checkpoint)
        say(f"data   {data.name}, {data.source}")
        say(f"model  {config.name}, {state.model.n_parameters():,} parameters")
        say(f"run    {folder.path}, seed {config.seed}, {config.threads} threads")
        if folder.saved:
            say(f"resuming from {folder.saved}")
        folder.describe(_about(config))
        try:
            test = loop.train(state, folder, save_every=args.save_every, quiet=args.quiet)
        except Interrupted as stop:
            with suppress(OSError):  # of a terminal that was closed
                print_line(f"stopped, and saved; continue with: {resume}")
            return 128 + stop.signal
        except DiskError as error:
            way = f"; once the disk works again, continue with: {resume}" if folder.saved else ""
            raise MinimixError(f"{error}{way}") from error
        say(f"trained for {clock(folder.seconds)}")
        print_test(test, data)
        print(f"checkpoint {folder.model}")
    return 0


def _checked(args: argparse.Namespace, make: Callable[[], Any]) -> Any:
    """What `make` gives; its ValueError is a mistake in an option, and ends with exit code 2."""
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
        return next(folder for folder in numbered if not os.path.lexists(folder))
    folder = args.out if args.resume is True else args.resume
    if folder is None or args.out not in (None, folder):
        args.parser.error("--resume takes one run folder: --resume RUN, or --resume --out RUN")
    if args.preset is not None:
        args.parser.error("--preset cannot change a run that is resumed: it keeps its settings")
    if not os.path.isdir(folder):
        raise MinimixError(f"there is no run folder {folder} to resume")
    return folder


def _where(given: str, data: Dataset) -> str:
    """What a resumed run is to load: the set that was found, or the same path from anywhere."""
    if given in ("auto", "cifar10", "shapes10"):
        return data.name
    return os.path.abspath(files.expand(given))


def _about(config: Config) -> dict[str, Any]:
    """For run.json: what someone needs to know to run it again."""
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
