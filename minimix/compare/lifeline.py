"""python -m minimix.compare.lifeline COMMAND…: `minimix COMMAND…`, for as long as its parent lives.

The parent holds the other end of a pipe that is this process's standard input. When the parent
closes it, or has died in whatever way, this process is told to stop as by SIGTERM: a training then
finishes its step, saves, and ends.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def watch() -> None:
    """Wait until nobody holds the other end, then ask this process to stop."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    runpy.run_module("minimix", run_name="__main__", alter_sys=True)
