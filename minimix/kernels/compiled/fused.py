"""The kernels of a fused ConvMixer; `minimix.fuse` has the mathematics.

What they have in common: z, the output of a convolution, is the only thing written to memory.
GELU of z costs less than reading it back, so whoever wants it computes it again, while z is in
registers; the moments of batch norm are summed while z is still in cache; and what batch norm does
to each channel is by then only a factor and a term, applied by whoever reads next.
"""

from __future__ import annotations

import functools

import numpy as np

from ..simd.jit import helper, kernel
from ..simd.memory import empty, empty_like
from ..simd.rows import (
    CHUNK,
    add_moments,
    add_up,
    chunks,
    end_moments,
    flat,
    merge_moments,
    total,
)
from ..simd.team import run
from ..simd.threads import get_num_threads
from ..simd.vectors import (
    copy,
    lanes,
    load,
    narrow,
    near,
    prefetch,
    room,
    store,
    widen,
    zeros,
)
from ..simd.work import is_caller, shared, work
from .activation import activated, activated_and_slope
from .depthwise import (
    SUMS,
    bands,
    blocked,
    blocks_of,
    convolve,
    convolve_row,
    correlate_rows,
    cut_strip,
    groups,
    line_for,
    shares,
    split_taps,
    strip_for,
    strip_row,
    strips,
    sums_for,
    write_sums,
)
from .matmul import (
    ROWS,
    columns,
    multiply_blocks,
    multiply_rows,
    packed,
    padded,
    soon,
    split,
    widened,
)
from .rowwise import (
    normal_rows,
    normal_rows_backward,
    normalize_rows,
    normalize_rows_backward,
    room_for_few,
)
from .stack import copy_rows

# ---- forward: pointwise


@helper
def act_moments(relu, z, at, rows, c, pivots, sums, means, squares, to):
    """Moments of act(z) over a chunk of rows, about the mean of its first few.

    One row as the pivot might be an outlier, which would cost digits of all others.
    """
    step = lanes(z)
    few = min(rows, 8)
    for i in range(0, c, step):
        n = c - i
        s = zeros(z)
        for row in range(few):
            s = s + activated(relu, load(z, at + row * c + i, n))
        store(pivots, i, n, s / few)
    sums[:] = 0
    for row in range(rows):
        for i in range(0, c, step):
            n = c - i
            a = activated(relu, load(z, at + row * c + i, n))
            add_moments(a, load(pivots, i, n), sums, i, c, n)
    end_moments(pivots, sums, rows, c, c, means, squares, to)


@functools.cache
def _embed(relu):
    @kernel
    def embed(queue, x, m, k, w, bias, c, z, means, squares, moments):
        edge = room(ROWS * columns(x), x)
        pivots, sums = room(c, x), room(2 * c, x)
        for piece in work(shared(queue)):
            row = piece * CHUNK
            rows = min(CHUNK, m - row)
            multiply_rows(x, row * k, k, rows, k, w, c, bias, z, row * c, c, edge,
                          soon(x, (row + CHUNK) * k, rows * k), soon(x, 0, 0))  # fmt: skip
            act_moments(relu, z, row * c, rows, c, pivots, sums, means, squares, piece * c)
        if is_caller(queue):
            merge_moments(means, squares, CHUNK, m, c, moments)

    return embed


@helper
def load_mixed(relu, z, x, start, rows, c, scale, shift, u, a):
    """u = scale act(z) + shift + x, and a = act(z), for a block of rows; `padded` apart."""
    step = lanes(z)
    ahead = padded(c, z)
    for row in range(rows):
        for i in range(0, c, step):
            n = c - i
            at = (start + row) * c + i
            v = activated(relu, load(z, at, n))
            store(a, row * ahead + i, step, v)
            store(
                u, row * ahead + i, step, v * load(scale, i, n) + load(shift, i, n) + load(x, at, n)
            )


@functools.cache
def _mix_channels(relu):
    @kernel
    def mix_channels(queue, z, x, m, k, scale, shift, w, bias, c, out, means, squares, moments):
        edge = room(ROWS * columns(x), x)
        ahead = padded(k, x)
        scale, shift = near(scale), near(shift)
        u, a = room(CHUNK * ahead, x), room(CHUNK * ahead, x)
        pivots, sums = room(c, x), room(2 * c, x)
        for piece in work(shared(queue)):
            row = piece * CHUNK
            rows = min(CHUNK, m - row)
            load_mixed(relu, z, x, row, rows, k, scale, shift, u, a)
            after = (row + CHUNK) * k
            multiply_rows(u, np.int64(0), ahead, rows, k, w, c, bias, out, row * c, c, edge,
                          soon(z, after, rows * k), soon(x, after, rows * k))  # fmt: skip
            act_moments(relu, out, row * c, rows, c, pivots, sums, means, squares, piece * c)
        if is_caller(queue):
            merge_moments(means, squares, CHUNK, m, c, moments)

    return mix_channels


@functools.cache
def _mix_layer_norm(relu):
    @kernel
    def mix_layer_norm(queue, z, m, k, bias, gamma, beta, eps, x, w, nothing, c, bias2, gamma2,
                       beta2, eps2, z2, y):  # fmt: skip
        edge, none = room(ROWS * columns(z), z), room(0, z)
        u_row = padded(k, z)
        u = room(CHUNK * u_row, z)
        bias, gamma, beta = near(bias), near(gamma), near(beta)
        bias2, gamma2, beta2 = near(bias2), near(gamma2), near(beta2)
        for piece in work(shared(queue)):
            row = piece * CHUNK
            rows, at, to = min(CHUNK, m - row), row * k, row * c
            normal_rows(relu, z, at, k, rows, k, bias, gamma, beta, eps, x, at, k, u, 0, u_row)
            after = at + CHUNK * k
            multiply_rows(u, np.int64(0), u_row, rows, k, w, c, nothing, z2, to, c, edge,
                          soon(z, after, rows * k), soon(x, after, rows * k))  # fmt: skip
            normal_rows(relu, z2, to, c, rows, c, bias2, gamma2, beta2, eps2, none, to, c, y, to, c)

    return mix_layer_norm


@helper
def act_affine_rows(relu, z, at, z_row, rows, c, scale, shift, y, to, y_row):
    """y = scale act(z) + shift; rows of z are z_row apart, those of y y_row."""
    step = lanes(z)
    for _ in range(rows):
        for i in range(0, c, step):
            n = c - i
            v = activated(relu, load(z, at + i, n))
            store(y, to + i, n, v * load(scale, i, n) + load(shift, i, n))
        at += z_row
        to += y_row


@functools.cache
def _act_affine(relu):
    @kernel
    def act_affine(queue, z, m, c, scale, shift, y):
        scale, shift = near(scale), near(shift)
        for piece in work(shared(queue)):
            row = piece * CHUNK
            act_affine_rows(
                relu, z, row * c, c, min(CHUNK, m - row), c, scale, shift, y, row * c, c
            )

    return act_affine


# ---- forward: depthwise


@functools.cache
def _mix_places(k, relu):
    before = (k - 1) // 2

    @kernel
    def mix_places(
        queue, share, x, taps, bias, images, height, width, c, band, z, means, squares, moments
    ):
        half = lanes(x)
        strip, line = strip_for(k, width, band, x), line_for(width, x)
        blocks = blocks_of(c, x)
        pivots, sums = room(2 * half, x), room(4 * half, x)
        for piece in work(shared(queue)):
            first, last = piece * share, (piece + 1) * share
            for image, block, top, bottom in strips(first, last, blocks, height, band):
                cut_strip(k, x, image, block, top, bottom, height, width, c, before, strip)
                channel = block * 2 * half
                if top == 0:
                    sums[:] = 0
                for row in range(top, bottom):
                    convolve_row(k, strip, top, taps, block, row, height, width, before, line)
                    for v in range(2):
                        i = v * half
                        n = c - channel - i
                        start = v * (line.size // 2)
                        to = ((image * height + row) * width) * c + channel + i
                        b = load(bias, channel + i, half)
                        if row == 0:  # about the mean of the first row, as in `act_moments`
                            s = zeros(x)
                            for at in range(start, start + width * half, half):
                                s = s + activated(relu, load(line, at, half) + b)
                            store(pivots, i, half, s / width)
                        pivot = load(pivots, i, half)
                        s, q = load(sums, i, half), load(sums, 2 * half + i, half)
                        for at in range(start, start + width * half, half):
                            value = load(line, at, half) + b
                            store(z, to, n, value)
                            prefetch(z, to + 2 * half)
                            d = activated(relu, value) - pivot
                            s, q = s + d, q + d * d
                            to += c
                        store(sums, i, half, s)
                        store(sums, 2 * half + i, half, q)
                if bottom == height:
                    to, n = image * c + channel, min(2 * half, c - channel)
                    end_moments(pivots, sums, height * width, 2 * half, n, means, squares, to)
        if is_caller(queue):
            pixels = height * width
            merge_moments(means, squares, pixels, images * pixels, c, moments)

    return mix_places


# ---- inference
#
# A thread takes a few images, or a band of one, through as many blocks as it is told, in buffers of
# its own: what lies between two convolutions stays in its second-level cache. Images that depthwise
# convolutions read are in a frame, with zeros left and right, so that no tap needs to ask whether
# it is inside; their pixels are `padded` apart.


@helper
def framed(width, k):
    """Pixels in a row with its zeros: all that whole tiles of results read."""
    return -(-width // SUMS) * SUMS + k - 1


@helper
def infer_places(
    k, before, after, relu, a, inside, across, ahead, lines, top, height, width, c, taps, first_tap,
    affine, wide, eps, which, shortcut, line, u,
):  # fmt: skip
    """u = scale act(a ∗ w + bias) + shift + shortcut, for lines of pixels. The first is row `top`
    of an image, and begins at a[inside].

    affine, eps, which   as in `infer_channels`
    line                 room for a line of pixels, a vector of each
    """
    half, inset = lanes(a), before * ahead
    for i in range(0, c, half):
        b, s = load(affine, i, half), load(affine, wide + i, half)
        t = load(affine, 2 * wide + i, half)
        for row in range(lines):
            down = top + row % height
            first = max(0, before - down)
            rows = min(k, height + before - down) - first
            tap = first_tap + (i * k + first * half) * k
            at = inside - inset + (row + first - before) * across + i
            if width == SUMS:
                at += inset
                convolve(
                    k, 1, 1, before, after, a, at, across, ahead, taps, tap, rows, line, 0, half
                )
            else:
                for to in range(0, width * half, SUMS * half):
                    convolve(k, 1, 1, 0, 0, a, at, across, ahead, taps, tap, rows, line, to, half)
                    at += SUMS * ahead
            at, to = inside + row * across + i, row * width * ahead + i
            for v in range(0, width * half, half):
                value = load(line, v, half)
                if eps is None:
                    value = activated(relu, value + b) * s + t + load(shortcut, at, half)
                store(u, to, half, value)
                at += ahead
                to += ahead
    if eps is not None:
        for row in range(lines):
            at, to = inside + row * across, row * width * ahead
            normal_rows(relu, u, to, ahead, width, c, affine, affine[wide:], affine[2 * wide :],
                        eps[which], shortcut, at, ahead, u, to, ahead)  # fmt: skip


@helper
def infer_channels(
    relu, x, x_row, lines, width, k, w, affine, wide, eps, which, z, edge, nothing, c, y, to,
    across, ahead,
):  # fmt: skip
    """y = scale a + shift, a = act(x w + bias), for lines of pixels, which are `across` apart in y.

    eps      a is normalized first in each pixel, with that one that is `which`; None: it is not
    affine   begins with bias, scale and shift, each `wide`
    z, edge  room for the product of as many lines as are computed at a time
    nothing  zeros, as many as `wide`
    """
    scale, shift, at_once = affine[wide:], affine[2 * wide :], max(1, CHUNK // width)
    bias, none = affine if eps is None else nothing, nothing[:0]
    for line in range(0, lines, at_once):
        rows = min(at_once, lines - line)
        multiply_rows(x, line * width * x_row, x_row, rows * width, k, w, c, bias, z, 0, c, edge,
                      soon(x, 0, 0), soon(x, 0, 0))  # fmt: skip
        for row in range(rows):
            at = row * width * c
            if eps is None:
                act_affine_rows(relu, z, at, c, width, c, scale, shift, y, to, ahead)
            else:
                normal_rows(relu, z, at, c, width, c, affine, scale, shift, eps[which], none, 0, 0,
                            y, to, ahead)  # fmt: skip
            to += across


@helper
def average(x, at, height, width, across, ahead, c, y, to):
    """The mean over the pixels of an image, added one by one."""
    for i in range(0, c, lanes(x)):
        s = zeros(x)
        for row in range(height):
            here = at + row * across + i
            for _ in range(width):
                s = s + load(x, here, c - i)
                here += ahead
        store(y, to + i, c - i, s / (height * width))


@kernel
def _average(queue, x, height, width, c, y):
    for image in work(shared(queue)):
        average(x, image * height * width * c, height, width, width * c, c, c, y, image * c)


@functools.cache
def _infer_convmixer(k, relu):
    before, after = (k - 1) // 2, k // 2

    @kernel
    def infer_convmixer(queue, images, height, width, c, share, band, x, patch, channels, stem,
                        depth, taps, matrices, affine, eps, residual, pooled, y):  # fmt: skip
        """`share` whole images at a time, or `band` rows of one.

        patch   how many pixels of x, down and across, become one; 0: no stem
        eps     of each norm; None: there are factors and terms only
        pooled  whether y is the mean of an image's pixels, or the image
        """
        half, ahead, wide = lanes(x), padded(c, x), blocks_of(c, x) * columns(x)
        across, inset = framed(width, k) * ahead, before * ahead
        numbers, patch_row = patch * patch * channels, padded(patch * patch * channels, x)
        tall, bands = min(height, band + k - 1), -(-height // band)
        a = room(share * tall * across, x)
        u = room(share * width * max(band * ahead, tall * patch_row if patch else 0), x)
        z, edge = room(max(CHUNK, width) * c, x), room(ROWS * columns(x), x)
        line, affine, nothing = room(framed(width, 1) * half, x), near(affine), room(wide, x)
        shortcut = a if residual else room(a.size, x)  # or zeros in its place
        for piece in work(shared(queue)):
            image, top = piece // bands * share, piece % bands * band
            count, bottom = min(share, images - image), min(top + band, height)
            low, high = max(0, top - before), min(bottom + after, height)  # rows that are read
            read, lines = count * (high - low), count * (bottom - top)
            for row in range(read):
                begin = image * height + low + row
                if patch:
                    n, to = patch * channels, row * width * patch_row
                    for at in range(begin * patch * width * n, (begin * patch + 1) * width * n, n):
                        copy_rows(x, at, width * n, patch, n, u, to, n)
                        to += patch_row
                else:
                    copy_rows(x, begin * width * c, c, width, c, a, row * across + inset, ahead)
            here, inside = 0, (top - low) * across + inset
            for block in range(-1 if patch else 0, depth):
                if block < 0:  # the stem
                    u_row, u_lines, n, w, to = patch_row, read, numbers, stem, inset
                else:
                    infer_places(k, before, after, relu, a, inside, across, ahead, lines, top,
                                 height, width, c, taps, block * wide * k * k, affine[here:], wide,
                                 eps, here // (3 * wide), shortcut, line, u)  # fmt: skip
                    here += 3 * wide
                    u_row, u_lines, n, to = ahead, lines, c, inside
                    w = matrices[block * c * wide :]
                infer_channels(relu, u, u_row, u_lines, width, n, w, affine[here:], wide, eps,
                               here // (3 * wide), z, edge, nothing, c, a, to, across,
                               ahead)  # fmt: skip
                here += 3 * wide
            for row in range(lines):
                at, to = inside + row * across, image * height + top + row
                if not pooled:
                    copy_rows(a, at, ahead, width, c, y, to * width * c, c)
                elif row % height == 0:
                    average(a, at, height, width, across, ahead, c, y, to // height * c)

    return infer_convmixer


# ---- backward
#
# The gradient of batch norm is per channel a combination of what came in, what it normalized, and
# a constant; times the slope of GELU it is the gradient of z:
#
#     dz = act′(z) (p g + q act(z) + o)


@functools.cache
def _act_norm_sums(relu):
    @kernel
    def act_norm_sums(queue, z, g, pixels, m, c, mean, rstd, parts, result):
        """Σ g x̂ and Σ g, by way of each chunk's. A row of g belongs to `pixels` rows of z."""
        step = lanes(z)
        mean, rstd, sums = near(mean), near(rstd), room(2 * c, z)
        for piece in work(shared(queue)):
            sums[:] = 0
            for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
                g_at = row // pixels * c
                for i in range(0, c, step):
                    n = c - i
                    u = load(g, g_at + i, n)
                    normal = activated(relu, load(z, row * c + i, n)) - load(mean, i, n)
                    normal = normal * load(rstd, i, n)
                    store(sums, i, n, load(sums, i, n) + u * normal)
                    store(sums, c + i, n, load(sums, c + i, n) + u)
            copy(sums, 0, 2 * c, parts, piece * 2 * c)
        if is_caller(queue):
            total(parts, -(-m // CHUNK), 2 * c, result)

    return act_norm_sums


@helper
def terms(m, c, mean, rstd, gamma, dgamma, dbeta, x):
    """p, q, o: γ r (g − dβ/M − x̂ dγ/M) with x̂ = (a − mean) r is p g + q a + o."""
    p, q, o = room(c, x), room(c, x), room(c, x)
    for i in range(0, c, lanes(x)):
        n = c - i
        r, slant = widen(load(rstd, i, n)), widen(load(dgamma, i, n)) / float(m)
        scale, level = widen(load(gamma, i, n)) * r, widen(load(dbeta, i, n)) / float(m)
        slope = r * slant
        store(p, i, n, narrow(scale, x))
        store(q, i, n, narrow(scale * slope * -1.0, x))
        store(o, i, n, narrow(scale * (widen(load(mean, i, n)) * slope - level), x))
    return p, q, o


@functools.cache
def _act_norm_backward(relu):
    @kernel
    def act_norm_backward(queue, z, g, pixels, m, c, mean, rstd, gamma, dgamma, dbeta, dz):
        step = lanes(z)
        p, q, o = terms(m, c, mean, rstd, gamma, dgamma, dbeta, z)
        for piece in work(shared(queue)):
            for row in range(piece * CHUNK, min((piece + 1) * CHUNK, m)):
                g_at = row // pixels * c
                for i in range(0, c, step):
                    n = c - i
                    a, slope = activated_and_slope(relu, load(z, row * c + i, n))
                    v = load(p, i, n) * load(g, g_at + i, n) + load(q, i, n) * a + load(o, i, n)
                    store(dz, row * c + i, n, v * slope)

    return act_norm_backward


@functools.cache
def _mix_channels_backward(relu):
    @kernel
    def mix_channels_backward(queue, z, g, pixels, mean2, rstd2, gamma2, dgamma2, dbeta2, c, z1,
                              x, m, k, mean, rstd, gamma, beta, w, nothing, long, du, dw, parts,
                              result):  # fmt: skip
        """Per part of `long` rows: du, and that part's dw; then db and the sums for the batch norm
        below, by way of each part's."""
        step = lanes(z)
        edge = room(ROWS * columns(z), z)
        u_row, z_row = padded(k, z), padded(c, z)
        u, a = room(CHUNK * u_row, z), room(CHUNK * u_row, z)
        dz = room(CHUNK * z_row, z)
        dz_sums, du_sums = room(c, z), room(2 * k, z)
        p, q, o = terms(m, c, mean2, rstd2, gamma2, dgamma2, dbeta2, z)
        mean, rstd, scale, shift = near(mean), near(rstd), room(k, z), room(k, z)
        for i in range(0, k, step):
            factor = load(gamma, i, k - i) * load(rstd, i, k - i)
            store(scale, i, k - i, factor)
            store(shift, i, k - i, load(beta, i, k - i) - load(mean, i, k - i) * factor)
        for piece in work(shared(queue)):
            dw[piece * k * c : (piece + 1) * k * c] = 0
            dz_sums[:] = 0
            du_sums[:] = 0
            first, last = piece * long, min((piece + 1) * long, m)
            for start in range(first, last, CHUNK):
                rows = min(CHUNK, last - start)
                for row in range(rows):
                    g_at = (start + row) // pixels * c
                    for i in range(0, c, step):
                        n = c - i
                        b, slope = activated_and_slope(relu, load(z, (start + row) * c + i, n))
                        v = load(p, i, n) * load(g, g_at + i, n) + load(q, i, n) * b + load(o, i, n)
                        v = v * slope
                        store(dz, row * z_row + i, step, v)
                        store(dz_sums, i, n, load(dz_sums, i, n) + v)
                load_mixed(relu, z1, x, start, rows, k, scale, shift, u, a)
                after, many = (start + CHUNK) * c, rows * c
                multiply_blocks(u, k, dz, c, rows, dw, piece * k * c, edge,
                                soon(z, after, many), soon(g, after, many))  # fmt: skip
                at, after, many = start * k, (start + CHUNK) * k, rows * k
                multiply_rows(dz, np.int64(0), z_row, rows, c, w, k, nothing, du, at, k, edge,
                              soon(z1, after, many), soon(x, after, many))  # fmt: skip
                for row in range(rows):
                    for i in range(0, k, step):
                        n = k - i
                        v = load(du, (start + row) * k + i, n)
                        normal = load(a, row * u_row + i, step) - load(mean, i, n)
                        normal = normal * load(rstd, i, n)
                        store(du_sums, i, n, load(du_sums, i, n) + v * normal)
                        store(du_sums, k + i, n, load(du_sums, k + i, n) + v)
            at = piece * (c + 2 * k)
            copy(dz_sums, 0, c, parts, at)
            copy(du_sums, 0, 2 * k, parts, at + c)
        if is_caller(queue):
            total(parts, -(-m // long), c + 2 * k, result)

    return mix_channels_backward


@functools.cache
def _mix_layer_norm_backward(relu):
    @kernel
    def mix_layer_norm_backward(queue, z2, g, pixels, bias2, gamma2, eps2, c, z, m, k, bias, gamma,
                                beta, eps, x, w, nothing, long, du, dz, dw, parts,
                                result):  # fmt: skip
        """Per part of `long` rows: du, dz, and that part's dw; then the sums for both norms, by way
        of each part's."""
        edge = room(ROWS * columns(z), z)
        u_row, own_row = padded(k, z), padded(c, z)
        u, own = room(CHUNK * u_row, z), room(CHUNK * own_row, z)
        few, lower, upper = room_for_few(max(c, k), z), room(3 * c, z), room(3 * k, z)
        bias, gamma, beta = near(bias), near(gamma), near(beta)
        bias2, gamma2 = near(bias2), near(gamma2)
        for piece in work(shared(queue)):
            dw[piece * k * c : (piece + 1) * k * c] = 0
            lower[:] = 0
            upper[:] = 0
            first, last = piece * long, min((piece + 1) * long, m)
            for row in range(first, last, CHUNK):
                rows, at = min(CHUNK, last - row), row * k
                normal_rows_backward(
                    relu, z2, row, rows, c, bias2, gamma2, eps2, g, pixels, few, lower, own,
                    0, own_row,
                )  # fmt: skip
                normal_rows(relu, z, at, k, rows, k, bias, gamma, beta, eps, x, at, k, u, 0, u_row)
                after, many = (row + CHUNK) * c, rows * c
                multiply_blocks(u, k, own, c, rows, dw, piece * k * c, edge,
                                soon(z2, after, many), soon(g, after, many))  # fmt: skip
                after, many = at + CHUNK * k, rows * k
                multiply_rows(own, np.int64(0), own_row, rows, c, w, k, nothing, du, at, k, edge,
                              soon(z, after, many), soon(x, after, many))  # fmt: skip
                normal_rows_backward(
                    relu, z, row, rows, k, bias, gamma, eps, du, 1, few, upper, dz, at, k
                )
            at = piece * 3 * (k + c)
            copy(upper, 0, 3 * k, parts, at)
            copy(lower, 0, 3 * c, parts, at + 3 * k)
        if is_caller(queue):
            total(parts, -(-m // long), 3 * (k + c), result)

    return mix_layer_norm_backward


@helper
def cut_backward(relu, z, g, p, q, o, image, block, top, bottom, height, width, c, k, strip, sums):
    """What `cut_strip` does of x, of dz; and Σ dz over rows top … bottom − 1."""
    half = lanes(z)
    row = strip_row(k, width, z)
    before, after = (k - 1) // 2, k // 2  # on the way back, `after` is the padding in front
    for v in range(2):
        i = (block * 2 + v) * half
        n = c - i
        pv, qv, ov = load(p, i, n), load(q, i, n), load(o, i, n)
        for y in range(max(top - after, 0), min(bottom + before, height)):
            to = (y - top + after) * row + after * half + v * (row // 2)
            at = ((image * height + y) * width) * c + i
            s = zeros(z)
            for _ in range(width):
                a, slope = activated_and_slope(relu, load(z, at, n))
                dz = (pv * load(g, at, n) + qv * a + ov) * slope
                store(strip, to, half, dz)
                prefetch(z, at + 2 * half)
                prefetch(g, at + 2 * half)
                s = s + dz
                to += half
                at += c
            if top <= y < bottom:
                store(sums, i, half, load(sums, i, half) + s)


@functools.cache
def _mix_places_backward(k, relu):
    count, both = split_taps(k)
    before, after = (k - 1) // 2, k // 2

    @kernel
    def mix_places_backward(queue, share, z, g, mean, rstd, gamma, dgamma, dbeta, x, taps, images,
                            height, width, c, band, dx, dw, biases, db):  # fmt: skip
        """Per group of images: dx, and that group's dw; then db, by way of each group's."""
        half = lanes(x)
        strip, line = strip_for(k, width, band, x), line_for(width, x)
        blocks = blocks_of(c, x)
        dz = strip_for(k, width, band, x)
        sums = sums_for(k, c, x)
        dz_sums, units = room(blocks * 2 * half, x), images * blocks
        p, q, o = terms(images * height * width, c, mean, rstd, gamma, dgamma, dbeta, x)
        for piece in work(shared(queue)):
            sums[:] = 0
            dz_sums[:] = 0
            first, last = piece * share, min((piece + 1) * share, units)
            for image, block, top, bottom in strips(first, last, blocks, height, band):
                cut_strip(k, x, image, block, top, bottom, height, width, c, before, strip)
                channel = block * 2 * half
                cut_backward(
                    relu, z, g, p, q, o, image, block, top, bottom, height, width, c, k, dz, dz_sums
                )
                correlate_rows(
                    k, count, both, strip, dz, top - after, block, top, bottom, height, width, sums
                )
                for row in range(top, bottom):
                    convolve_row(k, dz, top, taps, block, row, height, width, after, line)
                    to = ((image * height + row) * width) * c + channel
                    for at in range(0, width * half, half):
                        for v in range(2):
                            here, n = to + v * half, c - channel - v * half
                            value = load(line, v * (line.size // 2) + at, half)
                            store(dx, here, n, value + load(g, here, n))
                        prefetch(dx, to + 2 * half)
                        to += c
            write_sums(k, sums, c, piece * k * k * c, dw)
            for i in range(0, c, half):
                store(biases, piece * c + i, c - i, load(dz_sums, i, half))
        if is_caller(queue):
            total(biases, -(-units // share), c, db)

    return mix_places_backward


# ---- what is called


def _moments_room(parts, c):
    return np.empty((2, parts * c))


def _row(y):
    """A result as one row."""
    return y.reshape(-1)


def _spread(g):
    """g as rows, and how many pixels share one: all of an image behind a mean over its pixels."""
    _, height, width, _ = g.shape
    if height * width > 1 and g.strides[1:3] == (0, 0):
        return flat(g[:, 0, 0]), height * width
    return flat(g), 1


def embed(x, w, b, relu=False):
    m, k = x.shape
    c = w.shape[1]
    z = empty((m, c), x.dtype)
    moments, parts = np.empty((2, c), x.dtype), _moments_room(chunks(m), c)
    out = z.reshape(-1), *parts, moments.reshape(-1)
    run(_embed(relu), chunks(m), flat(x), m, k, packed(w), widened(b, c, x.dtype), c, *out)
    return z, *moments


def mix_places(x, w, b, relu=False):
    n, height, width, c = x.shape
    k = w.shape[0]
    taps, blocks = blocked(w)
    z = empty_like(x)
    moments, parts = np.empty((2, c), x.dtype), _moments_room(n, c)
    share, size = shares(n, blocks), (*x.shape, bands(height, width, k))
    bias, out = widened(b, c, x.dtype), (z.reshape(-1), *parts, moments.reshape(-1))
    run(_mix_places(k, relu), n * blocks // share, share, flat(x), taps, bias, *size, *out)
    return z, *moments


def mix_channels(z, x, scale, shift, w, b, relu=False):
    k, c = w.shape
    m = x.size // k
    z2 = empty((*x.shape[:-1], c), x.dtype)
    moments, parts = np.empty((2, c), x.dtype), _moments_room(chunks(m), c)
    affine = flat(scale), flat(shift), packed(w), widened(b, c, x.dtype)
    out = z2.reshape(-1), *parts, moments.reshape(-1)
    run(_mix_channels(relu), chunks(m), flat(z), flat(x), m, k, *affine, c, *out)
    return z2, *moments


def act_affine(z, scale, shift, relu=False):
    c = z.shape[-1]
    m = z.size // c
    y = empty_like(z)
    run(_act_affine(relu), chunks(m), flat(z), m, c, flat(scale), flat(shift), y.reshape(-1))
    return y


def act_layer_norm(z, norm, eps, added=None, relu=False):
    bias, gamma, beta = norm
    return normalize_rows(z, gamma, beta, eps, bias, added, relu)


def mix_layer_norm(z, norm, eps, w, norm2, eps2, x=None, relu=False):
    k, c = w.shape
    m = z.size // k
    z2, y = (empty((*z.shape[:-1], c), z.dtype) for _ in range(2))
    upper = *map(flat, norm), float(eps), np.empty(0, z.dtype) if x is None else flat(x)
    lower = packed(w), widened(None, c, z.dtype), c, *map(flat, norm2), float(eps2)
    run(_mix_layer_norm(relu), chunks(m), flat(z), m, k, *upper, *lower, *map(_row, (z2, y)))
    return z2, y


def infer_convmixer(
    x, places, channels, affine, stem=None, eps=None, relu=False, pool=True, residual=True
):
    p = 1 if stem is None else len(stem)
    n, height, width, depth = len(x), x.shape[1] // p, x.shape[2] // p, len(places)
    first = 0 if stem is None else 1  # the first block's row of `affine`
    fits = x.shape[1:3] == (height * p, width * p) and (first or x.shape[3] == affine.shape[2])
    if not (fits and depth == len(channels) and len(affine) == first + 2 * depth):
        raise ValueError(
            f"infer_convmixer: x {x.shape}, stem {None if stem is None else stem.shape}, "
            f"{depth} and {len(channels)} weights and affine {affine.shape} do not fit together"
        )
    c, threads, pixels = affine.shape[2], get_num_threads(), height * width
    means, images = (n, c), (n, height, width, c)
    if n >= threads or pixels <= 2 * CHUNK:
        share = max(1, min(2 * CHUNK // pixels, -(-n // threads)))
        y = empty(means if pool else images, x.dtype)
        how = relu, residual, height, width, share, height
        return _infer(x, stem, places, channels, affine, eps, *how, y)
    # Too few images for all threads: band by band, one block after the other.
    band = -(-height // (threads * -(-pixels // (4 * CHUNK * threads))))
    for i in range(max(1, depth)):
        layer, y = slice(i, i + 1), empty(images, x.dtype)
        norms = slice(first + 2 * i if i else 0, first + 2 * i + 2)
        of = affine[norms], None if eps is None else eps[norms]
        how = relu, residual, height, width, 1, band
        x = _infer(x, stem, places[layer], channels[layer], *of, *how, y)
        stem = None
    if not pool:
        return x
    y = empty(means, x.dtype)
    run(_average, n, x.reshape(-1), height, width, c, y.reshape(-1))
    return y


def _infer(x, stem, places, channels, affine, eps, relu, residual, height, width, share, band, y):
    n, c = len(x), affine.shape[2]
    k, taps, matrices = 1, empty((0,), x.dtype), empty((0,), x.dtype)
    if places:
        k, (taps, _), matrices = len(places[0]), blocked(np.stack(places)), packed(*channels)
    patch, matrix = (0, taps) if stem is None else (len(stem), packed(stem.reshape(-1, c)))
    weights = len(places), taps, matrices, widened(affine, c, x.dtype)
    how = n, height, width, c, share, band
    image, out = (flat(x), patch, x.shape[3], matrix), (residual, y.ndim == 2, y.reshape(-1))
    pieces = -(-n // share) * -(-height // band)
    eps = eps if eps is None else flat(eps)
    run(_infer_convmixer(k, relu), pieces, *how, *image, *weights, eps, *out)
    return y


def act_norm_sums(z, g, mean, rstd, relu=False):
    c = z.shape[-1]
    m = z.size // c
    g, pixels = _spread(g)
    sums = np.empty((2, c), z.dtype)
    out = np.empty(chunks(m) * 2 * c, z.dtype), sums.reshape(-1)
    run(_act_norm_sums(relu), chunks(m), flat(z), g, pixels, m, c, flat(mean), flat(rstd), *out)
    return tuple(sums)


def act_norm_backward(z, g, norm, relu=False):
    c = z.shape[-1]
    m = z.size // c
    g, pixels = _spread(g)
    dz = empty_like(z)
    norm = map(flat, norm)
    run(_act_norm_backward(relu), chunks(m), flat(z), g, pixels, m, c, *norm, dz.reshape(-1))
    return dz


def mix_channels_backward(z2, g, norm2, z1, x, norm1, w, relu=False):
    k, c = w.shape
    m = x.size // k
    g, pixels = _spread(g)
    sums, long = split(m)
    du = empty_like(x)
    dw = empty((sums, k, c), x.dtype)
    parts, result = np.empty(sums * (c + 2 * k), x.dtype), np.empty(c + 2 * k, x.dtype)
    upper = flat(z2), g, pixels, *map(flat, norm2), c
    lower = flat(z1), flat(x), m, k, *map(flat, norm1), packed(w.T), widened(None, k, x.dtype)
    out = du.reshape(-1), dw.reshape(-1), parts, result
    run(_mix_channels_backward(relu), sums, *upper, *lower, long, *out)
    return du, add_up(dw), result[:c], result[c : c + k], result[c + k :]


def act_layer_norm_backward(z, g, norm, eps, relu=False):
    (bias, gamma, _), (rows, pixels) = norm, _spread(g)
    dz, sums = normalize_rows_backward(z, rows, pixels, gamma, eps, bias, relu)
    return dz, *sums


def mix_layer_norm_backward(z2, g, norm2, eps2, z, norm, eps, w, x=None, relu=False):
    k, c = w.shape
    m = z.size // k
    parts, long = split(m)
    du, dz = empty_like(z), empty_like(z)
    dw, result = empty((parts, k, c), z.dtype), np.empty(3 * (k + c), z.dtype)
    lower = flat(z2), *_spread(g), *map(flat, norm2[:2]), float(eps2), c
    upper = flat(z), m, k, *map(flat, norm), float(eps)
    more = np.empty(0, z.dtype) if x is None else flat(x), packed(w.T), widened(None, k, z.dtype)
    out = *map(_row, (du, dz, dw)), np.empty(parts * result.size, z.dtype), result
    run(_mix_layer_norm_backward(relu), parts, *lower, *upper, *more, long, *out)
    return du, dz, add_up(dw), *result[: 3 * k].reshape(3, k), *result[3 * k :].reshape(3, c)


def mix_places_backward(z, g, norm, x, w, relu=False):
    _, height, width, c = x.shape
    k = w.shape[0]
    taps, _ = blocked(w[::-1, ::-1])
    parts, share, _ = groups(x)
    dx = empty_like(x)
    dw, db = empty((parts, k, k, c), x.dtype), np.empty(c, x.dtype)
    above, size = (flat(z), flat(g), *map(flat, norm)), (*x.shape, bands(height, width, k))
    out = dx.reshape(-1), dw.reshape(-1), np.empty(parts * c, x.dtype), db
    run(_mix_places_backward(k, relu), parts, share, *above, flat(x), taps, *size, *out)
    return dx, add_up(dw), db
