"""`minimix report`: a page about runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .parser import command, print_line


def add(commands: Any) -> None:
    parser = command(
        commands, run, "report", "Write a page about a run, or about several to compare."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the HTML file (report.html in the run's folder; of several, in this one)",
    )


def run(args: argparse.Namespace) -> int:
    from ..report import report

    print(f"report {report(args.runs, args.out, print_line)}")
    return 0
