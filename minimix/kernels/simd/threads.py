"""A few threads that share one kernel's work, and one number that governs them all.

A compiled kernel lets go of the interpreter lock and takes its work in small pieces until none are
left, so any number of threads may call it at once. The caller always works too, and a helper that
wakes late finds nothing to do: nobody waits for a core that something else is using. What a piece
computes never depends on who computes it, which is why the results are the same bits for any number
of threads.

Each thread begins with a share of its own, which is the same part of every array: what the last
kernel wrote there is still in the cache of this core. Between distant cores (chiplets, sockets) a
step in which threads took whatever piece came next was 1.2 to 1.4 times as long. Whoever is done
with its own share goes on with the others'.

Why not Numba's own parallel loops: they compile several times slower, abort the process when two
Python threads start one at the same time, and their spinning threads fight with those of BLAS.

Python raises KeyboardInterrupt, and whatever else a signal handler raises, between any two steps
of the main thread. That is harmless at every step, since

- two calls of `run` share nothing but threads that wait: a call makes a `_Place` for each helper,
  and a helper that comes too late finds its place closed;
- the caller closes all its places, which includes waiting for helpers that are at work, in a
  single call of C, during which Python raises nothing;
- what has to be remembered is never a second step that an interrupt could cut off. An iterator
  remembers which places are closed; helpers, whom signals never reach, enter themselves in the
  list of helpers.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import threading
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import filterfalse
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import Any

import numpy as np

# ---- how many threads


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


# ---- locks that no signal interrupts

# Waiting for a `threading.Lock` ends early if a signal handler raises. Waiting for one of the locks
# that Python itself is built from does not. `_wait` lets go of the interpreter lock meanwhile;
# `_take` does not wait, and returns 0 if somebody else has the lock.
_Lock = ctypes.c_void_p
_ACQUIRE = ("PyThread_acquire_lock", ctypes.pythonapi)
_take = ctypes.PYFUNCTYPE(ctypes.c_int, _Lock, ctypes.c_int)(_ACQUIRE, ((1,), (1, "wait", 0)))
_wait = ctypes.CFUNCTYPE(ctypes.c_int, _Lock, ctypes.c_int)(_ACQUIRE, ((1,), (1, "wait", 1)))
_release = ctypes.PYFUNCTYPE(None, _Lock)(("PyThread_release_lock", ctypes.pythonapi))
_new_lock = ctypes.PYFUNCTYPE(_Lock)(("PyThread_allocate_lock", ctypes.pythonapi))
_spare: list[int] = []  # locks that nobody uses at present


class _Place:
    """One helper's place at one kernel. It belongs to whoever has its lock.

    The helper has it while it works. In the end the caller takes it and keeps it, so that a helper
    that comes later does nothing.
    """

    __slots__ = ("args", "begun", "error", "filled", "kernel", "lock")

    def __init__(self, kernel: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.kernel, self.args = kernel, args
        self.begun = self.filled = False
        self.error: BaseException | None = None
        try:
            self.lock = _spare.pop()
        except IndexError:
            self.lock = _new_lock()

    def fill(self) -> None:
        """In the helper: work, if the place is still free."""
        if not _take(self.lock):
            self.recycle()  # the caller has left for good: nobody else knows this lock any more
            return
        self.begun = True
        try:
            self.kernel(*self.args)
        except BaseException as error:
            self.error = error
        self.filled = True
        _release(self.lock)

    def recycle(self) -> None:
        """Keep the lock for another place. Whoever comes to a place second does this."""
        _release(self.lock)
        _spare.append(self.lock)


# ---- the threads

# How often a helper looks for the next kernel before it sleeps: for 50 to 200 µs. Between two
# kernels of a net Python may take as long, and waking up takes 50. But where another process wants
# the core, a helper that was looking has had its turn by the time there is work. So one that came
# too late looks less, and more again with each time that it is there.
PATIENCE, MORE = (2000, 8000), 400
LATE = 32  # a helper that has not looked at so many places yet gets no core; it gets no more places


class _Inbox(SimpleQueue[_Place]):
    """Where a helper finds its places. With Numba, it looks for a moment before it sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = np.zeros(2, np.int64)  # see spin.py
        self.where = self.desk.ctypes.data
        self.given = 0  # how many places
        self.patience = PATIENCE[0]
        self.linger = self.settle = lambda desk, done, *spins: None
        with suppress(ImportError):
            from .spin import linger, settle

            self.linger, self.settle = linger, settle

    def give(self, place: _Place) -> None:
        self.put(place)
        self.given += 1  # second: if an interrupt cuts this off, callers wait less, not longer


_inboxes: list[_Inbox] = []  # one for each helper


def _help(arrived: threading.Lock) -> None:
    """What a helper does until the process ends."""
    inbox = _Inbox()
    _inboxes.append(inbox)
    arrived.release()
    for done in itertools.count(1):
        place = inbox.get()
        inbox.desk[0] = 0
        place.fill()
        del place  # and what its kernel was given
        if inbox.empty() and _count <= CORES:  # else it would keep others waiting
            inbox.linger(inbox.where, done, inbox.patience)


def _helpers(n: int) -> list[_Inbox]:
    """The inboxes of n helpers; of fewer if the system allows no more threads."""
    while len(_inboxes) < n:
        arrived = threading.Lock()
        arrived.acquire()
        try:
            start_new_thread(_help, (arrived,))
        except RuntimeError:
            break
        arrived.acquire()
    return _inboxes[:n]


# A share of the work, of one thread: the next piece of it that nobody has taken, where it ends, the
# sum of its first and its last, how many bytes on the next thread's share lies (a ring), how many
# threads there are, and where the helper's desk lies (see spin.py; 0: it is the caller's share).
NEXT, END, BOTH, TO_NEXT, THREADS, DESK = range(6)
APART = 16  # words from a share to the next, so that no cache line holds parts of two


@functools.lru_cache(256)
def _shares(pieces: int, n: int) -> np.ndarray:
    """The shares of n threads, before anybody has begun: a row for each."""
    shares = np.zeros((n, APART), np.int64)
    ends = np.arange(n + 1) * pieces // n
    shares[:, NEXT], shares[:, END] = ends[:-1], ends[1:]
    shares[:, BOTH] = ends[:-1] + ends[1:] - 1
    shares[:, TO_NEXT], shares[:, THREADS] = shares.strides[0], n
    shares[-1, TO_NEXT] -= shares.nbytes
    return shares


def _settle(inboxes: list[_Inbox], places: list[_Place]) -> None:
    """Wait a moment for those who are at work: they will be done soon."""
    for inbox, place in zip(inboxes, places, strict=True):
        if place.begun and _count <= CORES:
            inbox.settle(inbox.where, inbox.given)
        inbox.patience = min(inbox.patience + MORE, PATIENCE[1]) if place.begun else PATIENCE[0]


def run(kernel: Callable[..., None], pieces: int, *args: Any) -> None:
    """kernel(queue, *args) in every thread; `work` gives out the numbers 0 … pieces − 1.

    When this returns, every piece is done. When it returns or raises (an error of the kernel, here
    or in a helper, or an interrupt), nobody works on `args` any more.
    """
    if _count == 1 or pieces < 2:
        kernel(_shares(pieces, 1)[0].copy(), *args)
        return
    inboxes = [inbox for inbox in _helpers(min(_count, pieces) - 1) if inbox.qsize() < LATE]
    own, *shares = _shares(pieces, len(inboxes) + 1).copy()
    places = [_Place(kernel, (share, *args)) for share in shares]
    for inbox, share in zip(inboxes, shares, strict=True):
        share[DESK] = inbox.where
    closing = map(_wait, filterfalse(_take, [place.lock for place in places]))
    try:
        try:
            for inbox, place in zip(inboxes, places, strict=True):
                inbox.give(place)
            kernel(own, *args)
            _settle(inboxes, places)
        finally:
            deque(closing, maxlen=0)  # do all of `closing`, in this one call
    finally:
        deque(closing, maxlen=0)  # nothing is left, unless a debugger raised in the line above
    for place in places:
        place.args = ()  # a helper that has yet to come would keep the arrays alive
        if place.filled:
            place.recycle()
    for place in places:
        if place.error is not None:
            raise place.error


def _forget() -> None:
    """After a fork the child has none of its parent's threads."""
    _inboxes.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
