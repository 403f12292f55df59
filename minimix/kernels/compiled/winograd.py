"""Convolution by 3×3 in 16 multiplications for each four results, instead of 36.

Winograd's minimal filtering, as Lavin & Gray 2016 (arXiv:1509.09308) apply it: the image is cut
into tiles of 4×4 pixels, two apart, each of which gives 2×2 results,

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A      Bᵀ = 1  0 −1  0    G =  1  0  0    Aᵀ = 1  1  1  0
                                             0  1  1  0         ½  ½  ½         0  1 −1 −1
                                             0 −1  1  0         ½ −½  ½
                                             0  1  0 −1         0  0  1

where ⊙ is a product for each of the 4×4 numbers of a tile; summed over channels, it is 16 products
of matrices (tiles, C) and (C, D). The gradient for x is such a convolution with the weights turned
round, and that of the weights exchanges G and A: 2×2 gradients of results and 4×4 pixels give 3×3.

Rounding errors are those of all numbers in a tile: a result that lies beside a very large number,
without reading it, is as exact as if it did. Where that one is not finite, or a sum within a tile
is too large for the dtype, such a result would not be finite either. So where anything comes out
that is not, there is no result (None), and the convolution has to be computed as it is defined.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty
from ..simd.rows import add_up, flat
from ..simd.threads import run
from ..simd.vectors import VECTOR_BYTES, address, lanes, load, store, sum_lanes, work, zeros
from .matmul import ROWS, columns, multiply_blocks, padded, tile_from_zero, widened

NUMBERS = 160 * 1024  # that a thread keeps of transformed tiles and products, if they are not large
MOST = 96  # tiles that a thread takes at a time
LEAST = 24
SLICE = 64  # channels of whose weights a thread computes the gradient at a time
SUMS = 1 << 21  # numbers in all partial sums of the weights' gradient, at most


@helper
def inputs(a, b, c, d):
    """Bᵀ times a column."""
    return a - c, b + c, c - b, b - d


@helper
def results(a, b, c, d):
    """Aᵀ times a column."""
    return a + b + c, b - c - d


@helper
def weights(a, b, c):
    """G times a column."""
    sum_, middle = (a + c) * 0.5, b * 0.5
    return a, sum_ + middle, sum_ - middle, c


@helper
def weights_back(a, b, c, d):
    """Gᵀ times a column, in which ½ is already."""
    return a + b + c, b - c, b + c - d


@helper
def results_back(a, b):
    """A times a column, and ½ of G."""
    return a, (a + b) * 0.5, (a - b) * 0.5, b


@helper
def store_four(out, at, plane, four):
    step = lanes(out)
    for i in range(4):
        store(out, at + i * plane, step, four[i])


@helper
def place(tile, across, down):
    """Image, row and column of a tile."""
    line = tile // across
    image = line // down
    return image, line - image * down, tile - line * across


@helper
def load_row(x, at, near, n):
    """Bᵀ of four pixels that are `near` numbers apart."""
    return inputs(
        load(x, at, n),
        load(x, at + near, n),
        load(x, at + 2 * near, n),
        load(x, at + 3 * near, n),
    )


@helper
def transform_input(x, image, h, v, height, width, pitch, channel, c, patch, out, to, plane):
    """Bᵀ x B of the 4×4 pixels from (h, v) on, c channels.

    Where some are outside the image, all are first put together in `patch`, with zeros.
    """
    step = lanes(x)
    at = ((image * height + h) * width + v) * pitch + channel
    source, row, near = x, width * pitch, pitch
    if not (h >= 0 and h + 4 <= height and v >= 0 and v + 4 <= width):
        apart = padded(c, x)
        for i in range(4):
            for j in range(4):
                there = 0 <= h + i < height and 0 <= v + j < width
                frm, n = at + (i * width + j) * pitch, c if there else 0
                for k in range(0, c, step):
                    store(patch, (4 * i + j) * apart + k, step, load(x, frm + k, n - k))
        source, at, row, near = patch, 0, 4 * apart, apart
    for i in range(0, c, step):
        n, frm = c - i, at + i
        p, q = load_row(source, frm, near, n), load_row(source, frm + row, near, n)
        r, s = load_row(source, frm + 2 * row, near, n), load_row(source, frm + 3 * row, near, n)
        store_four(out, to + i, 4 * plane, inputs(p[0], q[0], r[0], s[0]))
        store_four(out, to + i + plane, 4 * plane, inputs(p[1], q[1], r[1], s[1]))
        store_four(out, to + i + 2 * plane, 4 * plane, inputs(p[2], q[2], r[2], s[2]))
        store_four(out, to + i + 3 * plane, 4 * plane, inputs(p[3], q[3], r[3], s[3]))


@helper
def fold_row(m, at, plane):
    """Aᵀ of four neighboring products."""
    step = lanes(m)
    return results(
        load(m, at, step),
        load(m, at + plane, step),
        load(m, at + 2 * plane, step),
        load(m, at + 3 * plane, step),
    )


@helper
def unfold_row(m, at, plane, n):
    """What `fold_row` does of products, of the sums for the weights' gradient."""
    return weights_back(
        load(m, at, n),
        load(m, at + plane, n),
        load(m, at + 2 * plane, n),
        load(m, at + 3 * plane, n),
    )


@helper
def transform_result(m, frm, plane, bias, d, y, at, near, far, below):
    """Aᵀ m A + bias of one tile, d channels, into the pixels of y that are there.

    The first is y[at], the next `near` further; the one below is `far` further, if it is there.
    Returns zeros, and NaN in lanes where a result is not finite (or their sum is not).
    """
    wrong = zeros(m)
    right_n, below_n = d if near else 0, d if below else 0
    both_n = min(right_n, below_n)
    for i in range(0, d, lanes(m)):
        n, start, row = d - i, frm + i, 4 * plane
        b = load(bias, i, n)
        p, q = fold_row(m, start, plane), fold_row(m, start + row, plane)
        r, s = fold_row(m, start + 2 * row, plane), fold_row(m, start + 3 * row, plane)
        left, right = results(p[0], q[0], r[0], s[0]), results(p[1], q[1], r[1], s[1])
        store(y, at + i, n, left[0] + b)
        store(y, at + near + i, right_n - i, right[0] + b)
        store(y, at + far + i, below_n - i, left[1] + b)
        store(y, at + far + near + i, both_n - i, right[1] + b)
        wrong = wrong + (left[0] + b + right[0] + (left[1] + b + right[1])) * 0.0
    return wrong


@helper
def transform_weights(w, at, apart, n, out, to, plane):
    """G w Gᵀ of n channels; the nine taps of w are `apart`."""
    p = weights(load(w, at, n), load(w, at + apart, n), load(w, at + 2 * apart, n))
    at += 3 * apart
    q = weights(load(w, at, n), load(w, at + apart, n), load(w, at + 2 * apart, n))
    at += 3 * apart
    r = weights(load(w, at, n), load(w, at + apart, n), load(w, at + 2 * apart, n))
    for j in range(4):
        store_four(out, to + j * plane, 4 * plane, weights(p[j], q[j], r[j]))


@kernel
def _weights(queue, w, c, d, panels):
    """w (3, 3, C, D) for x: 16 matrices (C, D) in panels of COLUMNS columns. A piece is a row."""
    wide, half = columns(w), lanes(w)
    plane = c * (-(-d // wide) * wide)
    for row in work(address(queue)):
        for j in range(0, d, half):
            to = j // wide * wide * c + row * wide + j % wide
            transform_weights(w, row * d + j, c * d, d - j, panels, to, plane)


@kernel
def _weights_turned(queue, w, c, d, panels):
    """The same turned round, for g: 16 matrices (D, C). A piece is a panel."""
    wide, half = columns(w), lanes(w)
    plane = d * (-(-c // wide) * wide)
    block = np.zeros(16 * wide * half, w.dtype)
    for panel in work(address(queue)):
        for k in range(0, d, half):
            for j in range(min(wide, c - panel * wide)):
                at = (8 * c + panel * wide + j) * d + k
                transform_weights(w, at, -c * d, d - k, block, j * half, wide * half)
            for i in range(16):
                for kk in range(min(half, d - k)):
                    to = i * plane + (panel * d + k + kk) * wide
                    for j in range(wide):
                        panels[to + j] = block[(i * wide + j) * half + kk]


@kernel
def _convolve(queue, tiles, most, x, height, width, c, top, left, down, across, u, bias, d, y,
              rows, columns_, lost):  # fmt: skip
    """lost[i] = 1 where the results of piece i are not all finite."""
    wide, half = columns(x), lanes(x)
    v_row, m_row = padded(c, x), padded(d, x)
    v_plane, m_plane, u_plane = most * v_row, most * m_row, c * (-(-d // wide) * wide)
    v, m = np.zeros(16 * v_plane, x.dtype), np.zeros(16 * m_plane, x.dtype)
    zero = np.zeros(wide, x.dtype)
    patch = np.zeros(16 * v_row, x.dtype)
    for piece in work(address(queue)):
        first = piece * most
        count = min(most, tiles - first)
        for t in range(count):
            image, row, column = place(first + t, across, down)
            transform_input(x, image, 2 * row - top, 2 * column - left, height, width, c, 0, c,
                            patch, v, t * v_row, v_plane)  # fmt: skip
        for i in range(16):
            for j in range(0, d, wide):
                b = i * u_plane + j * c
                for t in range(0, count, ROWS):
                    a, to = i * v_plane + t * v_row, i * m_plane + t * m_row + j
                    if d - j > half:
                        tile_from_zero(2, c, v, a, count - t, v_row, 1, u, b, wide,
                                       zero, 0, 0, m, to, m_row)  # fmt: skip
                    else:
                        tile_from_zero(1, c, v, a, count - t, v_row, 1, u, b, wide,
                                       zero, 0, 0, m, to, m_row)  # fmt: skip
        wrong = zeros(x)
        for t in range(count):
            image, row, column = place(first + t, across, down)
            to = ((image * rows + 2 * row) * columns_ + 2 * column) * d
            near = d if 2 * column + 1 < columns_ else 0
            below = 2 * row + 1 < rows
            far = columns_ * d
            wrong = wrong + transform_result(
                m, t * m_row, m_plane, bias, d, y, to, near, far, below
            )
        if sum_lanes(wrong) != 0:
            lost[piece] = 1


@kernel
def _convolve_dw(queue, long, slices, share, tiles, most, x, height, width, c, top, left, down,
                 across, g, d, rows, columns_, parts):  # fmt: skip
    """parts[s] = dw over the s-th `long` tiles; a piece is `share` channels of x."""
    half = lanes(x)
    g_row = padded(d, x)
    v_plane, g_plane = most * padded(share, x), most * g_row
    v, gs = np.zeros(16 * v_plane, x.dtype), np.zeros(16 * g_plane, x.dtype)
    sums, edge = np.zeros(16 * share * d, x.dtype), np.zeros(ROWS * columns(x), x.dtype)
    patch = np.zeros(16 * padded(share, x), x.dtype)
    for piece in work(address(queue)):
        part, channel = piece // slices, piece % slices * share
        k = min(share, c - channel)
        v_row = padded(k, x)
        sums[:] = 0
        last = min((part + 1) * long, tiles)
        for first in range(part * long, last, most):
            count = min(most, last - first)
            for t in range(count):
                image, row, column = place(first + t, across, down)
                transform_input(x, image, 2 * row - top, 2 * column - left, height, width, c,
                                channel, k, patch, v, t * v_row, v_plane)  # fmt: skip
                at = ((image * rows + 2 * row) * columns_ + 2 * column) * d
                right_n = d if 2 * column + 1 < columns_ else 0
                below_n = d if 2 * row + 1 < rows else 0
                far = columns_ * d
                for i in range(0, d, half):
                    p = results_back(load(g, at + i, d - i), load(g, at + d + i, right_n - i))
                    q = results_back(
                        load(g, at + far + i, below_n - i),
                        load(g, at + far + d + i, min(right_n, below_n) - i),
                    )
                    for j in range(4):
                        to = t * g_row + i + j * g_plane
                        store_four(gs, to, 4 * g_plane, results_back(p[j], q[j]))
            for i in range(16):
                a, b = v[i * v_plane :], gs[i * g_plane :]
                multiply_blocks(a, k, b, d, count, sums, i * share * d, edge)
        plane, line = share * d, 4 * share * d
        for row in range(k):
            for i in range(0, d, half):
                n, start = d - i, row * d + i
                p = unfold_row(sums, start, plane, n)
                q = unfold_row(sums, start + line, plane, n)
                r = unfold_row(sums, start + 2 * line, plane, n)
                s = unfold_row(sums, start + 3 * line, plane, n)
                for j in range(3):
                    to = ((part * 9 + j) * c + channel + row) * d + i
                    three = weights_back(p[j], q[j], r[j], s[j])
                    store(parts, to, n, three[0])
                    store(parts, to + 3 * c * d, n, three[1])
                    store(parts, to + 6 * c * d, n, three[2])


# ---- what is called


def worth_it(m, kernel, c, groups, d, stride, dilation):
    """Whether transforming weights and tiles costs less than it saves, at m results."""
    return kernel == (3, 3) and stride == dilation == groups == 1 and min(c, d) >= 8 and m >= 96


def _tiles(x, size, *rows):
    """How many tiles down and across, in all, and at a time, of so many numbers in each."""
    down, across = -(-size[0] // 2), -(-size[1] // 2)
    tiles = len(x) * down * across
    numbers = 16 * sum(-(-c // ROWS) * ROWS for c in rows)
    most = min(MOST, max(LEAST, NUMBERS // numbers), max(1, tiles // 8))
    return down, across, tiles, -(-most // ROWS) * ROWS


def convolve(x, w, bias, top, left, size, turned=False):
    """x (N, H, W, C), w (3, 3, C, D) -> (N, *size, D); `turned`: w (3, 3, D, C) turned round.

    None where that would not be finite.
    """
    c, d = w.shape[2:] if not turned else w.shape[:1:-1]
    wide = 2 * VECTOR_BYTES // x.itemsize
    u = empty((16 * c * (-(-d // wide) * wide),), x.dtype)
    if turned:
        run(_weights_turned, -(-d // wide), flat(w), d, c, u)
    else:
        run(_weights, c, flat(w), c, d, u)
    y = empty((len(x), *size, d), x.dtype)
    down, across, tiles, most = _tiles(x, size, c, d)
    image = flat(x), *x.shape[1:], top, left, down, across
    out = u, widened(bias, d, x.dtype), d, y.reshape(-1), *size
    lost = np.zeros(-(-tiles // most), np.uint8)
    run(_convolve, len(lost), tiles, most, *image, *out, lost)
    return None if lost.any() else y


def convolve_dw(x, g, top, left):
    """x (N, H, W, C), g (N, H′, W′, D) -> (3, 3, C, D); None where that would not be finite."""
    c, (_, *size, d) = x.shape[3], g.shape
    share = min(c, SLICE)
    down, across, tiles, most = _tiles(x, size, share, d)
    sums = max(1, min(16, SUMS // (9 * c * d)))
    long = -(-tiles // (most * sums)) * most
    parts = empty((-(-tiles // long), 3, 3, c, d), x.dtype)
    slices = -(-c // share)
    image = tiles, most, flat(x), *x.shape[1:], top, left, down, across
    run(
        _convolve_dw, len(parts) * slices, long, slices, share, *image, flat(g), d, *size,
        parts.reshape(-1),
    )  # fmt: skip
    dw = add_up(parts)
    return dw if np.isfinite(dw).all() else None
