"""The values that weights start with."""

from __future__ import annotations

import numpy as np

from ..autograd import Array

Seed = np.random.Generator | int | None


def uniform_fan_in(shape: tuple[int, ...], fan_in: int, rng: np.random.Generator) -> Array:
    """An array of `shape`, float32, drawn uniformly from ±1/√fan_in.

    fan_in  the number of inputs that each output reads; the more there are, the smaller the weights
            must be for outputs of the size of the inputs

    PyTorch's default for linear maps and convolutions; LeCun et al. 1998, "Efficient BackProp".
    """
    bound = 1 / np.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape).astype(np.float32)
