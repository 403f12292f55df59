"""AdamW: Adam with its weight decay decoupled from the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..autograd import Tensor
from ..errors import expect
from .optimizer import Moved, Optimizer, Parameters, State


class AdamW(Optimizer):
    """AdamW.

        θ ← (1 − η λ) θ                               weight decay, apart from the gradient
        m ← β₁ m + (1 − β₁) g                         first moment: the direction
        v ← β₂ v + (1 − β₂) g²                        second moment: the scale
        θ ← θ − η m̂ / (√v̂ + ε)                        m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)

    m and v begin at 0 and so are too small at first; m̂ and v̂ correct that bias. Each parameter
    has its own count of steps, t, so that the correction is right for one that joins later. A
    finite gradient whose square overflows (above 1.8e19 in float32) counts as the largest whose
    square does not.

    lr η, betas (β₁, β₂), eps ε, weight_decay λ; each may differ by group.
    Errors: ValueError if a setting is out of range.
    Loshchilov & Hutter 2019, arXiv:1711.05101; Kingma & Ba 2015, arXiv:1412.6980.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        betas = group["betas"]
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ValueError(f"{self._kind}: betas are {betas!r}; expected two numbers")
        expect(f"{self._kind}: betas are {betas}", "0 ≤ x < 1", **{"β₁": betas[0], "β₂": betas[1]})

    def _fresh(self, p: Tensor, group: Mapping[str, Any]) -> State:
        return {"m": np.zeros_like(p.array), "v": np.zeros_like(p.array), "t": 0}

    def _update(self, moved: Sequence[Moved], group: dict[str, Any]) -> None:
        for _, _, state in moved:
            state["t"] += 1
        work = [(p, g, state["m"], state["v"], state["t"]) for p, g, state in moved]
        (beta1, beta2), eps = group["betas"], group["eps"]
        kernels.adamw_update(work, group["lr"], beta1, beta2, eps, group["weight_decay"])
