"""What the commands share: a parser that reports a mistake in one line."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import files
from ..errors import MinimixError
from ..train.config import SETTINGS, option

# What has an option by its name: the settings of training, those of the network in question, and
# the file of the user's own class where a trained model is read.
OPTIONS = {*SETTINGS, "code"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.about_options = ""  # what to add where an option is not known
        self.elsewhere: set[str] = set()  # options that are no misspellings, but of something else
        self.prepare: Callable[[Sequence[str]], None] | None = None  # called before parsing

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.prepare:
            self.prepare(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {translated(message)} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print, and let it be known where that fails; argparse would keep it to itself."""
        if message and file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


def translated(message: str) -> str:
    """The library's words in those of the command line: `batch_size` becomes --batch-size."""
    return re.sub(r"`(\w+)`", lambda m: option(m[1]) if m[1] in OPTIONS else m[0], message).replace(
        "\n", " "
    )


def refuse(parser: Parser, argument: str) -> NoReturn:
    """End with the line that an argument is not known, and which one was perhaps meant."""
    if not argument.startswith("-"):
        parser.error(f"unexpected argument {argument!r}")
    known = [name for action in parser._actions for name in action.option_strings]
    name = argument.split("=")[0]
    meant = [] if name in parser.elsewhere else difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {meant[0]}?" if meant else ""
    parser.error(f"unknown option {argument}{hint}{parser.about_options}")


def command(
    commands: Any, function: Callable[..., int], name: str, summary: str, **options: Any
) -> Parser:
    """Add a command's parser, to be filled with its options."""
    parser: Parser = commands.add_parser(name, help=summary, description=summary, **options)
    parser.set_defaults(command=function, parser=parser)
    return parser


# ------------------------------------------------------------------ types of arguments


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, not {text!r:.40}") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, not {text!r:.40}") from None


def seconds(text: str) -> float:
    value = number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds from 0 up, not {text!r}")
    return value


def count(text: str) -> int:
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, not {text}")
    return value


def path(text: str) -> Path:
    """A path, with ~ expanded: not every shell does it in --out=~/run."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, not an empty one")
    try:
        return files.expand(text)
    except MinimixError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def print_line(line: str) -> None:
    print(translated(line), flush=True)
