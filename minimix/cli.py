"""The command line: one function a command, each importing what it needs when it is run."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import kernels
from .errors import DiskError, MinimixError
from .train.config import PRESETS, Config, option
from .version import __version__

if TYPE_CHECKING:
    from .data import Dataset
    from .train import Evaluation


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 where it failed, 2 for wrong usage.

    With MINIMIX_DEBUG=1 an error shows where it came from.
    """
    for stream in (sys.stdout, sys.stderr):  # a console that has no × shows ?
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except SystemExit as end:  # argparse has helped, or refused
        return int(end.code or 0)
    except BrokenPipeError:  # whoever read the output has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MinimixError, MemoryError, KeyboardInterrupt) as error:
        if os.environ.get("MINIMIX_DEBUG") == "1":
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        words = {
            KeyboardInterrupt: "interrupted",
            MemoryError: f"not enough memory: {error}; a smaller --batch-size needs less",
        }
        print(f"minimix: {words.get(type(error), error)}", file=sys.stderr)
        return 130 if interrupted else 1


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="minimix", description=f"minimix {__version__}: a ConvMixer to read whole")
    parser.add_argument("--version", action="version", version=f"minimix {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for add in (add_train, add_evaluate, add_predict, add_report, add_gradcheck, add_lessons):
        add(commands)

    args, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(args.parser if args.command else parser, unknown[0])
    if args.command is None:
        parser.print_help()
        return 0
    try:
        kernels.backend_name()
    except ValueError as error:
        parser.error(str(error))
    return args.command(args)


def _refuse(parser: Parser, argument: str) -> NoReturn:
    """End with the line that an argument is not known, and which one was perhaps meant."""
    if not argument.startswith("-"):
        parser.error(f"unexpected argument {argument!r}")
    known = [name for action in parser._actions for name in action.option_strings]
    meant = difflib.get_close_matches(argument.split("=")[0], known, n=1)
    parser.error(f"unknown option {argument}" + (f"; did you mean {meant[0]}?" if meant else ""))


def _command(
    commands: Any, function: Callable[..., int], name: str, summary: str, **options: Any
) -> Parser:
    """Add a command's parser, to be filled with its options."""
    parser: Parser = commands.add_parser(name, help=summary, description=summary, **options)
    parser.set_defaults(command=function, parser=parser)
    return parser


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, not {text!r}") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, not {text!r}") from None


# ------------------------------------------------------------------ train

SECTIONS = {  # by the first setting of each
    "data": "what is learned from",
    "hidden_dim": "the network",
    "crop": "what happens to an image before it is learned from",
    "epochs": "how it is learned",
}


def add_train(commands: Any) -> None:
    parser = _command(
        commands,
        train,
        "train",
        "Train a ConvMixer, by default on CIFAR-10 for ten minutes.",
        epilog="In parentheses: the setting of the preset laptop; then what others set it to.",
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--preset", choices=PRESETS, help="the recipe that options change (laptop)")
    run.add_argument(
        "--out", type=Path, metavar="RUN", help="folder to write to (runs/PRESET-NUMBER)"
    )
    run.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="RUN",
        help="go on with the run in this folder, or in --out",
    )
    run.add_argument(
        "--save-every",
        type=number,
        default=60.0,
        metavar="SECONDS",
        help="time between checkpoints; one follows each epoch in any case (60)",
    )
    run.add_argument("--quiet", action="store_true", help="print the result and nothing before")
    group: Any = run
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


def train(args: argparse.Namespace) -> int:
    from .data import load
    from .kernels.threads import get_num_threads
    from .train import Run, loop
    from .train.interrupt import Interrupted
    from .train.progress import clock
    from .train.saved import config_of

    given = {f.name: getattr(args, f.name) for f in fields(Config) if hasattr(args, f.name)}
    config = _checked(args, lambda: replace(PRESETS[args.preset or "laptop"], **given))
    say: Callable[[str], None] = (lambda line: None) if args.quiet else _say

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
            _say(f"stopped, and saved; go on with: minimix train --resume {run.folder}")
            return 128 + stop.signal
        except DiskError as error:
            way = f"; {run.saved} is whole: make room, then minimix train --resume {run.folder}"
            raise MinimixError(f"{error}{way if run.saved else ''}") from error
        say(f"trained for {clock(run.seconds())}")
        _print_test(test, data)
        print(f"checkpoint {run.model}")
    return 0


def _checked(args: argparse.Namespace, make: Callable[[], Any]) -> Any:
    """What `make` gives; its ValueError is a mistake in an option, and ends with 2."""
    try:
        return make()
    except ValueError as error:
        args.parser.error(str(error))


def _say(line: str) -> None:
    print(line, flush=True)


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


def _print_test(test: Evaluation, data: Dataset) -> None:
    """The accuracy of each class, of all, and apart from them that with mirrored images."""
    for name, accuracy in zip(data.class_names, test.per_class, strict=True):
        print(f"{name:>12} " + ("no images" if accuracy is None else f"{100 * accuracy:6.2f} %"))
    print(f"test accuracy {100 * test.accuracy:.2f} %")
    if test.mirrored is not None:
        print(f"with mirrored images {100 * test.mirrored:.2f} %")


# ------------------------------------------------------------------ evaluate


def add_evaluate(commands: Any) -> None:
    parser = _command(commands, evaluate, "evaluate", "Test a trained model.")
    parser.add_argument("model", type=Path, metavar="RUN", help="run folder, or a model's file")
    parser.add_argument("--data", help="another place of the data set it was trained on")
    parser.add_argument("--mirror", action="store_true", help="also with mirrored images")


def evaluate(args: argparse.Namespace) -> int:
    from .data import load
    from .fuse import fuse
    from .train import evaluate as test
    from .train.saved import config_of, load_model

    model, facts = load_model(args.model)
    config = config_of(facts)
    data = config.limited(load(args.data or config.data))
    if list(data.class_names) != facts["data"]["class_names"]:
        raise MinimixError(
            f"{args.model} was trained on {facts['data']['name']}, --data is {data.name}: "
            "other classes"
        )
    images, labels = data.test_images, data.test_labels
    _print_test(test(fuse(model), images, labels, data.n_classes, mirror=args.mirror), data)
    return 0


# ------------------------------------------------------------------ predict


def add_predict(commands: Any) -> None:
    parser = _command(commands, predict, "predict", "Say what is in a picture.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="of any size")
    parser.add_argument(
        "--model", type=Path, metavar="RUN", help="run folder or file (the model in this package)"
    )
    parser.add_argument("--top", type=whole, default=3, metavar="N", help="classes to print (3)")
    parser.add_argument(
        "--explain", type=Path, metavar="FILE", help="save a picture of what the layers see"
    )


def predict(args: argparse.Namespace) -> int:
    from . import functional as F
    from .autograd import Tensor, no_grad
    from .data import normalize, pictures
    from .errors import DataError
    from .train.saved import load_model

    if args.top < 1:
        args.parser.error(f"--top is {args.top}; expected at least 1")
    if args.explain and len(args.images) > 1:
        args.parser.error(f"--explain draws one image, but {len(args.images)} are given")
    model, facts = load_model(args.model)
    names = facts["data"]["class_names"]
    failed = 0
    with kernels.backend("numpy"):  # for a few images compiling is not worth the wait
        for path in args.images:
            try:
                x = pictures.read(path, facts["data"]["image_size"])
            except DataError as error:  # the others are still to be seen
                print(f"minimix: {error}", file=sys.stderr)
                failed = 1
                continue
            with no_grad():
                likely = F.softmax(model(Tensor(normalize(x[None])))).array[0]
            top = sorted(zip(likely, names, strict=True), reverse=True)[: args.top]
            print(f"{path}: " + ", ".join(f"{name} {100 * p:.1f} %" for p, name in top))
            if args.explain:
                from .report.explain import explain, save

                save(explain(model, x, names), args.explain)
                print(f"picture {args.explain}")
    return failed


# ------------------------------------------------------------------ report


def add_report(commands: Any) -> None:
    parser = _command(
        commands, report, "report", "Write a page about a run, or about several to compare."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the HTML file (report.html in the run's folder; of several, in this one)",
    )


def report(args: argparse.Namespace) -> int:
    from .report import report

    print(f"report {report(args.runs, args.out, _say)}")
    return 0


# ------------------------------------------------------------------ gradcheck


def add_gradcheck(commands: Any) -> None:
    parser = _command(
        commands, gradcheck, "gradcheck", "Hold every gradient against finite differences."
    )
    parser.add_argument("operations", nargs="*", metavar="OP", help="only these (all)")
    parser.add_argument(
        "--backend",
        choices=("numpy", "numba", "both"),
        default="both",
        help="whose kernels to check (both)",
    )


def gradcheck(args: argparse.Namespace) -> int:
    from .gradcheck.cases import run

    return run(args.operations, args.backend)


# ------------------------------------------------------------------ lessons


def add_lessons(commands: Any) -> None:
    parser = _command(
        commands, lessons, "lessons", "Copy the lessons to a folder of yours and open them."
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="(minimix-lessons)")
    parser.add_argument("--check", action="store_true", help="say which exercises are solved")
    parser.add_argument("--no-open", action="store_true", help="copy only")


def lessons(args: argparse.Namespace) -> int:
    from lessons import command

    folder = args.folder or command.DEFAULT
    return command.main(folder, check_progress=args.check, open_lab=not args.no_open)
