"""`minimix train`: from options to a run folder."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import DiskError, MinimixError
from ..models import FAMILIES
from ..train.architecture import REQUIRED, Setting, absolute, blaming, settings_of, sized
from ..train.config import (
    PRESETS,
    RECIPES,
    SETTINGS,
    changed,
    config_of,
    option,
    recipe,
)
from .parser import OPTIONS, Parser, command, number, path, print_line, seconds, translated, whole
from .results import print_test, reading

if TYPE_CHECKING:
    pass

SECTIONS = {  # by the first setting of each
    "data": "Data",
    "model": "Network",
    "crop": "Augmentation of the training images",
    "epochs": "Optimization",
}


CONVMIXER, LAPTOP = "convmixer", "laptop"  # the model unless another is named, and its preset
PLAIN = "plain"  # what the recipes of families start from


def add(commands: Any) -> None:
    parser = command(
        commands,
        run,
        "train",
        "Train a network, by default a ConvMixer on CIFAR-10 (seven minutes on two cores).",
        epilog="Defaults are in parentheses: that of the preset laptop, then those of other "
        "presets\nand families where they differ. Each family has options of its own: "
        "minimix train --model vit --help.",
    )
    group: Any = parser.add_argument_group("Run")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="the recipe to start from; options change it (laptop, or that of another --model)",
    )
    group.add_argument(
        "--out", type=path, metavar="RUN", help="the run folder to write to (runs/NAME-NUMBER)"
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
    for f in SETTINGS.values():
        if f.name in SECTIONS:
            group = parser.add_argument_group(SECTIONS[f.name])
        if f.name == "model":
            parser.prepare = partial(_add_settings, parser, group)
        form: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(f.name)}
        if f.type == "bool":
            form["action"] = argparse.BooleanOptionalAction
        elif f.metadata["choices"]:
            form["choices"] = f.metadata["choices"]
        else:
            form["type"] = {"int": whole, "float": number, "str": str}[str(f.type)]
            form["metavar"] = {"int": "N", "float": "X", "str": "TEXT"}[str(f.type)]
        group.add_argument(option(f.name), **form)


def _add_settings(parser: Parser, group: Any, args: Sequence[str]) -> None:
    """Add an option for each setting of the network that the arguments name."""
    first = Parser(prog=parser.prog, add_help=False)
    for name in ("--model", "--resume", "--out"):
        first.add_argument(name, nargs="?")
    known, _ = first.parse_known_args(args)
    model = known.model or _model_of(known.resume or known.out) or "convmixer"
    try:
        settings = settings_of(model)
    except ValueError as error:
        parser.error(str(error))
    for setting in settings.values():
        if option(setting.name) in parser._option_string_actions:
            parser.error(
                f"{model} has a setting {setting.name!r}, which is the name of an option of "
                "training; give it another"
            )
        values = {
            preset: config.model_settings[setting.name]
            for preset, config in PRESETS.items()
            if config.model == model
        }
        group.add_argument(option(setting.name), **_form(setting, values))
    listed = ", ".join(map(option, settings)) or "none"
    parser.elsewhere = {option(name) for family in FAMILIES for name in settings_of(family)}
    parser.about_options = f" (the network {model} has {listed})"
    OPTIONS.update(settings)


def _model_of(folder: str | None) -> str | None:
    """The network of the run in this folder, if there is one that says so."""
    if not folder:
        return None
    try:
        settings = json.loads((files.expand(folder) / "run.json").read_bytes())["settings"]
        return str(settings["model"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MinimixError):
        return None


def _form(setting: Setting, values: dict[str, Any]) -> dict[str, Any]:
    """How the command line takes a setting of the network; values: what presets have."""
    default = values.pop(LAPTOP, setting.default)
    words = "required" if default is REQUIRED else _defaults(default, values)
    help = " ".join(filter(None, [setting.help, f"({words})"])).replace("%", "%%")
    form: dict[str, Any] = {
        "default": argparse.SUPPRESS,
        "dest": f"net.{setting.name}",
        "help": help,
    }
    if setting.kind is bool:
        return form | {"action": argparse.BooleanOptionalAction}
    types: dict[type, Callable[[str], Any]] = {int: whole, float: number, str: str}
    one = types[setting.kind]
    metavar = {int: "N", float: "X", str: "TEXT"}[setting.kind]
    if setting.choices:
        metavar = "{" + ",".join(map(str, setting.choices)) + "}"

    def read(text: str) -> Any:
        if setting.optional and text == "none":
            return None
        return tuple(map(one, text.split(","))) if setting.many else one(text)

    return form | {"type": read, "metavar": f"{metavar},…" if setting.many else metavar}


def _word(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value).lower()


def _help(name: str) -> str:
    """What a setting means, its value in each preset, and in the recipe of each family."""
    values = {preset: getattr(config, name) for preset, config in PRESETS.items()}
    if name != "model":
        others = {f: own for f, own in RECIPES.items() if f != CONVMIXER}
        values |= {family: own.get(name, values[PLAIN]) for family, own in others.items()}
    words = f"{SETTINGS[name].metadata['help']} ({_defaults(values.pop(LAPTOP), values)})"
    return translated(words).replace("%", "%%")


def _defaults(default: Any, others: dict[str, Any]) -> str:
    """The default, and who has another: 10; official: 25; vit, resnet: 12"""
    who: dict[str, list[str]] = {}
    for name, value in others.items():
        if value != default:
            who.setdefault(_word(value), []).append(name)
    return "; ".join([_word(default), *(f"{', '.join(who[word])}: {word}" for word in who)])


def run(args: argparse.Namespace) -> int:
    from ..kernels import get_num_threads, set_num_threads
    from ..parallel import world
    from ..runs import hold
    from ..train import TrainingState, loop
    from ..train.fit import about, where
    from ..train.interrupt import Interrupted
    from ..train.progress import clock

    given = {name: getattr(args, name) for name in SETTINGS if hasattr(args, name)}
    given |= {name[4:]: value for name, value in vars(args).items() if name.startswith("net.")}
    model = given.pop("model", None)
    if args.resume is None:
        model, preset = model or CONVMIXER, _preset(args)
        config = _checked(args, lambda: recipe(model, preset, **given))
    say: Callable[[str], None] = (lambda line: None) if args.quiet else print_line

    ranks = world()
    with hold(lambda: _run_folder(args), say, ranks) as folder:
        resume = f"minimix train --resume {shlex.quote(str(folder.path))}"
        if args.resume is not None:
            if folder.checkpoint is None:
                way = "choose another --out" if folder.begun else "start without --resume"
                raise MinimixError(f"{folder.path} holds no checkpoint; {way}")
            if ranks.broadcast(folder.finished()):
                say(f"{folder.path} has been trained to the end: minimix evaluate {folder.path}")
                return 0
            began = config_of(folder.checkpoint.facts)
            family, sizes = sized(absolute(model or began.model))
            given = {**sizes, **given}
            if family != began.model:
                args.parser.error(
                    f"`model` is {model}, but this run was begun with {began.model}; "
                    "leave it out, or start another run"
                )
            config = _checked(args, lambda: changed(began, **given))
        elif ranks.broadcast(folder.begun):
            way = f"continue it with {resume}, or " if folder.checkpoint else ""
            raise MinimixError(f"{folder.path} holds a run already; {way}choose another --out")
        with reading(args.quiet) as progress, ranks.first_then_others():
            data = config.load(say=say, progress=progress)
        threads = config.threads or get_num_threads()
        if ranks.size > 1:  # each has one thread, unless this command says otherwise
            threads = given.get("threads", 0)
            if not threads and "OMP_NUM_THREADS" not in os.environ:
                set_num_threads(1)
        config = replace(
            config,
            data=where(config.data, data),  # so that a resumed run does not look elsewhere
            threads=threads,
        )
        with blaming(config.model):
            state = _checked(args, lambda: TrainingState.build(config, data, folder.checkpoint))
        say(f"data   {data.name}, {data.source}")
        say(f"model  {state.config.name}, {state.model.n_parameters():,} parameters")
        each = f"{ranks.size} processes, threads each: " if ranks.size > 1 else "threads: "
        say(f"run    {folder.path}, seed {config.seed}, {each}{threads or get_num_threads()}")
        if folder.saved:
            say(f"resuming from {folder.saved}")
        folder.describe(about(state.config, shlex.join(["minimix", *sys.argv[1:]])))
        if state.code is not None:
            folder.keep_code(state.code)
        try:
            with blaming(config.model):
                test = loop.train(
                    state, folder, save_every=args.save_every, quiet=args.quiet, ranks=ranks
                )
        except Interrupted as stop:
            with suppress(OSError):  # of a terminal that was closed
                print_line(f"stopped, and saved; continue with: {resume}")
            return 128 + stop.signal
        except DiskError as error:
            way = f"; once the disk works again, continue with: {resume}" if folder.saved else ""
            raise MinimixError(f"{error}{way}") from error
        say(f"trained for {clock(folder.seconds)}")
        print_test(test, data, config.tested_on)
        print(f"checkpoint {folder.model}")
    return 0


def _checked(args: argparse.Namespace, make: Callable[[], Any]) -> Any:
    """What `make` gives; its ValueError is a mistake in an option, and ends with exit code 2."""
    try:
        return make()
    except ValueError as error:
        args.parser.error(str(error))


def _preset(args: argparse.Namespace) -> str | None:
    """The preset to start from; None: the recipe of the model's family."""
    plain = getattr(args, "model", CONVMIXER) == CONVMIXER
    return args.preset or (LAPTOP if plain else None)


def _run_folder(args: argparse.Namespace) -> Path:
    """The folder that --resume or --out names, or the next free runs/NAME-NUMBER."""
    if args.resume is None:
        if args.out is not None:
            return args.out
        name = _preset(args) or args.model.rpartition(":")[2]
        numbered = (Path("runs", f"{name}-{n}") for n in itertools.count(1))
        return next(folder for folder in numbered if not os.path.lexists(folder))
    folder = args.out if args.resume is True else args.resume
    if folder is None or args.out not in (None, folder):
        args.parser.error("--resume takes one run folder: --resume RUN, or --resume --out RUN")
    if args.preset is not None:
        args.parser.error("--preset cannot change a run that is resumed: it keeps its settings")
    if not os.path.isdir(folder):
        raise MinimixError(f"there is no run folder {folder} to resume")
    return folder
