"""Pooling, a row of results or of pixels at a time, channels side by side in a vector.

Gradients are gathered, not scattered: a pixel adds up what comes from the windows that it is in,
row by row, whoever computes it.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty
from ..simd.rows import flat
from ..simd.threads import run
from ..simd.vectors import address, first_largest, lanes, load, store, where_equal, work, zeros


@kernel
def _max(queue, x, height, width, c, size, stride, padding, rows, columns, y, chosen):
    step = lanes(x)
    for piece in work(address(queue)):
        image, top = piece // rows, piece % rows * stride - padding
        for u in range(columns):
            left, to = u * stride - padding, (piece * columns + u) * c
            for k in range(0, c, step):
                n = c - k
                best, which = zeros(x) - np.inf, zeros(x)
                for i in range(size):
                    for j in range(size):
                        h, v = top + i, left + j
                        if 0 <= h < height and 0 <= v < width:
                            value = load(x, ((image * height + h) * width + v) * c + k, n)
                            place = zeros(x) + (i * size + j)
                            best, which = first_largest(best, which, value, place)
                store(y, to + k, n, best)
                store(chosen, to + k, n, which)


@helper
def windows(pixel, size, stride, padding, count):
    """The first window of an axis that a pixel is in, and the one after the last."""
    first = max(0, -((size - 1 - padding - pixel) // stride))
    return first, min(count, (pixel + padding) // stride + 1)


@kernel
def _max_dx(queue, g, chosen, rows, columns, c, size, stride, padding, height, width, dx):
    step = lanes(g)
    for piece in work(address(queue)):
        image, h = piece // height, piece % height
        top, bottom = windows(h, size, stride, padding, rows)
        for v in range(width):
            left, right = windows(v, size, stride, padding, columns)
            for k in range(0, c, step):
                n, s = c - k, zeros(g)
                for q in range(top, bottom):
                    for u in range(left, right):
                        i, j = h + padding - q * stride, v + padding - u * stride
                        at = ((image * rows + q) * columns + u) * c + k
                        place = zeros(g) + (i * size + j)
                        s = s + where_equal(load(chosen, at, n), place, load(g, at, n))
                store(dx, (piece * width + v) * c + k, n, s)


@kernel
def _average(queue, x, height, width, c, size, stride, padding, rows, columns, y):
    step = lanes(x)
    for piece in work(address(queue)):
        image, top = piece // rows, piece % rows * stride - padding
        for u in range(columns):
            left = u * stride - padding
            for k in range(0, c, step):
                n, s = c - k, zeros(x)
                for h in range(max(top, 0), min(top + size, height)):
                    for v in range(max(left, 0), min(left + size, width)):
                        s = s + load(x, ((image * height + h) * width + v) * c + k, n)
                store(y, (piece * columns + u) * c + k, n, s / (size * size))


@kernel
def _average_dx(queue, g, rows, columns, c, size, stride, padding, height, width, dx):
    step = lanes(g)
    for piece in work(address(queue)):
        image, h = piece // height, piece % height
        top, bottom = windows(h, size, stride, padding, rows)
        for v in range(width):
            left, right = windows(v, size, stride, padding, columns)
            for k in range(0, c, step):
                n, s = c - k, zeros(g)
                for q in range(top, bottom):
                    for u in range(left, right):
                        s = s + load(g, ((image * rows + q) * columns + u) * c + k, n)
                store(dx, (piece * width + v) * c + k, n, s / (size * size))


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
    how = size, stride, padding, *counts
    run(_max, n * counts[0], flat(x), height, width, c, *how, y.reshape(-1), chosen.reshape(-1))
    return y, chosen


def max_pool2d_dx(g, chosen, shape, size, stride, padding):
    _check(g, shape, size, stride, padding)
    n, rows, columns, c = g.shape
    dx = empty((n, *shape, c), g.dtype)
    how = rows, columns, c, size, stride, padding, *shape
    run(_max_dx, n * shape[0], flat(g), flat(chosen), *how, dx.reshape(-1))
    return dx


def avg_pool2d(x, size, stride, padding):
    n, height, width, c = x.shape
    counts = _counts((height, width), size, stride, padding)
    y = empty((n, *counts, c), x.dtype)
    how = height, width, c, size, stride, padding, *counts
    run(_average, n * counts[0], flat(x), *how, y.reshape(-1))
    return y


def avg_pool2d_dx(g, shape, size, stride, padding):
    _check(g, shape, size, stride, padding)
    n, rows, columns, c = g.shape
    dx = empty((n, *shape, c), g.dtype)
    how = rows, columns, c, size, stride, padding, *shape
    run(_average_dx, n * shape[0], flat(g), *how, dx.reshape(-1))
    return dx
