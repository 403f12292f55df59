"""Processes that end together, whatever happens to one of them.

A rank that fails must end the others, who would wait for it forever. When all of them fail at the
same point (a wrong option, a loss that is not finite), nobody has to be ended, and rank 0 speaks
for all. So a rank that fails first waits for the others to arrive at this point too, for a moment.
Where some do not, it says by itself what went wrong, and ends them all.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any

from ..errors import MinimixError
from .ranks import launched, world

MOMENT = 1.5  # seconds


def together(command: Callable[[], int]) -> int:
    """Run a command, with its exit code, in all processes that mpiexec started.

    Rank 0 alone prints. A rank that fails ends all within seconds, and one of them says why.
    """
    rank = launched()
    if rank is None:
        return command()
    heard = io.StringIO()
    with ExitStack() as muted:
        if rank > 0:
            muted.enter_context(redirect_stdout(io.StringIO()))
            muted.enter_context(redirect_stderr(heard))
        code = command()
    if code != 0:
        try:
            size = world().size
        except MinimixError:  # rank 0 has said that these processes cannot reach each other
            return code
        if size > 1:
            from mpi4py import MPI

            _end(MPI.COMM_WORLD, code, heard.getvalue())
    return code


def _end(everybody: Any, code: int, heard: str) -> None:
    """Return where all ranks come here within a moment; otherwise end them all."""
    arrived = everybody.Ibarrier()
    # The lower ranks are less patient, so that one of several speaks.
    patience = time.monotonic() + MOMENT + 0.1 * everybody.Get_rank()
    while time.monotonic() < patience:
        if arrived.Test():
            return
        time.sleep(0.01)
    if lines := heard.strip().splitlines():
        print(f"rank {everybody.Get_rank()}: {lines[-1]}", file=sys.stderr, flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI would say only that it was told to
    everybody.Abort(code)
