"""Clipping gradients by their global norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..autograd import Tensor


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their common Euclidean norm is at most max_norm.

        g ← g min(1, max_norm / (‖g‖ + 10⁻⁶))        ‖g‖: over every number of every gradient

    Returns the norm before clipping; NaN where it is not finite, and gradients are left alone.
    Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm is {max_norm}; expected more than 0")
    parameters = list(parameters)
    squares = [float(np.vdot(p.grad, p.grad)) for p in parameters if p.grad is not None]
    norm = math.sqrt(math.fsum(squares)) if all(map(math.isfinite, squares)) else math.nan
    if norm > max_norm:
        scale = max_norm / (norm + 1e-6)
        for p in parameters:
            if p.grad is not None:
                p.grad = p.grad * p.dtype.type(scale)
    return norm
