"""What an answer may not do while it is checked: run for ever, or wait for somebody."""

from __future__ import annotations

import builtins
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TooLong(BaseException):
    """Raised in what runs longer than it may. No `except Exception` of a student's stops it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLong in what computes longer than that, or waits longer, and so does not end.

    Time in which other programs have the processor does not count: what waits is what has not
    computed for a twentieth of the time. Does nothing on Windows and outside of the main thread:
    there are no such signals there.
    """
    if not hasattr(signal, "SIGPROF") or threading.current_thread() is not threading.main_thread():
        yield
        return
    began, computed = time.monotonic(), time.process_time()

    def stop(*_: Any) -> None:
        raise TooLong(f"still running after {seconds:.2g} s; is there a loop that never ends?")

    def look(*_: Any) -> None:
        if time.monotonic() - began < seconds:
            return
        if time.process_time() - computed < seconds / 20:
            raise TooLong(f"still waiting after {seconds:.2g} s; what does it wait for?")

    clocks = (signal.SIGPROF, signal.ITIMER_PROF, stop), (signal.SIGALRM, signal.ITIMER_REAL, look)
    before = [(signal.signal(name, f), *signal.getitimer(timer)) for name, timer, f in clocks]
    around = before[0][1]  # what is left of a limit around this one
    seconds = min(seconds, around or seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        for (name, timer, _), (handler, left, every) in zip(clocks, before, strict=True):
            signal.setitimer(timer, left, every)
            signal.signal(name, handler)


@contextmanager
def unanswered() -> Iterator[None]:
    """`input()` raises an error instead of waiting for somebody."""

    def refuse(prompt: object = "") -> str:
        raise RuntimeError("input() gets no answer while exercises are checked")

    asked, builtins.input = builtins.input, refuse
    try:
        yield
    finally:
        builtins.input = asked
