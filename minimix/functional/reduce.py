"""Reductions: sum, mean, variance, largest, smallest.

`axis` is None (all axes), an int or a tuple of ints; `keepdims` keeps reduced axes with length 1.
A single number has no axes, but 0 and −1 are taken for it, as NumPy and PyTorch take them.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..autograd import Array, Axis, op

__all__ = ["max", "mean", "min", "std", "sum", "var"]


def _reduced(x: Array, axis: Axis, name: str = "") -> tuple[Axis, tuple[int, ...], int, type]:
    """The axes, the shape of x with length 1 there (what broadcasts against x), n, and a dtype.

    n      how many numbers become one; an error where there are none and `name` says whose
    dtype  to add them in: many float32, one after the other, would lose digits
    """
    axes = None if x.ndim == 0 and axis in (0, -1) else axis
    reduced = range(x.ndim) if axes is None else normalize_axis_tuple(axes, x.ndim)
    n = prod(x.shape[i] for i in reduced)
    if n == 0 and name:
        raise ValueError(f"{name}: x of shape {x.shape} is empty, and nothing has no {name}")
    kept = tuple(1 if i in reduced else m for i, m in enumerate(x.shape))
    return axes, kept, n, np.float64 if n > 256 else x.dtype.type


@op
def sum(x, *, axis: Axis = None, keepdims: bool = False):
    """Sum over axes.   x (any shape) -> Σ x, 0 where there is nothing to add

    dx = g, copied back along the axes that were summed.
    """
    axis, kept, _, dtype = _reduced(x, axis)
    y = np.asarray(x.sum(axis=axis, keepdims=keepdims, dtype=dtype).astype(x.dtype))
    return y, lambda g: np.broadcast_to(g.reshape(kept), x.shape)


@op
def mean(x, *, axis: Axis = None, keepdims: bool = False):
    """Mean over axes.   x (any shape) -> Σ x / n, n numbers in each sum

    dx = g / n, copied back along the axes that were averaged.

    Errors: ValueError where n is 0: nothing has no mean.
    """
    axis, kept, n, dtype = _reduced(x, axis, "mean")
    y = np.asarray(x.mean(axis=axis, keepdims=keepdims, dtype=dtype).astype(x.dtype))
    return y, lambda g: np.broadcast_to((g / x.dtype.type(n)).reshape(kept), x.shape)


@op
def var(x, *, axis: Axis = None, correction: float = 0, keepdims: bool = False):
    """Variance over axes.   x (any shape) -> Σ (x − μ)² / (n − correction), n numbers in each sum

    dx = 2 g (x − μ) / (n − correction).   correction=0, as in NumPy: the variance of these numbers;
    1, as in PyTorch: an unbiased estimate for where they were drawn from.

    Errors: ValueError where n is not more than the correction.
    """
    axis, kept, n, dtype = _reduced(x, axis)
    if n <= correction:
        what = f"var: x of shape {x.shape} has {n} numbers to a variance"
        raise ValueError(f"{what}; with correction {correction} it takes more than {correction}")
    deviation = x - x.mean(axis=axis, keepdims=True, dtype=dtype).astype(x.dtype)
    deviation -= deviation.mean(axis=axis, keepdims=True)  # what rounding left
    n = x.dtype.type(n - correction)

    def backward(g):
        return (2 / n * g).reshape(kept) * deviation

    squares = np.square(deviation).sum(axis=axis, keepdims=keepdims, dtype=dtype)
    return np.asarray((squares / n).astype(x.dtype)), backward


@op
def std(x, *, axis: Axis = None, correction: float = 0, keepdims: bool = False):
    """Standard deviation over axes: the square root of `var`.   x (any shape) -> y = √var x

    dx = g (x − μ) / ((n − correction) y),  0 where all are equal (a kink)
    """
    variance, back = var.array(x, axis=axis, correction=correction, keepdims=keepdims)
    y = np.sqrt(variance)

    return y, lambda g: back(np.divide(g, 2 * y, out=np.zeros_like(y), where=y != 0))


@op
def max(x, *, axis: Axis = None, keepdims: bool = False):
    """Largest value over axes.   x (any shape) -> max x

    dx = g at the largest value, 0 elsewhere. Where several are equally large (a kink: no gradient
    exists) they share g evenly. What is not a number counts as largest.

    Errors: ValueError where there is nothing to choose from.
    """
    return _extreme("max", x, axis, keepdims)


@op
def min(x, *, axis: Axis = None, keepdims: bool = False):
    """Smallest value over axes.   x (any shape) -> min x;   all else as for `max`"""
    return _extreme("min", x, axis, keepdims)


def _extreme(name: str, x: Array, axis: Axis, keepdims: bool):
    axis, kept, *_ = _reduced(x, axis, name)
    y = np.asarray(getattr(x, name)(axis=axis, keepdims=keepdims))

    def backward(g):
        chosen = (x == y.reshape(kept)) | np.isnan(x)
        share = chosen / chosen.sum(axis=axis, keepdims=True)
        return (g.reshape(kept) * share).astype(x.dtype)

    return y, backward
