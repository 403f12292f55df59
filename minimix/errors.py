"""What goes wrong outside the mathematics: files, data sets, runs.

A wrong argument raises ValueError or TypeError, as in NumPy. What a user can mend by doing
something else (another folder, another file, a smaller learning rate) raises a MinimixError. Its
message is one line that says what was found, what was expected and what to do; the command line
prints that line and exits with 1.
"""

import contextlib
import functools
import math
import re
import sys
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, TypeVar

import numpy as np

Choice = TypeVar("Choice")


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


RANGES: dict[str, Callable[[Any], bool]] = {
    "> 0": lambda x: x > 0,
    "≥ 0": lambda x: x >= 0,
    "0 < x < 1": lambda x: 0 < x < 1,
    "0 ≤ x < 1": lambda x: 0 <= x < 1,
    "0 ≤ x ≤ 1": lambda x: 0 <= x <= 1,
}


def expect(where: str, expected: str, **values: Any) -> None:
    """Raise ValueError, naming the first of `values` that is not a finite number in that range."""
    for name, x in values.items():
        try:
            fine = math.isfinite(x) and RANGES[expected](x)
        except TypeError:
            fine = False
        if not fine:
            raise ValueError(f"{where}: {name} is {x!r}; expected {expected.replace('x', name)}")


def whole(where: str, least: int = 1, **values: Any) -> None:
    """Raise ValueError, naming the first of `values` that is no whole number from `least` on."""
    for name, x in values.items():
        if isinstance(x, bool) or not isinstance(x, Integral) or x < least:
            raise ValueError(
                f"{where}: {name} is {x!r}; expected a whole number of at least {least}"
            )


def one_of(where: str, name: str, value: Any, choices: Mapping[Any, Choice]) -> Choice:
    """What `choices` has for a value. Errors: ValueError, naming it, where that is not a choice."""
    if not isinstance(value, str) or value not in choices:
        *some, last = map(repr, choices)
        can = f"{', '.join(some)} or {last}"
        raise ValueError(f"{where}: {name} is {value!r}; it can be {can}")
    return choices[value]


def expect_whole(where: str, least: int, **values: Any) -> None:
    """Raise ValueError, naming the first of `values` that is not a whole number from `least` on."""
    for name, x in values.items():
        if not hasattr(x, "__index__") or x < least:
            raise ValueError(f"{where}: {name} is {x!r}; expected {least}, {least + 1}, …")


def float_dtype(dtype: Any) -> np.dtype:
    """The dtype, where it is float32 or float64. Errors: ValueError for another one."""
    found = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise ValueError(f"astype: dtype is {found}; expected float32 or float64")
    return found


def expect_shapes(expected: str, *arrays: Any) -> None:
    """Raise ValueError, naming the first array whose shape does not fit: "x (…, K), w (K, C)".

    A letter is the same length wherever it stands, a small letter one that is not 0, and "…" any
    axes, the same ones too. None fits.
    """
    wrong = _misfit(expected, *[None if a is None else a.shape for a in arrays])
    if wrong:
        raise ValueError(wrong)


@functools.lru_cache(maxsize=1024)  # a network has the same few shapes in every step
def _misfit(expected: str, *shapes: tuple[int, ...] | None) -> str:
    """What is wrong with the first shape that does not fit; "" where all do."""
    lengths: dict[str, Any] = {}
    names = re.findall(r"(?:, )?(.+?) \((.*?)\)", expected)
    for (name, letters), given in zip(names, shapes, strict=True):
        if given is None:
            continue
        axes, shape = re.findall(r"\w+|…", letters), list[Any](given)
        if axes[0] == "…" and len(given) >= len(axes) - 1:
            free = len(given) - len(axes) + 1
            shape[:free] = [given[:free]]
        same = len(shape) == len(axes) and all(
            (n != 0 or not axis.islower()) and lengths.setdefault(axis, n) == n
            for axis, n in zip(axes, shape, strict=True)
        )
        if not same:
            known = re.sub(r"\w+", lambda axis: str(lengths.get(axis[0], axis[0])), letters)
            least = [f", {c} ≥ 1" for c in dict.fromkeys(axes) if c.islower() and c in known]
            return f"{name} has shape {given}; expected ({known}){''.join(least)}"
    return ""


_warned: set[str] = set()


def warn(line: str) -> None:
    """Print "minimix: line" on standard error, once per process; nothing if that is closed.

    In a notebook, on standard output: Jupyter shows standard error in red, as what went wrong.
    """
    if line in _warned or sys.stderr is None:
        return
    _warned.add(line)
    with contextlib.suppress(OSError, ValueError):  # a full disk, a closed pipe, a closed file
        out = sys.stdout if "ipykernel.kernelapp" in sys.modules else sys.stderr
        print(f"minimix: {line}", file=out, flush=True)
