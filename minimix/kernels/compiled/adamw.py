"""One pass over parameter, gradient and both moments, in place."""

from __future__ import annotations

from ..threads import run
from ._jit import kernel
from .rows import PIECE, flat
from .simd import lanes, load, sqrt, store


@kernel
def _adamw(p, g, m, v, decay, beta1, beta2, rate, root_unbias2, eps):
    for i in range(0, p.size, lanes(p)):
        n = p.size - i
        gradient = load(g, i, n)
        first, second = load(m, i, n), load(v, i, n)
        first = first + (gradient - first) * (1.0 - beta1)
        second = second + (gradient * gradient - second) * (1.0 - beta2)
        store(m, i, n, first)
        store(v, i, n, second)
        change = first / (sqrt(second) * root_unbias2 + eps) * rate
        store(p, i, n, load(p, i, n) * decay - change)


def adamw_update(moved, lr, beta1, beta2, eps, weight_decay):
    # A network has many parameters, most of them small: a thread takes one of them, or a piece of
    # a large one, at a time. What is left to the interpreter lock is handing them out.
    work, copied = [], []
    for p, g, m, v, t in moved:
        rows = flat(p), flat(g), flat(m), flat(v)
        settings = (
            1.0 - lr * weight_decay, float(beta1), float(beta2),
            lr / (1.0 - beta1**t), (1.0 - beta2**t) ** -0.5, float(eps),
        )  # fmt: skip
        for start in range(0, p.size, PIECE):
            piece = rows if p.size <= PIECE else [row[start : start + PIECE] for row in rows]
            work.append((*piece, *settings))
        copied += [
            (a, row)
            for a, row in zip((p, m, v), (rows[0], *rows[2:]), strict=True)
            if not a.flags.carray  # then the row is a copy
        ]

    def share(_queue):
        while True:
            try:
                piece = work.pop()
            except IndexError:  # nothing is left
                return
            _adamw(*piece)

    run(share, len(work))
    for a, row in copied:
        a[...] = row.reshape(a.shape)
