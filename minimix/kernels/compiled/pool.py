"""Pooling, channels side by side in a vector. All but the largest number is a sum over taps.

Gradients are gathered, not scattered: a pixel adds up what comes from the windows that it is in,
row by row, whoever computes it.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import kernel
from ..simd.memory import empty
from ..simd.rows import flat, run_long
from ..simd.vectors import first_largest, lanes, load, store, zeros
from ..simd.work import shared, work
from .taps import Axis, seen, sums


@kernel
def _max(queue, band, lines, x, height, width, c, size, rows, columns, y, chosen):
    """A piece is `band` rows of windows. Rows and columns: as `taps.seen` says."""
    step = lanes(x)
    for piece in work(shared(queue)):
        for line in range(piece * band, min((piece + 1) * band, lines)):
            image, row = line // len(rows), line % len(rows)
            top, i, high = rows[row, 0], rows[row, 1], rows[row, 2]
            for u in range(len(columns)):
                left, j, wide = columns[u, 0], columns[u, 1], columns[u, 2]
                start, to = (
                    ((image * height + top) * width + left) * c,
                    (line * len(columns) + u) * c,
                )
                for k in range(0, c, step):
                    n = c - k
                    best, which = zeros(x) - np.inf, zeros(x)
                    for a in range(high):
                        for b in range(wide):
                            value = load(x, start + (a * width + b) * c + k, n)
                            place = zeros(x) + ((i + a) * size + j + b)
                            best, which = first_largest(best, which, value, place)
                    store(y, to + k, n, best)
                    store(chosen, to + k, n, which)


def _counts(shape, size, stride, padding):
    """How many windows there are down and across."""
    counts = tuple((length + 2 * padding - size) // stride + 1 for length in shape)
    if min(counts) < 1:
        raise ValueError(f"pooling: a window of {size}×{size} is larger than the padded image")
    return counts


def _check(g, shape, size, stride, padding):
    expected = _counts(shape, size, stride, padding)
    if g.shape[1:3] != expected:
        raise ValueError(f"pooling: g is of {g.shape[1:3]} windows; expected {expected}")


def max_pool2d(x, size, stride, padding):
    n, height, width, c = x.shape
    counts = _counts((height, width), size, stride, padding)
    y, chosen = (empty((n, *counts, c), x.dtype) for _ in range(2))
    axis, lines = Axis(size, stride, 1, padding), n * counts[0]
    rows, columns = (seen(axis, m, length) for m, length in zip(counts, x.shape[1:3], strict=True))
    how = height, width, c, size, rows, columns
    run_long(_max, lines, flat(x), *how, y.reshape(-1), chosen.reshape(-1))
    return y, chosen


def max_pool2d_dx(g, chosen, shape, size, stride, padding):
    _check(g, shape, size, stride, padding)
    axis, dx = Axis(size, stride, 1, padding), empty((len(g), *shape, g.shape[3]), g.dtype)
    return sums(g, dx, axis, axis, turned=True, chosen=chosen)


def avg_pool2d(x, size, stride, padding):
    n, height, width, c = x.shape
    axis = Axis(size, stride, 1, padding)
    y = empty((n, *_counts((height, width), size, stride, padding), c), x.dtype)
    return sums(x, y, axis, axis, count=size * size)


def avg_pool2d_dx(g, shape, size, stride, padding):
    _check(g, shape, size, stride, padding)
    axis, dx = Axis(size, stride, 1, padding), empty((len(g), *shape, g.shape[3]), g.dtype)
    return sums(g, dx, axis, axis, turned=True, count=size * size)
