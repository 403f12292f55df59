"""How a student's value differs from the right one, in words."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from minimix import Tensor


def plain(value: Any) -> Any:
    """A value as Python's own numbers, strings and lists, whatever it is made of."""
    if isinstance(value, Tensor):
        value = value.array
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Fraction):
        return float(value)
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def same(got: Any, want: Any, rtol: float = 1e-9) -> bool:
    """Whether two values are equal: numbers up to rounding, tuples and arrays as lists."""
    got, want = plain(got), plain(want)
    if isinstance(want, list):
        return (
            isinstance(got, list)
            and len(got) == len(want)
            and all(same(a, b, rtol) for a, b in zip(got, want, strict=True))
        )
    if isinstance(got, float) or isinstance(want, float):
        numbers = not {type(got), type(want)} - {int, float}
        near = numbers and math.isclose(got, want, rel_tol=rtol, abs_tol=1e-12)
        return near or (got != got and want != want)  # nan
    try:
        return type(got) is type(want) and bool(got == want)
    except Exception:
        return False


def difference(got: Any, want: Any, rtol: float | None = None) -> str | None:
    """How `got` differs from `want`, in words that follow "the result …"; None if it does not.

    Numbers are compared in the lower of the two precisions.
    """
    got, want = (v.array if isinstance(v, Tensor) else v for v in (got, want))
    if not isinstance(want, (np.ndarray, np.number, int, float)) or isinstance(want, bool):
        return None if same(got, want) else f"is {form(got)}, expected {form(want)}"
    try:
        array = np.asarray(float(got) if isinstance(got, Fraction) else got)
    except Exception:
        array = np.asarray(None)
    if array.dtype.kind not in "biufc":
        return f"is {form(got)}, expected {form(want)}"
    target = np.asarray(want)
    if array.shape != target.shape:
        return f"has shape {array.shape}, expected {target.shape}"
    whole = target.dtype.kind in "biu" and array.dtype.kind in "biu"
    precision = max(_PRECISION.get(v.dtype.type, 0.0) for v in (array, target))
    if whole:
        wrong = array != target
    else:
        scale = np.max(np.abs(target[np.isfinite(target)]), initial=0.0)
        atol = max(rtol or 1e-9, precision) * max(scale, 1e-3)
        wrong = ~np.isclose(array, target, rtol=0, atol=atol, equal_nan=True)
    if not wrong.any():
        return None
    if not np.isfinite(array).all() and np.isfinite(target).all():
        return f"contains {array[~np.isfinite(array)].flat[0]}"
    return _compared(array, target, wrong)


_PRECISION = {np.float32: 1e-4, np.float16: 1e-2}


def _compared(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> str:
    """Both numbers, and a simple relation between them if there is one."""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    text = _unequal(got[at], want[at])
    if got.ndim:
        n = f"{wrong.sum()} of {wrong.size} numbers are" if wrong.size > 1 else "it is"
        text = f"at [{', '.join(map(str, at))}] {text} ({n} wrong)"
    if got.dtype.kind in "biuf" and (want[wrong] != 0).all():
        ratio = got[wrong].astype(float) / want[wrong]
        first = float(ratio.flat[0])
        everywhere = np.allclose(ratio, first, rtol=1e-4) and wrong.sum() == (want != 0).sum()
        if everywhere and (got.size > 1 or first in (-1, 0.5, 2)):
            text += _times(first)
    return text


def _unequal(got: Any, want: Any) -> str:
    """Two numbers with as many digits as it takes to see that they differ."""
    for digits in range(6, 18):
        a, b = (f"{v}" if isinstance(v, np.integer) else f"{v:.{digits}g}" for v in (got, want))
        if a != b:
            break
    return f"is {a}, expected {b}"


def _times(ratio: float) -> str:
    if abs(ratio + 1) < 1e-4:
        return ": the sign is wrong"
    if abs(ratio) < 1e-4:
        return ": all of it is 0"
    return f": {ratio:.4g} times what it should be"


def form(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if (
        isinstance(value, tuple)
        and len(value) > 1
        and not all(isinstance(v, (int, float, str)) for v in value)
    ):
        return f"a tuple of {len(value)}"
    if value is None or isinstance(value, (bool, int, float, str, tuple, list)):
        text = repr(value)
        return text if len(text) <= 80 else text[:77] + "…"
    return "a function" if callable(value) else f"a {type(value).__name__}"
