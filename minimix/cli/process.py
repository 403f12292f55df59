"""The process around a command: its standard streams, its signals, and what it says at the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..errors import MinimixError
from .parser import translated


def guarded(command: Callable[[], int]) -> int:
    """Run a command; the exit code: its own, 1 where it failed, 128 + n for signal n.

    Whatever goes wrong is one line on standard error. With MINIMIX_DEBUG=1 it is a traceback.
    """
    _open_streams()
    try:
        with _terminable():
            try:
                code = command()
            except SystemExit as end:  # argparse has helped or refused, or a signal has come
                code = end.code if isinstance(end.code, int) else bool(end.code)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # whoever read the output has seen enough
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("MINIMIX_DEBUG") == "1":
            raise
        with suppress(OSError, ValueError):
            print(f"minimix: {_line(error)}", file=sys.stderr, flush=True)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        _let_go()


def _line(error: BaseException) -> str:
    """What to say of an error, in one line."""
    if isinstance(error, MinimixError):
        return translated(str(error))
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError):
        return translated(f"not enough memory ({error}); a smaller `batch_size` needs less")
    if isinstance(error, OSError):
        place = f"cannot use {error.filename}" if error.filename else "cannot write the output"
        return f"{place}: {error.strerror or error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return translated(
        f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno}). "
        "This is a bug in minimix: please report it, with what MINIMIX_DEBUG=1 prints"
    )


def _open_streams() -> None:
    """Open all three standard streams; what one cannot encode becomes a question mark.

    A file would otherwise get the number of a stream that was closed, and what is meant for the
    stream would be written into it.
    """
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _let_go() -> None:
    """Leave nothing in the buffers that Python would fail to write when it ends (exit code 120)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the `with` blocks, unless the parent had them ignored."""

    def stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
