"""Einstein's summation: products of arrays whose axes are named by letters."""

from __future__ import annotations

import numpy as np

from ..autograd import Array, Tensor, op, unbroadcast


def einsum(subscripts: str, *xs: Tensor) -> Tensor:
    """Sum of products.   einsum("nhtd,nhsd->nhts", q, k): q kᵀ for each n and h

    A group of letters for each array, a letter for each axis; equal letters are the same axis.
    Letters that do not stand after "->" are summed over; without "->" those are kept that stand
    only once, in alphabetical order. "..." is any axes, which broadcast.

    The gradient of x is a sum of products too, in which g takes the place of x. An axis that only x
    had was summed: g is copied along it. Of a letter that stands twice, only the diagonal was read.

    Errors: ValueError where letters and axes do not fit.
    """
    return _einsum(*xs, subscripts=subscripts)


@op
def _einsum(*xs, subscripts: str):
    inputs, output = explicit(subscripts)
    y = np.einsum(f"{','.join(inputs)}->{output}", *xs, optimize=True)

    def dx(g: Array, i: int) -> Array:
        groups = [output, *inputs[:i], *inputs[i + 1 :]]
        dots = "..." * inputs[i].count("...")
        letters = dict.fromkeys(inputs[i].replace("...", ""))  # each once
        shared = "".join(c for c in letters if any(c in group for group in groups))
        alone = "".join(c for c in letters if c not in shared)
        arrays = (g, *xs[:i], *xs[i + 1 :])
        part = np.einsum(f"{','.join(groups)}->{dots}{shared}", *arrays, optimize=True)
        dx = np.zeros_like(xs[i])
        # A view of what was read (of a single number NumPy would make a copy).
        read = np.einsum(f"{inputs[i]}->{dots}{shared}{alone}", dx) if dx.ndim else dx
        read[...] = unbroadcast(part[(..., *(None for _ in alone))], read.shape)
        return dx

    return y, lambda g: tuple(lambda i=i: dx(g, i) for i in range(len(xs)))


def explicit(subscripts: str) -> tuple[list[str], str]:
    """The letters of each array, and those of the result, which may have been left out."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    if not arrow:
        once = sorted(c for c in set(inputs) - set(",.") if inputs.count(c) == 1)
        output = "..." * ("..." in inputs) + "".join(once)
    return inputs.split(","), output
