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
A, B, C = 3.4445, -4.7750, 2.0315


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
        by_shape: dict[tuple[int, ...], list[tuple[Array, Array]]] = {}
        for p, g, state in moved:
            m = state["m"]
            m += (1 - momentum) * (g - m)
            by_shape.setdefault(p.shape, []).append((p, (1 - momentum) * g + momentum * m))
        for same in by_shape.values():  # as one stack: each alone is too little work for threads
            for (p, _), u in zip(same, orthogonal(np.stack([g for _, g in same])), strict=True):
                p *= 1 - lr * group["weight_decay"]
                p -= 0.2 * max(p.shape) ** 0.5 * lr * u


def orthogonal(matrices: Array) -> Array:
    """Approximately U Vᵀ of U diag(σ) Vᵀ: the same directions, all about equally long.   (…, M, N)

        X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X        five times, starting from matrix / ‖matrix‖

    This changes nothing but the singular values, from σ to a σ + b σ³ + c σ⁵ each time; those above
    ‖matrix‖ / 50 end between 0.68 and 1.21. It is a Newton–Schulz iteration: products only, no
    decomposition.
    """
    *_, rows, columns = matrices.shape
    x = matrices.swapaxes(-1, -2) if rows > columns else matrices
    lengths = [norm([matrices[i]]) + 1e-7 for i in np.ndindex(matrices.shape[:-2])]
    x = (x / np.reshape(lengths, (*x.shape[:-2], 1, 1))).astype(x.dtype)
    for _ in range(5):
        square = kernels.matmul_stack(x, x.swapaxes(-1, -2))
        x = A * x + kernels.matmul_stack(B * square + C * kernels.matmul_stack(square, square), x)
    return x.swapaxes(-1, -2) if rows > columns else x
