"""Muon: orthogonalized momentum for the matrices inside a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..autograd import Array, Tensor
from .adamw import AdamW
from .clip import norm
from .optimizer import Moved, Optimizer, Parameters, State

# A quintic that lifts small singular values fast and lets none grow far beyond 1 (Jordan 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(AdamW):
    """Muon, for the matrices inside a network; AdamW for everything else.

        m ← μ m + (1 − μ) g                           momentum
        u = orthogonal((1 − μ) g + μ m)               Nesterov's look ahead, see `orthogonal`
        θ ← (1 − η λ) θ − 0.2 √max(rows, columns) η u

    The gradient of a matrix is often nearly of low rank: a few directions are large and drown out
    the others. Orthogonalized, all directions get steps of the same size. The factor makes the
    entries of a step about as large as AdamW's, so that one learning rate η suits both.

        Muon([{"params": matrices, "orthogonal": True}, {"params": the_rest}], lr=0.01)

    orthogonal  whether a group's parameters, which must be matrices, are updated this way. First
                and last layers, biases and norms are better left to AdamW
    momentum μ, lr η, weight_decay λ; betas and eps are AdamW's; each may differ by group.
    Errors: ValueError if a setting is out of range or an orthogonal parameter is not a matrix.
    Jordan 2024, "Muon: an optimizer for hidden layers in neural networks"; the factor: Liu et al.
    2025, arXiv:2502.16982.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        orthogonal: bool = False,
    ) -> None:
        Optimizer.__init__(
            self, parameters, lr=lr, momentum=momentum, betas=betas, eps=eps,
            weight_decay=weight_decay, orthogonal=orthogonal,
        )  # fmt: skip

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        for p in group["params"] if group["orthogonal"] else ():
            if p.ndim != 2:
                raise ValueError(f"Muon: orthogonal is for matrices, not for the shape {p.shape}")

    def _fresh(self, p: Tensor, group: Mapping[str, Any]) -> State:
        return {"m": np.zeros_like(p.array)} if group["orthogonal"] else super()._fresh(p, group)

    def _update(self, moved: Sequence[Moved], group: dict[str, Any]) -> None:
        if not group["orthogonal"]:
            super()._update(moved, group)
            return
        lr, momentum = group["lr"], group["momentum"]
        for p, g, state in moved:
            m = state["m"]
            m += (1 - momentum) * (g - m)
            u = orthogonal((1 - momentum) * g + momentum * m)
            p *= 1 - lr * group["weight_decay"]
            p -= 0.2 * max(p.shape) ** 0.5 * lr * u


def orthogonal(matrix: Array) -> Array:
    """Approximately U Vᵀ, where matrix = U diag(σ) Vᵀ: the same directions, all about equally long.

        X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X        five times, starting from matrix / ‖matrix‖

    This changes nothing but the singular values, from σ to a σ + b σ³ + c σ⁵ each time; those above
    ‖matrix‖ / 50 end between 0.68 and 1.21. It is a Newton–Schulz iteration: products only, no
    decomposition.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / np.float64(norm([x]) + 1e-7)).astype(x.dtype)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = kernels.matmul(x, x.T)
        x = a * x + kernels.matmul(b * square + c * kernels.matmul(square, square), x)
    return x.T if tall else x
