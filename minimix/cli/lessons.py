"""`minimix lessons`: the notebooks in a folder of the student's own."""

from __future__ import annotations

import argparse
from typing import Any

from .parser import command, path


def add(commands: Any) -> None:
    parser = command(
        commands, run, "lessons", "Copy the lessons to a folder and open them in JupyterLab."
    )
    parser.add_argument(
        "folder", nargs="?", type=path, metavar="DIR", help="folder to copy to (minimix-lessons)"
    )
    parser.add_argument("--check", action="store_true", help="show which exercises are solved")
    parser.add_argument("--json", action="store_true", help="with --check: print JSON, to grade by")
    parser.add_argument("--no-open", action="store_true", help="copy, but do not open")


def run(args: argparse.Namespace) -> int:
    from lessons import command

    folder = args.folder or command.DEFAULT
    return command.main(
        folder,
        check_progress=args.check or args.json,
        as_json=args.json,
        open_lab=not args.no_open,
    )
