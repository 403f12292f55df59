"""What goes wrong outside the mathematics: files, data sets, runs.

A wrong argument raises ValueError or TypeError, as in NumPy. What a user can mend by doing
something else (another folder, another file, a smaller learning rate) raises a MinimixError. Its
message is one line that says what was found, what was expected and what to do; the command line
prints that line and exits with 1.
"""

import contextlib
import sys


class MinimixError(Exception):
    """Base class of errors that come from files, data or settings, not from the program."""


class DataError(MinimixError):
    """A data set is missing, damaged or not what its name promises."""


class DiskError(MinimixError):
    """The disk is full, fails, or does not allow what was asked of it."""


class CheckpointError(MinimixError):
    """A checkpoint or run folder is missing, damaged, in use, or of another model or version."""


class DivergenceError(MinimixError):
    """A loss, gradient or input is no longer finite."""


_warned: set[str] = set()


def warn(line: str) -> None:
    """Print "minimix: line" on standard error, once per process; nothing if that is closed."""
    if line in _warned or sys.stderr is None:
        return
    _warned.add(line)
    with contextlib.suppress(OSError, ValueError):  # a full disk, a closed pipe, a closed file
        print(f"minimix: {line}", file=sys.stderr, flush=True)
