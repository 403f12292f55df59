"""Images cut into patches, and put together again: runs of numbers that change places."""

from __future__ import annotations

from ..simd.jit import kernel
from ..simd.memory import empty
from ..simd.rows import flat, run_long
from ..simd.vectors import lanes, load, store
from ..simd.work import shared, work


@kernel
def _swap(queue, band, lines, x, a, b, length, y):
    """y[line, j, i] = x[line, i, j], a run of `length` numbers, for i < a and j < b.

    A piece is `band` lines.
    """
    step = lanes(x)
    for piece in work(shared(queue)):
        for line in range(piece * band, min((piece + 1) * band, lines)):
            to = line * a * b * length
            for j in range(b):
                for i in range(a):
                    start = ((line * a + i) * b + j) * length
                    for k in range(0, length, step):
                        store(y, to + k, length - k, load(x, start + k, length - k))
                    to += length


def _swapped(x, shape):
    """x (lines, a, b, length) with its middle axes swapped, as an array of this shape."""
    lines, *runs = x.shape
    y = empty(shape, x.dtype)
    run_long(_swap, lines, flat(x), *runs, y.reshape(-1))
    return y


def cut_patches(x, p):
    n, height, width, c = x.shape
    rows, columns = height // p, width // p
    return _swapped(x.reshape(n * rows, p, columns, p * c), (n, rows, columns, p * p * c))


def join_patches(patches, p):
    n, rows, columns, d = patches.shape
    c = d // (p * p)
    return _swapped(patches.reshape(n * rows, columns, p, p * c), (n, rows * p, columns * p, c))
