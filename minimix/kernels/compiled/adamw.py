"""One pass over parameter, gradient and both moments, in place."""

from __future__ import annotations

from ctypes import addressof, c_char

import numba
import numpy as np

from ..threads import run
from ._jit import kernel
from .rows import PIECE
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
    kept = []  # an address keeps nothing alive
    work: dict[np.dtype, tuple[list, list]] = {}  # by dtype: places, rates
    moved = [each for each in moved if each[0].size]
    for p, g, m, v, t in moved:
        if g.dtype != p.dtype or g.shape != p.shape:  # one set by hand; an address knows neither
            g = np.array(np.broadcast_to(g, p.shape), p.dtype)
        rows = [a if a.flags.carray else a.copy(order="C") for a in (p, g, m, v)]
        kept.append(rows)
        places, rates = work.setdefault(p.dtype, ([], []))
        at = [addressof(from_buffer(row)) for row in rows]  # five times faster than asking NumPy
        for start in range(0, p.size, PIECE):
            shift = start * p.itemsize
            places.append([a + shift for a in at] + [min(PIECE, p.size - start)])
            rates.append((lr / (1.0 - beta1**t), (1.0 - beta2**t) ** -0.5))
    for dtype, (places, rates) in work.items():
        run(
            _adamw, len(places), np.empty(0, dtype), np.array(places), np.array(rates),
            1.0 - lr * weight_decay, float(beta1), float(beta2), float(eps),
        )  # fmt: skip
    for (p, _, m, v, _), (p_row, _, m_row, v_row) in zip(moved, kept, strict=True):
        for a, row in ((p, p_row), (m, m_row), (v, v_row)):
            if row is not a:
                a[...] = row
