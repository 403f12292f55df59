"""Products of stacks of matrices, with tiles of `compiled/matmul.py`.

The first factor and the result are read and written where they lie; the second is copied to where
whole tiles fit and rows do not clash.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..simd.jit import helper, kernel
from ..simd.memory import empty
from ..simd.rows import CHUNK, add_up
from ..simd.team import run
from ..simd.vectors import copy, lanes, load, room, sum_lanes, turn_rows, zeros
from ..simd.work import shared, work
from .matmul import ROWS, columns, copy_tile, fitting_tile, padded

LONG = 1024  # products of longer rows would lose digits in one sum: it is a sum of such
THIN = 2  # columns at most, such as that of a class token, for which a tile is not worth it


@helper
def copy_rows(x, at, row, n, c, y, to, ahead):
    """n rows of c numbers, from `row` apart in x to `ahead` apart in y."""
    for r in range(n):
        copy(x, at + r * row, c, y, to + r * ahead)


@helper
def times(a, at, a_row, a_step, rows, k, b, b_row, n, zero, c, to, c_row, edge):
    """c[rows, n] = a[rows, k] b, of which b has room for whole tiles; c too, where `edge` is empty.

    `edge` has room for one tile, or for none. Where a tile would have a few columns only (THIN),
    each number of them is a dot product.
    """
    wide, thin = columns(a), n % lanes(a)
    if thin > THIN:
        thin = 0
    for j in range(0, n - thin, wide):
        whole = n - j >= wide or edge.size == 0
        r = 0
        while r < rows:
            left, start, here = rows - r, at + r * a_row, to + r * c_row + j
            out, o, o_row = (c, here, c_row) if whole else (edge, 0, wide)
            high = fitting_tile(
                n - thin - j, k, a, start, left, a_row, a_step, b, j, b_row, zero, 0, 0,
                out, o, o_row,
            )  # fmt: skip
            if not whole:
                copy_tile(edge, 0, wide, min(high, left), n - j, c, here, c_row)
            r += high
    if thin:
        column, line = room(k, a), room(k if a_step != 1 else 0, a)
        for j in range(n - thin, n):
            for i in range(k):
                column[i] = b[i * b_row + j]
            for r in range(rows):
                here = at + r * a_row
                for i in range(line.size):
                    line[i] = a[here + i * a_step]
                s = dot(line, 0, column, k) if line.size else dot(a, here, column, k)
                c[to + r * c_row + j] = s


@helper
def dot(a, at, b, k):
    """Σ a b over k numbers."""
    s = zeros(a)
    for i in range(0, k, lanes(a)):
        s = s + load(a, at + i, k - i) * load(b, i, k - i)
    return sum_lanes(s)


@helper
def add_turned(a, a_row, rows, k, b, b_row, n, c, c_row):
    """c[k, n] += aᵀ b with a[rows, k] and b[rows, n]; b and c have room for whole tiles."""
    for j in range(0, n, columns(a)):
        i = 0
        while i < k:
            to = i * c_row + j
            i += fitting_tile(
                n - j, rows, a, i, k - i, 1, a_row, b, j, b_row, c, to, c_row, c, to, c_row
            )


@kernel
def _matmul_stack(queue, a, a1, a2, a3, a4, b, b1, b2, b3, b4, inner, m, k, n, c):
    n_row = padded(n, a)
    own = room(k * n_row, a)
    zero, edge = room(columns(a), a), room(ROWS * columns(a), a)
    chunks = -(-m // CHUNK)
    held = np.int64(-1)  # which b is copied
    for piece in work(shared(queue)):
        which, first = piece // chunks, piece % chunks * CHUNK
        i, j = which // inner, which % inner
        if which != held:
            if b4 == 1:
                copy_rows(b, i * b1 + j * b2, b3, k, n, own, np.int64(0), n_row)
            else:
                turn_rows(b, i * b1 + j * b2, b4, n, k, own, 0, n_row)
            held = which
        rows, at = min(CHUNK, m - first), i * a1 + j * a2 + first * a3
        to = (which * m + first) * n
        times(a, at, a3, a4, rows, k, own, n_row, n, zero, c, to, n, edge)


def four(x):
    """x with four axes, the first two for the stack, that steps forward through its memory."""
    x = x.reshape((1,) * (4 - x.ndim) + x.shape if x.ndim < 4 else (-1, *x.shape[-3:]))
    return x.copy(order="C") if any(s < 0 or s % x.itemsize for s in x.strides) else x


def place(x):
    """The memory from the first number of x to the last, and how far each axis steps in it."""
    steps = [s // x.itemsize for s in x.strides]
    size = 1 + sum((n - 1) * s for n, s in zip(x.shape, steps, strict=True))
    return as_strided(x, (size,), (x.itemsize,)), *steps


def matmul_stack(a, b):
    leading, k = a.shape[:-2], a.shape[-1]
    if k > LONG:
        parts = [slice(i, i + LONG) for i in range(0, k, LONG)]
        return add_up(np.stack([matmul_stack(a[..., p], b[..., p, :]) for p in parts]))
    m, n = a.shape[-2], b.shape[-1]
    a, b = four(a), four(b)
    b = b if b.itemsize in b.strides[2:] else b.copy(order="C")
    c = empty((*leading, m, n), a.dtype)
    pieces = math.prod(leading) * -(-m // CHUNK)
    run(_matmul_stack, pieces, *place(a), *place(b), a.shape[1], m, k, n, c.reshape(-1))
    return c
