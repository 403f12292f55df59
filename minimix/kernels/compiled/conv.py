"""Convolution as matrix products, of which the left factor is never in memory as a whole.

A row of that factor is what one place of the result sees: for each tap the channels of one pixel,
or zeros outside the image. A thread gathers a chunk of such rows into a block of its own, which
stays in cache, and multiplies it with the packed weights.

The gradient for x is the same with other taps. A pixel h of x has gone into the results
(h + top − δi)/s, where that is whole: which taps i those are depends on h mod s alone, its phase,
and within a phase one step of h is one step of the result. So for each of the s × s phases it is a
convolution of g with stride 1, by some of the taps.

With one channel a group there is nothing to multiply matrices of: channels are then side by side in
a vector, and every tap is a product and a sum.
"""

from __future__ import annotations

import numpy as np

from ..reference.conv import result_size
from ..simd.jit import helper, kernel
from ..simd.memory import empty
from ..simd.rows import CHUNK, add_up, flat
from ..simd.team import run
from ..simd.vectors import VECTOR_BYTES, lanes, load, room, store, zeros
from ..simd.work import shared, work
from . import few, winograd
from .depthwise import (
    convolve_in_place,
    depthwise_conv2d,
    depthwise_conv2d_dw,
    depthwise_conv2d_dx,
    in_place,
)
from .matmul import (
    ROWS,
    as_it_is,
    columns,
    finish,
    matmul,
    multiply,
    multiply_blocks,
    multiply_few,
    multiply_gathered,
    multiply_rows,
    packed,
    padded,
    rows_for_few,
    soon,
    widened,
)
from .matmul import few as few_rows
from .norm import normalize_relu
from .taps import Axis, sums

PIECES = (
    16  # into how many pieces of work a convolution is divided, at least, if it is large enough
)
SUMS = 1 << 20  # numbers in all partial sums of the weights' gradient, at most
CHANNELS = 128  # of a tap, of whose weights a thread computes the gradient at a time


@helper
def gather(x, height, width, pitch, channel, c, row_taps, column_taps, step, rows, columns,
           start, count, block):  # fmt: skip
    """Rows start … start + count − 1 of the left factor into `block`, `padded` apart.

    Place (q, u) of rows × columns places sees, for each pair of taps (a, b), c channels of pixel
    (step q + a, step u + b) of x, from `channel` of its `pitch` on.
    """
    wide = lanes(x)
    taps = len(column_taps)
    ahead = padded(len(row_taps) * taps * c, x)
    whole = c == pitch and column_taps[taps - 1] - column_taps[0] == taps - 1  # one run of numbers
    runs, length = (1, taps) if whole else (taps, 1)
    for r in range(count):
        u = (start + r) % columns
        image, q = (start + r) // columns // rows, (start + r) // columns % rows
        to = r * ahead
        for a in row_taps:
            y = q * step + a
            inside = 0 <= y < height
            line = (image * height + y) * width
            for j in range(runs):
                v = u * step + column_taps[j]
                first = min(max(-v, 0), length) if inside else length
                last = max(min(width - v, length), first) if inside else length
                for i in range(0, first * c, wide):
                    store(block, to + i, wide, zeros(x))
                at, n = (line + v + first) * pitch + channel, (last - first) * c
                for i in range(0, n, wide):  # beyond n come zeros, which what follows overwrites
                    store(block, to + first * c + i, wide, load(x, at + i, n - i))
                for i in range(last * c, length * c, wide):
                    store(block, to + i, wide, zeros(x))
                to += length * c


@kernel
def _conv2d(queue, m, chunk, x, height, width, groups, c, row_taps, column_taps, step, rows,
            columns_, weights, bias, d, y, y_height, y_width, y_step, y_row, y_column,
            mean, scale, shift, added, least):  # fmt: skip
    """Places (q, u) of rows × columns, to (q y_step + y_row, u y_step + y_column) of y."""
    k = len(row_taps) * len(column_taps) * c
    panels = -(-d // columns(x)) * columns(x)
    d_row = padded(d, x)
    block = room(chunk * padded(k, x), x)
    out = room(chunk * d_row, x)
    for piece in work(shared(queue)):
        start = piece * chunk
        count = min(chunk, m - start)
        for group in range(groups):
            gather(x, height, width, groups * c, group * c, c, row_taps, column_taps, step,
                   rows, columns_, start, count, block)  # fmt: skip
            multiply_gathered(
                block, padded(k, x), count, k, weights, group * k * panels, bias, group * panels,
                d, out, d_row,
            )  # fmt: skip
            for r in range(count):
                line = (start + r) // columns_
                image, row = line // rows, line % rows * y_step + y_row
                column = (start + r) % columns_ * y_step + y_column
                to = (((image * y_height + row) * y_width + column) * groups + group) * d
                finish(out, r * d_row, d, group * d, mean, scale, shift, added, least, y, to)


@kernel
def _gathered(queue, m, x, height, width, c, row_taps, column_taps, step, rows, columns_,
              a, a_row):  # fmt: skip
    """The whole left factor, a few rows in a piece."""
    for piece in work(shared(queue)):
        start = piece * ROWS
        gather(x, height, width, c, np.int64(0), c, row_taps, column_taps, step, rows, columns_,
               start, min(ROWS, m - start), a[start * a_row :])  # fmt: skip


@helper
def scatter(block, height, width, pitch, channel, c, row_taps, column_taps, step, rows, columns,
            start, count, x):  # fmt: skip
    """As `gather` the other way: rows of `block`, one after the other, are added to x."""
    wide = lanes(x)
    taps = len(column_taps)
    whole = c == pitch and column_taps[taps - 1] - column_taps[0] == taps - 1
    runs, length = (1, taps) if whole else (taps, 1)
    to = 0
    for r in range(start, start + count):
        image, q, u = r // columns // rows, r // columns % rows, r % columns
        for a in row_taps:
            y = q * step + a
            for j in range(runs):
                v = u * step + column_taps[j]
                first, last = max(-v, 0), min(width - v, length)
                at = ((image * height + y) * width + v + first) * pitch + channel
                n = (last - first) * c if 0 <= y < height else 0
                for i in range(0, n, wide):
                    s = load(x, at + i, n - i) + load(block, to + first * c + i, n - i)
                    store(x, at + i, n - i, s)
                to += length * c


@kernel
def _conv2d_dx(queue, g, rows, columns_, groups, d, weights, height, width, c, row_taps,
               column_taps, step, dx):  # fmt: skip
    """A piece is an image. What each place gives to all that it saw is one row of a product."""
    n = len(row_taps) * len(column_taps) * c
    wide, places, image_size = columns(g), rows * columns_, height * width * groups * c
    panels, g_row = -(-n // wide) * wide, groups * d
    block, edge, nothing = room(CHUNK * n, g), room(ROWS * wide, g), room(panels, g)
    for image in work(shared(queue)):
        for i in range(0, image_size, lanes(g)):
            store(dx, image * image_size + i, image_size - i, zeros(g))
        for group in range(groups):
            matrix = weights[group * d * panels : (group + 1) * d * panels]
            for start in range(image * places, (image + 1) * places, CHUNK):
                count = min(CHUNK, (image + 1) * places - start)
                at = start * g_row + group * d
                multiply_rows(g, at, g_row, count, d, matrix, n, nothing, block, 0, n, edge,
                              soon(g, at + CHUNK * g_row, count * d), soon(g, 0, 0))  # fmt: skip
                scatter(block, height, width, groups * c, group * c, c, row_taps, column_taps,
                        step, rows, columns_, start, count, dx)  # fmt: skip


@kernel
def _conv2d_dw(queue, long, slices, share, m, x, height, width, groups, c, row_taps, column_taps,
               step, rows, columns_, g, d, parts):  # fmt: skip
    """parts[s] = dw over the s-th `long` places; a piece is one row of taps, `share` channels."""
    taps, wide = len(column_taps), lanes(x)
    k, most = len(row_taps), taps * share
    edge = room(ROWS * columns(x), x)
    block = room(CHUNK * padded(most, x), x)
    g_block = room(CHUNK * padded(d, x), x)
    sums = room(most * d, x)
    for piece in work(shared(queue)):
        part, row = piece // (slices * k * groups), piece // (slices * groups) % k
        group, channel = piece // slices % groups, piece % slices * share
        n = min(share, c - channel)
        first, last = part * long, min((part + 1) * long, m)
        sums[: taps * n * d] = 0
        for start in range(first, last, CHUNK):
            count = min(CHUNK, last - start)
            gather(x, height, width, groups * c, group * c + channel, n,
                   row_taps[row : row + 1], column_taps, step, rows, columns_,
                   start, count, block)  # fmt: skip
            for r in range(count):
                for i in range(0, d, wide):
                    at = ((start + r) * groups + group) * d + i
                    store(g_block, r * padded(d, x) + i, wide, load(g, at, d - i))
            multiply_blocks(block, taps * n, g_block, d, count, sums, 0, edge,
                            soon(g, 0, 0), soon(g, 0, 0))  # fmt: skip
        for j in range(taps):
            for i in range(n):
                to = ((((part * k + row) * taps + j) * c + channel + i) * groups + group) * d
                for at in range(0, d, wide):
                    value = load(sums, (j * n + i) * d + at, d - at)
                    store(parts, to + at, d - at, value)


# ---- one channel a group


@kernel
def _depthwise_dw(queue, share, images, x, height, width, c, row_taps, column_taps, step, rows,
                  columns_, g, parts):  # fmt: skip
    """parts[s] = dw over the s-th `share` images."""
    wide, across = lanes(x), len(column_taps)
    k = len(row_taps) * across
    for piece in work(shared(queue)):
        parts[piece * k * c : (piece + 1) * k * c] = 0
        for image in range(piece * share, min((piece + 1) * share, images)):
            for q in range(rows):
                for a in range(len(row_taps)):
                    h = q * step + row_taps[a]
                    if not 0 <= h < height:
                        continue
                    for b in range(across):
                        # the places whose pixel is inside the image
                        first = min(max(-(column_taps[b] // step), 0), columns_)
                        last = min(max((width - 1 - column_taps[b]) // step + 1, first), columns_)
                        near = ((image * height + h) * width + column_taps[b]) * c
                        g_near = (image * rows + q) * columns_ * c
                        for i in range(0, c, wide):
                            n = c - i
                            to = (piece * k + a * across + b) * c + i
                            s, t = load(parts, to, n), zeros(x)
                            for u in range(first, last - 1, 2):
                                at, g_at = near + u * step * c + i, g_near + u * c + i
                                s = s + load(x, at, n) * load(g, g_at, n)
                                t = t + load(x, at + step * c, n) * load(g, g_at + c, n)
                            if (last - first) % 2:
                                at, g_at = near + (last - 1) * step * c + i, g_near + (last - 1) * c
                                s = s + load(x, at, n) * load(g, g_at + i, n)
                            store(parts, to, n, s + t)


# ---- what is called


def _taps(count, dilation, before):
    """Where the taps of an axis lie, from the place that has the same number."""
    return np.arange(count, dtype=np.int64) * dilation - before


def _phases(count, size, stride, dilation, before):
    """For each phase of an axis of x that has pixels: its first pixel, how many, and its taps."""
    for phase in range(min(stride, size)):
        distance = phase - _taps(count, dilation, before)
        which = np.flatnonzero(distance % stride == 0)[::-1]  # so that the distances rise
        yield phase, len(range(phase, size, stride)), which, distance[which] // stride


def _panels(w):
    """The weights (k, l, c, G, d) packed for `multiply_gathered`, group after group."""
    k, l, c, groups, d = w.shape
    matrices = w.transpose(3, 0, 1, 2, 4).reshape(groups, k * l * c, d)
    return np.concatenate([packed(matrix) for matrix in matrices])


def _convolve(x, w, bias, row_taps, column_taps, step, grid, y, end, phase=(1, 0, 0)):
    """Convolution by these taps, at grid (rows, columns) of places."""
    n, height, width, groups, c = x.shape
    d, m = w.shape[4], n * grid[0] * grid[1]
    size = height, width, groups, c, row_taps, column_taps, step, *grid
    target = y.reshape(-1), *y.shape[1:3], *phase
    chunk = min(CHUNK, max(1, -(-m // (PIECES * ROWS))) * ROWS)
    run(_conv2d, -(-m // chunk), m, chunk, flat(x), *size, _panels(w), bias, d, *target, *end)


def _like_depthwise(w_shape, stride, dilation, padding):
    """Whether this is what the kernels of depthwise convolution compute."""
    k, l, c, _, d = w_shape
    same = (k - 1) // 2, k // 2, (k - 1) // 2, k // 2
    return c == d == stride == dilation == 1 and k == l and padding == same


def _is_matmul(w_shape, stride, padding):
    k, l, _, groups, _ = w_shape
    return k == l == stride == groups == 1 and not any(padding)


def _single(g):
    """g (…, G, d) with every channel in a group of its own, (…, G d, 1)."""
    return g.reshape(*g.shape[:3], g.shape[3] * g.shape[4], 1)


def _check(g, size, kernel, stride, dilation, padding):
    expected = result_size(size, kernel, stride, dilation, padding)
    if g.shape[1:3] != expected:
        raise ValueError(f"conv2d: g is of {g.shape[1:3]} places; expected {expected}")


def _grid(x, w, stride, dilation, padding):
    """How many places the result has, down and across."""
    grid = result_size(x.shape[1:3], w.shape[:2], stride, dilation, padding)
    if min(grid) < 1:
        raise ValueError(
            f"conv2d: a kernel of {len(w)}×{w.shape[1]} is larger than the padded image"
        )
    return grid


def _is_winograd(x, w, grid, stride, dilation):
    """Whether `winograd` computes this, unless there are few places."""
    k, l, c, groups, d = w.shape
    some = not (groups == 1 and few_rows(len(x) * grid[0] * grid[1], k * l * c, d, x.itemsize))
    return some and winograd.worth_it(len(x), grid, (k, l), c, groups, d, stride, dilation)


def conv2d(x, w, stride, dilation, padding, bias=None):
    grid, options = _grid(x, w, stride, dilation, padding), (stride, dilation, padding)
    k, l, c, groups, d = w.shape
    if _is_winograd(x, w, grid, stride, dilation):
        b = None if bias is None else bias[0]
        y = winograd.convolve(x[..., 0, :], w[..., 0, :], b, padding[0], padding[2], grid)
        if y is not None:
            return y[..., None, :]
    if c > 1 or few.worth_it(grid, c, groups, d, dilation, x.itemsize):
        return _multiplied(x, w, *options, grid, bias, as_it_is(x.dtype))
    y = empty((len(x), *grid, groups, d), x.dtype)
    if d > 1:  # a group's channels are side by side in a vector
        x, w = np.repeat(x, d, axis=3), w.reshape(k, l, 1, groups * d, 1)
    if _like_depthwise(w.shape, *options):
        out = depthwise_conv2d(x[..., 0], w[:, :, 0, :, 0]).reshape(y.shape)
        return out if bias is None else out + bias
    _depthwise(x[..., 0], w[:, :, 0, :, 0], *options, bias, y.reshape(*y.shape[:3], -1))
    return y


def conv2d_relu(x, w, stride, padding, norm, residual=None):
    x, w, options = x[..., None, :], w[..., None, :], (stride, 1, (padding,) * 4)
    grid, (mean, rstd, gamma, beta) = _grid(x, w, *options), norm
    if residual is not None and residual.shape[1:3] != grid:
        raise ValueError(f"conv2d_relu: residual is of {residual.shape[1:3]} places, not of {grid}")
    if x.shape[4] == 1 or _is_winograd(x, w, grid, stride, 1):
        y = conv2d(x, w, *options)[..., 0, :]
        return normalize_relu(y, mean, rstd, gamma, beta, residual)
    norm = {"mean": flat(mean), "scale": flat(rstd * gamma), "shift": flat(beta)}
    end = as_it_is(x.dtype, residual)._replace(**norm, least=0.0)
    return _multiplied(x, w, *options, grid, None, end)[..., 0, :]


def _multiplied(x, w, stride, dilation, padding, grid, bias, end):
    """The convolution as a product of matrices, finished as `end` says."""
    n, height, width, groups, c = x.shape
    k, l, _, _, d = w.shape
    each = None if bias is None or groups > 1 else bias[0]
    if _is_matmul(w.shape, stride, padding):
        return multiply(x.reshape(-1, c), w.reshape(c, d), each, end).reshape(n, *grid, 1, d)
    y, m = empty((n, *grid, groups, d), x.dtype), n * grid[0] * grid[1]
    taps = _taps(k, dilation, padding[0]), _taps(l, dilation, padding[2])
    if groups == 1 and few_rows(m, k * l * c, d, x.itemsize):
        left = rows_for_few(m, k * l * c, x.dtype)
        how = height, width, c, *taps, stride, *grid, left.reshape(-1), left.shape[1]
        run(_gathered, -(-m // ROWS), m, flat(x), *how)
        multiply_few(left, k * l * c, w.reshape(-1, d), each, y.reshape(m, d), end)
    elif few.worth_it(grid, c, groups, d, dilation, x.itemsize):
        image, before = (x[..., 0, :], w[..., 0, :], each), (padding[0], padding[2])
        few.convolve(*image, stride, *before, y[..., 0, :], end)
    else:
        _convolve(x, w, _bias(bias, w), *taps, stride, grid, y, end)
    return y


def _axes(kernel, stride, dilation, padding):
    """Rows and columns, as sums over taps want them."""
    down, across = (Axis(kernel[i], stride, dilation, padding[2 * i]) for i in range(2))
    return down, across


def _depthwise(x, w, stride, dilation, padding, bias, y):
    """Into y, with one channel a group: x and y (N, H, W, C), w (k, l, C), bias (C,) or None."""
    k, l, c = w.shape
    top, _, left, right = padding
    usual = k == l and dilation == 1 and top == left <= (k - 1) // 2 and right <= k // 2
    both = in_place(k, y.shape[2], c, x.dtype) if usual and bias is None else 0
    if both:
        convolve_in_place(x, w, stride, left, y, both)
    else:
        sums(x, y, *_axes((k, l), stride, dilation, padding), w=w, bias=bias)


def _bias(bias, w):
    """A bias (G, d), or None for zeros, as wide as each group's panels."""
    groups, d = w.shape[3:]
    each = [None] * groups if bias is None else bias
    return np.concatenate([widened(b, d, w.dtype) for b in each])


def conv2d_dx(g, w, size, stride, dilation, padding):
    _check(g, size, w.shape[:2], stride, dilation, padding)
    k, l, c, groups, d = w.shape
    if _is_matmul(w.shape, stride, padding):
        return matmul(g.reshape(-1, d), w.reshape(c, d).T).reshape(*g.shape[:3], 1, c)
    if winograd.worth_it(len(g), size, (k, l), c, groups, d, stride, dilation):
        top, left = 2 - padding[0], 2 - padding[2]
        dx = winograd.convolve(g[..., 0, :], w[..., 0, :], None, top, left, size, turned=True)
        if dx is not None:
            return dx[..., None, :]
    if c == 1 and d > 1:
        w = w.reshape(k, l, 1, groups * d, 1)
        dx = conv2d_dx(_single(g), w, size, stride, dilation, padding)
        return dx.reshape(len(g), *size, groups, d).sum(axis=4, keepdims=True)
    if _like_depthwise(w.shape, stride, dilation, padding):
        return depthwise_conv2d_dx(g[..., 0], w[:, :, 0, :, 0])[..., None]
    dx = empty((len(g), *size, groups, c), g.dtype)
    if c == d == 1:
        axes = _axes((k, l), stride, dilation, padding)
        sums(g[..., 0], dx[..., 0], *axes, turned=True, w=w)
        return dx
    if c * g.itemsize < VECTOR_BYTES:  # a product of c columns would leave lanes empty
        taps = _taps(k, dilation, padding[0]), _taps(l, dilation, padding[2])
        matrices = np.concatenate([packed(w[:, :, :, i].reshape(-1, d).T) for i in range(groups)])
        how = *g.shape[1:3], groups, d, matrices, *size, c, *taps, stride
        run(_conv2d_dx, len(g), flat(g), *how, dx.reshape(-1))
        return dx
    for row, rows, i, row_taps in _phases(k, size[0], stride, dilation, padding[0]):
        for column, columns_, j, column_taps in _phases(l, size[1], stride, dilation, padding[2]):
            if not len(i) or not len(j):
                dx[:, row::stride, column::stride] = 0
                continue
            turned = w[i][:, j].swapaxes(2, 4)
            phase = stride, row, column
            how = row_taps, column_taps, 1, (rows, columns_), dx, as_it_is(g.dtype)
            _convolve(g, turned, _bias(None, turned), *how, phase)
    return dx


def conv2d_dw(x, g, size, stride, dilation, padding):
    n, height, width, groups, c = x.shape
    d, (k, l) = g.shape[4], size
    _check(g, (height, width), size, stride, dilation, padding)
    rows, columns_ = g.shape[1:3]
    m = n * rows * columns_
    if _is_matmul((k, l, c, groups, d), stride, padding):
        return matmul(x.reshape(m, c).T, g.reshape(m, d)).reshape(1, 1, c, 1, d)
    if winograd.worth_it(n, (rows, columns_), (k, l), c, groups, d, stride, dilation):
        dw = winograd.convolve_dw(x[..., 0, :], g[..., 0, :], padding[0], padding[2])
        if dw is not None:
            return dw[..., None, :]
    if few.worth_it((rows, columns_), c, groups, d, dilation, x.itemsize):
        dw = few.convolve_dw(x[..., 0, :], g[..., 0, :], size, stride, padding[0], padding[2])
        return dw[..., None, :]
    if c == 1 and d > 1:
        dw = conv2d_dw(np.repeat(x, d, axis=3), _single(g), size, stride, dilation, padding)
        return dw.reshape(k, l, 1, groups, d)
    if _like_depthwise((k, l, c, groups, d), stride, dilation, padding):
        return depthwise_conv2d_dw(x[..., 0], g[..., 0], k)[:, :, None, :, None]
    taps = _taps(k, dilation, padding[0]), _taps(l, dilation, padding[2])
    size = height, width, groups, c, *taps, stride, rows, columns_
    if c == d == 1:
        share = -(-n // PIECES)
        parts = empty((-(-n // share), k, l, c, groups, d), x.dtype)
        size = height, width, groups, *taps, stride, rows, columns_
        run(_depthwise_dw, len(parts), share, n, flat(x), *size, flat(g), parts.reshape(-1))
        return add_up(parts)
    share = min(c, CHANNELS)
    slices = -(-c // share)
    sums = max(1, min(PIECES, SUMS // (k * l * c * groups * d)))
    long = -(-m // (CHUNK * sums)) * CHUNK
    parts = empty((-(-m // long), k, l, c, groups, d), x.dtype)
    run(
        _conv2d_dw,
        len(parts) * slices * k * groups,
        long,
        slices,
        share,
        m,
        flat(x),
        *size,
        flat(g),
        d,
        parts.reshape(-1),
    )
    return add_up(parts)
