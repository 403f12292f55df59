"""The command line: a page for each command, which imports what it needs when it is run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import kernels
from ..parallel import together
from ..version import __version__
from . import compare, evaluate, export, gradcheck, lessons, models, predict, report, train
from .parser import Parser, refuse
from .process import guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 where it failed, 2 for wrong usage."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] in (["train"], ["compare"]):  # of which several processes may be one
        return together(lambda: guarded(lambda: _run(arguments)))
    return guarded(lambda: _run(arguments))


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog="minimix",
        description="Train, test and inspect ConvMixers. "
        "minimix COMMAND --help lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"minimix {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for page in (train, evaluate, predict, export, report, compare, models, gradcheck, lessons):
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
