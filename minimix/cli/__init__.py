"""The command line: a page for each command, which imports what it needs when it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .. import kernels
from ..errors import MinimixError
from ..version import __version__
from . import evaluate, gradcheck, lessons, predict, report, train
from .parser import Parser, refuse


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
    for page in (train, evaluate, predict, report, gradcheck, lessons):
        page.add(commands)

    args, unknown = parser.parse_known_args(argv)
    if unknown:
        refuse(args.parser if args.command else parser, unknown[0])
    if args.command is None:
        parser.print_help()
        return 0
    try:
        kernels.backend_name()
    except ValueError as error:
        parser.error(str(error))
    return args.command(args)
