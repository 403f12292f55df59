"""`minimix gradcheck`: every gradient against finite differences."""

from __future__ import annotations

import argparse
from typing import Any

from .parser import command


def add(commands: Any) -> None:
    parser = command(commands, run, "gradcheck", "Hold every gradient against finite differences.")
    parser.add_argument("operations", nargs="*", metavar="OP", help="only these (all)")
    parser.add_argument(
        "--backend",
        choices=("numpy", "numba", "both"),
        default="both",
        help="whose kernels to check (both)",
    )


def run(args: argparse.Namespace) -> int:
    from ..gradcheck.cases import run

    return run(args.operations, args.backend)
