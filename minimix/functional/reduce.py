"""Reductions: sum, mean, max.

`axis` is None (all axes), an int or a tuple of ints; `keepdims` keeps reduced axes with length 1.
"""

from __future__ import annotations

import numpy as np

from ..autograd import Array, op

Axis = int | tuple[int, ...] | None


def _restore(g: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """Give g its reduced axes back, with length 1, so that it broadcasts against `shape`."""
    kept = np.ones(len(shape), bool)
    kept[np.array(range(len(shape)) if axis is None else axis, int)] = False
    return g.reshape([n if keep else 1 for n, keep in zip(shape, kept, strict=True)])


@op
def sum(x, *, axis: Axis = None, keepdims: bool = False):
    """Sum over axes.   x (any shape) -> Σ x

    dx = g, copied back along the axes that were summed.
    """

    def backward(g):
        return np.broadcast_to(_restore(g, x.shape, axis), x.shape)

    return np.asarray(x.sum(axis=axis, keepdims=keepdims)), backward


@op
def mean(x, *, axis: Axis = None, keepdims: bool = False):
    """Mean over axes.   x (any shape) -> Σ x / n, n numbers in each sum

    dx = g / n, copied back along the axes that were averaged.
    """
    y = np.asarray(x.mean(axis=axis, keepdims=keepdims))
    n = x.size // y.size if y.size else 1

    def backward(g):
        return np.broadcast_to(_restore(g / x.dtype.type(n), x.shape, axis), x.shape)

    return y, backward


@op
def max(x, *, axis: Axis = None, keepdims: bool = False):
    """Largest value over axes.   x (any shape) -> max x

    dx = g at the largest value, 0 elsewhere. Where several are equally large (a kink: no gradient
    exists) they share g evenly.
    """
    y = np.asarray(x.max(axis=axis, keepdims=keepdims))

    def backward(g):
        largest = x == _restore(y, x.shape, axis)
        share = largest / largest.sum(axis=axis, keepdims=True)
        return (_restore(g, x.shape, axis) * share).astype(x.dtype)

    return y, backward
