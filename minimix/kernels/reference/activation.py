"""The Gaussian error linear unit, exact and by tanh, and its slopes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..dispatch import Array, kernel

SQRT_HALF = 0.7071067811865476  # 1/√2
INV_SQRT_2PI = 0.3989422804014327  # 1/√(2π)
SQRT_2_OVER_PI = 0.7978845608028654  # √(2/π)


def _each(f: Callable[[float], float], x: Array) -> Array:
    """f of every number, in float64."""
    return np.fromiter(map(f, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def erf(x: Array) -> Array:
    """The error function 2/√π ∫₀ˣ exp(−t²) dt, elementwise."""
    return _each(math.erf, x).astype(x.dtype)


def _cdf(x: Array) -> Array:
    """Φ(x), the standard normal distribution function, in float64."""
    return 0.5 * _each(math.erfc, -SQRT_HALF * x.astype(np.float64))


# Past ±40, Φ is 0 or 1 and all slopes are constant. Clipped there, x and its powers stay finite:
# x Φ(x) tends to 0 at −∞, but −∞ · 0 is not a number.
FAR = 40.0


@kernel(x="...")
def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


@kernel(y="...", g="...")
def relu_backward(y: Array, g: Array) -> Array:
    """g where y = relu(x) is not 0. It is asked of y, so that x need not be kept."""
    return np.where(y <= 0, g.dtype.type(0), g)


@kernel(x="...")
def gelu(x: Array) -> Array:
    """x Φ(x), Φ the standard normal distribution function."""
    return (np.maximum(x, -FAR) * _cdf(x)).astype(x.dtype)


@kernel(x="...", g="...")
def gelu_backward(x: Array, g: Array) -> Array:
    """g (Φ(x) + x φ(x)), φ the standard normal density."""
    z = np.clip(x, -FAR, FAR).astype(np.float64)
    return (g * (_cdf(x) + z * (INV_SQRT_2PI * np.exp(-0.5 * z * z)))).astype(x.dtype)


@kernel(x="...")
def gelu_tanh(x: Array) -> Array:
    """½ x (1 + tanh u) with u = √(2/π) (x + 0.044715 x³)."""
    z = np.clip(x, -FAR, FAR)
    u = SQRT_2_OVER_PI * (z + 0.044715 * z * z * z)
    return (0.5 * np.maximum(x, -FAR) * (1.0 + np.tanh(u))).astype(x.dtype)


@kernel(x="...", g="...")
def gelu_tanh_backward(x: Array, g: Array) -> Array:
    """g (½ (1 + tanh u) + ½ x (1 − tanh² u) u′) with u′ = √(2/π) (1 + 3·0.044715 x²)."""
    z = np.clip(x, -FAR, FAR)
    t = np.tanh(SQRT_2_OVER_PI * (z + 0.044715 * z * z * z))
    slope = SQRT_2_OVER_PI * (1.0 + 3 * 0.044715 * z * z)
    return (g * (0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * slope)).astype(x.dtype)
