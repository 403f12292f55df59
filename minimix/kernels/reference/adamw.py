"""The AdamW update."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..dispatch import Array, kernel


@kernel()
def adamw_update(moved: Iterable[tuple[Array, Array, Array, Array, int]], lr: float, beta1: float,
                 beta2: float, eps: float, weight_decay: float) -> None:  # fmt: skip
    """One AdamW step of every (p, g, m, v, t), in place on p, m and v.

    The formula is that of `minimix.optim.AdamW`. A finite gradient whose square is too large for
    its dtype (beyond 1.8e19 in float32) counts as one whose square is not; infinity and NaN count
    as what they are.
    Errors: ValueError if the shapes differ, or if p, m or v is read-only.
    """
    for p, g, m, v, t in moved:
        if not p.shape == g.shape == m.shape == v.shape:
            shapes = f"{p.shape}, {g.shape}, {m.shape} and {v.shape}"
            raise ValueError(f"adamw_update: p, g, m and v have the shapes {shapes}")
        g = _squarable(g, p.dtype)
        m += (1.0 - beta1) * (g - m)
        v += (1.0 - beta2) * (g * g - v)
        p *= 1.0 - lr * weight_decay
        p -= lr / (1.0 - beta1**t) * m / (np.sqrt(v / (1.0 - beta2**t)) + eps)


def _squarable(g: Array, dtype: np.dtype) -> Array:
    """g in that dtype, confined to ±√(largest number) where it is finite."""
    g, most = np.asarray(g, dtype), np.sqrt(np.finfo(dtype).max)
    return np.where(np.isinf(g), g, np.clip(g, -most, most))
