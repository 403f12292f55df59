"""Moving numbers without changing them: each backward moves the gradient back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from ..autograd import Tensor, op


@op
def reshape(x, *, shape: Sequence[int]):
    """The same numbers in another shape.   x (any shape) -> (shape), one length may be −1

    dx = g in the shape of x.
    """

    def backward(g):
        return g.reshape(x.shape)

    return x.reshape(shape), backward


@op
def transpose(x, *, axes: Sequence[int] | None = None):
    """Permute axes: axis i of the result is axis axes[i] of x; reversed where axes is None.

    dx = g with the inverse permutation.
    """
    axes = tuple(range(x.ndim))[::-1] if axes is None else tuple(axes)

    def backward(g):
        return g.transpose(np.argsort([a % x.ndim for a in axes]))

    return x.transpose(axes), backward


@op
def index(x, *, at: Any):
    """Part of an array, x[at]: integers, slices, None, …, boolean or integer arrays.

    dx = 0 with g added at the places that were read (a place read twice gets both).
    """
    basic = all(
        i is None or i is Ellipsis or isinstance(i, (int, np.integer, slice))
        for i in (at if isinstance(at, tuple) else (at,))
    )
    if not basic:
        at = deepcopy(at)  # backward needs it as it is now

    def backward(g):
        dx = np.zeros_like(x)
        if basic:  # no place is read twice
            dx[at] = g
        else:
            np.add.at(dx, at, g)
        return dx

    return np.asarray(x[at]), backward


@op
def _concatenate(*xs, axis: int):
    if axis is None:  # NumPy would flatten them
        raise ValueError("concatenate: axis is None; expected an axis, such as 0")
    y = np.concatenate(xs, axis=axis)

    def backward(g):
        ends = np.cumsum([x.shape[axis] for x in xs])[:-1]
        return tuple(np.split(g, ends, axis=axis))

    return y, backward


def concatenate(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join arrays along an axis.   xs: shapes equal but for `axis` -> one array

    The gradient is cut where the arrays were joined.
    """
    return _concatenate(*xs, axis=axis)


@op
def pad(x, *, width: Sequence[tuple[int, int]]):
    """Zeros around an array: width[i] = (before, after) for each axis i.

    dx = g without its border.

    Errors: ValueError where `width` has not one pair for each axis.
    """
    if len(width) != x.ndim:
        raise ValueError(f"pad: {len(width)} pairs of widths for an array of {x.ndim} axes")
    inside = tuple(slice(before, before + n) for (before, _), n in zip(width, x.shape, strict=True))

    def backward(g):
        return g[inside]

    return np.pad(x, width), backward
