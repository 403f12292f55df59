"""Convolution of images of few channels, such as pictures, whose three fill no vector.

For a row of results, the rows of the image that it sees are copied into a strip: column by column,
the pixels that stand above one another side by side, zeros around the image among them. What a
place sees is then one run of l·k·c numbers of the strip, and the next place's run begins a few
columns on. So the strip is the left factor of a matrix product as it lies, with rows that overlap,
and nothing is copied once for each tap. The weights' gradient is a product of the same strip.
"""

from __future__ import annotations

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty
from ..simd.rows import add_up, flat, run_long
from ..simd.team import run
from ..simd.vectors import VECTOR_BYTES, lanes, load, room, store
from ..simd.work import shared, work
from .matmul import (
    ROWS,
    columns,
    copy_block,
    finish,
    multiply_blocks,
    multiply_gathered,
    packed,
    padded,
    soon,
    widened,
)

SUMS = 16  # into how many partial sums the weights' gradient is divided


def worth_it(grid, c, groups, d, dilation, itemsize):
    """Whether channels would leave lanes empty, and a row of results fills two tiles or more."""
    few = groups == dilation == 1 < d and c * itemsize < VECTOR_BYTES
    return few and grid[1] >= 2 * ROWS


@helper
def strip_for(k, l, c, step, places, x):
    """Room for what a row of so many places sees, and for the vector that is stored last."""
    return room(((places - 1) * step + l) * k * c + lanes(x), x)


@helper
def cut_strip(x, image, top, left, height, width, c, k, strip):
    """Rows top … top + k − 1 of an image, columns from `left` on, as long as the strip is."""
    at = 0
    for v in range(left, left + (strip.size - lanes(x)) // (k * c)):
        for y in range(top, top + k):
            inside = 0 <= v < width and 0 <= y < height
            pixel = load(x, ((image * height + y) * width + v) * c, c if inside else 0)
            store(strip, at, lanes(x), pixel)  # beyond c come zeros, which the next overwrites
            at += c


@kernel
def _few(queue, band, lines, x, height, width, c, k, l, step, top, left, rows, places, weights,
         bias, d, y, mean, scale, shift, added, least):  # fmt: skip
    """A piece is `band` rows of results."""
    n, d_row = k * l * c, padded(d, x)
    strip, out = strip_for(k, l, c, step, places, x), room(places * d_row, x)
    for piece in work(shared(queue)):
        for line in range(piece * band, min((piece + 1) * band, lines)):
            image, q = line // rows, line % rows
            cut_strip(x, image, q * step - top, -left, height, width, c, k, strip)
            multiply_gathered(strip, step * k * c, places, n, weights, 0, bias, 0, d, out, d_row)
            for u in range(places):
                to = (line * places + u) * d
                finish(out, u * d_row, d, 0, mean, scale, shift, added, least, y, to)


@kernel
def _few_dw(queue, share, lines, x, height, width, c, k, l, step, top, left, rows, places, g, d,
            parts):  # fmt: skip
    """parts[s] = dw over the s-th `share` rows of results."""
    n = k * l * c
    edge, g_block = room(ROWS * columns(x), x), room(places * padded(d, x), x)
    strip = strip_for(k, l, c, step, places, x)
    for piece in work(shared(queue)):
        parts[piece * n * d : (piece + 1) * n * d] = 0
        for line in range(piece * share, min((piece + 1) * share, lines)):
            image, q = line // rows, line % rows
            cut_strip(x, image, q * step - top, -left, height, width, c, k, strip)
            copy_block(g, line * places, places, d, g_block)
            multiply_blocks(strip, n, g_block, d, places, parts, piece * n * d, edge,
                                soon(g, 0, 0), soon(g, 0, 0), step * k * c)  # fmt: skip


def convolve(x, w, bias, stride, top, left, y, end):
    """Into y (N, H′, W′, D), x (N, H, W, c), w (k, l, c, D), bias (D,) or None, finished so."""
    n, height, width, c = x.shape
    (k, l, _, d), (rows, places) = w.shape, y.shape[1:3]
    weights = packed(w.swapaxes(0, 1).reshape(l * k * c, d))
    how = height, width, c, k, l, stride, top, left, rows, places
    out = widened(bias, d, w.dtype), d, y.reshape(-1)
    run_long(_few, n * rows, flat(x), *how, weights, *out, *end)


def convolve_dw(x, g, size, stride, top, left):
    """The gradient for w of this size (k, l), g as y."""
    (n, height, width, c), (k, l) = x.shape, size
    rows, places, d = g.shape[1:]
    share = -(-n * rows // SUMS)
    parts = empty((-(-n * rows // share), l, k, c, d), x.dtype)
    how = height, width, c, k, l, stride, top, left, rows, places
    run(_few_dw, len(parts), share, n * rows, flat(x), *how, flat(g), d, parts.reshape(-1))
    return np.ascontiguousarray(add_up(parts).swapaxes(0, 1))
