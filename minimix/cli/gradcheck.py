"""`minimix gradcheck`: every gradient against finite differences."""

from __future__ import annotations

import argparse
from typing import Any

from .parser import command


def add(commands: Any) -> None:
    parser = command(commands, run, "gradcheck", "Check every gradient against finite differences.")
    parser.add_argument("operations", nargs="*", metavar="OP", help="operations to check (all)")
    parser.add_argument(
        "--backend",
        choices=("numpy", "numba", "both"),
        default="both",
        help="which kernels to check (both)",
    )


def run(args: argparse.Namespace) -> int:
    from ..gradcheck.cases import run

    return run(args.operations, args.backend)
