"""Softmax and layer normalization: one pass over memory, several over each row while in cache."""

from __future__ import annotations

import functools
import math

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty_like
from ..simd.rows import CHUNK, chunks, flat, total
from ..simd.team import run
from ..simd.vectors import (
    clip,
    copy,
    exp2,
    first,
    lanes,
    larger,
    largest_lane,
    load,
    load_or_least,
    near,
    room,
    store,
    sum_lanes,
    zeros,
)
from ..simd.work import is_caller, shared, work
from .activation import activated, activated_and_slope

BINARY = 1 / math.log(2)  # eˣ is 2 to the power of x times this


@helper
def lowest(x):
    """Where `exp2` is 0."""
    return -127.0 if x.itemsize == 4 else -1100.0


FEW = 4  # rows computed together: while one waits for its sum, the others have work to do


@helper
def softmax_rows(x, at, x_row, rows, c, scale, y, to, y_row):
    """y = softmax(scale x) of rows of c numbers; scale > 0. They may be the same.

    In place of a missing row, the last is computed again: all are read before any is written.
    """
    step, last, factor, low = lanes(x), rows - 1, scale * BINARY, lowest(x)
    for r in range(0, rows, FEW):
        r1, r2, r3 = min(r + 1, last), min(r + 2, last), min(r + 3, last)
        x0, x1, x2, x3 = at + r * x_row, at + r1 * x_row, at + r2 * x_row, at + r3 * x_row
        y0, y1, y2, y3 = to + r * y_row, to + r1 * y_row, to + r2 * y_row, to + r3 * y_row
        v0, v1 = load_or_least(x, x0, c), load_or_least(x, x1, c)
        v2, v3 = load_or_least(x, x2, c), load_or_least(x, x3, c)
        for i in range(step, c, step):
            n = c - i
            v0 = larger(load_or_least(x, x0 + i, n), v0)
            v1 = larger(load_or_least(x, x1 + i, n), v1)
            v2 = larger(load_or_least(x, x2 + i, n), v2)
            v3 = larger(load_or_least(x, x3 + i, n), v3)
        most0, most1, most2, most3 = (
            largest_lane(v0), largest_lane(v1), largest_lane(v2), largest_lane(v3),
        )  # fmt: skip
        s0 = s1 = s2 = s3 = zeros(x)
        for i in range(0, c, step):
            n = c - i
            v0 = exp2(clip((load_or_least(x, x0 + i, n) - most0) * factor, low, np.inf))
            v1 = exp2(clip((load_or_least(x, x1 + i, n) - most1) * factor, low, np.inf))
            v2 = exp2(clip((load_or_least(x, x2 + i, n) - most2) * factor, low, np.inf))
            v3 = exp2(clip((load_or_least(x, x3 + i, n) - most3) * factor, low, np.inf))
            store(y, y0 + i, n, v0)
            store(y, y1 + i, n, v1)
            store(y, y2 + i, n, v2)
            store(y, y3 + i, n, v3)
            s0, s1, s2, s3 = s0 + v0, s1 + v1, s2 + v2, s3 + v3
        share0, share1 = 1.0 / sum_lanes(s0), 1.0 / sum_lanes(s1)
        share2, share3 = 1.0 / sum_lanes(s2), 1.0 / sum_lanes(s3)
        for i in range(0, c, step):
            n = c - i
            v0, v1 = load(y, y0 + i, n) * share0, load(y, y1 + i, n) * share1
            v2, v3 = load(y, y2 + i, n) * share2, load(y, y3 + i, n) * share3
            store(y, y0 + i, n, v0)
            store(y, y1 + i, n, v1)
            store(y, y2 + i, n, v2)
            store(y, y3 + i, n, v3)


@kernel
def _softmax(queue, x, m, c, y):
    for piece in work(shared(queue)):
        at = piece * CHUNK * c
        softmax_rows(x, at, c, min(CHUNK, m - piece * CHUNK), c, 1.0, y, at, c)


@helper
def softmax_row_backward(y, at, g, g_at, c, scale, dx, to):
    """dx = scale y (g − Σ g y) of c numbers. dx may be y or g."""
    step = lanes(y)
    s = zeros(y)
    for i in range(0, c, step):
        s = s + load(y, at + i, c - i) * load(g, g_at + i, c - i)
    mean = sum_lanes(s)
    for i in range(0, c, step):
        v = load(g, g_at + i, c - i) - mean
        store(dx, to + i, c - i, load(y, at + i, c - i) * v * scale)


@kernel
def _softmax_backward(queue, y, g, m, c, dx):
    for piece in work(shared(queue)):
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            softmax_row_backward(y, row * c, g, row * c, c, 1.0, dx, row * c)


@helper
def _moments(mean, shift, square, eps):
    return mean, shift, 1.0 / math.sqrt(max(square - shift * shift, 0.0) + eps)


@helper
def row_moments(x, at, c, eps):
    """Mean, what rounding left of it, and 1/√(σ² + ε) of a row."""
    step = lanes(x)
    s = zeros(x)
    for i in range(0, c, step):
        s = s + load(x, at + i, c - i)
    mean = sum_lanes(s) / c
    s, squares = zeros(x), zeros(x)
    for i in range(0, c, step):
        d = first(load(x, at + i, c - i) - mean, c - i)
        s, squares = s + d, squares + d * d
    return _moments(mean, sum_lanes(s) / c, sum_lanes(squares) / c, eps)


@helper
def moments_of_few(x, at, row, few, c, eps):
    """`row_moments` of up to FEW rows, `row` numbers apart; in place of a missing one, the last."""
    step = lanes(x)
    at1, at2 = at + min(1, few - 1) * row, at + min(2, few - 1) * row
    at3 = at + min(3, few - 1) * row
    s0 = s1 = s2 = s3 = zeros(x)
    for i in range(0, c, step):
        n = c - i
        s0, s1 = s0 + load(x, at + i, n), s1 + load(x, at1 + i, n)
        s2, s3 = s2 + load(x, at2 + i, n), s3 + load(x, at3 + i, n)
    mean0, mean1 = sum_lanes(s0) / c, sum_lanes(s1) / c
    mean2, mean3 = sum_lanes(s2) / c, sum_lanes(s3) / c
    s0 = s1 = s2 = s3 = zeros(x)
    q0 = q1 = q2 = q3 = zeros(x)
    for i in range(0, c, step):
        n = c - i
        d0, d1 = first(load(x, at + i, n) - mean0, n), first(load(x, at1 + i, n) - mean1, n)
        d2, d3 = first(load(x, at2 + i, n) - mean2, n), first(load(x, at3 + i, n) - mean3, n)
        s0, s1, s2, s3 = s0 + d0, s1 + d1, s2 + d2, s3 + d3
        q0, q1, q2, q3 = q0 + d0 * d0, q1 + d1 * d1, q2 + d2 * d2, q3 + d3 * d3
    return (
        _moments(mean0, sum_lanes(s0) / c, sum_lanes(q0) / c, eps),
        _moments(mean1, sum_lanes(s1) / c, sum_lanes(q1) / c, eps),
        _moments(mean2, sum_lanes(s2) / c, sum_lanes(q2) / c, eps),
        _moments(mean3, sum_lanes(s3) / c, sum_lanes(q3) / c, eps),
    )


@helper
def normal_rows(
    relu, x, at, x_row, rows, c, bias, gamma, beta, eps, added, here, added_row, y, to, y_row
):
    """y = γ x̂ + β, and + added where there is something, row by row; x̂ is x normalized.

    bias  normalize act(x + bias) instead; y may then be x. None: compiled without
    """
    step = lanes(x)
    for start in range(0, rows, FEW):
        few = min(FEW, rows - start)
        if bias is not None:
            for r in range(few):
                for i in range(0, c, step):
                    n = c - i
                    v = load(x, at + r * x_row + i, n) + load(bias, i, n)
                    store(y, to + r * y_row + i, n, activated(relu, v))
            moments = moments_of_few(y, to, y_row, few, c, eps)
        else:
            moments = moments_of_few(x, at, x_row, few, c, eps)
        for r in range(few):
            mean, shift, rstd = moments[r]
            for i in range(0, c, step):
                n = c - i
                v = load(x, at + i, n) if bias is None else load(y, to + i, n)
                v = (v - mean - shift) * rstd * load(gamma, i, n) + load(beta, i, n)
                if added.size:
                    v = v + load(added, here + i, n)
                store(y, to + i, n, v)
            at += x_row
            here += added_row
            to += y_row


@helper
def normal_rows_backward(
    relu, x, start, rows, c, bias, gamma, eps, g, pixels, own, sums, dx, to, dx_row
):
    """dx where g is the gradient of what `normal_rows` makes of rows start … start + rows − 1.

    pixels  how many rows share a row of g
    own     `room_for_few`
    sums    Σ g x̂ and Σ g are added to it and, where there is a bias, Σ dx
    """
    step = lanes(x)
    slopes, both = FEW * c, 2 * FEW * c
    for begin in range(start, start + rows, FEW):
        few = min(FEW, start + rows - begin)
        at = begin * c
        if bias is not None:
            for j in range(0, few * c, c):
                for i in range(0, c, step):
                    n = c - i
                    v = load(x, at + j + i, n) + load(bias, i, n)
                    v, slope = activated_and_slope(relu, v)
                    store(own, j + i, n, v)
                    store(own, slopes + j + i, n, slope)
            moments = moments_of_few(own, 0, c, few, c, eps)
        else:
            moments = moments_of_few(x, at, c, few, c, eps)
        for r in range(few):
            mean, shift, rstd = moments[r]
            j, g_at = r * c, (begin + r) // pixels * c
            s, t = zeros(x), zeros(x)
            for i in range(0, c, step):
                n = c - i
                v = load(x, at + j + i, n) if bias is None else load(own, j + i, n)
                normal, u = (v - mean - shift) * rstd, load(g, g_at + i, n)
                store(own, j + i, n, normal)
                store(sums, i, n, load(sums, i, n) + u * normal)
                store(sums, c + i, n, load(sums, c + i, n) + u)
                h = load(gamma, i, n) * u
                s, t = s + h, t + h * normal
            store(own, both + r * step, step, s)
            store(own, both + (FEW + r) * step, step, t)
        for r in range(few):
            level = sum_lanes(load(own, both + r * step, step)) / c
            slant = sum_lanes(load(own, both + (FEW + r) * step, step)) / c
            j, g_at, rstd = r * c, (begin + r) // pixels * c, moments[r][2]
            for i in range(0, c, step):
                n = c - i
                h = load(gamma, i, n) * load(g, g_at + i, n)
                v = (h - level - load(own, j + i, n) * slant) * rstd
                if bias is not None:
                    v = v * load(own, slopes + j + i, n)
                    store(sums, 2 * c + i, n, load(sums, 2 * c + i, n) + v)
                store(dx, to + i, n, v)
            to += dx_row


@helper
def room_for_few(c, x):
    """What `normal_rows_backward` needs for itself."""
    return room(2 * FEW * (c + lanes(x)), x)


@functools.cache
def _layer_norm(relu):
    @kernel
    def layer_norm(queue, x, m, c, bias, gamma, beta, eps, added, y):
        gamma, beta = near(gamma), near(beta)
        for piece in work(shared(queue)):
            at, rows = piece * CHUNK * c, min(CHUNK, m - piece * CHUNK)
            normal_rows(relu, x, at, c, rows, c, bias, gamma, beta, eps, added, at, c, y, at, c)

    return layer_norm


@functools.cache
def _layer_norm_backward(relu):
    @kernel
    def layer_norm_backward(queue, x, g, pixels, m, c, bias, gamma, eps, dx, parts, result):
        """dx, and the sums, by way of each chunk's."""
        gamma, own, sums = near(gamma), room_for_few(c, x), room(3 * c, x)
        for piece in work(shared(queue)):
            sums[:] = 0
            row = piece * CHUNK
            rows = min(CHUNK, m - row)
            normal_rows_backward(
                relu, x, row, rows, c, bias, gamma, eps, g, pixels, own, sums, dx, row * c, c
            )
            copy(sums, 0, 3 * c, parts, piece * 3 * c)
        if is_caller(queue):
            total(parts, -(-m // CHUNK), 3 * c, result)

    return layer_norm_backward


def softmax(x):
    y, c = empty_like(x), x.shape[-1]
    m = x.size // c
    run(_softmax, chunks(m), flat(x), m, c, y.reshape(-1))
    return y


def softmax_backward(y, g):
    dx, c = empty_like(y), y.shape[-1]
    m = y.size // c
    run(_softmax_backward, chunks(m), flat(y), flat(g), m, c, dx.reshape(-1))
    return dx


def normalize_rows(x, gamma, beta, eps, bias=None, added=None, relu=False):
    """γ x̂ + β, and + added; of act(x + bias) where there is a bias."""
    c, y = x.shape[-1], empty_like(x)
    m = x.size // c
    bias, added = bias if bias is None else flat(bias), x[:0] if added is None else added
    norm = bias, flat(gamma), flat(beta), float(eps), flat(added)
    run(_layer_norm(relu), chunks(m), flat(x), m, c, *norm, y.reshape(-1))
    return y


def normalize_rows_backward(x, g, pixels, gamma, eps, bias=None, relu=False):
    """dx, and the sums (3, C): dγ, dβ and, where there is a bias, its gradient."""
    c, dx = x.shape[-1], empty_like(x)
    m = x.size // c
    parts, sums = np.empty(chunks(m) * 3 * c, x.dtype), np.empty((3, c), x.dtype)
    norm = bias if bias is None else flat(bias), flat(gamma), float(eps)
    out = dx.reshape(-1), parts, sums.reshape(-1)
    run(_layer_norm_backward(relu), chunks(m), flat(x), g, pixels, m, c, *norm, *out)
    return dx, sums


def layer_norm(x, gamma, beta, eps):
    return normalize_rows(x, gamma, beta, eps)


def layer_norm_backward(x, g, gamma, eps):
    dx, sums = normalize_rows_backward(x, flat(g), 1, gamma, eps)
    return dx, sums[0], sums[1]
