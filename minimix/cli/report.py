"""`minimix report`: a page about runs."""

from __future__ import annotations

import argparse
from typing import Any

from .parser import command, path, print_line


def add(commands: Any) -> None:
    parser = command(
        commands, run, "report", "Write an HTML page about a run, or comparing several runs."
    )
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--out",
        type=path,
        metavar="FILE",
        help="the HTML file (report.html in the run folder; for several runs, here)",
    )


def run(args: argparse.Namespace) -> int:
    from ..report import report

    print(f"report {report(args.runs, args.out, print_line)}")
    return 0
