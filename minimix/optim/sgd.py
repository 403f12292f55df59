"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from .optimizer import Moved, Optimizer, Parameters, State


class SGD(Optimizer):
    """Stochastic gradient descent.

        h ← g + λ θ                                   decay as part of the gradient
        u ← μ u + h                                   momentum
        θ ← θ − η u            or, with Nesterov's look ahead,  θ ← θ − η (h + μ u)

    lr η, momentum μ, weight_decay λ; each may differ by group.
    Errors: ValueError if a setting is out of range, or nesterov is on without momentum.
    Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        more = {"weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(parameters, lr=lr, momentum=momentum, **more)

    def _check(self, group: Mapping[str, Any]) -> None:
        super()._check(group)
        if group["nesterov"] and not group["momentum"]:
            raise ValueError("SGD: nesterov is True but momentum is 0; give a momentum such as 0.9")

    def _fresh(self, p: Tensor, group: Mapping[str, Any]) -> State:
        return {"u": np.zeros_like(p.array)}

    def _update(self, moved: Sequence[Moved], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        for p, g, state in moved:
            u = state["u"]
            h = g + group["weight_decay"] * p
            u *= momentum
            u += h
            p -= group["lr"] * (h + momentum * u if group["nesterov"] else u)
