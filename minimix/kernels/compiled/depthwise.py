"""Depthwise convolution and its gradients, a block of channels at a time.

A block is two vectors wide, usually one cache line. Its part of an image is first copied into a
strip with zeros left and right, so that no tap needs to ask whether it is inside the image, and so
that neighbouring pixels are neighbours in memory: at 256 channels pixels lie 1 KiB apart, which
puts them all into the same few sets of the first-level cache. (Rows above and below need no zeros:
the taps that would read them are left out.)

Taps along a row are unrolled, so there is one compiled kernel for each k; taps along a column are
a loop. Forward keeps PIXELS sums in registers and slides the row over them; the weight gradient
keeps one row of taps there while it runs over all pixels of a strip.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..threads import run
from ._jit import helper, kernel
from .memory import empty, empty_like
from .rows import add_up, flat
from .simd import (
    I64,
    VECTOR_BYTES,
    Vector,
    call,
    intrinsic,
    lanes,
    load,
    pointer,
    store,
    take,
    vector_type,
    zeros,
)

PIXELS = 8  # outputs that stay in registers together
TAPS = 8  # taps of a row that do, when a row has more than twelve
STRIP = 96 * 1024  # bytes of image that are worked on at a time
GROUP = 8  # images whose weight gradients are summed before the groups are


@intrinsic(prefer_literal=True)
def convolve(typingctx: Any, k: Any, strip: Any, at: Any, row: Any, taps: Any, first: Any,
             rows: Any, start: Any, out: Any, to: Any) -> Any:  # fmt: skip
    """out[p] = start + Σᵢⱼ strip[i, p + j] taps[i, j] for PIXELS neighbours p, one vector of each.

    A pixel is two vectors long in strip, taps and out. Rows of the strip are `row` numbers apart,
    rows of taps k pixels; `rows` of them are summed.
    """
    kind = Vector(strip.dtype)
    width = k.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, strip_, at, row, taps_, first, rows, start, out_, to = args
        vector, pixel = vector_type(kind), 2 * kind.lanes
        size = kind.dtype.bitwidth // 8
        x0 = pointer(context, builder, strip, strip_, at)
        w0 = pointer(context, builder, taps, taps_, first)
        y0 = pointer(context, builder, out, out_, to)

        def at_pixel(p: Any, i: int) -> Any:
            return builder.bitcast(builder.gep(p, [I64(i * pixel)]), vector.as_pointer())

        entry = builder.block
        loop, after = builder.append_basic_block("row"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", rows, I64(0)), loop, after)
        builder.position_at_end(loop)
        done, x, w = builder.phi(I64), builder.phi(x0.type), builder.phi(w0.type)
        before = [builder.phi(vector) for _ in range(PIXELS)]
        sums = list(before)
        weights = [builder.load(at_pixel(w, j), align=size) for j in range(width)]
        for q in range(PIXELS + width - 1):
            value = builder.load(at_pixel(x, q), align=size)
            for j in range(width):
                if 0 <= q - j < PIXELS:
                    sums[q - j] = call(builder, "fmuladd", value, weights[j], sums[q - j])
        ahead = builder.add(done, I64(1))
        for phi, old, new in (
            (done, I64(0), ahead),
            (x, x0, builder.gep(x, [row])),
            (w, w0, builder.gep(w, [I64(width * pixel)])),
            *((phi, start, new) for phi, new in zip(before, sums, strict=True)),
        ):
            phi.add_incoming(old, entry)
            phi.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", ahead, rows), loop, after)
        builder.position_at_end(after)
        final = [builder.phi(vector) for _ in sums]
        for i, (result, last) in enumerate(zip(final, sums, strict=True)):
            result.add_incoming(start, entry)
            result.add_incoming(last, loop)
            builder.store(result, at_pixel(y0, i), align=size)
        return context.get_dummy_value()

    i = types.int64
    return types.void(k, strip, i, i, taps, i, i, start, out, i), codegen


@intrinsic(prefer_literal=True)
def correlate(typingctx: Any, count: Any, vectors: Any, strip: Any, at: Any, row: Any,
              g: Any, g_at: Any, g_row: Any, rows: Any, width: Any,
              out: Any, to: Any) -> Any:  # fmt: skip
    """out[j] += Σ strip[h, v + j] g[h, v] over rows h and columns v, for `count` taps j.

    A pixel is two vectors long everywhere; `vectors` says whether both are worked on, or the one
    at which the indices point.
    """
    kind = Vector(strip.dtype)
    taps, both = count.literal_value, vectors.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, strip_, at, row, g_, g_at, g_row, rows, width, out_, to = args
        vector, pixel = vector_type(kind), 2 * kind.lanes
        size = kind.dtype.bitwidth // 8
        x0 = pointer(context, builder, strip, strip_, at)
        g0 = pointer(context, builder, g, g_, g_at)
        y0 = pointer(context, builder, out, out_, to)

        def lane(p: Any, j: int, v: int) -> Any:
            p = builder.gep(p, [I64(j * pixel + v * kind.lanes)])
            return builder.bitcast(p, vector.as_pointer())

        which = [(j, v) for j in range(taps) for v in range(both)]
        initial = [builder.load(lane(y0, j, v), align=size) for j, v in which]
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
        gs = [builder.load(lane(gp, 0, v), align=size) for v in range(both)]
        results = []
        for (j, v), old in zip(which, sums, strict=True):
            value = builder.load(lane(x, j, v), align=size)
            results.append(call(builder, "fmuladd", value, gs[v], old))
        ahead = builder.add(column, I64(1))
        for phi, old, new in (
            (column, I64(0), ahead),
            (x, x_row, builder.gep(x, [I64(pixel)])),
            (gp, g_at_row, builder.gep(gp, [I64(pixel)])),
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
        for (j, v), result, old, new in zip(which, final, initial, results, strict=True):
            result.add_incoming(old, entry)
            result.add_incoming(new, next_row)
            builder.store(result, lane(y0, j, v), align=size)
        return context.get_dummy_value()

    i = types.int64
    kinds = (count, vectors, strip, i, i, g, i, i, i, i, out, i)
    return types.void(*kinds), codegen


@helper
def cut(x, image, top, bottom, h, w, c, channel, strip, row, left):
    """Rows top … bottom − 1 of a block of channels into a strip, `left` pixels from its edge."""
    half = lanes(x)
    n = c - channel
    for y in range(max(top, 0), min(bottom, h)):
        to = (y - top) * row + left * 2 * half
        at = ((image * h + y) * w) * c + channel
        for _ in range(w):
            store(strip, to, half, load(x, at, n))
            store(strip, to + half, half, load(x, at + half, n - half))
            to += 2 * half
            at += c


@functools.cache
def _forward(k):
    @kernel
    def depthwise(queue, x, taps, h, w, c, before, band, y):
        half = lanes(x)
        pixel = 2 * half
        tiles = -(-w // PIXELS)
        row = (tiles * PIXELS + k - 1) * pixel
        strip = np.zeros((band + k - 1) * row, x.dtype)
        line = np.empty(tiles * PIXELS * pixel, x.dtype)
        blocks = -(-c // pixel)
        while True:
            piece = take(queue)
            if piece < 0:
                break
            image, block = piece // blocks, piece % blocks
            channel = block * pixel
            n = c - channel
            for top in range(0, h, band):
                bottom = min(top + band, h)
                edge = top - before  # the image row with which the strip begins
                cut(x, image, edge, bottom + k - 1 - before, h, w, c, channel, strip, row, before)
                for yy in range(top, bottom):
                    first = max(0, before - yy)
                    rows = min(k, h + before - yy) - first
                    at = (yy - top + first) * row
                    tap = (block * k + first) * k * pixel
                    for tile in range(tiles):
                        for v in range(0, pixel, half):
                            shift = tile * PIXELS * pixel + v
                            convolve(k, strip, at + shift, row, taps, tap + v, rows, zeros(x),
                                     line, shift)  # fmt: skip
                    to = ((image * h + yy) * w) * c + channel
                    for i in range(w):
                        store(y, to, n, load(line, i * pixel, half))
                        store(y, to + half, n - half, load(line, i * pixel + half, half))
                        to += c

    return depthwise


def split_taps(k):
    """How many taps of a row stay in registers, and how many vectors of each."""
    room = 12 if VECTOR_BYTES == 32 else 24
    count = k if k <= 12 else TAPS
    return count, 2 if 2 * count <= room + 2 else 1


@functools.cache
def _weights(k):
    count, vectors = split_taps(k)
    groups = -(-k // count)
    spare = groups * count - k  # taps past the last, computed and dropped

    @kernel
    def depthwise_dw(queue, x, g, images, h, w, c, band, parts):
        half = lanes(x)
        pixel = 2 * half
        before = (k - 1) // 2
        row = (w + k - 1 + spare) * pixel
        g_row = w * pixel
        strip = np.zeros((band + k - 1) * row, x.dtype)
        g_strip = np.empty(band * g_row, x.dtype)
        sums = np.empty(k * (k + spare) * pixel, x.dtype)
        blocks = -(-c // pixel)
        while True:
            piece = take(queue)
            if piece < 0:
                break
            group, block = piece // blocks, piece % blocks
            channel = block * pixel
            sums[:] = 0
            for image in range(group * GROUP, min((group + 1) * GROUP, images)):
                for top in range(0, h, band):
                    bottom = min(top + band, h)
                    edge = top - before
                    cut(x, image, edge, bottom + k - 1 - before, h, w, c, channel, strip, row,
                        before)  # fmt: skip
                    cut(g, image, top, bottom, h, w, c, channel, g_strip, g_row, 0)
                    for i in range(k):
                        first = max(top, before - i)
                        last = min(bottom, h + before - i)
                        for tap in range(groups):
                            for v in range(0, pixel, vectors * half):
                                shift = tap * count * pixel + v
                                correlate(
                                    count, vectors,
                                    strip, (first + i - before - edge) * row + shift, row,
                                    g_strip, (first - top) * g_row + v, g_row,
                                    last - first, w,
                                    sums, i * (k + spare) * pixel + shift,
                                )  # fmt: skip
            for i in range(k):
                for j in range(k):
                    at = (i * (k + spare) + j) * pixel
                    to = ((group * k + i) * k + j) * c + channel
                    store(parts, to, c - channel, load(sums, at, half))
                    store(parts, to + half, c - channel - half, load(sums, at + half, half))

    return depthwise_dw


def blocked(w):
    """Taps (k, k, C) by blocks of channels: (blocks, k, k, channels of a block)."""
    k, _, c = w.shape
    pixel = 2 * VECTOR_BYTES // w.itemsize
    blocks = -(-c // pixel)
    taps = np.zeros((k, k, blocks * pixel), w.dtype)
    taps[:, :, :c] = w
    return flat(taps.reshape(k, k, blocks, pixel).transpose(2, 0, 1, 3)), blocks


def bands(h, w, k):
    """Rows worked on at a time: all of a small image, and what fits into STRIP of a large one."""
    return max(1, min(h, STRIP // ((w + k + PIXELS) * 2 * VECTOR_BYTES) - k + 1))


def _convolve(x, w, before):
    n, h, v, c = x.shape
    k = w.shape[0]
    taps, blocks = blocked(w)
    y = empty_like(x)
    run(_forward(k), n * blocks, flat(x), taps, h, v, c, before, bands(h, v, k), y.reshape(-1))
    return y


def depthwise_conv2d(x, w):
    return _convolve(x, w, (w.shape[0] - 1) // 2)


def depthwise_conv2d_dx(g, w):
    return _convolve(g, w[::-1, ::-1], w.shape[0] // 2)


def depthwise_conv2d_dw(x, g, k):
    n, h, v, c = x.shape
    blocks = -(-c // (2 * VECTOR_BYTES // x.itemsize))
    groups = -(-n // GROUP)
    parts = empty((groups, k, k, c), x.dtype)
    run(
        _weights(k), groups * blocks, flat(x), flat(g), n, h, v, c, bands(h, v, k),
        parts.reshape(-1),
    )  # fmt: skip
    return add_up(parts) if n else np.zeros((k, k, c), x.dtype)
