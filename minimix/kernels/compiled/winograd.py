"""3×3 convolution with a quarter of the multiplications (Winograd 1980; Lavin & Gray 2016,
arXiv:1509.09308).

Four neighboring results of a convolution with three weights take twelve multiplications as it is
written, and six as a product of polynomials: both are evaluated at six points, multiplied there,
and the result is found from its values. In two dimensions 4×4 results from 6×6 pixels take 36
instead of 144:

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A

where ⊙ is a product for each of the 6×6 numbers of a tile; summed over channels, it is 36 products
of matrices (tiles, C) and (C, D). With the points 0, ±p, ±q and ∞,

    column of Bᵀ x    p²q² x₀ − (p²+q²) x₂ + x₄                 column of Aᵀ m
                      (x₄ − q² x₂) ± p (x₃ − q² x₁)             m₀ + (m₁+m₂) + (m₃+m₄)
                      (x₄ − p² x₂) ± q (x₃ − p² x₁)             p (m₁−m₂) + q (m₃−m₄)
                      p²q² x₁ − (p²+q²) x₃ + x₅                 p² (m₁+m₂) + q² (m₃+m₄)
                                                                p³ (m₁−m₂) + q³ (m₃−m₄) + m₅

and G w has the values w₀ ± p w₁ + p² w₂ of the weights at the points, each divided by what the
polynomials of B have there. The gradient for x is such a convolution with the weights turned round,
and that of the weights exchanges G and A: 4×4 gradients of results and 6×6 pixels give 3×3.

Rounding errors are about five times those of the plain sum of products (p and q are those for which
they are small), and are those of all numbers in a tile: a result that lies beside a very large
number, without reading it, is as exact as if it did. Where that one is not finite, or a sum within
a tile is too large for the dtype, such a result would not be finite either. So where anything comes
out that is not, there is no result (None), and the convolution has to be computed as it is defined.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty
from ..simd.rows import add_up, flat
from ..simd.team import run
from ..simd.vectors import VECTOR_BYTES, lanes, load, store, sum_lanes, zeros
from ..simd.work import shared, work
from .matmul import (
    ROWS,
    ask_for,
    ask_for_room,
    columns,
    multiply_blocks,
    padded,
    part_of,
    soon,
    tile_from_zero,
    widened,
)

NUMBERS = 160 * 1024  # that a thread keeps of transformed tiles and products, if they are not large
MOST = 96  # tiles that a thread takes at a time
LEAST = 24
NARROW = 32  # channels for which a tile's planes lie side by side
DEPTH = 64  # channels in one sum: longer ones would lose digits, so they are sums of sums
SLICE = 64  # channels, of x and of the result, of whose weights a thread computes the gradient
SUMS = 1 << 21  # numbers in all partial sums of the weights' gradient, at most

P, Q = 0.625, 1.5
P2, Q2 = P * P, Q * Q
BOTH, SUM = P2 * Q2, P2 + Q2
AT_0, AT_P, AT_Q = 1 / BOTH, 1 / (2 * P2 * (P2 - Q2)), 1 / (2 * Q2 * (Q2 - P2))


@helper
def whole_vectors(c, x):
    """c, rounded up to whole vectors of x."""
    return -(-c // lanes(x)) * lanes(x)


@helper
def inputs(a, b, c, d, e, f):
    """Bᵀ times a column."""
    even, odd = e - c * Q2, (d - b * Q2) * P
    evens, odds = e - c * P2, (d - b * P2) * Q
    return (
        a * BOTH - c * SUM + e,
        even + odd, even - odd, evens + odds, evens - odds,
        b * BOTH - d * SUM + f,
    )  # fmt: skip


@helper
def results(a, b, c, d, e, f):
    """Aᵀ times a column."""
    even, odd, evens, odds = b + c, b - c, d + e, d - e
    return (
        a + even + evens,
        odd * P + odds * Q,
        even * P2 + evens * Q2,
        odd * (P * P2) + odds * (Q * Q2) + f,
    )


@helper
def weights(a, b, c):
    """G times a column."""
    even, odd = (a + c * P2) * AT_P, b * (P * AT_P)
    evens, odds = (a + c * Q2) * AT_Q, b * (Q * AT_Q)
    return a * AT_0, even + odd, even - odd, evens + odds, evens - odds, c


@helper
def weights_back(a, b, c, d, e, f):
    """Gᵀ times a column, divided already."""
    even, odd, evens, odds = b + c, b - c, d + e, d - e
    return a + even + evens, odd * P + odds * Q, even * P2 + evens * Q2 + f


@helper
def results_back(a, b, c, d):
    """A times a column, divided as G is."""
    even, odd = (a + c * P2) * AT_P, (b + d * P2) * (P * AT_P)
    evens, odds = (a + c * Q2) * AT_Q, (b + d * Q2) * (Q * AT_Q)
    return a * AT_0, even + odd, even - odd, evens + odds, evens - odds, d


@helper
def store_six(out, at, plane, six):
    step = lanes(out)
    for i in range(6):
        store(out, at + i * plane, step, six[i])


@helper
def place(tile, across, down):
    """Image, row and column of a tile."""
    line = tile // across
    image = line // down
    return image, line - image * down, tile - line * across


@helper
def beneath(x, tile, count, across, down, height, width, c):
    """The numbers of x that so many tiles lie on, for `ask_for`: a stretch of it, nearly.

    Exactly so where whole rows of tiles fill the image.
    """
    image, row, column = place(tile, across, down)
    return soon(x, ((image * height + 4 * row) * width + 4 * column) * c, count * 16 * c)


@helper
def within(i, first, last, n):
    """n where first ≤ i < last, else 0: how many lanes are there."""
    return n if first <= i < last else 0


@helper
def load_row(x, at, near, n, first, last):
    """Bᵀ of six pixels that are `near` numbers apart, of which first … last − 1 are there."""
    return inputs(
        load(x, at, within(0, first, last, n)),
        load(x, at + near, within(1, first, last, n)),
        load(x, at + 2 * near, within(2, first, last, n)),
        load(x, at + 3 * near, within(3, first, last, n)),
        load(x, at + 4 * near, within(4, first, last, n)),
        load(x, at + 5 * near, within(5, first, last, n)),
    )


@helper
def transform_input(x, image, h, v, height, width, pitch, channel, c, out, to, plane):
    """Bᵀ x B of the 6×6 pixels from (h, v) on, c channels; those outside the image are zeros."""
    at = ((image * height + h) * width + v) * pitch + channel
    row, above, left = width * pitch, max(-h, 0), max(-v, 0)
    below, right = min(height - h, 6), min(width - v, 6)
    for i in range(0, c, lanes(x)):
        n, start = c - i, at + i
        a = load_row(x, start, pitch, within(0, above, below, n), left, right)
        b = load_row(x, start + row, pitch, within(1, above, below, n), left, right)
        d = load_row(x, start + 2 * row, pitch, within(2, above, below, n), left, right)
        e = load_row(x, start + 3 * row, pitch, within(3, above, below, n), left, right)
        f = load_row(x, start + 4 * row, pitch, within(4, above, below, n), left, right)
        g = load_row(x, start + 5 * row, pitch, within(5, above, below, n), left, right)
        for j in range(6):
            six = inputs(a[j], b[j], d[j], e[j], f[j], g[j])
            store_six(out, to + i + j * plane, 6 * plane, six)


@helper
def load_six(m, at, plane, n):
    return (
        load(m, at, n),
        load(m, at + plane, n),
        load(m, at + 2 * plane, n),
        load(m, at + 3 * plane, n),
        load(m, at + 4 * plane, n),
        load(m, at + 5 * plane, n),
    )


@helper
def transform_result(m, frm, plane, bias, i, d, y, at, near, far, right, below):
    """Aᵀ m A + bias of one tile, a vector of channels from i on, into the pixels of y there are.

    The first is y[at + i], the next `near` further, of which there are `right`; the one below is
    `far` further, of which there are `below`. Returns zeros, and NaN in lanes where a result is not
    finite (or their sum is not).
    """
    step, row = lanes(m), 6 * plane
    a, b = results(*load_six(m, frm, plane, step)), results(*load_six(m, frm + row, plane, step))
    frm += 2 * row
    c, e = results(*load_six(m, frm, plane, step)), results(*load_six(m, frm + row, plane, step))
    frm += 2 * row
    f, g = results(*load_six(m, frm, plane, step)), results(*load_six(m, frm + row, plane, step))
    more, wrong = load(bias, i, step), zeros(m)
    for j in range(4):
        four = results(a[j], b[j], c[j], e[j], f[j], g[j])
        for k in range(4):
            value = four[k] + more
            n = within(j, 0, right, within(k, 0, below, d - i))
            store(y, at + j * near + k * far + i, n, value)
            wrong = wrong + value * 0.0
    return wrong


@helper
def transform_weights(w, at, apart, n, out, to, plane):
    """G w Gᵀ of n channels; the nine taps of w are `apart`."""
    a = weights(load(w, at, n), load(w, at + apart, n), load(w, at + 2 * apart, n))
    at += 3 * apart
    b = weights(load(w, at, n), load(w, at + apart, n), load(w, at + 2 * apart, n))
    at += 3 * apart
    c = weights(load(w, at, n), load(w, at + apart, n), load(w, at + 2 * apart, n))
    for j in range(6):
        store_six(out, to + j * plane, 6 * plane, weights(a[j], b[j], c[j]))


@kernel
def _weights(queue, w, c, d, panels):
    """w (3, 3, C, D) for x: 36 matrices (C, D) in panels of COLUMNS columns. A piece is a row."""
    wide, half = columns(w), lanes(w)
    plane = c * (-(-d // wide) * wide)
    for row in work(shared(queue)):
        for j in range(0, d, half):
            to = j // wide * wide * c + row * wide + j % wide
            transform_weights(w, row * d + j, c * d, d - j, panels, to, plane)


@kernel
def _weights_turned(queue, w, c, d, panels):
    """The same turned round, for g: 36 matrices (D, C). A piece is a panel."""
    wide, half = columns(w), lanes(w)
    plane = d * (-(-c // wide) * wide)
    block = np.zeros(36 * wide * half, w.dtype)
    for panel in work(shared(queue)):
        for k in range(0, d, half):
            for j in range(min(wide, c - panel * wide)):
                at = (8 * c + panel * wide + j) * d + k
                transform_weights(w, at, -c * d, d - k, block, j * half, wide * half)
            for i in range(36):
                for kk in range(min(half, d - k)):
                    to = i * plane + (panel * d + k + kk) * wide
                    for j in range(wide):
                        panels[to + j] = block[(i * wide + j) * half + kk]


@kernel
def _convolve(queue, tiles, most, x, height, width, c, top, left, down, across, u, bias, d, y,
              rows, columns_, lost):  # fmt: skip
    """lost[i] = 1 where the results of piece i are not all finite."""
    wide, half = columns(x), lanes(x)
    u_plane = c * (-(-d // wide) * wide)
    if c <= NARROW:  # all planes of a tile, then those of the next
        v_plane = whole_vectors(c, x)
        v_tile = 36 * v_plane + half
    else:
        v_tile = padded(c, x)
        v_plane = most * v_tile + half
    m_plane = most * (wide if d > half else half) + half
    v, m = np.zeros(max(most * v_tile, 36 * v_plane), x.dtype), np.zeros(36 * m_plane, x.dtype)
    zero = np.zeros(wide, x.dtype)
    for piece in work(shared(queue)):
        first = piece * most
        count = min(most, tiles - first)
        for t in range(count):
            image, row, column = place(first + t, across, down)
            transform_input(x, image, 4 * row - top, 4 * column - left, height, width, c, 0, c,
                            v, t * v_tile, v_plane)  # fmt: skip
        wrong = zeros(x)
        later = beneath(x, first + most, most, across, down, height, width, c)
        written = beneath(y, first, count, across, down, rows, columns_, d)
        part, parts = 0, 36 * -(-count // ROWS) * -(-d // wide)
        for j in range(0, d, wide):
            m_row = wide if d - j > half else half
            for i in range(36):
                for k in range(0, c, DEPTH):
                    deep, b = min(DEPTH, c - k), i * u_plane + j * c + k * wide
                    for t in range(0, count, ROWS):  # whole tiles of rows: there is room
                        a, to = t * v_tile + i * v_plane + k, i * m_plane + t * m_row
                        if k == 0:
                            ask_for(later, part, parts)
                            ask_for_room(written, part, parts)
                            part += 1
                        start, i0, row0 = (zero, 0, 0) if k == 0 else (m, to, m_row)
                        if d - j > half:
                            tile_from_zero(ROWS, 2, deep, v, a, ROWS, v_tile, 1, u, b, wide,
                                           start, i0, row0, m, to, wide)  # fmt: skip
                        else:
                            tile_from_zero(ROWS, 1, deep, v, a, ROWS, v_tile, 1, u, b, wide,
                                           start, i0, row0, m, to, half)  # fmt: skip
            for t in range(count):
                image, row, column = place(first + t, across, down)
                to = ((image * rows + 4 * row) * columns_ + 4 * column) * d
                right, below = columns_ - 4 * column, rows - 4 * row
                for i in range(j, min(j + wide, d), half):
                    wrong = wrong + transform_result(
                        m, t * m_row + i - j, m_plane, bias, i, d, y, to, d, columns_ * d, right,
                        below,
                    )  # fmt: skip
        if sum_lanes(wrong) != 0:
            lost[piece] = 1


@helper
def transform_gradient(g, at, d, far, right, below, channel, n_channels, out, to, plane):
    """A g Aᵀ of 4×4 gradients of results, of which `below` × `right` are there."""
    for i in range(0, n_channels, lanes(g)):
        n, start = n_channels - i, at + channel + i
        a = gradient_row(g, start, d, within(0, 0, below, n), right)
        b = gradient_row(g, start + far, d, within(1, 0, below, n), right)
        c = gradient_row(g, start + 2 * far, d, within(2, 0, below, n), right)
        e = gradient_row(g, start + 3 * far, d, within(3, 0, below, n), right)
        for j in range(6):
            store_six(out, to + i + j * plane, 6 * plane, results_back(a[j], b[j], c[j], e[j]))


@helper
def gradient_row(g, at, near, n, right):
    """A times a row of four."""
    return results_back(
        load(g, at, within(0, 0, right, n)),
        load(g, at + near, within(1, 0, right, n)),
        load(g, at + 2 * near, within(2, 0, right, n)),
        load(g, at + 3 * near, within(3, 0, right, n)),
    )


@kernel
def _convolve_dw(queue, long, slices, share, d_slices, d_share, tiles, most, x, height, width, c,
                 top, left, down, across, g, d, rows, columns_, parts):  # fmt: skip
    """parts[s] = dw over the s-th `long` tiles; a piece is `share` by `d_share` channels."""
    half = lanes(x)
    v_tile = 36 * whole_vectors(share, x) + half
    g_tile = 36 * whole_vectors(d_share, x) + half
    v, gs = np.zeros(most * v_tile, x.dtype), np.zeros(most * g_tile, x.dtype)
    sums, edge = np.zeros(36 * share * d_share, x.dtype), np.zeros(ROWS * columns(x), x.dtype)
    plane = share * d_share
    for piece in work(shared(queue)):
        part, which = piece // (slices * d_slices), piece % (slices * d_slices)
        channel, d_channel = which // d_slices * share, which % d_slices * d_share
        k, n = min(share, c - channel), min(d_share, d - d_channel)
        v_row, g_row = whole_vectors(k, x), whole_vectors(n, x)
        sums[:] = 0
        last = min((part + 1) * long, tiles)
        for first in range(part * long, last, most):
            count = min(most, last - first)
            for t in range(count):
                image, row, column = place(first + t, across, down)
                transform_input(x, image, 4 * row - top, 4 * column - left, height, width, c,
                                channel, k, v, t * v_tile, v_row)  # fmt: skip
                at = ((image * rows + 4 * row) * columns_ + 4 * column) * d
                transform_gradient(g, at, d, columns_ * d, columns_ - 4 * column, rows - 4 * row,
                                   d_channel, n, gs, t * g_tile, g_row)  # fmt: skip
            after = first + most
            x_later = beneath(x, after, most if slices == 1 else 0, across, down, height, width, c)
            g_later = beneath(
                g, after, most if d_slices == 1 else 0, across, down, rows, columns_, d
            )
            for i in range(36):
                a, b = v[i * v_row :], gs[i * g_row :]
                multiply_blocks(a, k, b, n, count, sums, i * plane, edge, part_of(x_later, i, 36),
                                part_of(g_later, i, 36), v_tile, g_tile)  # fmt: skip
        for row in range(k):
            for i in range(0, n, half):
                start, left_over, line = row * n + i, n - i, 6 * plane
                p = weights_back(*load_six(sums, start, plane, left_over))
                q = weights_back(*load_six(sums, start + line, plane, left_over))
                start += 2 * line
                r = weights_back(*load_six(sums, start, plane, left_over))
                s = weights_back(*load_six(sums, start + line, plane, left_over))
                start += 2 * line
                t = weights_back(*load_six(sums, start, plane, left_over))
                u = weights_back(*load_six(sums, start + line, plane, left_over))
                for j in range(3):
                    to = ((part * 9 + j) * c + channel + row) * d + d_channel + i
                    three = weights_back(p[j], q[j], r[j], s[j], t[j], u[j])
                    store(parts, to, left_over, three[0])
                    store(parts, to + 3 * c * d, left_over, three[1])
                    store(parts, to + 6 * c * d, left_over, three[2])


# ---- what is called


def worth_it(n, size, kernel, c, groups, d, stride, dilation):
    """Whether transforming weights and tiles costs less than it saves, at n images of results."""
    if not (kernel == (3, 3) and stride == dilation == groups == 1 and min(c, d) >= 8):
        return False
    m, tiles = n * size[0] * size[1], n * -(-size[0] // 4) * -(-size[1] // 4)
    return m >= 96 and 36 * tiles <= 5 * m


def _tiles(x, size, *rows):
    """How many tiles down and across, in all, and at a time, of so many numbers in each."""
    down, across = -(-size[0] // 4), -(-size[1] // 4)
    tiles = len(x) * down * across
    numbers = 36 * sum(-(-c // ROWS) * ROWS for c in rows)
    most = min(MOST, max(LEAST, NUMBERS // numbers), max(1, tiles // 8))
    return down, across, tiles, -(-most // ROWS) * ROWS


def convolve(x, w, bias, top, left, size, turned=False):
    """x (N, H, W, C), w (3, 3, C, D) -> (N, *size, D); `turned`: w (3, 3, D, C) turned round.

    None where that would not be finite.
    """
    c, d = w.shape[2:] if not turned else w.shape[:1:-1]
    wide = 2 * VECTOR_BYTES // x.itemsize
    u = empty((36 * c * (-(-d // wide) * wide),), x.dtype)
    if turned:
        run(_weights_turned, -(-d // wide), flat(w), d, c, u)
    else:
        run(_weights, c, flat(w), c, d, u)
    y = empty((len(x), *size, d), x.dtype)
    down, across, tiles, most = _tiles(x, size, c, wide)
    image = flat(x), *x.shape[1:], top, left, down, across
    out = u, widened(bias, d, x.dtype), d, y.reshape(-1), *size
    lost = np.zeros(-(-tiles // most), np.uint8)
    run(_convolve, len(lost), tiles, most, *image, *out, lost)
    return None if lost.any() else y


def convolve_dw(x, g, top, left):
    """x (N, H, W, C), g (N, H′, W′, D) -> (3, 3, C, D); None where that would not be finite."""
    c, (_, *size, d) = x.shape[3], g.shape
    share, d_share = min(c, SLICE), min(d, SLICE)
    down, across, tiles, most = _tiles(x, size, share, d_share)
    sums = max(1, min(16, SUMS // (9 * c * d)))
    long = -(-tiles // (most * sums)) * most
    parts = empty((-(-tiles // long), 3, 3, c, d), x.dtype)
    slices, d_slices = -(-c // share), -(-d // d_share)
    how = long, slices, share, d_slices, d_share, tiles, most
    image = flat(x), *x.shape[1:], top, left, down, across
    run(
        _convolve_dw, len(parts) * slices * d_slices, *how, *image, flat(g), d, *size,
        parts.reshape(-1),
    )  # fmt: skip
    dw = add_up(parts)
    return dw if np.isfinite(dw).all() else None
