"""How weights begin."""

from __future__ import annotations

import numpy as np

from ..autograd import Array

Seed = np.random.Generator | int | None


def uniform_fan_in(shape: tuple[int, ...], fan_in: int, rng: np.random.Generator) -> Array:
    """Uniform in ±1/√fan_in, float32: what keeps a linear map from shrinking or growing its input.

    fan_in is the number of inputs that each output reads. PyTorch's default for weights and
    biases of linear maps and convolutions; LeCun et al. 1998, "Efficient BackProp".
    """
    bound = 1 / np.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape).astype(np.float32)
