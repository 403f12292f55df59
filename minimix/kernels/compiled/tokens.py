"""Linear maps with what stands before and after them, while it is in cache.

What is before a product (a norm, GELU) is applied to a chunk of rows as they are copied to where
the product reads them; what is added comes while the result is in cache. On the way back, one pass
over a chunk of the gradient gives dx, the weight's gradient, and the bias's.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty, empty_like
from ..simd.rows import CHUNK, add_up, chunks, flat, total
from ..simd.threads import run
from ..simd.vectors import (
    address,
    copy,
    gelu_and_slope,
    gelu_value,
    lanes,
    load,
    near,
    room,
    store,
    sum_lanes,
    work,
    zeros,
)
from .matmul import (
    ROWS,
    SPLITS,
    add_fitting_tile,
    as_it_is,
    columns,
    few,
    multiply_blocks,
    multiply_few,
    multiply_rows,
    packed,
    padded,
    rows_for_few,
    split,
    spread,
    widened,
)
from .rowwise import row_moments
from .stack import copy_rows, times, turn_rows

# ---- what stands before a linear map

NOTHING, GELU, NORM = range(3)


@helper
def _prepare(gelu, norm, x, at, rows, c, eps, a, a_row):
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
            store(a, to + i, c - i, v)


@helper
def _prepare_backward(gelu, norm, scaled, x, at, rows, c, eps, scale, sums, added, a, a_row, dx):
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
            store(a, to + i, n, v)
            if scaled:
                store(sums, i, n, load(sums, i, n) + v * h)
                h = h * load(scale, i, n)
            if gelu:
                h = h * slope
            if norm:
                s, slopes = s + h, slopes + h * v
            elif added.size:
                h = h + load(added, here + i, n)
            store(dx, here + i, n, h)
        if norm:
            level, slant = sum_lanes(s) / c, sum_lanes(slopes) / c
            for i in range(0, c, step):
                n = c - i
                h = (load(dx, here + i, n) - level - load(a, to + i, n) * slant) * rstd
                if added.size:
                    h = h + load(added, here + i, n)
                store(dx, here + i, n, h)


@helper
def prepare(kind, x, at, rows, c, eps, a, a_row):
    """a = x, gelu(x), or x̂ of each row; rows of c numbers, a_row apart in a."""
    if kind == GELU:
        _prepare(True, False, x, at, rows, c, eps, a, a_row)
    elif kind == NORM:
        _prepare(False, True, x, at, rows, c, eps, a, a_row)
    else:
        _prepare(False, False, x, at, rows, c, eps, a, a_row)


@helper
def prepare_backward(kind, scaled, x, at, rows, c, eps, scale, sums, added, a, a_row, dx):
    """As `prepare`, and dx becomes the gradient of x where it was that of a, plus `added`.

    scaled  dx was not yet multiplied by `scale`, whose gradient Σ a dx is added to `sums`
    """
    more = x, at, rows, c, eps, scale, sums, added, a, a_row, dx
    if kind == GELU:
        _prepare_backward(True, False, scaled, *more)
    elif kind == NORM:
        _prepare_backward(False, True, scaled, *more)
    else:
        _prepare_backward(False, False, scaled, *more)


# ---- rows


@kernel
def _linear(queue, kind, x, m, k, w, bias, c, added, eps, y):
    edge = room(ROWS * columns(x), x)
    step, a_row = lanes(x), padded(k, x)
    a = room(CHUNK * a_row, x)
    for piece in work(address(queue)):
        row = piece * CHUNK
        rows = min(CHUNK, m - row)
        prepare(kind, x, row * k, rows, k, eps, a, a_row)
        multiply_rows(a, np.int64(0), a_row, rows, k, w, c, bias, y, row * c, edge)
        if added.size:
            stop = (row + rows) * c
            for i in range(row * c, stop, step):
                store(y, i, stop - i, load(y, i, stop - i) + load(added, i, stop - i))


@kernel
def _prepared(queue, kind, x, m, k, eps, a_row, a):
    """`prepare` for all rows, a few in a piece."""
    for piece in work(address(queue)):
        row = piece * ROWS
        rows, to = min(ROWS, m - row), a[row * a_row :]
        prepare(kind, x, row * k, rows, k, eps, to, a_row)


@kernel
def _linear_backward(queue, kind, x, g, m, k, w, nothing, c, added, eps, long, dx, dw, db):
    """Per part of `long` rows: dx, and that part's dw and db."""
    edge = room(ROWS * columns(x), x)
    step, a_row, g_row = lanes(x), padded(k, x), padded(c, x)
    a, own = room(CHUNK * a_row, x), room(CHUNK * g_row, x)
    sums = room(c, x)
    for piece in work(address(queue)):
        dw[piece * k * c : (piece + 1) * k * c] = 0
        sums[:] = 0
        first, last = piece * long, min((piece + 1) * long, m)
        for start in range(first, last, CHUNK):
            rows = min(CHUNK, last - start)
            for row in range(rows):
                for i in range(0, c, step):
                    v = load(g, (start + row) * c + i, c - i)
                    store(own, row * g_row + i, c - i, v)
                    store(sums, i, c - i, load(sums, i, c - i) + v)
            at = start * k
            multiply_rows(own, np.int64(0), g_row, rows, c, w, k, nothing, dx, at, edge)
            prepare_backward(kind, False, x, at, rows, k, eps, sums, sums, added, a, a_row, dx)
            multiply_blocks(a, k, own, c, rows, dw, piece * k * c, edge)
        copy(sums, 0, c, db, piece * c)


# ---- tokens


@kernel
def _linear_tokens(queue, kind, x, s, d, w, t, scale, shift, added, eps, y):
    step, a_row = lanes(x), padded(d, x)
    a, scale = room(s * a_row, x), near(scale)
    zero, edge = room(columns(x), x), room(ROWS * columns(x), x)
    parts = -(-t // CHUNK)
    held = np.int64(-1)  # whose tokens are copied
    for piece in work(address(queue)):
        image, first = piece // parts, piece % parts * CHUNK
        if image != held:
            prepare(kind, x, image * s * d, s, d, eps, a, a_row)
            held = image
        rows, to = min(CHUNK, t - first), (image * t + first) * d
        times(w, first, 1, t, rows, s, a, a_row, d, zero, y, to, d, edge)
        for row in range(rows):
            for i in range(0, d, step):
                n, at = d - i, to + row * d + i
                v = load(y, at, n) * load(scale, i, n) + load(shift, (first + row) * d + i, n)
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
def _linear_tokens_backward(queue, kind, x, g, images, s, t, d, w, scale, added, eps, long, dx, dw,
                           dscale, dshift):  # fmt: skip
    """Per part of `long` images: dx, and that part's dw, dscale and dshift."""
    step, a_row, t_row, none = lanes(x), padded(d, x), padded(t, x), np.int64(0)
    a, own, turned = room(s * a_row, x), room(t * a_row, x), room(d * t_row, x)
    weights, sums, scale = room(s * t_row, x), room(d, x), near(scale)
    zero, edge = room(columns(x), x), room(ROWS * columns(x), x)
    for piece in work(address(queue)):
        weights[:] = 0
        sums[:] = 0
        shifts = piece * t * d
        dshift[shifts : shifts + t * d] = 0
        for image in range(piece * long, min((piece + 1) * long, images)):
            at, g_at = image * s * d, image * t * d
            for row in range(t):
                for i in range(0, d, step):
                    n, here = d - i, row * d + i
                    v = load(g, g_at + here, n)
                    store(own, row * a_row + i, n, v)
                    store(dshift, shifts + here, n, load(dshift, shifts + here, n) + v)
            times(w, none, t, 1, s, t, own, a_row, d, zero, dx, at, d, edge)
            prepare_backward(kind, True, x, at, s, d, eps, scale, sums, added, a, a_row, dx)
            for row in range(t):
                for i in range(0, d, step):
                    n, here = d - i, row * a_row + i
                    store(own, here, n, load(own, here, n) * load(scale, i, n))
            turn_rows(own, none, a_row, t, d, turned, t_row)
            add_product(a, a_row, s, d, turned, t_row, t, weights, t_row)
        copy_rows(weights, none, t_row, s, t, dw, piece * s * t, t)
        dscale[piece * d : (piece + 1) * d] = sums


# ---- what is called


def _how(before):
    """What is before, as kernels have it, and ε of a norm."""
    if isinstance(before, str):
        return GELU if before == "gelu" else NOTHING, 0.0
    return NORM, float(before)


def _added(added, x):
    """An empty array where there is nothing to add."""
    return np.empty(0, x.dtype) if added is None else flat(added)


def linear(x, w, b, added=None, before=""):
    kind, eps = _how(before)
    (m, k), c = x.shape, w.shape[1]
    y = empty((m, c), x.dtype)
    if few(m, k, c, x.itemsize):
        a = spread(x) if kind == NOTHING else rows_for_few(m, k, x.dtype)
        if kind != NOTHING:
            run(_prepared, -(-m // ROWS), kind, flat(x), m, k, eps, a.shape[1], a.reshape(-1))
        return multiply_few(a, k, w, b, y, as_it_is(x.dtype, added))
    matrix, bias, more = packed(w), widened(b, c, x.dtype), (_added(added, x), eps, y.reshape(-1))
    run(_linear, chunks(m), kind, flat(x), m, k, matrix, bias, c, *more)
    return y


def linear_backward(x, g, w, added=None, before=""):
    kind, eps = _how(before)
    (m, k), c = x.shape, w.shape[1]
    sums, long = split(m)
    dx, dw, db = empty_like(x), empty((sums, k, c), x.dtype), np.empty((sums, c), x.dtype)
    matrix, nothing = packed(w.T), widened(None, k, x.dtype)
    more = _added(added, x), eps, long, *(v.reshape(-1) for v in (dx, dw, db))
    run(_linear_backward, sums, kind, flat(x), flat(g), m, k, matrix, nothing, c, *more)
    return dx, add_up(dw), total(db, x.dtype)


def linear_tokens(x, w, scale, shift, added=None, before=""):
    kind, eps = _how(before)
    (n, s, d), t = x.shape, w.shape[1]
    y, more = empty((n, t, d), x.dtype), (_added(added, x), eps)
    sizes = s, d, flat(w), t, flat(scale), flat(shift)
    run(_linear_tokens, n * chunks(t), kind, flat(x), *sizes, *more, y.reshape(-1))
    return y


def linear_tokens_backward(x, g, w, scale, added=None, before=""):
    kind, eps = _how(before)
    (n, s, d), t = x.shape, w.shape[1]
    long = -(-n // SPLITS)
    parts = -(-n // long)
    dx, dw, dscale = empty_like(x), empty((parts, s, t), x.dtype), np.empty((parts, d), x.dtype)
    dshift = empty((parts, t, d), x.dtype)
    more = flat(scale), _added(added, x), eps, long
    out = (v.reshape(-1) for v in (dx, dw, dscale, dshift))
    run(_linear_tokens_backward, parts, kind, flat(x), flat(g), n, s, t, d, flat(w), *more, *out)
    return dx, add_up(dw), total(dscale, x.dtype), add_up(dshift)
