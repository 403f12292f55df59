"""What the places of an image see through a small kernel, added up: pooling and depthwise
convolution, and their gradients for x.

Along an axis, pixel + zeros before = stride · place + dilation · tap. A place adds up what it sees
of the pixels, and a pixel, for the gradient, what comes from the places that it is seen by: the
same with both exchanged. So what adds up is called a target here, and what it sees a source, and
one sweep does both. What a source adds is

    x                           average pooling, either way
    x w[tap]                    depthwise convolution, either way
    x where `chosen` is tap     the gradient of max pooling

`seen` says for each target of an axis which sources those are: the first, its tap, and how many,
so that nothing is asked in the sweep about edges of the image. Channels are side by side in a
vector. Four neighbors that see as many sources are added up together, in registers.
"""

from __future__ import annotations

import functools
from math import gcd
from typing import NamedTuple

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.rows import flat, run_long
from ..simd.vectors import lanes, load, store, where_equal, zeros
from ..simd.work import shared, work


class Axis(NamedTuple):
    """How places see the pixels of one axis."""

    taps: int
    stride: int
    dilation: int
    before: int  # zeros before the first pixel


def steps(stride, turned):
    """From a target to the next that sees alike, and from its sources to those of that."""
    return (stride, 1) if turned else (1, stride)


@functools.lru_cache(maxsize=256)
def seen(axis, targets, sources, turned=False):
    """For each target: its first source, the tap of that, how many sources there are, and from how
    many targets, from this one on, the same taps are seen. `turned`: targets are pixels."""
    taps, stride, dilation, before = axis
    at, tap = np.arange(targets, dtype=np.int64)[:, None], np.arange(taps)
    if turned:
        source, rest = np.divmod(at + before - dilation * tap, stride)
    else:
        source, rest = stride * at + dilation * tap - before, 0
    there = (rest == 0) & (source >= 0) & (source < sources)
    first = np.where(there, source, sources).argmin(axis=1)
    columns = source[at[:, 0], first], first, there.sum(axis=1), np.ones_like(first)
    table = np.stack(columns, axis=1)
    apart, step = steps(stride, turned)
    for t in reversed(range(targets - apart)):
        if (table[t, :3] + (step, 0, 0) == table[t + apart, :3]).all():
            table[t, 3] += table[t + apart, 3]
    return table


@functools.lru_cache(maxsize=256)
def reach(taps, stride, dilation, turned):
    """From the first source of a target to each, and between their taps.

    A pixel is seen by every stride-th tap, or more, where stride and dilation have a divisor."""
    common = gcd(stride, dilation)
    source, tap = (dilation // common, -(stride // common)) if turned else (dilation, 1)
    return np.outer((source, tap), np.arange(taps, dtype=np.int64))


def inlined(function):
    """A helper with so many arguments that calls would take longer than what it does."""
    return helper(function, forceinline=True)


@inlined
def add(s, x, at, n, w, chosen, tap, c, k):
    """s and what one source adds to it, n channels from k on."""
    if w is not None:
        return s + load(x, at, n) * load(w, tap * c + k, n)
    if chosen is not None:
        return s + where_equal(load(chosen, at, n), zeros(x) + tap, load(x, at, n))
    return s + load(x, at, n)


@inlined
def put(y, to, n, s, count):
    store(y, to, n, s if count is None else s / count)


@inlined
def four(x, at, near, width, high, wide, w, chosen, tap, across, reach, c, k, n, bias, count,
         y, to, far):  # fmt: skip
    """Four targets, whose sources are `near` and high × wide each."""
    s = t = u = v = load(bias, k, n)
    for a in range(high):
        for b in range(wide):
            i = at + (reach[0, a] * width + reach[0, b]) * c + k
            which = tap + reach[1, a] * across + reach[1, b]
            s = add(s, x, i, n, w, chosen, which, c, k)
            t = add(t, x, i + near[0], n, w, chosen, which, c, k)
            u = add(u, x, i + near[1], n, w, chosen, which, c, k)
            v = add(v, x, i + near[2], n, w, chosen, which, c, k)
    put(y, to + k, n, s, count)
    put(y, to + far[0] + k, n, t, count)
    put(y, to + far[1] + k, n, u, count)
    put(y, to + far[2] + k, n, v, count)


@kernel
def _sum(queue, band, lines, x, height, width, c, w, chosen, bias, count, taps, rows, columns,
         reach, apart, step, y):  # fmt: skip
    """A piece is `band` rows of targets. Rows and columns: as `seen` says; `taps` in a row."""
    lane, whole = lanes(x), c - c % lanes(x)
    for piece in work(shared(queue)):
        for line in range(piece * band, min((piece + 1) * band, lines)):
            image, row = line // len(rows), line % len(rows)
            top, i, high = rows[row, 0], rows[row, 1], rows[row, 2]
            for phase in range(apart):
                at = phase
                while at < len(columns):
                    left, j = columns[at, 0], columns[at, 1]
                    wide, alike = columns[at, 2], columns[at, 3]
                    # Where fewer are alike, the last is computed again for each that is missing.
                    o1, o2, o3 = min(1, alike - 1), min(2, alike - 1), min(3, alike - 1)
                    near = step * c * o1, step * c * o2, step * c * o3
                    far = apart * c * o1, apart * c * o2, apart * c * o3
                    start = ((image * height + top) * width + left) * c
                    tap, to = i * taps + j, (line * len(columns) + at) * c
                    for k in range(0, whole, lane):
                        four(x, start, near, width, high, wide, w, chosen, tap, taps, reach, c, k,
                             lane, bias, count, y, to, far)  # fmt: skip
                    if whole < c:
                        four(x, start, near, width, high, wide, w, chosen, tap, taps, reach, c,
                             whole, c - whole, bias, count, y, to, far)  # fmt: skip
                    at += apart * (o3 + 1)


def sums(x, y, rows, columns, *, turned=False, w=None, chosen=None, bias=None, count=None):
    """y[target] = (bias + Σ over its sources of what each adds) / count.

    x, or `turned` the gradient of what was made of it, and y (N, H, W, C); chosen as x; bias (C,);
    rows, columns: an Axis each, of one stride and dilation; w (rows.taps, columns.taps, C).
    """
    n, height, width, c = x.shape
    bias = np.zeros(c, x.dtype) if bias is None else flat(bias)
    what = (flat(a) if a is not None else None for a in (w, chosen))
    _, stride, dilation, _ = columns
    how = (
        columns.taps,
        seen(rows, y.shape[1], height, turned),
        seen(columns, y.shape[2], width, turned),
        reach(max(rows.taps, columns.taps), stride, dilation, turned),
        *steps(stride, turned),
    )
    lines = n * y.shape[1]
    run_long(_sum, lines, flat(x), height, width, c, *what, bias, count, *how, y.reshape(-1))
    return y
