"""Moving numbers without changing them: each backward moves the gradient back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..autograd import Axis, Part, Tensor, op

__all__ = ["broadcast_to", "concatenate", "flatten", "flip", "index", "pad", "reshape", "split"]
__all__ += ["squeeze", "stack", "swapaxes", "transpose", "unbind", "unsqueeze"]


@op
def reshape(x, *, shape: Sequence[int]):
    """The same numbers in another shape.   x (any shape) -> (shape), one length may be −1

    dx = g in the shape of x.
    """
    return x.reshape(shape), lambda g: g.reshape(x.shape)


@op
def transpose(x, *, axes: Sequence[int] | None = None):
    """Permute axes: axis i of the result is axis axes[i] of x; reversed where axes is None.

    dx = g with the inverse permutation.
    """
    axes = tuple(range(x.ndim))[::-1] if axes is None else tuple(axes)
    return x.transpose(axes), lambda g: g.transpose(np.argsort([a % x.ndim for a in axes]))


def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes: swapaxes(x, -1, -2) transposes each matrix of a stack."""
    axes = list(range(x.ndim))
    i, j = (normalize_axis_index(axis, x.ndim, "swapaxes") for axis in (axis1, axis2))
    axes[i], axes[j] = axes[j], axes[i]
    return transpose(x, axes=axes)


def flatten(x: Tensor, start: int = 0, end: int = -1) -> Tensor:
    """The axes from `start` to `end`, that one included, made into one."""
    a, b = (normalize_axis_index(axis, x.ndim or 1, "flatten") for axis in (start, end))
    if a > b:
        raise ValueError(f"flatten: start is {start} and end {end}; the end comes before the start")
    return reshape(x, shape=(*x.shape[:a], prod(x.shape[a : b + 1]), *x.shape[b + 1 :]))


def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """Leave out axes of length 1: those named, or all there are.

    Errors: ValueError where an axis that is named has another length.
    """
    ones = {i for i, n in enumerate(x.shape) if n == 1}
    axes = ones if axis is None else set(normalize_axis_tuple(axis, x.ndim, "squeeze"))
    if axes - ones:
        raise ValueError(f"squeeze: axis {axis} of shape {x.shape} is not of length 1")
    return reshape(x, shape=[n for i, n in enumerate(x.shape) if i not in axes])


def unsqueeze(x: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """Put in an axis of length 1 (or several), so that the result has it as number `axis`."""
    axes = normalize_axis_tuple(axis, x.ndim + np.size(axis), "unsqueeze")
    lengths = iter(x.shape)
    return reshape(x, shape=[1 if i in axes else next(lengths) for i in range(x.ndim + len(axes))])


@op
def broadcast_to(x, *, shape: Sequence[int]):
    """Repeat along axes of length 1 and new leading ones, without copying.   x -> (shape)

    A length of −1 stays as it is. dx = g, summed over the axes that were repeated.
    """
    new = len(shape) - x.ndim
    kept = [x.shape[i - new] if n == -1 and i >= new else n for i, n in enumerate(shape)]
    return np.broadcast_to(x, kept), lambda g: g


@op
def flip(x, *, axis: Axis = None):
    """Turn around the order along axes (all of them: None).   x (any shape) -> y (same)

    dx = g, turned around likewise.
    """
    return np.flip(x, axis), lambda g: np.flip(g, axis)


@op
def index(x, *, at: Any):
    """Part of an array, x[at]: integers, slices, None, …, boolean or integer arrays.

    dx = 0 with g added at the places that were read (a place read twice gets both).
    """
    parts = at if isinstance(at, tuple) else (at,)
    basic = all(isinstance(i, int | np.integer | slice | None | type(...)) for i in parts)
    if not basic:
        at = deepcopy(at)  # backward needs it as it is now

    def backward(g):
        if basic:  # no place is read twice
            return Part(x, at, g)
        dx = np.zeros_like(x)
        np.add.at(dx, at, g)
        return dx

    return np.asarray(x[at]), backward


@op
def _concatenate(*xs, axis: int):
    if axis is None:  # NumPy would flatten them
        raise ValueError("concatenate: axis is None; expected an axis, such as 0")
    y = np.concatenate(xs, axis=axis)
    ends = np.cumsum([x.shape[axis] for x in xs])[:-1]
    return y, lambda g: tuple(np.split(g, ends, axis=axis))


def concatenate(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join arrays along an axis.   xs: shapes equal but for `axis` -> one array

    The gradient is cut where the arrays were joined.
    """
    return _concatenate(*xs, axis=axis)


@op
def _stack(*xs, axis: int):
    return np.stack(xs, axis=axis), lambda g: tuple(np.moveaxis(g, axis, 0))


def stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join arrays along a new axis.   xs: K of equal shape (…) -> (…, K, …), K at `axis`

    The gradient is taken apart where the arrays were put together.
    """
    return _stack(*xs, axis=axis)


def unbind(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, which they have no more: what `stack` put together."""
    axis = normalize_axis_index(axis, x.ndim, "unbind")
    before = (slice(None),) * axis
    return tuple(index(x, at=(*before, i)) for i in range(x.shape[axis]))


def split(x: Tensor, n_or_sizes: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Cut along an axis: into n equal parts, or into parts of the given sizes.

    Errors: ValueError where the length is not divisible by n, or is not the sum of the sizes.
    """
    axis = normalize_axis_index(axis, x.ndim, "split")
    sizes = n_or_sizes
    if isinstance(sizes, (int, np.integer)):
        sizes = [x.shape[axis] // max(sizes, 1)] * sizes
    if sum(sizes) != x.shape[axis] or any(n < 0 for n in sizes):
        into = f"parts of {sizes}" if sizes is n_or_sizes else f"{n_or_sizes} equal parts"
        raise ValueError(f"split: axis {axis} of shape {x.shape} cannot be cut into {into}")
    before = (slice(None),) * axis
    cuts = pairwise(accumulate(sizes, initial=0))
    return tuple(index(x, at=(*before, slice(*cut))) for cut in cuts)


def split_at(x: Tensor, indices_or_sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """np.split, which takes the places of the cuts where `split` takes sizes."""
    if not isinstance(indices_or_sections, int):
        indices_or_sections = np.diff([0, *indices_or_sections, x.shape[axis]]).tolist()
    return split(x, indices_or_sections, axis)


@op
def pad(x, *, width: Sequence[tuple[int, int]]):
    """Zeros around an array: width[i] = (before, after) for each axis i.

    dx = g without its border.

    Errors: ValueError where `width` has not one pair for each axis.
    """
    if len(width) != x.ndim:
        raise ValueError(f"pad: {len(width)} pairs of widths for an array of {x.ndim} axes")
    inside = tuple(slice(before, before + n) for (before, _), n in zip(width, x.shape, strict=True))
    return np.pad(x, width), lambda g: g[inside]
