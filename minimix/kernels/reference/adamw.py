"""The AdamW update."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..dispatch import Array, kernel


@kernel()
def adamw_update(
    moved: Iterable[tuple[Array, Array, Array, Array, int]],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None:
    """One AdamW step of every (p, g, m, v, t), in place on p, m and v.

    The formula is that of `minimix.optim.AdamW`.
    """
    for p, g, m, v, t in moved:
        p *= 1.0 - lr * weight_decay
        m += (1.0 - beta1) * (g - m)
        v += (1.0 - beta2) * (g * g - v)
        unbias1, unbias2 = 1.0 - beta1**t, 1.0 - beta2**t
        p -= (lr / unbias1) * m / (np.sqrt(v / unbias2) + eps)
