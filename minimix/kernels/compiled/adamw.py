"""One pass over parameter, gradient and both moments, in place.

A network has many parameters, most of them small. Handing their arrays to compiled code one by one
takes as long as moving them; so it gets their addresses, all at once. An address says nothing about
what lies there: whatever is not four arrays of one dtype and shape, each in one piece that may be
written to, is left to the reference.
"""

from __future__ import annotations

from ctypes import addressof, c_char
from operator import attrgetter

import numba
import numpy as np

from ..dispatch import FLOATS
from ..reference import adamw as reference
from ..simd.jit import kernel
from ..simd.rows import PIECE, pieces
from ..simd.team import run
from ..simd.vectors import lanes, load, pointer_to, sqrt, squarable, store
from ..simd.work import shared, work

dtype_of, shape_of, size_of = map(attrgetter, ("dtype", "shape", "size"))


@kernel
def _adamw(queue, like, table, places, rates, decay, beta1, beta2, eps):
    """A piece is a row of `places`: where it begins, and in which row of `table` and `rates`."""
    for piece in work(shared(queue)):
        start, row = places[piece, 0], places[piece, 1]
        size, rate, root_unbias2 = min(table[row, 4] - start, PIECE), rates[row, 0], rates[row, 1]
        p = numba.carray(pointer_to(like, table[row, 0]), start + size)
        g = numba.carray(pointer_to(like, table[row, 1]), start + size)
        m = numba.carray(pointer_to(like, table[row, 2]), start + size)
        v = numba.carray(pointer_to(like, table[row, 3]), start + size)
        for i in range(start, start + size, lanes(like)):
            n = start + size - i
            gradient = squarable(load(g, i, n))
            first, second = load(m, i, n), load(v, i, n)
            first = first + (gradient - first) * (1.0 - beta1)
            second = second + (gradient * gradient - second) * (1.0 - beta2)
            store(m, i, n, first)
            store(v, i, n, second)
            change = first / (sqrt(second) * root_unbias2 + eps) * rate
            store(p, i, n, load(p, i, n) * decay - change)


@kernel
def _cut(table, places):
    """Cut the numbers of each row of `table` into pieces."""
    piece = 0
    for row in range(len(table)):
        for start in range(0, table[row, 4], PIECE):
            places[piece, 0], places[piece, 1] = start, row
            piece += 1


def adamw_update(moved, lr, beta1, beta2, eps, weight_decay):
    groups: dict[np.dtype, list[tuple]] = {}
    for each in moved:
        groups.setdefault(each[0].dtype, []).append(each)
    for dtype, group in groups.items():
        fit, others = group, []
        table = _table(fit, dtype)
        if table is None:
            fit, others = _sorted_out(group, dtype)
            table = _table(fit, dtype)
        if table is None:  # they overlap: one after the other, then
            others = group
        else:
            _move(table, dtype, lr, beta1, beta2, eps, weight_decay)
        reference.adamw_update.reference(others, lr, beta1, beta2, eps, weight_decay)


def _move(table, dtype, lr, beta1, beta2, eps, weight_decay):
    t = table[:, 5]
    rates = np.stack([lr / (1.0 - beta1**t), (1.0 - beta2**t) ** -0.5], axis=1)
    places = np.empty((pieces(table[:, 4]).sum(), 2), np.int64)
    _cut(table, places)
    factors = 1.0 - lr * weight_decay, float(beta1), float(beta2), float(eps)
    run(_adamw, len(places), np.empty(0, dtype), table, places, rates, *factors)


def _table(group, dtype):
    """A row for each (p, g, m, v, t): where the arrays lie, their size, t. None if one is unfit."""
    p, g, m, v, t = zip(*group, strict=True) if group else [()] * 5
    arrays = p + g + m + v
    try:
        if dtype not in FLOATS or set(map(dtype_of, arrays)) - {dtype}:
            return None
        shapes = list(map(shape_of, arrays))
        if shapes != shapes[: len(p)] * 4:
            return None
        # Five times as fast as asking NumPy. It raises for an array that is empty, not in one
        # piece, or not to be written to.
        addresses = map(addressof, map(c_char.from_buffer, arrays))
        table = np.array([*addresses, *map(size_of, p), *t], np.int64).reshape(6, -1).T
    except (AttributeError, TypeError, ValueError):
        return None
    return table if _apart(table, dtype.itemsize) else None


def _apart(table, itemsize):
    """Whether all are aligned, and nothing that is written to overlaps anything else."""
    start = table[:, :4]
    end = start + itemsize * table[:, 4:5]
    if (start & (itemsize - 1)).any():
        return False
    if _disjoint(start, end):
        return True
    # Gradients may overlap each other. One overlaps as many of those that are written to as begin
    # before its end but do not end before its start.
    written = (0, 2, 3)  # p, m, v
    first, last = np.sort(start[:, written], axis=None), np.sort(end[:, written], axis=None)
    begun = np.searchsorted(first, end[:, 1], "left")
    over = np.searchsorted(last, start[:, 1], "right")
    return _disjoint(first, last) and (begun == over).all()


def _disjoint(start, end):
    """Whether no two of these stretches of memory overlap."""
    return (np.sort(start, axis=None)[1:] >= np.sort(end, axis=None)[:-1]).all()


def _sorted_out(group, dtype):
    """Those that are fit for a table, some after a copy of the gradient, and those that are not."""
    fit, unfit = [], []
    for each in group:
        p, g, m, v, t = each
        arrays = (p, m, v)
        alike = all(
            isinstance(a, np.ndarray) and a.dtype == dtype and a.shape == p.shape
            for a in (p, g, m, v)
        )
        if alike and dtype in FLOATS and p.size and all(a.flags.carray for a in arrays):
            fit.append((p, g if g.flags.carray else g.copy(order="C"), m, v, t))
        else:
            unfit.append(each)
    return fit, unfit
