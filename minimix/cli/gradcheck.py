"""`minimix gradcheck`: every gradient against finite differences."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import kernels
from .parser import command, print_line

if TYPE_CHECKING:
    from ..gradcheck.cases import Case


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
    """Print a table of all cases, or those of the operations named; 1 if a gradient is wrong."""
    from ..gradcheck.cases import CASES

    known = list(dict.fromkeys(case.operation for case in CASES))
    for name in args.operations:
        if name not in known:
            lower = {k.lower(): k for k in reversed(known)}
            near = [lower[k] for k in difflib.get_close_matches(name.lower(), lower, 3, 0.6)]
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            args.parser.error(f"there is no operation {name!r}; {hint}")
    backends = [b for b in ("numpy", "numba") if args.backend in (b, "both")]
    if "numba" in backends and importlib.util.find_spec("numba") is None:
        if args.backend == "numba":
            args.parser.error("numba is not installed; give --backend numpy")
        backends.remove("numba")
    wanted = [case for case in CASES if not args.operations or case.operation in args.operations]
    return _table(wanted, backends)


def _table(cases: Sequence[Case], backends: Sequence[str]) -> int:
    widths = [max(len(case.operation) for case in cases), max(len(case.about) for case in cases)]

    def line(operation: str, about: str, errors: Sequence[str], verdict: str) -> str:
        columns = "".join(f"  {error:>8}" for error in errors)
        return f"{operation:{widths[0]}}  {about:{widths[1]}}{columns}  {verdict}"

    print_line(line("", "largest relative error with", backends, ""))
    began, failures = time.perf_counter(), []
    for case in cases:
        errors, verdict = [], "ok"
        for name in backends:
            with kernels.backend(name):
                report = case.check()
            errors.append(f"{report.error:.1e}")
            if not report.ok:
                verdict = "WRONG"
                failures.append(f"{case.operation}, {case.about}, {name}: {report}")
        print_line(line(case.operation, case.about, errors, verdict))
    seconds = time.perf_counter() - began
    verdict = f"{len(failures)} WRONG" if failures else "every gradient is right"
    count = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    for text in ("", *failures, f"{count} in {seconds:.0f} s: {verdict}"):
        print_line(text)
    return 1 if failures else 0
