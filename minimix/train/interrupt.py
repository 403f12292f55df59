"""Signals that ask training to stop: it finishes the current step and saves first."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Self

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Interrupted(Exception):
    """Training was asked to stop, and has saved everything.   signal: which signal asked"""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class Interrupt:
    """Inside its `with` block, `signal` is the number of the signal that asked to stop, or 0.

    Those are SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed), unless the process was
    started with the signal ignored, as `nohup` does. A second Ctrl-C stops at once. Outside the
    main thread, where Python receives no signals, nothing is changed.

    quiet  whether to leave out the line that says what happens now
    """

    def __init__(self, quiet: bool = False) -> None:
        self.signal, self.quiet = 0, quiet
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: Any) -> None:
        if self.signal:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.signal = number
        if self.quiet:
            return
        with contextlib.suppress(OSError):  # not print: the signal may have come during one
            os.write(2, b"\nfinishing this step, then saving; Ctrl-C again stops at once\n")
