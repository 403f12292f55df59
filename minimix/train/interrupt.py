"""Ctrl-C as a request: the first is noted, the second stops at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, Self


class Interrupted(Exception):
    """A training was asked to stop, and has saved everything.   signal: which signal asked"""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class Interrupt:
    """Inside its `with` block, `signal` is the number of the signal that asked to stop, or 0.

    Looks out for SIGINT (Ctrl-C) and SIGTERM. Outside the main thread, where Python hears no
    signals, it changes nothing.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def obey(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.signal:
            raise Interrupted(self.signal)

    def _note(self, number: int, _frame: Any) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nfinishing this step, then saving; Ctrl-C again stops at once\n")
