"""Clipping gradients by their global norm."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..autograd import Tensor


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their common Euclidean norm is at most max_norm.

        g ← g min(1, max_norm / (‖g‖ + 10⁻⁶))        ‖g‖: over every number of every gradient

    Returns the norm before clipping; where it is not finite, gradients are left as they are.
    Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm is {max_norm}; expected more than 0")
    with_grad = [p for p in parameters if p.grad is not None]
    norm = float(np.sqrt(sum(float(np.vdot(p.grad, p.grad)) for p in with_grad)))
    if np.isfinite(norm) and norm > max_norm:
        for p in with_grad:
            p.grad = p.grad * p.dtype.type(max_norm / (norm + 1e-6))
    return norm
