"""Matrix products, tiled for registers and caches (Goto & van de Geijn 2008).

Why not BLAS: its threads spin against ours, its sums depend on how many threads it has, and
nothing can be done to a piece of the result while it is still in cache. Fused layers need that.

A tile of ROWS × COLUMNS results stays in registers while k runs: every step loads two vectors of b
and multiplies them with ROWS numbers of a. For that b is first packed into panels of COLUMNS
columns, which a step reads in order, from first-level cache; a is read as it is, a chunk of rows
at a time, from second-level cache. Both a and the result are asked for before they are needed: six
rows that are read side by side, a few lines each, are no pattern that a processor foresees.
"""

from __future__ import annotations

import platform
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from ..simd.jit import helper, kernel
from ..simd.memory import LINE, empty
from ..simd.rows import CHUNK, add_up, chunks, flat
from ..simd.team import run
from ..simd.vectors import (
    I64,
    VECTOR_BYTES,
    Vector,
    call,
    clip,
    constant,
    intrinsic,
    lanes,
    load,
    pointer,
    prefetch,
    prefetch_write,
    room,
    splat,
    store,
    turn_rows,
    vector_type,
    zeros,
)
from ..simd.work import shared, work

# Two vectors wide, and as many rows as leave registers for both vectors of b and for a: there are
# 32 with AVX-512 and on ARM, else 16. (With 32, the pointers to the rows are what runs out first.)
ROWS = 12 if VECTOR_BYTES == 64 or platform.machine() in ("arm64", "aarch64") else 6

LOW = ROWS * 2 // 3  # rows of a lower tile: 16 rows are two of these, not one of 12 and a rest of 4

DEPTH = 256  # steps of k between loading and storing a tile: a panel of b fills half a usual L1
SMALL = 4096  # numbers of b that leave room in L1: then a row of a meets all of b at once
PANELS = 16  # panels of b that a thread packs at a time: fewer are not worth waking it
PAGE = 4096  # bytes: how far apart numbers are that fall into the same few places of a first cache
PACK_AHEAD = 16  # rows of b asked for ahead: they are too far apart for the processor to foresee
FEW = 4 * CHUNK  # rows, at most, that are all multiplied with a panel of b as soon as it is packed
SPLITS = 16  # into how many sums `_matmul_tn` divides a long product, at most


@intrinsic(prefer_literal=True)
def tile(typingctx, height, vectors, k, a, ia, rows, a_row, a_step, b, ib, b_step,
         start, i0, row0, c, ic, c_row):  # fmt: skip
    """c[r, :] = start[r, :] + Σₖ a[r, k] b[k, :] for up to `height` rows, `vectors` wide.

    a[r, k] is at ia + r a_row + k a_step, b[k, 0] at ib + k b_step, c[r, 0] at ic + r c_row and
    start[r, 0] at i0 + r row0. Where fewer rows are there, the last one is computed again in place
    of each that is missing. `height` is ROWS or LOW; `vectors` 1 or 2, of which two are COLUMNS.
    """
    return _tile(height, vectors, k, a, b, start, c, from_zero=False)


@intrinsic(prefer_literal=True)
def tile_from_zero(typingctx, height, vectors, k, a, ia, rows, a_row, a_step, b, ib, b_step,
                   start, i0, row0, c, ic, c_row):  # fmt: skip
    """As `tile`, but the sum over k begins at zero and is added to start at the end.

    A long product is then a sum of sums, which loses fewer digits than one long sum.
    """
    return _tile(height, vectors, k, a, b, start, c, from_zero=True)


def _tile(
    rows_of: Any, width: Any, k: Any, a: Any, b: Any, start: Any, c: Any, from_zero: bool
) -> Any:
    kind = Vector(a.dtype)
    height, vectors = rows_of.literal_value, width.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        k, _, ia, rows, a_row, a_step, _, ib, b_step, _, i0, row0, _, ic, c_row = args[-15:]
        vector, wide = vector_type(kind), kind.lanes
        align = kind.dtype.bitwidth // 8
        last = builder.sub(rows, I64(1))
        row = [
            builder.select(builder.icmp_signed("<", I64(r), rows), I64(r), last)
            for r in range(height)
        ]

        def row_starts(argument: int, first: Any, stride: Any) -> list[Any]:
            places = [builder.add(first, builder.mul(r, stride)) for r in row]
            kind_of, array = sig.args[argument], args[argument]
            return [pointer(context, builder, kind_of, array, at) for at in places]

        def across(p: Any) -> list[Any]:
            starts = [builder.gep(p, [I64(v * wide)]) for v in range(vectors)]
            return [builder.bitcast(q, vector.as_pointer()) for q in starts]

        a_rows = row_starts(-14, ia, a_row)
        c_rows = row_starts(-3, ic, c_row)
        first_b = pointer(context, builder, b, args[-9], ib)
        start_rows = row_starts(-6, i0, row0)

        def load_start() -> list[Any]:
            return [builder.load(p, align=align) for p0 in start_rows for p in across(p0)]

        initial = [constant(vector, 0.0)] * vectors * height if from_zero else load_start()
        entry = builder.block
        loop, after = builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(loop)

        builder.position_at_end(loop)
        step, offset = builder.phi(I64), builder.phi(I64)
        now_b = builder.phi(first_b.type)
        sums = [builder.phi(vector) for _ in initial]
        b_vectors = [builder.load(p, align=align) for p in across(now_b)]
        results = []
        for r in range(height):
            one = splat(builder, builder.load(builder.gep(a_rows[r], [offset])), wide)
            for v in range(vectors):
                results.append(call(builder, "fmuladd", one, b_vectors[v], sums[vectors * r + v]))
        ahead = builder.add(step, I64(1))
        for phi, old, new in (
            (step, I64(0), ahead),
            (offset, I64(0), builder.add(offset, a_step)),
            (now_b, first_b, builder.gep(now_b, [b_step])),
            *zip(sums, initial, results, strict=True),
        ):
            phi.add_incoming(old, entry)
            phi.add_incoming(new, loop)
        again = builder.cbranch(builder.icmp_signed("<", ahead, k), loop, after)
        again.set_metadata("llvm.loop", _as_it_is(builder.module))

        builder.position_at_end(after)
        if from_zero:  # all of start is read before any of c, which may be the same, is written
            results = [
                builder.fadd(old, new) for old, new in zip(load_start(), results, strict=True)
            ]
        targets = [p for c0 in c_rows for p in across(c0)]
        for result, p in zip(results, targets, strict=True):
            builder.store(result, p, align=align)
        return context.get_dummy_value()

    i = types.int64
    return types.void(rows_of, width, i, a, i, i, i, i, b, i, i, start, i, i, c, i, i), codegen


def _as_it_is(module: Any) -> Any:
    """What forbids to unroll a loop: twice as many sums would not fit into the registers."""
    mark = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = ir.MDValue(module, [mark], name=str(len(module.metadata)))
    loop.operands = (loop, mark)  # its first operand is itself, so that no two loops share one
    return loop


@helper
def columns(x):
    """COLUMNS: how wide a tile is."""
    return 2 * lanes(x)


@partial(helper, forceinline=True)
def fitting_tile(n, k, a, ia, rows, a_row, a_step, b, ib, b_step, start, i0, row0, c, ic, c_row):
    """The first tile of n columns and so many rows; returns how high it is.

    Narrow where half the columns would be none, and low where most of the rows would.
    """
    if n <= lanes(a):
        tile(LOW, 1, k, a, ia, rows, a_row, a_step, b, ib, b_step, start, i0, row0, c, ic, c_row)
        return LOW
    if rows <= LOW or ROWS < rows <= 2 * LOW:
        tile(LOW, 2, k, a, ia, rows, a_row, a_step, b, ib, b_step, start, i0, row0, c, ic, c_row)
        return LOW
    tile(ROWS, 2, k, a, ia, rows, a_row, a_step, b, ib, b_step, start, i0, row0, c, ic, c_row)
    return ROWS


@partial(helper, forceinline=True)
def add_fitting_tile(n, k, a, ia, rows, a_row, a_step, b, ib, b_step, c, ic, c_row):
    """As `fitting_tile`, added to what c holds, as a sum of its own."""
    if n <= lanes(a):
        tile_from_zero(LOW, 1, k, a, ia, rows, a_row, a_step, b, ib, b_step,
                       c, ic, c_row, c, ic, c_row)  # fmt: skip
        return LOW
    if rows <= LOW or ROWS < rows <= 2 * LOW:
        tile_from_zero(LOW, 2, k, a, ia, rows, a_row, a_step, b, ib, b_step,
                       c, ic, c_row, c, ic, c_row)  # fmt: skip
        return LOW
    tile_from_zero(ROWS, 2, k, a, ia, rows, a_row, a_step, b, ib, b_step,
                   c, ic, c_row, c, ic, c_row)  # fmt: skip
    return ROWS


@helper
def padded(c, x):
    """Numbers from one row of c to the next in a block of our own: vectors fit, sets do not clash.

    Rows a power of two apart would all fall into the same few sets of the cache.
    """
    wide = lanes(x)
    return -(-c // wide) * wide + wide


@helper
def pack_panel(b, row, column, j, n, k0, k1, panel, to):
    """Rows k0 … k1 − 1 of b[:, j : j + COLUMNS] side by side; columns from n on are zero.

    Element (i, j) of b is at i row + j column; row or column is 1.
    """
    wide, half = columns(b), lanes(b)
    if column == 1:
        for i in range(k0, k1):
            prefetch(b, (i + PACK_AHEAD) * row + j)
            prefetch(b, (i + PACK_AHEAD) * row + j + half)
            store(panel, to, half, load(b, i * row + j, n - j))
            store(panel, to + half, half, load(b, i * row + j + half, n - j - half))
            to += wide
    else:
        for i in range(0, (k1 - k0) * wide if n - j < wide else 0, half):
            store(panel, to + i, half, zeros(b))
        turn_rows(b, k0 + j * column, column, min(wide, n - j), k1 - k0, panel, to, wide)


@kernel
def _pack(queue, b, row, column, k, n, packed):
    """b[k, n], element (i, j) at i row + j column, into panels: of DEPTH rows, COLUMNS wide.

    A piece is PANELS of them.
    """
    wide = columns(b)
    across = -(-n // wide)
    panels = -(-k // DEPTH) * across
    for piece in work(shared(queue)):
        for panel in range(piece * PANELS, min((piece + 1) * PANELS, panels)):
            k0, j = panel // across * DEPTH, panel % across * wide
            k1 = min(k0 + DEPTH, k)
            to = k0 * across * wide + j * (k1 - k0)
            pack_panel(b, row, column, j, n, k0, k1, packed, to)


@helper
def copy_tile(x, ix, x_row, rows, n, y, iy, y_row):
    """A tile of up to ROWS rows and n columns, of which those past n are zero in y."""
    half = lanes(x)
    for r in range(min(ROWS, rows)):
        for v in range(0, 2 * half, half):
            store(y, iy + r * y_row + v, n - v, load(x, ix + r * x_row + v, n - v))


@helper
def add_tile(x, x_row, rows, n, y, iy, y_row):
    """Add a tile that x begins with to one in y, up to ROWS rows and n columns of it."""
    half = lanes(x)
    for r in range(min(ROWS, rows)):
        for v in range(0, 2 * half, half):
            at = iy + r * y_row + v
            store(y, at, n - v, load(y, at, n - v) + load(x, r * x_row + v, n - v))


@helper
def soon(x, first, n):
    """What is needed soon, for `ask_for`: n numbers of x from `first` on, as far as it has them."""
    return x, first, max(0, min(n, x.size - first))


@helper
def part_of(later, part, parts):
    """One of so many parts of what `soon` gave."""
    x, first, n = later
    share = -(-n // parts)
    return x, first + part * share, share


@helper
def ask_for(later, part, parts):
    """Prefetch one of so many parts of what `soon` gave."""
    x, first, n = part_of(later, part, parts)
    for i in range(first, first + n, lanes(x) * LINE // VECTOR_BYTES):
        prefetch(x, i)


@helper
def ask_for_room(later, part, parts):
    """The same, of what will be written."""
    x, first, n = part_of(later, part, parts)
    for i in range(first, first + n, lanes(x) * LINE // VECTOR_BYTES):
        prefetch_write(x, i)


@helper
def ask_for_tile(c, ic, c_row):
    """Prefetch a tile of c, which will be written."""
    for r in range(ROWS):
        for i in range(0, columns(c), lanes(c) * LINE // VECTOR_BYTES):
            prefetch_write(c, ic + r * c_row + i)


@helper
def multiply_rows(a, ia, a_row, rows, k, packed, n, bias, c, ic, c_row, edge, later, also):
    """c[rows, n] = a[rows, k] b + bias; b packed, bias as long as its panels are wide together.

    Rows of a are a_row apart, rows of c c_row. `edge` has room for one tile: the last columns are
    computed there when they do not fill one. Memory has nothing to do meanwhile: `later` and `also`
    are asked for (see `ask_for`), a part with each tile.
    """
    wide = columns(a)
    panels = 0
    at_once = ROWS if k * n <= SMALL else rows
    zero = room(wide, a)
    part, parts = 0, -(-k // DEPTH) * -(-n // wide) * -(-rows // ROWS)
    for k0 in range(0, k, DEPTH):
        deep = min(DEPTH, k - k0)
        for r0 in range(0, rows, at_once):
            for j in range(0, n, wide):
                whole, ib = n - j >= wide, panels + j * deep
                for r in range(r0, min(r0 + at_once, rows), ROWS):
                    left = rows - r
                    at = ia + r * a_row + k0
                    to = ic + r * c_row + j
                    ask_for_tile(c, to, c_row)
                    ask_for(later, part, parts)
                    ask_for(also, part, parts)
                    part += 1
                    # From the second time on: a sum of its own, added to the one before.
                    start, s, s_row = (bias, j, 0) if k0 == 0 else (zero, 0, 0)
                    y, o, o_row = (c, to, c_row) if whole and k0 == 0 else (edge, 0, wide)
                    tile(ROWS, 2, deep, a, at, left, a_row, 1, packed, ib, wide,
                         start, s, s_row, y, o, o_row)  # fmt: skip
                    if k0 > 0:
                        add_tile(edge, wide, left, n - j, c, to, c_row)
                    elif not whole:
                        copy_tile(edge, o, o_row, left, n - j, c, to, c_row)
        panels += deep * (-(-n // wide) * wide)


@helper
def finish(x, frm, n, first, mean, scale, shift, added, least, y, at):
    """y[at : at + n] = x[frm : frm + n] as `Finish` says; the channels from `first` on."""
    step = lanes(x)
    if scale.size:
        for i in range(0, n, step):
            k, left = first + i, n - i
            factor, term = load(scale, k, left), load(shift, k, left)  # so that the rest fuses
            v = (load(x, frm + i, left) - load(mean, k, left)) * factor + term
            if added.size:
                v = v + load(added, at + i, left)
            store(y, at + i, left, clip(v, least, np.inf))
    elif added.size:
        for i in range(0, n, step):
            store(y, at + i, n - i, load(x, frm + i, n - i) + load(added, at + i, n - i))
    else:
        for i in range(0, n, step):
            store(y, at + i, n - i, load(x, frm + i, n - i))


@kernel
def _matmul(queue, a, m, k, packed, n, bias, c, mean, scale, shift, added, least):
    edge = room(ROWS * columns(a), a)
    for piece in work(shared(queue)):
        row = piece * CHUNK
        rows = min(CHUNK, m - row)
        multiply_rows(a, row * k, k, rows, k, packed, n, bias, c, row * n, n, edge,
                      soon(a, (row + CHUNK) * k, rows * k), soon(a, 0, 0))  # fmt: skip
        if scale.size or added.size:
            for at in range(row * n, (row + rows) * n, n):
                finish(c, at, n, 0, mean, scale, shift, added, least, c, at)


@kernel
def _matmul_few(
    queue, a, a_row, m, k, b, row, column, n, bias, c, mean, scale, shift, added, least
):
    """c = a b + bias, finished, of few rows. A piece is a panel of b, which is packed where it is
    needed: it is needed once. The same sums as in `multiply_rows`."""
    wide = columns(a)
    panel, own = room(k * wide, a), room(m * wide, a)
    for piece in work(shared(queue)):
        j = piece * wide
        pack_panel(b, row, column, j, n, 0, k, panel, 0)
        for k0 in range(0, k, DEPTH):
            deep = min(DEPTH, k - k0)
            for r in range(0, m, ROWS):
                at, to, left = r * a_row + k0, r * wide, m - r
                if k0 + deep == k:
                    ask_for_tile(c, r * n + j, n)
                if k0 == 0:
                    tile(ROWS, 2, deep, a, at, left, a_row, 1, panel, 0, wide,
                         bias, j, 0, own, to, wide)  # fmt: skip
                else:
                    tile_from_zero(ROWS, 2, deep, a, at, left, a_row, 1, panel, k0 * wide, wide,
                                   own, to, wide, own, to, wide)  # fmt: skip
        some = min(wide, n - j)
        for r in range(m):
            finish(own, r * wide, some, j, mean, scale, shift, added, least, c, r * n + j)


@helper
def copy_block(x, start, rows, c, block):
    """Rows of x (…, C) to where they do not clash, `padded` apart."""
    step = lanes(x)
    ahead = padded(c, x)
    for row in range(rows):
        for i in range(0, c, step):
            store(block, row * ahead + i, step, load(x, (start + row) * c + i, c - i))


@helper
def multiply_blocks(a, k, b, n, rows, c, ic, edge, later, also, a_row=0, b_row=0):
    """c[k, n] += aᵀ b over a block of rows, `padded` apart, or a_row in a and b_row in b.

    `later` and `also` are asked for meanwhile, as by `multiply_rows`.
    """
    part, parts = 0, -(-k // ROWS) * -(-n // columns(a))
    wide, half = columns(a), lanes(a)
    a_row, b_row = a_row or padded(k, a), b_row or padded(n, b)
    for j in range(0, n, wide):
        whole = n - j >= wide or n - j == half
        i = 0
        while i < k:
            left, to = k - i, ic + i * n + j
            ask_for(later, part, parts)
            ask_for(also, part, parts)
            part += 1
            out, o, o_row = (c, to, n) if whole else (edge, 0, wide)
            if whole:
                ask_for_tile(c, to, n)
            else:
                copy_tile(c, to, n, left, n - j, edge, o, o_row)
            i += add_fitting_tile(n - j, rows, a, i, left, 1, a_row, b, j, b_row, out, o, o_row)
            if not whole:
                copy_tile(edge, o, o_row, left, n - j, c, to, n)


@helper
def multiply_gathered(a, a_row, rows, k, b, from_b, bias, from_bias, n, c, c_row):
    """c = a b + bias for rows of a; b packed, from from_b on. Vectors are written whole."""
    wide = columns(a)
    for k0 in range(0, k, DEPTH):
        deep = min(DEPTH, k - k0)
        for j in range(0, n, wide):
            for r in range(0, rows, ROWS):
                at, to = r * a_row + k0, r * c_row + j
                start, i0, row0 = (bias, from_bias + j, 0) if k0 == 0 else (c, to, c_row)
                if n - j > lanes(a):
                    tile_from_zero(ROWS, 2, deep, a, at, rows - r, a_row, 1, b, from_b, wide,
                                   start, i0, row0, c, to, c_row)  # fmt: skip
                else:
                    tile_from_zero(ROWS, 1, deep, a, at, rows - r, a_row, 1, b, from_b, wide,
                                   start, i0, row0, c, to, c_row)  # fmt: skip
            from_b += deep * wide


@kernel
def _matmul_tn(queue, a, k, b, n, m, long, parts):
    """parts[s] = aᵀ b over the s-th `long` rows of a (m, k) and b (m, n)."""
    edge = room(ROWS * columns(a), a)
    a_block = room(CHUNK * padded(k, a), a)
    b_block = room(CHUNK * padded(n, b), a)
    for piece in work(shared(queue)):
        at = piece * k * n
        parts[at : at + k * n] = 0
        first, last = piece * long, min((piece + 1) * long, m)
        for start in range(first, last, CHUNK):
            rows = min(CHUNK, last - start)
            copy_block(a, start, rows, k, a_block)
            copy_block(b, start, rows, n, b_block)
            after = start + CHUNK
            multiply_blocks(a_block, k, b_block, n, rows, parts, at, edge,
                            soon(a, after * k, rows * k), soon(b, after * n, rows * n))  # fmt: skip


class Finish(NamedTuple):
    """What becomes of a result before it is written: max((y − mean) scale + shift + added, least).

    Arrays are flat, and empty where that is not done; `least` is only where the norm is.
    """

    mean: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    added: np.ndarray
    least: float


def as_it_is(dtype, added=None):
    """A result, and + added where there is something."""
    nothing = np.empty(0, dtype)
    return Finish(nothing, nothing, nothing, nothing if added is None else flat(added), -np.inf)


def packed(*matrices):
    """Matrices (k, n), or their transposes in memory, one after the other, as `multiply_rows` wants
    each."""
    k, n = matrices[0].shape
    wide = 2 * VECTOR_BYTES // matrices[0].itemsize
    every = empty((len(matrices), k * (-(-n // wide) * wide)), matrices[0].dtype)
    pieces = -(-(-(-k // DEPTH) * -(-n // wide)) // PANELS)
    for b, panels in zip(matrices, every, strict=True):
        if b.flags.f_contiguous and not b.flags.c_contiguous:
            run(_pack, pieces, flat(b.T), 1, k, k, n, panels)
        else:
            run(_pack, pieces, flat(b), n, 1, k, n, panels)
    return every.reshape(-1)


def few(m, k, n, itemsize):
    """Whether threads had better share the columns of a product (m, k) (k, n) than its rows."""
    return m <= FEW and k * n > SMALL and n * itemsize > 2 * VECTOR_BYTES


def rows_for_few(m, k, dtype):
    """Rows of k numbers for `multiply_few`, `padded` apart."""
    wide = VECTOR_BYTES // dtype.itemsize
    return empty((m, -(-k // wide) * wide + wide), dtype)


def spread(a):
    """Rows for `multiply_few`: a itself, or a copy where rows of a would clash (see `padded`)."""
    if a.flags.carray and a.strides[0] % PAGE:
        return a
    m, k = a.shape
    rows = rows_for_few(m, k, a.dtype)
    rows[:, :k] = a
    return rows


def multiply_few(a, k, b, bias, c, end):
    """Into c (m, n): a b + bias, finished as `end` says; a from `rows_for_few` or `spread`."""
    m, n = c.shape
    b, *steps = (flat(b.T), 1, k) if b.flags.f_contiguous else (flat(b), n, 1)
    panels = -(-n * c.itemsize // (2 * VECTOR_BYTES))
    how = b, *steps, n, widened(bias, n, c.dtype), c.reshape(-1), *end
    run(_matmul_few, panels, a.reshape(-1), a.shape[1], m, k, *how)
    return c


def widened(bias, n, dtype):
    """Biases (…, n), or None for zeros, each as long as `multiply_rows` wants it."""
    wide = 2 * VECTOR_BYTES // dtype.itemsize
    rows = np.zeros((*np.shape(bias)[:-1], -(-n // wide) * wide), dtype)
    if bias is not None:
        rows[..., :n] = bias
    return rows.reshape(-1)


def split(m):
    """How `_matmul_tn` divides m rows: (sums, rows in each). It depends on m alone."""
    long = -(-m // (CHUNK * SPLITS)) * CHUNK
    return -(-m // long), long


def matmul(a, b, bias=None):
    m, k = a.shape
    n = b.shape[1]
    if bias is None and a.flags.f_contiguous and not a.flags.c_contiguous and k >= m:
        sums, long = split(k)
        parts = empty((sums, m, n), a.dtype)
        run(_matmul_tn, sums, flat(a.T), m, flat(b), n, k, long, parts.reshape(-1))
        return add_up(parts)
    return multiply(a, b, bias, as_it_is(a.dtype))


def multiply(a, b, bias, end):
    """a b + bias, finished as `end` says."""
    (m, k), n = a.shape, b.shape[1]
    c = empty((m, n), a.dtype)
    if few(m, k, n, a.itemsize):
        return multiply_few(spread(a), k, b, bias, c, end)
    how = packed(b), n, widened(bias, n, a.dtype), c.reshape(-1)
    run(_matmul, chunks(m), flat(a), m, k, *how, *end)
    return c
