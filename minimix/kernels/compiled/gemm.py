"""Matrix products, tiled for registers and caches (Goto & van de Geijn 2008).

Why not BLAS: its threads spin against ours, its sums depend on how many threads it has, and
nothing can be done to a piece of the result while it is still in cache. Fused layers need that.

A tile of ROWS × COLUMNS results stays in registers while k runs: every step loads two vectors of b
and multiplies them with ROWS numbers of a. For that b is first packed into panels of COLUMNS
columns, which a step reads in order, from first-level cache; a is read as it is, a chunk of rows
at a time, from second-level cache.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from ..threads import run
from ._jit import helper, kernel
from .memory import empty
from .rows import CHUNK, chunks
from .simd import (
    I64,
    VECTOR_BYTES,
    Vector,
    call,
    constant,
    lanes,
    load,
    pointer,
    splat,
    store,
    take,
    vector_type,
)

# Two vectors wide, and as many rows as the registers hold: 32 with AVX-512 or on ARM, else 16.
if VECTOR_BYTES == 64:
    ROWS = 14
elif platform.machine() in ("arm64", "aarch64"):
    ROWS = 12
else:
    ROWS = 6

DEPTH = 256  # steps of k between loading and storing a tile: a panel of b fills half a usual L1
BLOCK = 192  # rows that `_matmul_tn` packs at a time
SPLITS = 16  # into how many sums it divides a long product, at most


@intrinsic
def tile(typingctx: Any, a: Any, ia: Any, rows: Any, a_row: Any, a_step: Any,
         b: Any, ib: Any, c: Any, ic: Any, c_row: Any, k: Any, onto: Any) -> Any:  # fmt: skip
    """c[r, :] = Σₖ a[r, k] b[k, :] for up to ROWS rows and COLUMNS columns; `onto`: added to c.

    a[r, k] is at ia + r a_row + k a_step, c[r, 0] at ic + r c_row, b[k, 0] at ib + k COLUMNS.
    Where fewer rows are there, the last one is computed again in place of each that is missing.
    """
    kind = Vector(a.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ia, rows, a_row, a_step = args[1:5]
        ib, ic, c_row, k, onto = args[6], args[8], args[9], args[10], args[11]
        vector, wide = vector_type(kind), kind.lanes
        size = kind.dtype.bitwidth // 8

        last = builder.sub(rows, I64(1))
        a_rows, c_rows = [], []
        for r in range(ROWS):
            there = builder.icmp_signed("<", I64(r), rows)
            row = builder.select(there, I64(r), last)
            at = builder.add(ia, builder.mul(row, a_row))
            a_rows.append(pointer(context, builder, a, args[0], at))
            at = builder.add(ic, builder.mul(row, c_row))
            start = pointer(context, builder, c, args[7], at)
            c_rows.append([builder.gep(start, [I64(v * wide)]) for v in range(2)])
        first_b = pointer(context, builder, b, args[5], ib)

        def vector_load(p: Any) -> Any:
            return builder.load(builder.bitcast(p, vector.as_pointer()), align=size)

        with builder.if_else(onto) as (then, otherwise):
            with then:
                before = [[vector_load(p) for p in row] for row in c_rows]
                then_block = builder.block
            with otherwise:
                otherwise_block = builder.block
        sums = []
        for row in before:
            for old in row:
                start = builder.phi(vector)
                start.add_incoming(old, then_block)
                start.add_incoming(constant(vector, 0.0), otherwise_block)
                sums.append(start)

        entry = builder.block
        loop, after = builder.append_basic_block("step"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step, offset = builder.phi(I64), builder.phi(I64)
        now_b = builder.phi(first_b.type)
        running = [builder.phi(vector) for _ in sums]
        b_vectors = [vector_load(builder.gep(now_b, [I64(v * wide)])) for v in range(2)]
        results = []
        for r in range(ROWS):
            one = splat(builder, builder.load(builder.gep(a_rows[r], [offset])), wide)
            for v in range(2):
                results.append(call(builder, "fmuladd", one, b_vectors[v], running[2 * r + v]))
        ahead = builder.add(step, I64(1))
        for phi, start, again in (
            (step, I64(0), ahead),
            (offset, I64(0), builder.add(offset, a_step)),
            (now_b, first_b, builder.gep(now_b, [I64(2 * wide)])),
            *zip(running, sums, results, strict=True),
        ):
            phi.add_incoming(start, entry)
            phi.add_incoming(again, loop)
        builder.cbranch(builder.icmp_signed("<", ahead, k), loop, after)

        builder.position_at_end(after)
        for r in range(ROWS):
            for v in range(2):
                p = builder.bitcast(c_rows[r][v], vector.as_pointer())
                builder.store(results[2 * r + v], p, align=size)
        return context.get_dummy_value()

    i = types.int64
    return types.void(a, i, i, i, i, b, i, c, i, i, i, types.boolean), codegen


@helper
def columns(x):
    """COLUMNS: how wide a tile is."""
    return 2 * lanes(x)


@kernel
def _pack(b, row, column, k, n, packed):
    """b[k, n], element (i, j) at i row + j column, into panels: of DEPTH rows, COLUMNS wide.

    Missing columns are zero.
    """
    wide = columns(b)
    half = lanes(b)
    to = 0
    for k0 in range(0, k, DEPTH):
        k1 = min(k0 + DEPTH, k)
        for j in range(0, n, wide):
            if column == 1:
                for i in range(k0, k1):
                    store(packed, to, half, load(b, i * row + j, n - j))
                    store(packed, to + half, half, load(b, i * row + j + half, n - j - half))
                    to += wide
            else:
                for jj in range(wide):
                    if j + jj < n:
                        for i in range(k0, k1):
                            packed[to + (i - k0) * wide + jj] = b[i * row + (j + jj) * column]
                    else:
                        for i in range(k0, k1):
                            packed[to + (i - k0) * wide + jj] = 0
                to += (k1 - k0) * wide


@helper
def multiply_rows(a, ia, rows, k, packed, n, c, ic, edge):
    """c[rows, n] = a[rows, k] b, b packed; rows contiguous, from ia and ic. `edge`: one tile."""
    wide = columns(a)
    panel = 0
    for k0 in range(0, k, DEPTH):
        deep = min(DEPTH, k - k0)
        for j in range(0, n, wide):
            for r in range(0, rows, ROWS):
                at = ia + r * k + k0
                if n - j >= wide:
                    to = ic + r * n + j
                    tile(a, at, rows - r, k, 1, packed, panel, c, to, n, deep, k0 > 0)
                else:
                    tile(a, at, rows - r, k, 1, packed, panel, edge, 0, wide, deep, False)
                    for rr in range(min(ROWS, rows - r)):
                        for jj in range(n - j):
                            to = ic + (r + rr) * n + j + jj
                            if k0 > 0:
                                c[to] += edge[rr * wide + jj]
                            else:
                                c[to] = edge[rr * wide + jj]
            panel += deep * wide


@kernel
def _matmul(queue, a, m, k, packed, n, c):
    edge = np.empty(ROWS * columns(a), a.dtype)
    while True:
        piece = take(queue)
        if piece < 0:
            break
        row = piece * CHUNK
        multiply_rows(a, row * k, min(CHUNK, m - row), k, packed, n, c, row * n, edge)


@helper
def pack_block(x, start, rows, c, wide, packed):
    """Rows of x (…, C) into panels `wide` columns wide. Missing columns are zero."""
    step = lanes(x)
    to = 0
    for j in range(0, c, wide):
        # Vectors overlap when `wide` is no multiple of them: each overwrites what the one before
        # wrote too far, and the last panel is followed by room for a vector.
        for row in range(start, start + rows):
            for jj in range(0, wide, step):
                store(packed, to + jj, step, load(x, row * c + j + jj, c - j - jj))
            to += wide


@helper
def multiply_block(a_packed, k, b_packed, n, rows, c, ic, edge, onto):
    """c[k, n] = aᵀ b over one block of rows of both, packed; `onto`: added to c."""
    wide = columns(b_packed)
    for jp in range(0, n, wide):
        for ip in range(0, k, ROWS):
            a_at, b_at = ip * rows, jp * rows
            if n - jp >= wide:
                to = ic + ip * n + jp
                tile(a_packed, a_at, k - ip, 1, ROWS, b_packed, b_at, c, to, n, rows, onto)
            else:
                tile(a_packed, a_at, k - ip, 1, ROWS, b_packed, b_at, edge, 0, wide, rows, False)
                for i in range(min(ROWS, k - ip)):
                    for j in range(n - jp):
                        to = ic + (ip + i) * n + jp + j
                        if onto:
                            c[to] += edge[i * wide + j]
                        else:
                            c[to] = edge[i * wide + j]


@helper
def room(c, wide):
    """Numbers in BLOCK packed rows of c columns, and a vector to spare."""
    return BLOCK * (-(-c // wide) * wide) + 64


@kernel
def _matmul_tn(queue, a, k, b, n, m, long, parts):
    """parts[s] = aᵀ b over the s-th `long` rows of a (m, k) and b (m, n)."""
    wide = columns(a)
    edge = np.empty(ROWS * wide, a.dtype)
    a_packed = np.empty(room(k, ROWS), a.dtype)
    b_packed = np.empty(room(n, wide), a.dtype)
    while True:
        piece = take(queue)
        if piece < 0:
            break
        first = piece * long
        for start in range(first, min(first + long, m), BLOCK):
            rows = min(BLOCK, min(first + long, m) - start)
            pack_block(a, start, rows, k, ROWS, a_packed)
            pack_block(b, start, rows, n, wide, b_packed)
            multiply_block(
                a_packed, k, b_packed, n, rows, parts, piece * k * n, edge, start > first
            )


def packed(b):
    """b (k, n), or its transpose in memory, as `multiply_rows` wants it."""
    k, n = b.shape
    wide = 2 * VECTOR_BYTES // b.itemsize
    panels = empty((k * (-(-n // wide) * wide),), b.dtype)
    if b.flags.f_contiguous and not b.flags.c_contiguous:
        _pack(b.T.reshape(-1), 1, k, k, n, panels)
    else:
        _pack(np.ascontiguousarray(b).reshape(-1), n, 1, k, n, panels)
    return panels


def split(m):
    """How `_matmul_tn` divides m rows: (sums, rows in each). It depends on m alone."""
    long = -(-m // (BLOCK * SPLITS)) * BLOCK
    return -(-m // long), long


def matmul(a, b):
    m, k = a.shape
    n = b.shape[1]
    if 0 in (m, n, k):
        return np.zeros((m, n), a.dtype)
    if a.flags.f_contiguous and not a.flags.c_contiguous and k >= m:
        sums, long = split(k)
        parts = empty((sums, m, n), a.dtype)
        b = np.ascontiguousarray(b)
        run(_matmul_tn, sums, a.T.reshape(-1), m, b.reshape(-1), n, k, long, parts.reshape(-1))
        return parts[0] if sums == 1 else parts.sum(axis=0)
    c = empty((m, n), a.dtype)
    a = np.ascontiguousarray(a).reshape(-1)
    run(_matmul, chunks(m), a, m, k, packed(b), n, c.reshape(-1))
    return c
