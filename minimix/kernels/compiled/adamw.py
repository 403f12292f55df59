"""One pass over parameter, gradient and both moments, in place."""

from __future__ import annotations

from ctypes import addressof, c_char

import numba
import numpy as np

from ..threads import run
from ._jit import kernel
from .rows import PIECE, pieces
from .simd import lanes, load, pointer_to, sqrt, store, take

from_buffer = c_char.from_buffer


@kernel
def _adamw(queue, like, places, rates, decay, beta1, beta2, eps):
    """A piece is a row of `places` (where p, g, m and v lie, how many numbers) and of `rates`."""
    while True:
        piece = take(queue)
        if piece < 0:
            break
        size, rate, root_unbias2 = places[piece, 4], rates[piece, 0], rates[piece, 1]
        p = numba.carray(pointer_to(like, places[piece, 0]), size)
        g = numba.carray(pointer_to(like, places[piece, 1]), size)
        m = numba.carray(pointer_to(like, places[piece, 2]), size)
        v = numba.carray(pointer_to(like, places[piece, 3]), size)
        for i in range(0, size, lanes(like)):
            n = size - i
            gradient = load(g, i, n)
            first, second = load(m, i, n), load(v, i, n)
            first = first + (gradient - first) * (1.0 - beta1)
            second = second + (gradient * gradient - second) * (1.0 - beta2)
            store(m, i, n, first)
            store(v, i, n, second)
            change = first / (sqrt(second) * root_unbias2 + eps) * rate
            store(p, i, n, load(p, i, n) * decay - change)


def adamw_update(moved, lr, beta1, beta2, eps, weight_decay):
    # A network has many parameters, most of them small. Handing their arrays to compiled code one
    # by one takes as long as moving them; so it gets their addresses, all at once.
    tables: dict[np.dtype, list[tuple[int, ...]]] = {}  # by dtype, a row for each parameter
    kept: list[np.ndarray] = []  # an address keeps nothing alive
    copied: list[tuple[np.ndarray, np.ndarray]] = []
    for p, g, m, v, t in moved:
        dtype = p.dtype
        if g.dtype != dtype or g.shape != p.shape:  # one set by hand; an address knows neither
            g = np.array(np.broadcast_to(g, p.shape), dtype)
            kept.append(g)
        try:
            row = _addresses(p, g, m, v)
        except (TypeError, ValueError):  # empty, or not in one piece that may be written to
            flat = [np.array(a, order="C") for a in (p, g, m, v)]
            copied += [(p, flat[0]), (m, flat[2]), (v, flat[3])]
            kept += flat
            if not p.size:
                continue
            row = _addresses(*flat)
        tables.setdefault(dtype, []).append((*row, p.size, t))
    for dtype, rows in tables.items():
        places, rates = _pieces(np.array(rows), dtype.itemsize, lr, beta1, beta2)
        run(
            _adamw, len(places), np.empty(0, dtype), places, rates,
            1.0 - lr * weight_decay, float(beta1), float(beta2), float(eps),
        )  # fmt: skip
    for a, copy in copied:
        a[...] = copy


def _addresses(p, g, m, v):
    # Five times as fast as asking NumPy; for the same reason in no loop.
    return (
        addressof(from_buffer(p)), addressof(from_buffer(g)),
        addressof(from_buffer(m)), addressof(from_buffer(v)),
    )  # fmt: skip


def _pieces(rows, itemsize, lr, beta1, beta2):
    """From rows of four addresses, size and t: `places` and `rates`, in pieces."""
    size, t = rows[:, 4], rows[:, 5]
    count = pieces(size)
    of = np.repeat(np.arange(len(rows)), count)
    start = (np.arange(len(of)) - (np.cumsum(count) - count)[of]) * PIECE
    places = rows[of, :5]
    places[:, :4] += start[:, None] * itemsize
    places[:, 4] = np.minimum(size[of] - start, PIECE)
    rates = np.stack([lr / (1.0 - beta1**t), (1.0 - beta2**t) ** -0.5], axis=1)
    return places, rates[of]
