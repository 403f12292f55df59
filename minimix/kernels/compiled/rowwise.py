"""Softmax and layer normalization: one pass over memory, several over each row while in cache."""

from __future__ import annotations

import math

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty_like
from ..simd.rows import CHUNK, chunks, flat, total
from ..simd.threads import run
from ..simd.vectors import (
    address,
    clip,
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
    work,
    zeros,
)

BINARY = 1 / math.log(2)  # eˣ is 2 to the power of x times this


@helper
def lowest(x):
    """Where `exp2` is 0."""
    return -127.0 if x.itemsize == 4 else -1100.0


@helper
def softmax_row(x, at, c, scale, y, to):
    """y = softmax(scale x) of c numbers; scale > 0. They may be the same."""
    step = lanes(x)
    v = load_or_least(x, at, c)
    for i in range(step, c, step):
        v = larger(load_or_least(x, at + i, c - i), v)
    most = largest_lane(v)
    s = zeros(x)
    for i in range(0, c, step):
        v = (load_or_least(x, at + i, c - i) - most) * (scale * BINARY)
        e = exp2(clip(v, lowest(x), 0.0))
        store(y, to + i, c - i, e)
        s = s + e
    share = 1.0 / sum_lanes(s)
    for i in range(0, c, step):
        store(y, to + i, c - i, load(y, to + i, c - i) * share)


@kernel
def _softmax(queue, x, m, c, y):
    for piece in work(address(queue)):
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            softmax_row(x, row * c, c, 1.0, y, row * c)


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
    for piece in work(address(queue)):
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            softmax_row_backward(y, row * c, g, row * c, c, 1.0, dx, row * c)


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
    shift = sum_lanes(s) / c
    variance = max(sum_lanes(squares) / c - shift * shift, 0.0)
    return mean, shift, 1.0 / math.sqrt(variance + eps)


@kernel
def _layer_norm(queue, x, m, c, gamma, beta, eps, y):
    step = lanes(x)
    gamma, beta = near(gamma), near(beta)
    for piece in work(address(queue)):
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            at = row * c
            mean, shift, rstd = row_moments(x, at, c, eps)
            for i in range(0, c, step):
                normal = (load(x, at + i, c - i) - mean - shift) * rstd
                store(y, at + i, c - i, normal * load(gamma, i, c - i) + load(beta, i, c - i))


@kernel
def _layer_norm_backward(queue, x, g, m, c, gamma, eps, dx, gammas, betas):
    """dx, and each chunk's Σ g x̂ and Σ g."""
    step = lanes(x)
    gamma, sums = near(gamma), room(2 * c, x)
    for piece in work(address(queue)):
        sums[:] = 0
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            at = row * c
            mean, shift, rstd = row_moments(x, at, c, eps)
            s, slopes = zeros(x), zeros(x)
            for i in range(0, c, step):
                n = c - i
                normal = (load(x, at + i, n) - mean - shift) * rstd
                u = load(g, at + i, n)
                store(sums, i, n, load(sums, i, n) + u * normal)
                store(sums, c + i, n, load(sums, c + i, n) + u)
                h = load(gamma, i, n) * u
                s, slopes = s + h, slopes + h * normal
            level, slope = sum_lanes(s) / c, sum_lanes(slopes) / c
            for i in range(0, c, step):
                n = c - i
                normal = (load(x, at + i, n) - mean - shift) * rstd
                h = load(gamma, i, n) * load(g, at + i, n)
                store(dx, at + i, n, (h - level - normal * slope) * rstd)
        gammas[piece * c : (piece + 1) * c] = sums[:c]
        betas[piece * c : (piece + 1) * c] = sums[c:]


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


def layer_norm(x, gamma, beta, eps):
    (m, c), y = x.shape, empty_like(x)
    run(_layer_norm, chunks(m), flat(x), m, c, flat(gamma), flat(beta), float(eps), y.reshape(-1))
    return y


def layer_norm_backward(x, g, gamma, eps):
    (m, c), dx = x.shape, empty_like(x)
    gammas, betas = np.empty((2, chunks(m), c), x.dtype)
    sums = gammas.reshape(-1), betas.reshape(-1)
    run(
        _layer_norm_backward, len(gammas), flat(x), flat(g), m, c, flat(gamma), float(eps),
        dx.reshape(-1), *sums,
    )  # fmt: skip
    return dx, total(gammas, x.dtype), total(betas, x.dtype)
