"""Attention, a block of queries at a time: no matrix of all queries by all keys is ever in memory.

The scores of a block stay in second-level cache while they become weights and then a result, or, on
the way back, gradients. Backward computes the weights again. Products are the tiles of
`compiled/matmul.py`, whose second factor is copied to where its rows do not clash.

Arrays are read and written where they lie, as long as the numbers of a token are neighbors: heads
are cut out of the result of a linear map, and put together again, without a copy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..simd.jit import helper, kernel
from ..simd.memory import empty
from ..simd.rows import CHUNK
from ..simd.threads import run
from ..simd.vectors import address, lanes, load, store, turn_tile, work
from .matmul import ROWS, columns, copy_tile, padded, tile
from .rowwise import softmax_row, softmax_row_backward

BLOCK = 65536  # scores that leave room in second-level cache


@helper
def _copy(x, at, row, n, c, y, to, ahead):
    """n rows of c numbers, from `row` apart in x to `ahead` apart in y."""
    step = lanes(x)
    for r in range(n):
        for i in range(0, c, step):
            store(y, to + r * ahead + i, c - i, load(x, at + r * row + i, c - i))


@helper
def _turn(x, at, row, n, c, y, ahead):
    """n rows of c numbers become the columns of y, whose rows are `ahead` apart."""
    step = lanes(x)
    whole_n, whole_c = n - n % step, c - c % step
    for r in range(0, whole_n, step):
        for i in range(0, whole_c, step):
            turn_tile(x, at + r * row + i, row, y, i * ahead + r, ahead)
    for r in range(n):
        for i in range(whole_c if r < whole_n else 0, c):
            y[i * ahead + r] = x[at + r * row + i]


@helper
def _times(a, at, a_row, rows, k, b, b_row, n, zero, c, to, c_row, edge):
    """c[rows, n] = a[rows, k] b, of which b has room for whole tiles; c too, where `edge` is empty.

    `edge` has room for one tile, or for none.
    """
    wide = columns(a)
    for j in range(0, n, wide):
        whole = n - j >= wide or edge.size == 0
        for r in range(0, rows, ROWS):
            left = rows - r
            out, o, o_row = (c, to + r * c_row + j, c_row) if whole else (edge, 0, wide)
            tile(k, a, at + r * a_row, left, a_row, 1, b, j, b_row, zero, 0, 0, out, o, o_row)
            if not whole:
                copy_tile(edge, 0, wide, left, n - j, c, to + r * c_row + j, c_row)


@helper
def _add_turned(a, a_row, rows, k, b, b_row, n, c, c_row):
    """c[k, n] += aᵀ b with a[rows, k] and b[rows, n]; b and c have room for whole tiles."""
    for j in range(0, n, columns(a)):
        for i in range(0, k, ROWS):
            to = i * c_row + j
            tile(rows, a, i, k - i, 1, a_row, b, j, b_row, c, to, c_row, c, to, c_row)


@kernel
def _attention(queue, q, q1, q2, q3, k, k1, k2, k3, v, v1, v2, v3, heads, t, s, d, e, scale,
               block, y, y1, y2, y3):  # fmt: skip
    s_row, e_row = padded(s, q), padded(e, q)
    scores = np.zeros(block * s_row, q.dtype)
    keys, values = np.zeros(d * s_row, q.dtype), np.zeros(s * e_row, q.dtype)
    zero, edge = np.zeros(columns(q), q.dtype), np.zeros(ROWS * columns(q), q.dtype)
    blocks = -(-t // block)
    held = np.int64(-1)  # whose keys and values are turned and copied
    for piece in work(address(queue)):
        head, first = piece // blocks, piece % blocks * block
        n, h = head // heads, head % heads
        if head != held:
            _turn(k, n * k1 + h * k2, k3, s, d, keys, s_row)
            _copy(v, n * v1 + h * v2, v3, s, e, values, np.int64(0), e_row)
            held = head
        rows = min(block, t - first)
        at, to = n * q1 + h * q2 + first * q3, n * y1 + h * y2 + first * y3
        _times(q, at, q3, rows, d, keys, s_row, s, zero, scores, np.int64(0), s_row, zero[:0])
        for r in range(rows):
            softmax_row(scores, r * s_row, s, scale, scores, r * s_row)
        _times(scores, np.int64(0), s_row, rows, s, values, e_row, e, zero, y, to, y3, edge)


@kernel
def _attention_backward(queue, q, q1, q2, q3, k, k1, k2, k3, v, v1, v2, v3, g, g1, g2, g3, heads,
                        t, s, d, e, scale, block, dq, p1, p2, p3, dk, m1, m2, m3,
                        dv, w1, w2, w3):  # fmt: skip
    s_row, d_row, e_row = padded(s, q), padded(d, q), padded(e, q)
    p, dz = np.zeros(block * s_row, q.dtype), np.zeros(block * s_row, q.dtype)
    turned_k, turned_v = np.zeros(d * s_row, q.dtype), np.zeros(e * s_row, q.dtype)
    own_q, own_g = np.zeros(block * d_row, q.dtype), np.zeros(block * e_row, q.dtype)
    own_k, sums_k = np.zeros(s * d_row, q.dtype), np.zeros(s * d_row, q.dtype)
    sums_v = np.zeros(s * e_row, q.dtype)
    zero, edge = np.zeros(columns(q), q.dtype), np.zeros(ROWS * columns(q), q.dtype)
    none = np.int64(0)
    for piece in work(address(queue)):
        n, h = piece // heads, piece % heads
        _turn(k, n * k1 + h * k2, k3, s, d, turned_k, s_row)
        _turn(v, n * v1 + h * v2, v3, s, e, turned_v, s_row)
        _copy(k, n * k1 + h * k2, k3, s, d, own_k, none, d_row)
        sums_k[:] = 0
        sums_v[:] = 0
        for first in range(0, t, block):
            rows = min(block, t - first)
            _copy(q, n * q1 + h * q2 + first * q3, q3, rows, d, own_q, none, d_row)
            _copy(g, n * g1 + h * g2 + first * g3, g3, rows, e, own_g, none, e_row)
            _times(own_q, none, d_row, rows, d, turned_k, s_row, s, zero, p, none, s_row, zero[:0])
            _times(own_g, none, e_row, rows, e, turned_v, s_row, s, zero, dz, none, s_row, zero[:0])
            for r in range(rows):
                softmax_row(p, r * s_row, s, scale, p, r * s_row)
            _add_turned(p, s_row, rows, s, own_g, e_row, e, sums_v, e_row)
            for r in range(rows):
                at = r * s_row
                softmax_row_backward(p, at, dz, at, s, scale, dz, at)
            _add_turned(dz, s_row, rows, s, own_q, d_row, d, sums_k, d_row)
            to = n * p1 + h * p2 + first * p3
            _times(dz, none, s_row, rows, s, own_k, d_row, d, zero, dq, to, p3, edge)
        _copy(sums_k, none, d_row, s, d, dk, n * m1 + h * m2, m3)
        _copy(sums_v, none, e_row, s, e, dv, n * w1 + h * w2, w3)


def _four(x):
    """x (…, T, D) as (A, B, T, D), the numbers of a token neighbors in memory."""
    x = x.reshape((1,) * (4 - x.ndim) + x.shape if x.ndim < 4 else (-1, *x.shape[-3:]))
    if x.strides[3] != x.itemsize or any(s < 0 or s % x.itemsize for s in x.strides):
        x = x.copy(order="C")
    return x


def _place(x):
    """The memory from the first number of x to the last, and how far axes A, B and T step in it."""
    steps = [s // x.itemsize for s in x.strides[:3]]
    size = x.shape[3] + sum((n - 1) * s for n, s in zip(x.shape, steps, strict=False))
    return as_strided(x, (size,), (x.itemsize,)), *steps


def _room(x, width):
    """An array for a result with tokens of `width` numbers, and heads and tokens in x's order."""
    a, b, t, _ = x.shape
    if x.strides[1] < x.strides[2]:
        return empty((a, t, b, width), x.dtype).transpose(0, 2, 1, 3)
    return empty((a, b, t, width), x.dtype)


def _sizes(q, k, v):
    (t, d), (s, e) = q.shape[2:], v.shape[2:]
    fitting = BLOCK // (s * ROWS) * ROWS
    return q.shape[1], t, s, d, e, 1 / math.sqrt(d), min(CHUNK, max(fitting, ROWS), t)


def attention(q, k, v):
    leading, (q, k, v) = q.shape[:-2], map(_four, (q, k, v))
    sizes, y = _sizes(q, k, v), _room(q, v.shape[3])
    pieces = q.shape[0] * q.shape[1] * -(-q.shape[2] // sizes[-1])
    run(_attention, pieces, *_place(q), *_place(k), *_place(v), *sizes, *_place(y))
    return y.reshape(*leading, *y.shape[2:])


def attention_backward(q, k, v, g):
    leading, given = q.shape[:-2], [*map(_four, (q, k, v, g))]
    sizes, results = _sizes(*given[:3]), [_room(x, x.shape[3]) for x in given[:3]]
    places = [part for x in given for part in _place(x)]
    to = [part for x in results for part in _place(x)]
    run(_attention_backward, given[0].shape[0] * given[0].shape[1], *places, *sizes, *to)
    return tuple(x.reshape(*leading, *x.shape[2:]) for x in results)
