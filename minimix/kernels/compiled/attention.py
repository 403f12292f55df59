"""Attention, a block of queries at a time: no matrix of all queries by all keys is ever in memory.

The scores of a block stay in second-level cache while they become weights and then a result, or, on
the way back, gradients. Backward computes the weights again.

Arrays are read and written where they lie, as long as the numbers of a token are neighbors: heads
are cut out of the result of a linear map, and put together again, without a copy. Their tokens are
far apart there, so those of the next head are asked for while this one is computed.
"""

from __future__ import annotations

import math

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import LINE, empty
from ..simd.rows import CHUNK
from ..simd.team import run
from ..simd.vectors import VECTOR_BYTES, lanes, prefetch, room, turn_rows
from ..simd.work import shared, work
from .matmul import ROWS, columns, padded
from .rowwise import softmax_row_backward, softmax_rows
from .stack import add_turned, copy_rows, four, place, times

BLOCK = 65536  # scores that leave room in second-level cache


@helper
def ask_for_head(x, x1, x2, x3, heads, head, first, rows, c):
    """Prefetch `rows` tokens of a head, c numbers each, from token `first` on.

    x1, x2, x3  numbers from one image, head and token of x to the next
    """
    at = head // heads * x1 + head % heads * x2 + first * x3
    for r in range(rows):
        for i in range(0, c, lanes(x) * LINE // VECTOR_BYTES):
            prefetch(x, at + r * x3 + i)


@kernel
def _attention(queue, q, q1, q2, q3, k, k1, k2, k3, v, v1, v2, v3, heads, t, s, d, e, scale,
               block, y, y1, y2, y3):  # fmt: skip
    s_row, e_row = padded(s, q), padded(e, q)
    scores = room(block * s_row, q)
    keys, values = room(d * s_row, q), room(s * e_row, q)
    zero, edge = room(columns(q), q), room(ROWS * columns(q), q)
    blocks = -(-t // block)
    held = np.int64(-1)  # whose keys and values are turned and copied
    for piece in work(shared(queue)):
        head, first = piece // blocks, piece % blocks * block
        n, h = head // heads, head % heads
        if head != held:
            turn_rows(k, n * k1 + h * k2, k3, s, d, keys, 0, s_row)
            copy_rows(v, n * v1 + h * v2, v3, s, e, values, np.int64(0), e_row)
            held = head
        rows = min(block, t - first)
        at, to = n * q1 + h * q2 + first * q3, n * y1 + h * y2 + first * y3
        times(q, at, q3, 1, rows, d, keys, s_row, s, zero, scores, np.int64(0), s_row, zero[:0])
        following, start = (piece + 1) // blocks, (piece + 1) % blocks * block
        if following != head:
            ask_for_head(k, k1, k2, k3, heads, following, 0, s, d)
        softmax_rows(scores, 0, s_row, rows, s, scale, scores, 0, s_row)
        if following != head:
            ask_for_head(v, v1, v2, v3, heads, following, 0, s, e)
        times(scores, np.int64(0), s_row, 1, rows, s, values, e_row, e, zero, y, to, y3, edge)
        ask_for_head(q, q1, q2, q3, heads, following, start, min(block, t - start), d)


@kernel
def _attention_backward(queue, q, q1, q2, q3, k, k1, k2, k3, v, v1, v2, v3, g, g1, g2, g3, heads,
                        t, s, d, e, scale, block, dq, p1, p2, p3, dk, m1, m2, m3,
                        dv, w1, w2, w3):  # fmt: skip
    s_row, d_row, e_row = padded(s, q), padded(d, q), padded(e, q)
    p, dz = room(block * s_row, q), room(block * s_row, q)
    turned_k, turned_v = room(d * s_row, q), room(e * s_row, q)
    own_q, own_g = room(block * d_row, q), room(block * e_row, q)
    own_k, sums_k = room(s * d_row, q), room(s * d_row, q)
    sums_v = room(s * e_row, q)
    zero, edge = room(columns(q), q), room(ROWS * columns(q), q)
    none = np.int64(0)
    for piece in work(shared(queue)):
        n, h = piece // heads, piece % heads
        turn_rows(k, n * k1 + h * k2, k3, s, d, turned_k, 0, s_row)
        turn_rows(v, n * v1 + h * v2, v3, s, e, turned_v, 0, s_row)
        copy_rows(k, n * k1 + h * k2, k3, s, d, own_k, none, d_row)
        sums_k[:] = 0
        sums_v[:] = 0
        for first in range(0, t, block):
            rows = min(block, t - first)
            copy_rows(q, n * q1 + h * q2 + first * q3, q3, rows, d, own_q, none, d_row)
            copy_rows(g, n * g1 + h * g2 + first * g3, g3, rows, e, own_g, none, e_row)
            times(
                own_q, none, d_row, 1, rows, d, turned_k, s_row, s, zero, p, none, s_row, zero[:0]
            )
            times(
                own_g, none, e_row, 1, rows, e, turned_v, s_row, s, zero, dz, none, s_row, zero[:0]
            )
            following, start = (piece, first + rows) if first + rows < t else (piece + 1, 0)
            if following != piece:
                ask_for_head(k, k1, k2, k3, heads, following, 0, s, d)
            softmax_rows(p, 0, s_row, rows, s, scale, p, 0, s_row)
            if following != piece:
                ask_for_head(v, v1, v2, v3, heads, following, 0, s, e)
            add_turned(p, s_row, rows, s, own_g, e_row, e, sums_v, e_row)
            for r in range(rows):
                at = r * s_row
                softmax_row_backward(p, at, dz, at, s, scale, dz, at)
            more = min(block, t - start)
            ask_for_head(q, q1, q2, q3, heads, following, start, more, d)
            add_turned(dz, s_row, rows, s, own_q, d_row, d, sums_k, d_row)
            ask_for_head(g, g1, g2, g3, heads, following, start, more, e)
            to = n * p1 + h * p2 + first * p3
            times(dz, none, s_row, 1, rows, s, own_k, d_row, d, zero, dq, to, p3, edge)
        copy_rows(sums_k, none, d_row, s, d, dk, n * m1 + h * m2, m3)
        copy_rows(sums_v, none, e_row, s, e, dv, n * w1 + h * w2, w3)


def tokens(x):
    """x (…, T, D) as (A, B, T, D), the numbers of a token neighbors in memory."""
    x = four(x)
    return x if x.strides[3] == x.itemsize else x.copy(order="C")


def _place(x):
    return place(x)[:4]  # the last step is 1


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
    leading, (q, k, v) = q.shape[:-2], map(tokens, (q, k, v))
    sizes, y = _sizes(q, k, v), _room(q, v.shape[3])
    pieces = q.shape[0] * q.shape[1] * -(-q.shape[2] // sizes[-1])
    run(_attention, pieces, *_place(q), *_place(k), *_place(v), *sizes, *_place(y))
    return y.reshape(*leading, *y.shape[2:])


def attention_backward(q, k, v, g, to=()):
    leading, given = q.shape[:-2], [*map(tokens, (q, k, v, g))]
    sizes = _sizes(*given[:3])
    results = [tokens(x) for x in to] or [_room(x, x.shape[3]) for x in given[:3]]
    places = [part for x in given for part in _place(x)]
    room_of = [part for x in results for part in _place(x)]
    run(_attention_backward, given[0].shape[0] * given[0].shape[1], *places, *sizes, *room_of)
    for result, target in zip(results, to, strict=bool(to)):
        if not np.may_share_memory(result, target):  # its tokens could not be written in place
            target[...] = result.reshape(target.shape)
    return to or tuple(x.reshape(*leading, *x.shape[2:]) for x in results)
