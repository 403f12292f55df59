"""A few threads that share one kernel's work.

A compiled kernel lets go of the interpreter lock and takes its work in small pieces until none are
left, so any number of threads may be at it at once. The caller always works too. A helper that has
not begun when the work is done is not waited for; one that has begun is. What a piece computes
never depends on who computes it, which is why the results are the same bits for any number of
threads.

Each thread begins with a share of its own, which is the same part of every array: what the last
kernel wrote there is still in the cache of this core. Between distant cores (chiplets, sockets) a
step in which threads took whatever piece came next was 1.2 to 1.4 times as long. Whoever is done
with its own share goes on with the others'.

Why not Numba's own parallel loops: they compile several times slower, abort the process when two
Python threads start one at the same time, and their spinning threads fight with those of BLAS.

Python raises KeyboardInterrupt, and whatever else a signal handler raises, between any two steps of
the main thread. That is harmless at every step: helpers are asked, and waited for, in compiled code
(work.py), where Python cannot raise anything: in the kernel, or in `leave` if the kernel failed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from _thread import start_new_thread
from collections.abc import Callable
from typing import Any

import numpy as np

from . import threads
from .work import (
    APART,
    BELL,
    BOTH,
    CALL,
    DESK,
    END,
    FAILED,
    LEAST,
    NEXT,
    PATIENCE,
    SPINS,
    TAKEN,
    THREADS,
    TO_CALL,
    TO_NEXT,
    WAIT,
    leave,
    serve,
)

_new_lock = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
_acquire = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
    ("PyThread_acquire_lock", ctypes.pythonapi)
)


def _taken_lock() -> int:
    """Where a lock lies that has been acquired: one of those that Python itself is built from."""
    lock = int(_new_lock())
    _acquire(lock, 1)
    return lock


class _Helper:
    """A thread that does what callers put on its desk (see work.py)."""

    NEVER = _taken_lock()

    def __init__(self, patience: int = LEAST) -> None:
        self.desk = np.zeros(APART, np.int64)
        self.desk[PATIENCE], self.desk[BELL], self.desk[TAKEN] = patience, _taken_lock(), self.NEVER
        self.where = self.desk.ctypes.data
        # The thread may still look at its desk when Python, at its end, lets go of everything.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.desk))


_helpers: list[_Helper] = []


def _help(arrived: threading.Lock) -> None:
    """What a helper does until the process ends."""
    try:
        helper = _Helper()
        _helpers.append(helper)
    finally:
        arrived.release()
    serve(helper.where)


@functools.cache
def _compile() -> None:
    """Compile now what must not wait until memory is short, or until another thread forks."""
    leave(_shares(1, 1).copy())
    serve(_Helper(patience=-1).where)


def _hire(n: int) -> list[_Helper]:
    """n helpers; fewer if the system allows no more threads."""
    _compile()
    while (before := len(_helpers)) < n:
        arrived = threading.Lock()
        arrived.acquire()
        try:
            start_new_thread(_help, (arrived,))
        except RuntimeError:
            break
        arrived.acquire()
        if len(_helpers) == before:
            break
    return _helpers[:n]


@functools.lru_cache(256)
def _shares(pieces: int, n: int) -> np.ndarray:
    """The shares of n threads, before anybody has begun, a row for each, and room for a call."""
    rows = np.zeros((n + CALL // APART if n > 1 else 1, APART), np.int64)
    shares, row = rows[:n], rows.strides[0]
    ends = np.arange(n + 1) * pieces // n
    shares[:, NEXT], shares[:, END] = ends[:-1], ends[1:]
    shares[:, BOTH] = ends[:-1] + ends[1:] - 1
    shares[:, THREADS], shares[:, TO_NEXT] = n, row
    shares[-1, TO_NEXT] -= n * row
    if n > 1:
        shares[:, TO_CALL] = np.arange(n, 0, -1) * row
    shares[:, SPINS] = WAIT if n <= threads.CORES else 0  # else it would keep others waiting
    shares[0, FAILED] = 1
    return rows


def run(kernel: Callable[..., None], pieces: int, *args: Any) -> None:
    """Call kernel(queue, *args) in this thread; helpers that are free make the same call.

    `work` gives out each of the numbers 0 … pieces − 1 once. When this returns, every piece is
    done. When it returns or raises (an error of the kernel, or an interrupt), nobody works on
    `args` any more. MemoryError if a helper failed: a kernel can only run out of memory.
    """
    n = min(threads.get_num_threads(), pieces)
    if n < 2:
        kernel(_shares(pieces, 1).copy(), *args)
        return
    helpers = _hire(n - 1)
    queue = _shares(pieces, len(helpers) + 1).copy()
    for i, helper in enumerate(helpers, 1):
        queue[i, DESK] = helper.where
    try:
        try:
            kernel(queue, *args)
        finally:
            if queue[0, FAILED]:
                leave(queue)
    finally:
        if queue[0, FAILED]:  # also if an interrupt came in the lines above
            leave(queue)
    if queue[0, FAILED]:
        raise MemoryError(f"{kernel.__name__}: no memory left in one of its threads")


def _forget() -> None:
    """After a fork the child has none of its parent's threads."""
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
