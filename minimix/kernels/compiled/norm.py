"""Channel sums, moments and batch normalization over rows (M, C).

Every kernel walks whole rows in memory order and keeps one running vector of C sums in first-level
cache: reading down columns instead would skip from line to line and defeat the prefetcher. (So do
four rows at a time, which would share what is loaded for a channel: tried, and slower from 256
channels on.) Sums live in memory of the thread's own until a chunk is done: those of two chunks
side by side would send the line that they share from one core to the other, row after row.

A second pass begins where the first one ended, with what is still in the caches.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty_like
from ..simd.rows import CHUNK, chunks, end_moments, flat, merge_moments, total
from ..simd.team import run
from ..simd.vectors import (
    clip,
    copy,
    gate,
    lanes,
    load,
    load_wide,
    near,
    prefetch,
    room,
    store,
    widen,
)
from ..simd.work import is_caller, shared, work


@kernel
def _channel_sum(queue, x, m, c, parts, result):
    step = lanes(x)
    sums = room(c, x)
    for piece in work(shared(queue)):
        sums[:] = 0
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            for i in range(0, c, step):
                n = c - i
                store(sums, i, n, load(sums, i, n) + load(x, row * c + i, n))
        copy(sums, 0, c, parts, piece * c)
    if is_caller(queue):
        total(parts, -(-m // CHUNK), c, result)


@helper
def _moments_in_float64(x, start, stop, c, means, squares, to):
    """As `end_moments` gives them, for rows of which the first is no good pivot."""
    pivots, sums = np.empty(c), np.zeros(2 * c)
    for i in range(c):
        pivots[i] = x[start * c + i]
    for row in range(start, stop):
        for i in range(0, c, lanes(x)):
            n = c - i
            d = widen(load(x, row * c + i, n)) - load_wide(pivots, i, n, x)
            store(sums, i, n, load_wide(sums, i, n, x) + d)
            store(sums, c + i, n, load_wide(sums, c + i, n, x) + d * d)
    end_moments(pivots, sums, stop - start, c, c, means, squares, to)


@kernel
def _channel_moments(queue, x, m, c, means, squares, moments):
    step = lanes(x)
    ahead = 128 * step  # the processor foresees one row, but not two at a time
    sums = room(2 * c, x)
    for piece in work(shared(queue)):
        start, stop = piece * CHUNK, min((piece + 1) * CHUNK, m)
        sums[:] = 0
        for row in range(start, stop, 2):
            # Two rows at a time halve the traffic of the sums; a missing one adds the pivot, 0.
            other = row + 1 if row + 1 < stop else start
            for i in range(0, c, step):
                n = c - i
                prefetch(x, row * c + i + ahead)
                prefetch(x, row * c + c + i + ahead)
                pivot = load(x, start * c + i, n)
                d, e = load(x, row * c + i, n) - pivot, load(x, other * c + i, n) - pivot
                store(sums, i, n, load(sums, i, n) + (d + e))
                store(sums, c + i, n, load(sums, c + i, n) + (d * d + e * e))
        if end_moments(x[start * c :], sums, stop - start, c, c, means, squares, piece * c):
            _moments_in_float64(x, start, stop, c, means, squares, piece * c)
    if is_caller(queue):
        merge_moments(means, squares, CHUNK, m, c, moments)


@kernel
def _normalize(queue, x, m, c, mean, scale, beta, y):
    step = lanes(x)
    mean, scale, beta = near(mean), near(scale), near(beta)
    for piece in work(shared(queue), last_first=True):
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            for i in range(0, c, step):
                n = c - i
                v = load(x, row * c + i, n) - load(mean, i, n)
                store(y, row * c + i, n, v * load(scale, i, n) + load(beta, i, n))


@kernel
def _normalize_relu(queue, x, m, c, mean, scale, beta, residual, y):
    """`residual` may be empty: there is none."""
    step = lanes(x)
    mean, scale, beta = near(mean), near(scale), near(beta)
    for piece in work(shared(queue), last_first=True):
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            for i in range(0, c, step):
                n, at = c - i, row * c + i
                v = (load(x, at, n) - load(mean, i, n)) * load(scale, i, n) + load(beta, i, n)
                if residual.size:
                    v = v + load(residual, at, n)
                store(y, at, n, clip(v, 0.0, np.inf))


@kernel
def _batch_norm_sums(queue, x, y, g, added, m, c, mean, rstd, h, parts, result):
    """dγ = r Σ h (x − μ) and dβ = Σ h, by way of each chunk's. Where there is a y, h is g + added
    if y > 0, else 0; where there is none, h is g."""
    step = lanes(x)
    mean, sums = near(mean), room(2 * c, x)
    for piece in work(shared(queue)):
        sums[:] = 0
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            for i in range(0, c, step):
                n, at = c - i, row * c + i
                u = load(g, at, n)
                if y.size:
                    if added.size:
                        u = u + load(added, at, n)
                    u = gate(load(y, at, n), u)
                    store(h, at, n, u)
                product = u * (load(x, at, n) - load(mean, i, n))
                store(sums, i, n, load(sums, i, n) + product)
                store(sums, c + i, n, load(sums, c + i, n) + u)
        copy(sums, 0, 2 * c, parts, piece * 2 * c)
    if is_caller(queue):
        total(parts, -(-m // CHUNK), 2 * c, result)
        for i in range(c):
            result[i] *= rstd[i]


@kernel
def _batch_norm_dx(queue, x, g, m, c, mean, rstd, gamma, dgamma, dbeta, dx):
    """dx = γ r (g − dβ/M − x̂ dγ/M) = p g + q (x − μ) + o."""
    step = lanes(x)
    mean, p, q, o = near(mean), room(c, x), room(c, x), room(c, x)
    for i in range(c):
        p[i] = gamma[i] * rstd[i]
        q[i], o[i] = p[i] * rstd[i] * dgamma[i] / -m, p[i] * dbeta[i] / -m
    for piece in work(shared(queue), last_first=True):
        for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
            for i in range(0, c, step):
                n = c - i
                v = (load(x, row * c + i, n) - load(mean, i, n)) * load(q, i, n) + load(o, i, n)
                store(dx, row * c + i, n, load(g, row * c + i, n) * load(p, i, n) + v)


def channel_sum(x):
    m, c = x.shape
    parts, result = np.empty(chunks(m) * c, x.dtype), np.empty(c, x.dtype)
    run(_channel_sum, chunks(m), flat(x), m, c, parts, result)
    return result


def channel_moments(x):
    m, c = x.shape
    means, squares = np.empty((2, chunks(m) * c))
    moments = np.empty((2, c), x.dtype)
    run(_channel_moments, chunks(m), flat(x), m, c, means, squares, moments.reshape(-1))
    return tuple(moments)


def normalize(x, mean, rstd, gamma, beta):
    m, c = x.shape
    scale, y = flat(rstd * gamma), empty_like(x)
    run(_normalize, chunks(m), flat(x), m, c, flat(mean), scale, flat(beta), y.reshape(-1))
    return y


def normalize_relu(x, mean, rstd, gamma, beta, residual=None):
    c, y = x.shape[-1], empty_like(x)
    m = x.size // c
    norm = flat(mean), flat(rstd * gamma), flat(beta)
    residual = np.empty(0, x.dtype) if residual is None else flat(residual)
    run(_normalize_relu, chunks(m), flat(x), m, c, *norm, residual, y.reshape(-1))
    return y


def batch_norm_sums(x, g, mean, rstd):
    nothing = np.empty(0, x.dtype)
    g = flat(g)
    return _sums(x, nothing, g, nothing, mean, rstd, g)


def relu_norm_sums(x, y, g, mean, rstd, added=None):
    h, added = empty_like(x), np.empty(0, x.dtype) if added is None else flat(added)
    return h, *_sums(x, flat(y), flat(g), added, mean, rstd, h.reshape(-1))


def _sums(x, y, g, added, mean, rstd, h):
    m, c = x.shape
    parts, result = np.empty(chunks(m) * 2 * c, x.dtype), np.empty((2, c), x.dtype)
    how, out = (flat(mean), flat(rstd)), (h, parts, result.reshape(-1))
    run(_batch_norm_sums, chunks(m), flat(x), y, g, added, m, c, *how, *out)
    return tuple(result)


def batch_norm_dx(x, g, norm):
    (m, c), dx = x.shape, empty_like(x)
    run(_batch_norm_dx, chunks(m), flat(x), flat(g), m, c, *map(flat, norm), dx.reshape(-1))
    return dx
