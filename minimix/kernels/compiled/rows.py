"""Rows (M, C) in chunks: how what the chunks give is put together, in a fixed order."""

from __future__ import annotations

import numpy as np

from ..threads import run
from ._jit import helper, kernel
from .memory import empty
from .simd import lanes, load, store, take

CHUNK = 96  # rows a thread takes at a time: 256 channels of them are a fifth of a usual L2
PIECE = (
    32768  # numbers a thread takes at a time, where there are no rows: less is not worth waking it
)


def flat(x):
    """x as one row of numbers that a kernel can take; a copy where it must be."""
    return (x if x.flags.carray else x.copy(order="C")).reshape(-1)


def chunks(m):
    """How many chunks m rows make."""
    return -(-m // CHUNK)


def pieces(size):
    """How many pieces so many numbers make."""
    return -(-size // PIECE)


@kernel
def _add_up(queue, parts, count, size, total):
    step = lanes(parts)
    while True:
        piece = take(queue)
        if piece < 0:
            break
        stop = min((piece + 1) * PIECE, size)
        for i in range(piece * PIECE, stop, step):
            s = load(parts, i, stop - i)
            for part in range(1, count):
                s = s + load(parts, part * size + i, stop - i)
            store(total, i, stop - i, s)


def add_up(parts):
    """Σ over the first axis."""
    if len(parts) == 1:
        return parts[0]
    total = empty(parts.shape[1:], parts.dtype)
    run(_add_up, pieces(total.size), parts.reshape(-1), len(parts), total.size, total.reshape(-1))
    return total


@kernel
def _total(parts, count, c, sums):
    for part in range(count):
        for i in range(c):
            sums[i] += parts[part * c + i]


def total(parts, dtype):
    """Σ over the first axis in float64: for sums over all pixels, of which there may be many."""
    sums = np.zeros(parts.shape[1:])
    _total(flat(parts), len(parts), sums.size, sums.reshape(-1))
    return sums.astype(dtype)


# ---- moments


@helper
def add_moments(v, pivot, sums, i, c, n):
    """Sum d = v − pivot and d² at channel i of `sums` (2, C). The pivot is any of the samples."""
    d = v - pivot
    store(sums, i, n, load(sums, i, n) + d)
    store(sums, c + i, n, load(sums, c + i, n) + d * d)


@helper
def end_moments(pivots, sums, count, c, n, means, squares, to):
    """Mean and Σ(x − mean)² of `count` samples from their sums about the pivots, n channels of c.

    Summing about a pivot that is itself a sample keeps Σd² from drowning in (Σd)² when the mean
    is large, at no extra pass.
    """
    for i in range(0, n, lanes(sums)):
        m = n - i
        s = load(sums, i, m)
        shift = s / count
        store(means, to + i, m, load(pivots, i, m) + shift)
        store(squares, to + i, m, load(sums, c + i, m) - s * shift)


@kernel
def _merge(means, squares, count, size, last, c, mean, variance):
    for part in range(count):
        m = size if part < count - 1 else last
        for i in range(c):
            mean[i] += m * np.float64(means[part * c + i])
    m = size * (count - 1) + last
    for i in range(c):
        mean[i] /= m
    for part in range(count):
        m = size if part < count - 1 else last
        for i in range(c):
            d = means[part * c + i] - mean[i]
            square = np.float64(squares[part * c + i])
            variance[i] += m * d * d + (0.0 if square < 0.0 else square)
    m = size * (count - 1) + last
    for i in range(c):
        variance[i] /= m


def merge_moments(means, squares, size, m):
    """Mean and biased variance of m samples from those of parts of `size` (the last has the rest).

    Chan, Golub & LeVeque 1983: squares about the common mean are the squares about each mean plus
    what the means themselves scatter.
    """
    count, c = means.shape
    mean, variance = np.zeros((2, c))
    _merge(
        flat(means), flat(squares), count, size, m - size * (count - 1), c, mean, variance
    )  # fmt: skip
    return mean.astype(means.dtype), variance.astype(means.dtype)
