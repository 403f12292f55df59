"""Norms of gradients, and clipping them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..autograd import Array, Tensor


def norm(arrays: Iterable[Array]) -> float:
    """The Euclidean norm of all numbers of all arrays together, √Σx².

    Squares are summed in float64 by NumPy itself: a float32 number's square always fits, and the
    bits do not depend on how many threads BLAS has. Squares of float64 numbers that do not fit are
    taken of shares of the largest. An infinite number makes the norm infinite, NaN makes it NaN.
    """
    arrays = list(arrays)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        total = _sum_of_squares(arrays)
        if 1e-280 < total < math.inf or math.isnan(total):
            return math.sqrt(total)
        largest = max((float(np.abs(a).max(initial=0)) for a in arrays), default=0.0)
        if largest in (0.0, math.inf):
            return largest
        return largest * math.sqrt(_sum_of_squares([a / np.float64(largest) for a in arrays]))


def _sum_of_squares(arrays: list[Array]) -> float:
    return math.fsum(float(np.square(a, dtype=np.float64).sum()) for a in arrays)


def clip_grad_norm(parameters: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their common Euclidean norm is at most max_norm.

        g ← g min(1, max_norm / (‖g‖ + 10⁻⁶))        ‖g‖: over every number of every gradient

    Returns the norm before clipping. If that is infinite or NaN, gradients are left as they are,
    since no scale would make them useful.
    Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm is {max_norm}; expected more than 0")
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    given = [(p, p.grad) for p in parameters if p.grad is not None]
    length = norm(g for _, g in given)
    if max_norm < length < math.inf:
        scale = max_norm / (length + 1e-6)
        for p, g in given:  # in float64 where g's own dtype has too few digits for so small a scale
            wide = np.float64 if scale < np.finfo(g.dtype).tiny else g.dtype.type
            p.grad = (g * wide(scale)).astype(g.dtype, copy=False)
    return length
