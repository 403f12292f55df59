"""Depthwise convolution and its gradients.

A small kernel reads the image where it lies, a row of results at a time in all channels: the rows
that it reads are still in cache when the next row reads them again. A larger one would fetch each
number too often from second-level cache. It works on a block of channels at a time, as gradients
of weights do for any kernel.

A block is two vectors wide, usually one cache line. Its part of an image is first copied into a
strip with zeros left and right, so that no tap needs to ask whether it is inside the image, and so
that neighboring pixels are neighbors in memory: at 256 channels pixels lie 1 KiB apart, which
puts them all into the same few sets of the first-level cache. (Rows above and below need no zeros:
the taps that would read them are left out.)

Taps along a row are unrolled, so there is one compiled kernel for each k; taps along a column are
a loop. Forward keeps SUMS sums in registers and slides the row over them; the weight gradient
keeps one row of taps there while it runs over all pixels of a strip.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..simd.jit import helper, kernel
from ..simd.memory import empty, empty_like
from ..simd.rows import add_up, flat, run_long
from ..simd.team import run
from ..simd.vectors import (
    I64,
    VECTOR_BYTES,
    Vector,
    call,
    constant,
    intrinsic,
    lanes,
    load,
    pointer,
    prefetch,
    prefetch_write,
    room,
    store,
    vector_type,
)
from ..simd.work import shared, work

SUMS = 8  # vectors of results that stay in registers together
MOST = 12  # taps of a row that do, at most
TAPS = 8  # and of a longer row at a time
STRIP = 96 * 1024  # bytes of image that are worked on at a time
IMAGES = 16  # from so many on, a thread takes all blocks of an image at a time
WAY = 1024  # bytes between pixels, at most, with which the window of a large kernel stays in L1
GROUP = 4  # images whose weight gradients are summed before the groups are


@intrinsic(prefer_literal=True)
def convolve(
    typingctx, k, stride, vectors, left, right, x, at, row, near, taps, first, rows, out, to, apart
):
    """out[p] = Σᵢⱼ x[i, s p + j] taps[i, j] for SUMS / vectors neighbors p, 1 or 2 vectors each.

    Rows of x are `row` numbers apart and its pixels `near`; `rows` of them are summed. Of the
    pixels that a row of results reads, `left` at its beginning and `right` at its end are outside
    the image; x[0, 0] is the first that is inside. Rows of taps are k vectors, those of the second
    vector follow all of the first. Results are `apart` numbers from one another.
    """
    kind = Vector(x.dtype)
    reach, s, both = k.literal_value, stride.literal_value, vectors.literal_value
    pixels = SUMS // both
    inside = range(left.literal_value, s * (pixels - 1) + reach - right.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, _, _, _, x_, at, row, near, taps_, first, rows, out_, to, apart = args
        vector, wide = vector_type(kind), kind.lanes
        size = kind.dtype.bitwidth // 8
        x0 = pointer(context, builder, x, x_, at)
        w0 = pointer(context, builder, taps, taps_, first)
        y0 = pointer(context, builder, out, out_, to)
        zero = constant(vector, 0.0)

        def vector_at(p: Any, i: int) -> Any:
            return builder.bitcast(builder.gep(p, [I64(i * wide)]), vector.as_pointer())

        def tap(w: Any, j: int, v: int) -> Any:
            return builder.load(vector_at(w, v * reach * reach + j), align=size)

        entry = builder.block
        loop, after = builder.append_basic_block("row"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", rows, I64(0)), loop, after)
        builder.position_at_end(loop)
        done, x_row, w = builder.phi(I64), builder.phi(x0.type), builder.phi(w0.type)
        before = [[builder.phi(vector) for _ in range(pixels)] for _ in range(both)]
        sums = [list(olds) for olds in before]
        weights = [[tap(w, j, v) for j in range(reach)] for v in range(both)]
        pixel = x_row
        for q in inside:
            for v in range(both):
                value = builder.load(vector_at(pixel, v), align=size)
                for j in range(reach):
                    p, between = divmod(q - j, s)
                    if 0 <= p < pixels and not between:
                        sums[v][p] = call(builder, "fmuladd", value, weights[v][j], sums[v][p])
            pixel = builder.gep(pixel, [near])
        ahead = builder.add(done, I64(1))
        for phi, old, new in (
            (done, I64(0), ahead),
            (x_row, x0, builder.gep(x_row, [row])),
            (w, w0, builder.gep(w, [I64(reach * wide)])),
            *(
                (phi, zero, new)
                for olds, news in zip(before, sums, strict=True)
                for phi, new in zip(olds, news, strict=True)
            ),
        ):
            phi.add_incoming(old, entry)
            phi.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", ahead, rows), loop, after)
        builder.position_at_end(after)
        final = [[builder.phi(vector) for _ in row] for row in sums]
        for p in range(pixels):
            for v in range(both):
                final[v][p].add_incoming(zero, entry)
                final[v][p].add_incoming(sums[v][p], loop)
        for p in range(pixels):
            for v in range(both):
                builder.store(final[v][p], vector_at(y0, v), align=size)
            y0 = builder.gep(y0, [apart])
        return context.get_dummy_value()

    i = types.int64
    return types.void(k, stride, vectors, left, right, x, i, i, i, taps, i, i, out, i, i), codegen


@intrinsic(prefer_literal=True)
def correlate(typingctx, count, both, strip, at, row, g, g_at, g_row, rows, width, out, to, apart):
    """out[j] += Σ strip[h, v + j] g[h, v] over rows h and columns v, for `count` taps j.

    Where `both` is 2, for the other vector as well, which is half a row further in strip and g and
    `apart` numbers further in out.
    """
    kind = Vector(strip.dtype)
    taps, vectors = count.literal_value, both.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, strip_, at, row, g_, g_at, g_row, rows, width, out_, to, apart = args
        vector, wide = vector_type(kind), kind.lanes
        size = kind.dtype.bitwidth // 8
        x0 = pointer(context, builder, strip, strip_, at)
        g0 = pointer(context, builder, g, g_, g_at)
        y0 = pointer(context, builder, out, out_, to)

        def plane(stride: Any) -> list[Any]:
            return [I64(0), stride][:vectors]

        half, g_half = builder.ashr(row, I64(1)), builder.ashr(g_row, I64(1))

        def tap(p: Any, j: int, plane: Any) -> Any:
            p = builder.gep(p, [builder.add(plane, I64(j * wide))])
            return builder.bitcast(p, vector.as_pointer())

        which = [(j, v) for j in range(taps) for v in range(vectors)]
        targets = [tap(y0, j, plane(apart)[v]) for j, v in which]
        initial = [builder.load(p, align=size) for p in targets]
        entry = builder.block
        outer, inner = builder.append_basic_block("row"), builder.append_basic_block("column")
        next_row, after = builder.append_basic_block("next"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", rows, I64(0)), outer, after)

        builder.position_at_end(outer)
        h, x_row, g_at_row = builder.phi(I64), builder.phi(x0.type), builder.phi(g0.type)
        row_sums = [builder.phi(vector) for _ in which]
        builder.branch(inner)

        builder.position_at_end(inner)
        column, x, gp = builder.phi(I64), builder.phi(x0.type), builder.phi(g0.type)
        sums = [builder.phi(vector) for _ in which]
        # Unrolling this loop, LLVM would keep what neighboring columns share in registers, and
        # put the sums into memory for it. An empty instruction that may touch memory forbids it.
        nothing = ir.FunctionType(ir.VoidType(), [])
        builder.asm(nothing, "", "~{memory}", [], side_effect=True)
        gs = [builder.load(tap(gp, 0, shift), align=size) for shift in plane(g_half)]
        results = []
        for (j, v), old in zip(which, sums, strict=True):
            value = builder.load(tap(x, j, plane(half)[v]), align=size)
            results.append(call(builder, "fmuladd", value, gs[v], old))
        ahead = builder.add(column, I64(1))
        for phi, old, new in (
            (column, I64(0), ahead),
            (x, x_row, builder.gep(x, [I64(wide)])),
            (gp, g_at_row, builder.gep(gp, [I64(wide)])),
            *zip(sums, row_sums, results, strict=True),
        ):
            phi.add_incoming(old, outer)
            phi.add_incoming(new, inner)
        builder.cbranch(builder.icmp_signed("<", ahead, width), inner, next_row)

        builder.position_at_end(next_row)
        below = builder.add(h, I64(1))
        for phi, old, new in (
            (h, I64(0), below),
            (x_row, x0, builder.gep(x_row, [row])),
            (g_at_row, g0, builder.gep(g_at_row, [g_row])),
            *zip(row_sums, initial, results, strict=True),
        ):
            phi.add_incoming(old, entry)
            phi.add_incoming(new, next_row)
        builder.cbranch(builder.icmp_signed("<", below, rows), outer, after)

        builder.position_at_end(after)
        final = [builder.phi(vector) for _ in which]
        for result, old, new, p in zip(final, initial, results, targets, strict=True):
            result.add_incoming(old, entry)
            result.add_incoming(new, next_row)
            builder.store(result, p, align=size)
        return context.get_dummy_value()

    i = types.int64
    return types.void(count, both, strip, i, i, g, i, i, i, i, out, i, i), codegen


@helper
def strip_row(k, width, x):
    """Numbers in a row of a strip: whole tiles of results and what their taps read beyond them.

    A row is first all pixels of the block's first vector, then all of its second: pixels 64 bytes
    apart would all want the same half of the cache's ports.
    """
    return 2 * (-(-width // SUMS) * SUMS + k - 1 + spare(k)) * lanes(x)


@helper
def strip_for(k, width, band, x):
    """A strip for `band` rows of results."""
    return room((band + k - 1) * strip_row(k, width, x), x)


@helper
def line_for(width, x):
    """Room for a row of results, in the order of a strip's."""
    return room(2 * -(-width // SUMS) * SUMS * lanes(x), x)


@helper
def blocks_of(c, x):
    """How many blocks c channels make."""
    return -(-c // (2 * lanes(x)))


@helper
def cut(x, image, block, top, bottom, height, width, c, left, strip, row):
    """Rows top … bottom − 1 of a block of channels into a strip, `left` pixels from its edge."""
    half = lanes(x)
    channel = block * 2 * half
    n = c - channel
    for y in range(max(top, 0), min(bottom, height)):
        to = (y - top) * row + left * half
        at = ((image * height + y) * width) * c + channel
        for _ in range(width):
            store(strip, to, half, load(x, at, n))
            store(strip, to + row // 2, half, load(x, at + half, n - half))
            prefetch(x, at + 2 * half)  # the next block, which comes next
            to += half
            at += c


@helper
def strips(first, last, blocks, height, band):
    """Each (image, block, top, bottom) of units first … last − 1: rows that one strip is for.

    A unit is a block of channels of an image. Numbers alone go through this generator: Numba never
    lets go of an array that a generator has held, so that it would not be freed.
    """
    for unit in range(first, last):
        for top in range(0, height, band):
            yield unit // blocks, unit % blocks, top, min(top + band, height)


@helper
def cut_strip(k, x, image, block, top, bottom, height, width, c, before, strip):
    """All of x that rows top … bottom − 1 of the result depend on, into a strip for them."""
    row, after = strip_row(k, width, x), k - 1 - before
    cut(x, image, block, top - before, bottom + after, height, width, c, before, strip, row)


@helper
def convolve_row(k, strip, top, taps, block, y, height, width, before, line):
    """Row y of results, of a block of channels, from a strip for rows from `top` on."""
    half = lanes(strip)
    row = strip_row(k, width, strip)
    first = max(0, before - y)
    rows = min(k, height + before - y) - first
    tiles = -(-width // SUMS)
    for v in range(2):
        at = (y + first - top) * row + v * (row // 2)
        tap = ((block * 2 + v) * k + first) * k * half
        for tile in range(tiles):
            x_at = at + tile * SUMS * half
            to = (v * tiles + tile) * SUMS * half
            convolve(k, 1, 1, 0, 0, strip, x_at, row, half, taps, tap, rows, line, to, half)


def in_place(k, width, c, dtype):
    """How many vectors of each pixel to compute at a time where the image lies; 0: use strips.

    A power of two between pixels puts them all into a few sets of the first-level cache. Both
    vectors of a line at a time then make the most of it while it is there, if registers suffice.
    """
    wide = 2 * VECTOR_BYTES // dtype.itemsize
    if width % SUMS or c % wide:
        return 0
    return 2 if k <= 3 else int(k <= 5 and c * dtype.itemsize <= WAY)


@functools.cache
def _forward_in_place(k, stride, before, right, both):
    """Of zeros, `before` are above and left of the image, `right` are read at its right."""
    left, pixels = before, SUMS // both

    @kernel
    def depthwise_in_place(queue, band, lines, x, taps, height, width, c, y_height, y_width, y):
        half = lanes(x)
        row, y_row = width * c, y_width * c
        for piece in work(shared(queue)):
            for line in range(piece * band, min((piece + 1) * band, lines)):
                image, start = line // y_height, line % y_height * stride - before
                first = max(0, -start)
                rows = min(k, height - start) - first
                top = (image * height + start + first) * row
                below = (image * height + start + stride - 1 + k) * row
                for tile in range(0, y_width, pixels):
                    inside = top + max(stride * tile - before, 0) * c
                    here = line * y_row + tile * c
                    for i in range(0, c, both * half):
                        at, to = inside + i, here + i
                        tap = (i * k + first * half) * k
                        if i % (2 * half) == 0:
                            for p in range(pixels):
                                prefetch(x, below + (stride * tile + p) * c + i)
                                prefetch_write(y, to + y_row + p * c)
                        if y_width == pixels:
                            convolve(k, stride, both, left, right, x, at, row, c, taps, tap, rows,
                                     y, to, c)  # fmt: skip
                        elif tile == 0:
                            convolve(k, stride, both, left, 0, x, at, row, c, taps, tap, rows,
                                     y, to, c)  # fmt: skip
                        elif tile == y_width - pixels:
                            convolve(k, stride, both, 0, right, x, at, row, c, taps, tap, rows,
                                     y, to, c)  # fmt: skip
                        else:
                            convolve(k, stride, both, 0, 0, x, at, row, c, taps, tap, rows,
                                     y, to, c)  # fmt: skip

    return depthwise_in_place


@functools.cache
def _forward(k):
    @kernel
    def depthwise(queue, share, x, taps, height, width, c, before, band, y):
        half = lanes(x)
        strip, line = strip_for(k, width, band, x), line_for(width, x)
        blocks = blocks_of(c, x)
        for piece in work(shared(queue)):
            first, last = piece * share, (piece + 1) * share
            for image, block, top, bottom in strips(first, last, blocks, height, band):
                cut_strip(k, x, image, block, top, bottom, height, width, c, before, strip)
                channel = block * 2 * half
                n = c - channel
                for row in range(top, bottom):
                    convolve_row(k, strip, top, taps, block, row, height, width, before, line)
                    to = ((image * height + row) * width) * c + channel
                    for at in range(0, width * half, half):
                        store(y, to, n, load(line, at, half))
                        store(y, to + half, n - half, load(line, line.size // 2 + at, half))
                        prefetch(y, to + 2 * half)
                        to += c

    return depthwise


def split_taps(k):
    """How many taps of a row stay in registers, and of how many vectors each."""
    room = 14 if VECTOR_BYTES == 32 else 26
    count = k if k <= MOST else TAPS
    return count, 2 if 2 * count <= room else 1


@helper
def spare(k):
    """Taps past the last of a row, computed and dropped: see `split_taps`."""
    return 0 if k <= MOST else -k % TAPS


@helper
def sums_for(k, c, x):
    """Room for the k × k sums of all channels: rows of them for each vector of each block."""
    return room(blocks_of(c, x) * 2 * k * (k + spare(k)) * lanes(x), x)


@helper
def correlate_rows(k, count, both, strip, g, g_top, block, top, bottom, height, width, sums):
    """Add to the k × k sums of a block of channels what rows top … bottom − 1 of g give.

    `strip` is for these rows; the strip `g` begins at row g_top, its pixels k // 2 from the edge.
    """
    half = lanes(strip)
    row = strip_row(k, width, strip)
    before, left = (k - 1) // 2, k // 2 * half
    across = (k + spare(k)) * half  # numbers in a row of sums
    plane = k * across
    for i in range(k):
        first = max(top, before - i)
        last = min(bottom, height + before - i)
        for shift in range(0, across, count * half):
            for v in range(0, 2, both):
                x_at = (first + i - top) * row + v * (row // 2) + shift
                g_at = (first - g_top) * row + v * (row // 2) + left
                to = (block * 2 + v) * plane + i * across + shift
                rows = last - first
                correlate(count, both, strip, x_at, row, g, g_at, row, rows, width, sums, to, plane)


@helper
def write_sums(k, sums, c, to, dw):
    """The k × k sums of all channels into dw (k, k, C), which begins at `to`."""
    half = lanes(sums)
    across = (k + spare(k)) * half
    plane = k * across
    for channel in range(0, c, half):
        at = channel * (plane // half)
        for i in range(k):
            for j in range(k):
                value = load(sums, at + i * across + j * half, half)
                store(dw, to + (i * k + j) * c + channel, c - channel, value)


@functools.cache
def _weights(k):
    count, both = split_taps(k)
    before, after = (k - 1) // 2, k // 2

    @kernel
    def depthwise_dw(queue, share, x, g, units, height, width, c, band, parts):
        row = strip_row(k, width, x)
        strip, g_strip = strip_for(k, width, band, x), strip_for(k, width, band, x)
        blocks, sums = blocks_of(c, x), sums_for(k, c, x)
        for piece in work(shared(queue)):
            sums[:] = 0
            first, last = piece * share, min((piece + 1) * share, units)
            for image, block, top, bottom in strips(first, last, blocks, height, band):
                cut_strip(k, x, image, block, top, bottom, height, width, c, before, strip)
                cut(g, image, block, top, bottom, height, width, c, after, g_strip, row)
                correlate_rows(
                    k, count, both, strip, g_strip, top, block, top, bottom, height, width, sums
                )
            write_sums(k, sums, c, piece * k * k * c, parts)

    return depthwise_dw


def blocked(w):
    """Taps (…, k, k, C) by vectors of channels: (…, blocks · 2, k, k, LANES)."""
    *layers, k, _, c = w.shape
    half = VECTOR_BYTES // w.itemsize
    blocks = -(-c // (2 * half))
    taps = empty((*layers, blocks * 2, k, k, half), w.dtype)
    if c < blocks * 2 * half:
        w = np.concatenate([w, np.zeros((*layers, k, k, blocks * 2 * half - c), w.dtype)], -1)
    taps[:] = w.reshape(*layers, k, k, blocks * 2, half).swapaxes(-2, -3).swapaxes(-3, -4)
    return taps.reshape(-1), blocks


def bands(height, width, k):
    """Rows worked on at a time: all of a small image, and what fits into STRIP of a large one."""
    return max(1, min(height, STRIP // ((width + k + SUMS) * 2 * VECTOR_BYTES) - k + 1))


def groups(x):
    """How the sums over images are divided: (sums, blocks of images in each, and in all)."""
    n, _, _, c = x.shape
    blocks = -(-c // (2 * VECTOR_BYTES // x.itemsize))
    return -(-n // GROUP), GROUP * blocks, n * blocks


def shares(n, blocks):
    """How many blocks of an image a thread takes at a time: all, unless there are few images.

    Blocks share pages, and what is prefetched for the next block should come to the core that
    takes it.
    """
    return blocks if n >= IMAGES else 1


def convolve_in_place(x, w, stride, before, y, both):
    """y of a convolution that reads x where it lies, of which `in_place` has said `both`."""
    n, height, width, c = x.shape
    k, (rows, columns) = len(w), y.shape[1:3]
    right = max(0, stride * (columns - 1) - before + k - width)
    function = _forward_in_place(k, stride, before, right, both)
    taps, _ = blocked(w)
    size = height, width, c, rows, columns
    run_long(function, n * rows, flat(x), taps, *size, y.reshape(-1))


def _convolve(x, w, before):
    n, height, width, c = x.shape
    k = w.shape[0]
    y = empty_like(x)
    out = y.reshape(-1)
    if vectors := in_place(k, width, c, x.dtype):
        convolve_in_place(x, w, 1, before, y, vectors)
        return y
    taps, blocks = blocked(w)
    share, band = shares(n, blocks), bands(height, width, k)
    run(_forward(k), n * blocks // share, share, flat(x), taps, height, width, c, before, band, out)
    return y


def depthwise_conv2d(x, w):
    return _convolve(x, w, (w.shape[0] - 1) // 2)


def depthwise_conv2d_dx(g, w):
    return _convolve(g, w[::-1, ::-1], w.shape[0] // 2)


def depthwise_conv2d_dw(x, g, k):
    _, height, width, c = x.shape
    parts, share, units = groups(x)
    dw = empty((parts, k, k, c), x.dtype)
    band = bands(height, width, k)
    run(_weights(k), parts, share, flat(x), flat(g), units, height, width, c, band, dw.reshape(-1))
    return add_up(dw)
