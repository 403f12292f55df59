"""A few threads that share one kernel's work, and one number that governs them all.

A compiled kernel lets go of the interpreter lock and takes its work in small pieces from a shared
counter until none are left, so any number of threads may call it at once. The caller always works
too, and a thread that wakes late finds nothing to do: nobody waits for a core that something else
is using. What a piece computes never depends on who computes it, which is why the results are the
same bits for any number of threads.

Why not Numba's own parallel loops: they compile several times slower, abort the process when two
Python threads start one at the same time, and their spinning threads fight with those of BLAS.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np


def _default() -> int:
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        available = os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdigit() and int(asked) > 0 else available


class _Worker:
    """A thread that runs whatever `job` is whenever its `wake` lock is released."""

    def __init__(self) -> None:
        self.job: Callable[[], None] | None = None
        self.wake = threading.Lock()
        self.done = threading.Lock()
        self.error: BaseException | None = None
        self.wake.acquire()
        self.done.acquire()
        threading.Thread(target=self._work, name="minimix", daemon=True).start()

    def _work(self) -> None:
        while True:
            self.wake.acquire()
            if self.job is None:
                return
            try:
                self.job()
            except BaseException as error:
                self.error = error
            self.job = None
            self.done.release()

    def start(self, job: Callable[[], None] | None) -> None:
        self.job = job
        self.wake.release()

    def finish(self) -> BaseException | None:
        """Take the job back from a thread that has not begun, else wait; what went wrong, if so."""
        if self.wake.acquire(blocking=False):
            self.job = None
            return None
        self.done.acquire()
        error, self.error = self.error, None
        return error


_count = _default()
_workers: list[_Worker] = []
_busy = threading.Lock()


def run(kernel: Callable[..., None], pieces: int, *args: Any) -> None:
    """kernel(queue, *args) in every thread; `queue` hands out the numbers 0 … pieces − 1.

    Where the threads are busy with another caller's kernel, the calling thread does it alone.
    """
    queue = np.array([0, pieces], np.int64)
    helpers = min(_count, pieces) - 1
    if helpers < 1 or not _busy.acquire(blocking=False):
        kernel(queue, *args)
        return
    try:
        while len(_workers) < helpers:
            _workers.append(_Worker())
        job = functools.partial(kernel, queue, *args)
        for worker in _workers[:helpers]:
            worker.start(job)
        try:
            job()
        finally:
            errors = [worker.finish() for worker in _workers[:helpers]]
        for error in errors:
            if error is not None:
                raise error
    finally:
        _busy.release()


def get_num_threads() -> int:
    """How many threads kernels use: the cores this process may run on, or OMP_NUM_THREADS."""
    return _count


def set_num_threads(n: int) -> None:
    """Use n threads, in minimix's kernels and in NumPy's matrix products alike.

    ValueError where n is not a positive whole number.
    """
    global _count
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: n is {n!r}; it must be a whole number of at least 1")
    with _busy:
        _count = n
        while len(_workers) > n - 1:
            _workers.pop().start(None)
    _set_blas_threads(n)


def _set_blas_threads(n: int) -> None:
    """OpenBLAS, as NumPy's wheels carry it, has no Python name; other libraries keep their own."""
    try:
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
        setter = library.scipy_openblas_set_num_threads64_
    except (AttributeError, OSError):
        return
    setter(ctypes.c_int(n))


def _forget() -> None:
    """After a fork the child has none of its parent's threads, and maybe its locks held."""
    global _busy
    _workers.clear()
    _busy = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
