"""What the pages of the commands share: a parser that answers a mistake in one line."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def refuse(parser: Parser, argument: str) -> NoReturn:
    """End with the line that an argument is not known, and which one was perhaps meant."""
    if not argument.startswith("-"):
        parser.error(f"unexpected argument {argument!r}")
    known = [name for action in parser._actions for name in action.option_strings]
    meant = difflib.get_close_matches(argument.split("=")[0], known, n=1)
    parser.error(f"unknown option {argument}" + (f"; did you mean {meant[0]}?" if meant else ""))


def command(
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


def print_line(line: str) -> None:
    print(line, flush=True)
