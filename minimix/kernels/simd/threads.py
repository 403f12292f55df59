"""One number that governs how many threads work, in kernels (team.py) and in NumPy's products."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import numpy as np


def _cores() -> int:
    """How many cores this process may keep busy."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    own = ""
    with suppress(OSError):
        own = Path("/proc/self/cgroup").read_text()
    return _quota(Path("/sys/fs/cgroup"), own, cores)


def _default() -> int:
    """The cores this process may keep busy, or OMP_NUM_THREADS if that is fewer."""
    cores, asked = _cores(), os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores


def _quota(folder: Path, own: str, cores: int) -> int:
    """How many of `cores` this process may keep busy (Linux's control groups, version 2 and 1).

    A part of a core counts as one.

    folder  where groups have their limits: a container finds its own at the top
    own     this process's groups, lines such as 0::/a/b (version 2) and 4:cpu,cpuacct:/a/b (1)
    """
    for line in ("0::/", "0:cpu:/", *own.splitlines()):
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath("cpu" if controllers else ".", path.lstrip("/"))
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        for place in (group, *group.parents):  # a group may not use more than those around it
            # Without such a file, or a limit ("max", -1), there is nothing to keep to.
            with suppress(OSError, ValueError, ZeroDivisionError):
                limits = " ".join((folder / place / name).read_text() for name in names)
                quota, period = map(int, limits.split())
                if quota > 0:
                    cores = min(cores, -(-quota // period))
    return cores


CORES = _cores()
_count = _default()


def get_num_threads() -> int:
    """How many threads kernels use.

    By default one for each core that this process may keep busy (its affinity, the CPU quota of its
    control groups, such as a container's), and no more than OMP_NUM_THREADS.
    """
    return _count


def set_num_threads(n: int) -> None:
    """Use n threads, in minimix's kernels and in NumPy's matrix products alike.

    That holds for the whole process, other users of NumPy's OpenBLAS included, until it is called
    again. minimix leaves OpenBLAS as it is unless this is called; trainings with the setting
    `threads` do so, and put back what was there.

    Compiled kernels and optimizers give the same bits for any n. Products that NumPy hands to its
    BLAS (those of the numpy back end, and of `Tensor @ Tensor`) may differ in their last bits.
    ValueError where n is not a positive whole number.
    """
    global _count
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: n is {n!r}; it must be a whole number of at least 1")
    _count = n
    _blas("set", n)


@contextmanager
def using_threads(n: int) -> Iterator[None]:
    """Inside this block, n threads (0: as many as outside); afterwards everything is as it was."""
    global _count
    before, blas = _count, _blas("get")
    if n:
        set_num_threads(n)
    try:
        yield
    finally:
        _count = before
        if n and blas is not None:
            _blas("set", blas)


def _blas(what: str, *n: int) -> int | None:
    """ "get" or "set" the number of threads of OpenBLAS, as NumPy's wheels carry it.

    It has no Python name. None, and nothing happens, where NumPy has another library.
    """
    try:
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
        return int(getattr(library, f"scipy_openblas_{what}_num_threads64_")(*n))
    except (AttributeError, OSError):
        return None
