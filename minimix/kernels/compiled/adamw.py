"""One pass over parameter, gradient and both moments, in place."""

from __future__ import annotations

from ..threads import run
from ._jit import kernel
from .rows import PIECE, flat, pieces
from .simd import lanes, load, sqrt, store, take


@kernel
def _adamw(queue, p, g, m, v, decay, beta1, beta2, rate, root_unbias2, eps):
    step = lanes(p)
    while True:
        piece = take(queue)
        if piece < 0:
            break
        stop = min((piece + 1) * PIECE, p.size)
        for i in range(piece * PIECE, stop, step):
            n = stop - i
            gradient = load(g, i, n)
            first, second = load(m, i, n), load(v, i, n)
            first = first + (gradient - first) * (1.0 - beta1)
            second = second + (gradient * gradient - second) * (1.0 - beta2)
            store(m, i, n, first)
            store(v, i, n, second)
            change = first / (sqrt(second) * root_unbias2 + eps) * rate
            store(p, i, n, load(p, i, n) * decay - change)


def adamw_update(p, g, m, v, lr, beta1, beta2, eps, weight_decay, step):
    changed = (p, m, v)
    rows = [flat(a) for a in changed]
    run(
        _adamw, pieces(p.size), rows[0], flat(g), rows[1], rows[2],
        1.0 - lr * weight_decay, float(beta1), float(beta2),
        lr / (1.0 - beta1**step), (1.0 - beta2**step) ** -0.5, float(eps),
    )  # fmt: skip
    for original, row in zip(changed, rows, strict=True):
        if not original.flags.carray:  # then the row was a copy
            original[...] = row.reshape(original.shape)
