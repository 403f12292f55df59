"""Linear maps with what stands before and after them, while it is in cache.

What is before a product (a norm, GELU) is applied to a chunk of rows as they are copied to where
the product reads them; what is added comes while the result is in cache. Of two maps with GELU
between them, what the first gives for a chunk of rows stays in cache for the second. On the way
back, one pass over a chunk of the gradient gives dx, the weight's gradient, and the bias's.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty, empty_like
from ..simd.rows import CHUNK, add_up, chunks, flat, total
from ..simd.team import run
from ..simd.vectors import (
    copy,
    gelu_and_slope,
    gelu_value,
    lanes,
    load,
    near,
    room,
    store,
    sum_lanes,
    turn_rows,
    zeros,
)
from ..simd.work import is_caller, shared, work
from .matmul import (
    ROWS,
    SPLITS,
    add_fitting_tile,
    as_it_is,
    columns,
    few,
    finish,
    multiply_blocks,
    multiply_few,
    multiply_rows,
    packed,
    padded,
    rows_for_few,
    soon,
    split,
    spread,
    widened,
)
from .rowwise import row_moments
from .stack import copy_rows, dot, times

BAND = 64 * 1024  # numbers between two maps that leave room in second-level cache for the weights

# ---- what stands before a linear map

NOTHING, GELU, AFFINE, NORM = range(4)  # after a norm, an affine map as well


@helper
def _prepare(gelu, norm, affine, x, at, rows, c, eps, gamma, beta, a, a_row):
    """`prepare`, compiled for each kind: nobody asks for it in the inner loop."""
    step = lanes(x)
    for row in range(rows):
        here, to = at + row * c, row * a_row
        mean, shift, rstd = row_moments(x, here, c, eps) if norm else (0.0, 0.0, 1.0)
        for i in range(0, c, step):
            v = load(x, here + i, c - i)
            if gelu:
                v = gelu_value(v)
            if norm:
                v = (v - mean - shift) * rstd
            if affine:
                v = v * load(gamma, i, c - i) + load(beta, i, c - i)
            store(a, to + i, c - i, v)


@helper
def _prepare_backward(
    gelu, norm, affine, scaled, x, at, rows, c, eps, gamma, beta, scale, sums, added, a, a_row, dx
):
    """`prepare_backward`, likewise."""
    step = lanes(x)
    for row in range(rows):
        here, to = at + row * c, row * a_row
        mean, shift, rstd = row_moments(x, here, c, eps) if norm else (0.0, 0.0, 1.0)
        s, slopes = zeros(x), zeros(x)
        for i in range(0, c, step):
            n = c - i
            v, h = load(x, here + i, n), load(dx, here + i, n)
            slope = v
            if gelu:
                v, slope = gelu_and_slope(v)
            if norm:
                v = (v - mean - shift) * rstd
            own = v
            if affine:
                v = v * load(gamma, i, n) + load(beta, i, n)
            store(a, to + i, n, v)
            if scaled:
                store(sums, 2 * c + i, n, load(sums, 2 * c + i, n) + v * h)
                h = h * load(scale, i, n)
            if affine:
                store(sums, i, n, load(sums, i, n) + own * h)
                store(sums, c + i, n, load(sums, c + i, n) + h)
                h = h * load(gamma, i, n)
            if gelu:
                h = h * slope
            if norm:
                s, slopes = s + h, slopes + h * own
            elif added.size:
                h = h + load(added, here + i, n)
            store(dx, here + i, n, h)
        if norm:
            level, slant = sum_lanes(s) / c, sum_lanes(slopes) / c
            for i in range(0, c, step):
                n = c - i
                own = (load(x, here + i, n) - mean - shift) * rstd
                h = (load(dx, here + i, n) - level - own * slant) * rstd
                if added.size:
                    h = h + load(added, here + i, n)
                store(dx, here + i, n, h)


@helper
def prepare(kind, x, at, rows, c, eps, gamma, beta, a, a_row):
    """a = x′, from rows of c numbers to rows a_row apart."""
    if kind == GELU:
        _prepare(True, False, False, x, at, rows, c, eps, gamma, beta, a, a_row)
    elif kind == NORM:
        _prepare(False, True, True, x, at, rows, c, eps, gamma, beta, a, a_row)
    elif kind == AFFINE:
        _prepare(False, False, True, x, at, rows, c, eps, gamma, beta, a, a_row)
    else:
        _prepare(False, False, False, x, at, rows, c, eps, gamma, beta, a, a_row)


@helper
def prepare_backward(
    kind, scaled, x, at, rows, c, eps, gamma, beta, scale, sums, added, a, a_row, dx
):
    """As `prepare`, and dx becomes the gradient of x where it was that of x′, plus `added`.

    scaled  dx was not yet multiplied by `scale`
    sums    the gradients of γ, β and scale are added to it
    """
    more = x, at, rows, c, eps, gamma, beta, scale, sums, added, a, a_row, dx
    if kind == GELU:
        _prepare_backward(True, False, False, scaled, *more)
    elif kind == NORM:
        _prepare_backward(False, True, True, scaled, *more)
    elif kind == AFFINE:
        _prepare_backward(False, False, True, scaled, *more)
    else:
        _prepare_backward(False, False, False, scaled, *more)


# ---- rows


@kernel
def _linear(
    queue, kind, x, m, k, eps, gamma, beta, w, bias, c, y, mean, scale, shift, added, least
):
    edge, a_row = room(ROWS * columns(x), x), padded(k, x)
    a, gamma, beta = room(CHUNK * a_row, x), near(gamma), near(beta)
    for piece in work(shared(queue)):
        row, after = piece * CHUNK, (piece + 1) * CHUNK * k
        rows = min(CHUNK, m - row)
        prepare(kind, x, row * k, rows, k, eps, gamma, beta, a, a_row)
        multiply_rows(a, np.int64(0), a_row, rows, k, w, c, bias, y, row * c, c, edge,
                      soon(x, after, rows * k), soon(added, row * c, rows * c))  # fmt: skip
        if scale.size or added.size:
            for at in range(row * c, (row + rows) * c, c):
                finish(y, at, c, 0, mean, scale, shift, added, least, y, at)


@kernel
def _mlp(queue, band, kind, x, m, k, eps, gamma, beta, w1, b1, inner, z, w2, b2, c, y, mean, scale,
         shift, added, least):  # fmt: skip
    """A piece is `band` rows, which stay in cache between the two maps. z may be empty."""
    edge, a_row, h_row = room(ROWS * columns(x), x), padded(k, x), padded(inner, x)
    a, h, step, none = room(band * a_row, x), room(band * h_row, x), lanes(x), np.int64(0)
    gamma, beta = near(gamma), near(beta)
    for piece in work(shared(queue)):
        row, after = piece * band, (piece + 1) * band * k
        rows = min(band, m - row)
        prepare(kind, x, row * k, rows, k, eps, gamma, beta, a, a_row)
        v, at, v_row = (z, row * inner, inner) if z.size else (h, none, h_row)
        multiply_rows(a, none, a_row, rows, k, w1, inner, b1, v, at, v_row, edge,
                      soon(x, after, rows * k), soon(added, row * c, rows * c))  # fmt: skip
        for r in range(rows):
            for i in range(0, inner, step):
                value = gelu_value(load(v, at + r * v_row + i, inner - i))
                store(h, r * h_row + i, inner - i, value)
        multiply_rows(h, none, h_row, rows, inner, w2, c, b2, y, row * c, c, edge,
                      soon(x, 0, 0), soon(x, 0, 0))  # fmt: skip
        if scale.size or added.size:
            for at in range(row * c, (row + rows) * c, c):
                finish(y, at, c, 0, mean, scale, shift, added, least, y, at)


@kernel
def _prepared(queue, kind, x, m, k, eps, gamma, beta, a_row, a):
    """`prepare` for all rows, a few in a piece."""
    for piece in work(shared(queue)):
        row = piece * ROWS
        rows, to = min(ROWS, m - row), a[row * a_row :]
        prepare(kind, x, row * k, rows, k, eps, gamma, beta, to, a_row)


@kernel
def _linear_backward(queue, kind, x, g, m, k, eps, gamma, beta, w, nothing, c, added, long, dx,
                     dw, parts, result):  # fmt: skip
    """Per part of `long` rows: dx, and that part's dw; then db, dγ and dβ, by way of each part's. g
    is not yet scaled in dw and db."""
    edge = room(ROWS * columns(x), x)
    step, a_row, g_row = lanes(x), padded(k, x), padded(c, x)
    a, own = room(CHUNK * a_row, x), room(CHUNK * g_row, x)
    biases, sums, gamma, beta = room(c, x), room(2 * k, x), near(gamma), near(beta)
    for piece in work(shared(queue)):
        dw[piece * k * c : (piece + 1) * k * c] = 0
        biases[:] = 0
        sums[:] = 0
        first, last = piece * long, min((piece + 1) * long, m)
        for start in range(first, last, CHUNK):
            rows = min(CHUNK, last - start)
            for row in range(rows):
                for i in range(0, c, step):
                    v = load(g, (start + row) * c + i, c - i)
                    store(own, row * g_row + i, c - i, v)
                    store(biases, i, c - i, load(biases, i, c - i) + v)
            at = start * k
            multiply_rows(own, np.int64(0), g_row, rows, c, w, k, nothing, dx, at, k, edge,
                          soon(x, at, rows * k), soon(added, at, rows * k))  # fmt: skip
            prepare_backward(
                kind, False, x, at, rows, k, eps, gamma, beta, sums, sums, added, a, a_row, dx
            )
            multiply_blocks(a, k, own, c, rows, dw, piece * k * c, edge,
                            soon(g, (start + CHUNK) * c, rows * c), soon(g, 0, 0))  # fmt: skip
        at = piece * (c + 2 * k)
        copy(biases, 0, c, parts, at)
        copy(sums, 0, 2 * k, parts, at + c)
    if is_caller(queue):
        total(parts, -(-m // long), c + 2 * k, result)


# ---- tokens


@kernel
def _linear_tokens(queue, kind, x, s, d, eps, gamma, beta, w, bias, t, scale, added, y):
    step, a_row = lanes(x), padded(d, x)
    a, gamma, beta, scale = room(s * a_row, x), near(gamma), near(beta), near(scale)
    zero, edge = room(columns(x), x), room(ROWS * columns(x), x)
    parts = -(-t // CHUNK)
    held = np.int64(-1)  # whose tokens are copied
    for piece in work(shared(queue)):
        image, first = piece // parts, piece % parts * CHUNK
        if image != held:
            prepare(kind, x, image * s * d, s, d, eps, gamma, beta, a, a_row)
            held = image
        rows, to = min(CHUNK, t - first), (image * t + first) * d
        times(w, first, 1, t, rows, s, a, a_row, d, zero, y, to, d, edge)
        for row in range(rows):
            for i in range(0, d, step):
                n, at = d - i, to + row * d + i
                v = (load(y, at, n) + bias[first + row]) * load(scale, i, n)
                if added.size:
                    v = v + load(added, at, n)
                store(y, at, n, v)


@helper
def add_product(a, a_row, rows, k, b, b_row, n, c, c_row):
    """c[rows, n] += a[rows, k] b; b and c have room for whole tiles."""
    for j in range(0, n, columns(a)):
        r = 0
        while r < rows:
            at, to = r * a_row, r * c_row + j
            r += add_fitting_tile(n - j, k, a, at, rows - r, a_row, 1, b, j, b_row, c, to, c_row)


@kernel
def _linear_tokens_backward(queue, kind, x, g, images, s, d, eps, gamma, beta, w, bias, t, scale,
                            added, long, dx, dw, sum_parts, result):  # fmt: skip
    """Per part of `long` images: dx, and that part's dw; then db and the gradients of γ, β and
    scale, by way of each part's."""
    step, a_row, t_row, none = lanes(x), padded(d, x), padded(t, x), np.int64(0)
    a, own, turned = room(s * a_row, x), room(t * a_row, x), room(d * t_row, x)
    weights, sums, biases = room(s * t_row, x), room(3 * d, x), room(t * a_row, x)
    zero, edge = room(columns(x), x), room(ROWS * columns(x), x)
    gamma, beta, scale = near(gamma), near(beta), near(scale)
    for piece in work(shared(queue)):
        weights[:] = 0
        sums[:] = 0
        biases[:] = 0
        for image in range(piece * long, min((piece + 1) * long, images)):
            at, g_at = image * s * d, image * t * d
            for row in range(t):
                for i in range(0, d, step):
                    n, to = d - i, row * a_row + i
                    v = load(g, g_at + row * d + i, n)
                    store(own, to, n, v)
                    store(biases, to, n, load(biases, to, n) + v)
            times(w, none, t, 1, s, t, own, a_row, d, zero, dx, at, d, edge)
            prepare_backward(
                kind, True, x, at, s, d, eps, gamma, beta, scale, sums, added, a, a_row, dx
            )
            for row in range(t):
                for i in range(0, d, step):
                    n, to = d - i, row * a_row + i
                    store(own, to, n, load(own, to, n) * load(scale, i, n))
            turn_rows(own, none, a_row, t, d, turned, none, t_row)
            add_product(a, a_row, s, d, turned, t_row, t, weights, t_row)
        copy_rows(weights, none, t_row, s, t, dw, piece * s * t, t)
        for row in range(t):
            sum_parts[piece * (t + 3 * d) + row] = dot(biases, row * a_row, scale, d)
            for i in range(0, d, step):
                n, to = d - i, 2 * d + i
                b = load(biases, row * a_row + i, n) * bias[row]
                store(sums, to, n, load(sums, to, n) + b)
        copy(sums, 0, 3 * d, sum_parts, piece * (t + 3 * d) + t)
    if is_caller(queue):
        total(sum_parts, -(-images // long), t + 3 * d, result)


# ---- what is called


def _how(before, affine, k, dtype):
    """What is before: as kernels have it, ε of a norm, γ and β."""
    nothing = np.empty(0, dtype)
    if affine is not None and before == "gelu":
        raise ValueError("linear: an affine map after GELU is not supported; give one of the two")
    if affine is None and not isinstance(before, float):
        return GELU if before == "gelu" else NOTHING, 0.0, nothing, nothing
    gamma, beta = (np.ones(k, dtype), np.zeros(k, dtype)) if affine is None else affine
    kind, eps = (AFFINE, 0.0) if before == "" else (NORM, float(before))
    return kind, eps, flat(gamma), flat(beta)


def _added(added, x):
    """An empty array where there is nothing to add."""
    return np.empty(0, x.dtype) if added is None else flat(added)


def _end(c, dtype, added, scale):
    """A result c wide, times `scale` and + added, where there are such."""
    end = as_it_is(dtype, added)
    if scale is None:
        return end
    return end._replace(mean=np.zeros(c, dtype), scale=flat(scale), shift=np.zeros(c, dtype))


def linear(x, w, b, added=None, before="", affine=None, scale=None):
    (m, k), c = x.shape, w.shape[1]
    kind, *how = _how(before, affine, k, x.dtype)
    y, end = empty((m, c), x.dtype), _end(c, x.dtype, added, scale)
    if few(m, k, c, x.itemsize):
        a = spread(x) if kind == NOTHING else rows_for_few(m, k, x.dtype)
        if kind != NOTHING:
            run(_prepared, -(-m // ROWS), kind, flat(x), m, k, *how, a.shape[1], a.reshape(-1))
        return multiply_few(a, k, w, b, y, end)
    matrix, bias = packed(w), widened(b, c, x.dtype)
    run(_linear, chunks(m), kind, flat(x), m, k, *how, matrix, bias, c, y.reshape(-1), *end)
    return y


def mlp(x, w1, b1, w2, b2, added=None, before="", affine=None, scale=None, keep=False):
    (m, k), (inner, c) = x.shape, w2.shape
    if few(m, k, inner, x.itemsize) or few(m, inner, c, x.itemsize):
        z = linear(x, w1, b1, None, before, affine)
        y = linear(z, w2, b2, added, "gelu", None, scale)
        return (y, z) if keep else (y,)
    kind, *how = _how(before, affine, k, x.dtype)
    band = max(ROWS, min(CHUNK, BAND // inner // ROWS * ROWS))
    y, z = empty((m, c), x.dtype), empty((m if keep else 0, inner), x.dtype)
    first = packed(w1), widened(b1, inner, x.dtype), inner, z.reshape(-1)
    second = packed(w2), widened(b2, c, x.dtype), c, y.reshape(-1), *_end(c, x.dtype, added, scale)
    run(_mlp, -(-m // band), band, kind, flat(x), m, k, *how, *first, *second)
    return (y, z) if keep else (y,)


def linear_backward(x, g, w, b, added=None, before="", affine=None, scale=None):
    (m, k), c = x.shape, w.shape[1]
    how = _how(before, affine, k, x.dtype)
    sums, long = split(m)
    dx, dw = empty_like(x), empty((sums, k, c), x.dtype)
    parts, result = np.empty(sums * (c + 2 * k), x.dtype), np.empty(c + 2 * k, x.dtype)
    matrix = packed((w if scale is None else w * scale).T), widened(None, k, x.dtype), c
    out = dx.reshape(-1), dw.reshape(-1), parts, result
    rows = how[0], flat(x), flat(g), m, k, *how[1:]
    run(_linear_backward, sums, *rows, *matrix, _added(added, x), long, *out)
    dw, db = add_up(dw), result[:c]
    others = [] if affine is None else [result[c : c + k], result[c + k :]]
    if scale is not None:
        others.append(np.einsum("kc,kc->c", dw, w) + b * db)
        dw, db = np.multiply(dw, scale, out=dw), db * scale
    return dx, dw, db, *others


def linear_tokens(x, w, b, added=None, before="", affine=None, scale=None):
    (n, s, d), t = x.shape, w.shape[1]
    kind, *how = _how(before, affine, d, x.dtype)
    scale = np.ones(d, x.dtype) if scale is None else flat(scale)
    y, more = empty((n, t, d), x.dtype), (flat(w), flat(b), t, scale, _added(added, x))
    run(_linear_tokens, n * chunks(t), kind, flat(x), s, d, *how, *more, y.reshape(-1))
    return y


def linear_tokens_backward(x, g, w, b, added=None, before="", affine=None, scale=None):
    (n, s, d), t = x.shape, w.shape[1]
    kind, *how = _how(before, affine, d, x.dtype)
    long = -(-n // SPLITS)
    parts = -(-n // long)
    dx, dw = empty_like(x), empty((parts, s, t), x.dtype)
    sum_parts, result = np.empty(parts * (t + 3 * d), x.dtype), np.empty(t + 3 * d, x.dtype)
    own = np.ones(d, x.dtype) if scale is None else flat(scale)
    more = flat(w), flat(b), t, own, _added(added, x), long
    out = dx.reshape(-1), dw.reshape(-1), sum_parts, result
    run(_linear_tokens_backward, parts, kind, flat(x), flat(g), n, s, d, *how, *more, *out)
    dgamma, dbeta, dscale = result[t:].reshape(3, d)
    others = [] if affine is None else [dgamma, dbeta]
    others += [] if scale is None else [dscale]
    return dx, add_up(dw), result[:t], *others
