"""Rows (M, C) in chunks: how what the chunks give is put together, in a fixed order."""

from __future__ import annotations

import numpy as np

from .jit import helper, kernel
from .memory import empty
from .team import run
from .threads import get_num_threads
from .vectors import any_greater, clip, lanes, load, narrow, store, widen, zeros
from .work import shared, work

CHUNK = 96  # rows a thread takes at a time: 256 channels of them are a fifth of a usual L2
PIECE = (
    32768  # numbers a thread takes at a time, where there are no rows: less is not worth waking it
)
SHARES = 8  # into how many pieces each thread's share of an image's lines is divided
FAR = 48  # times the variance: how far a pivot may be from the mean, squared


def flat(x):
    """x as one row of numbers that a kernel can work; a copy where it must be."""
    return (x if x.flags.carray else x.copy(order="C")).reshape(-1)


def chunks(m):
    """How many chunks m rows make."""
    return -(-m // CHUNK)


def pieces(size):
    """How many pieces so many numbers make."""
    return -(-size // PIECE)


def run_long(kernel, lines, *args):
    """`run` with `band` lines of an image in a piece: kernel(queue, band, lines, *args).

    Long pieces, where nothing is summed over them: what a core fetches ahead, beyond the end of its
    piece, it takes away from the core that has the next.
    """
    band = -(-lines // (SHARES * get_num_threads()))
    run(kernel, -(-lines // band), band, lines, *args)


@kernel
def _add_up(queue, parts, count, size, total):
    step = lanes(parts)
    for piece in work(shared(queue)):
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


@helper
def total(parts, count, c, sums):
    """sums = Σ of `count` parts of c numbers, in float64: for sums over all pixels, of which there
    may be many. The caller of a kernel does that when `work` has ended."""
    for i in range(0, c, lanes(parts)):
        s = widen(zeros(parts))
        for part in range(count):
            s = s + widen(load(parts, part * c + i, c - i))
        store(sums, i, c - i, narrow(s, sums))


# ---- moments


@helper
def add_moments(v, pivot, sums, i, c, n):
    """Add d = v − pivot and d² at channel i to `sums` (2, C)."""
    d = v - pivot
    store(sums, i, n, load(sums, i, n) + d)
    store(sums, c + i, n, load(sums, c + i, n) + d * d)


@helper
def end_moments(pivots, sums, count, c, n, means, squares, to):
    """Mean and Σ(x − mean)² of `count` samples from sums about the pivots, n channels of c.

    Whether a pivot was so far from the mean that digits were lost: Σd² is then mostly what the
    pivot is off, and not what the samples scatter.
    """
    lost = False
    for i in range(0, n, lanes(sums)):
        m = n - i
        s = load(sums, i, m)
        shift = s / count
        square = load(sums, c + i, m) - s * shift
        lost = any_greater(s * shift, square * FAR) or lost
        store(means, to + i, m, widen(load(pivots, i, m)) + widen(shift))
        store(squares, to + i, m, widen(square))
    return lost


@helper
def merge_moments(means, squares, size, m, c, moments):
    """Mean and biased variance of m samples from those of parts of `size` (the last has the rest).

    The caller of a kernel does that when `work` has ended. Chan, Golub & LeVeque 1983: squares
    about the common mean are the squares about each mean plus what the means themselves scatter.
    """
    count = -(-m // size)
    last = m - size * (count - 1)
    for i in range(0, c, lanes(means)):
        n, pivot, shift, square = c - i, load(means, i, c - i), zeros(means), zeros(means)
        for part in range(1, count):  # about the first mean: equal means give the same again
            share = (size if part < count - 1 else last) / m
            shift = shift + (load(means, part * c + i, n) - pivot) * share
        mean = shift + pivot
        for part in range(count):
            here, at = float(size if part < count - 1 else last), part * c + i
            d = load(means, at, n) - mean
            square = square + (d * here * d + clip(load(squares, at, n), 0.0, np.inf))
        store(moments, i, n, narrow(mean, moments))
        store(moments, c + i, n, narrow(square / float(m), moments))
