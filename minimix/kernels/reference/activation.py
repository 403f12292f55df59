"""The Gaussian error linear unit, exact and by tanh, and its slopes."""

from __future__ import annotations

import numpy as np

from ..dispatch import Array, kernel

SQRT_HALF = 0.7071067811865476  # 1/√2
INV_SQRT_2PI = 0.3989422804014327  # 1/√(2π)
SQRT_2_OVER_PI = 0.7978845608028654  # √(2/π)


# Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969): one
# quotient of polynomials a region, highest power first, good to the last bit or two of float64.
_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
     3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2,
     1.28261652607737228e3, 2.84423683343917062e3),
)  # fmt: skip
_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
     6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
     1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
     1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
     3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip
_FAR = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
     1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346725e0,
     5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185e-3),
)  # fmt: skip
_INV_SQRT_PI = 0.5641895835477563


def _quotient(coefficients: tuple[tuple[float, ...], tuple[float, ...]], t: Array) -> Array:
    return np.polyval(coefficients[0], t) / np.polyval(coefficients[1], t)


def erfc(x: Array) -> Array:
    """1 − erf(x), elementwise and in float64, with all its digits where erf(x) is nearly 1."""
    t = np.minimum(np.abs(x.astype(np.float64)), 28.0)  # erfc(28) is less than any float64
    y = np.empty_like(t)
    near, far = t <= 0.46875, t > 4.0
    middle = ~(near | far)
    r = t[near]
    y[near] = 1.0 - r * _quotient(_NEAR, r * r)
    r = t[middle]
    y[middle] = np.exp(-r * r) * _quotient(_MIDDLE, r)
    r = t[far]
    s = 1.0 / (r * r)
    y[far] = np.exp(-r * r) / r * (_INV_SQRT_PI - s * _quotient(_FAR, s))
    return np.where(x < 0, 2.0 - y, y)


def erf(x: Array) -> Array:
    """The error function 2/√π ∫₀ˣ exp(−t²) dt, elementwise."""
    t = np.minimum(np.abs(x.astype(np.float64)), 6.0)  # erf(6) is 1 to the last bit
    y = np.where(t <= 0.46875, t * _quotient(_NEAR, t * t), 1.0 - erfc(t))
    return np.copysign(y, x).astype(x.dtype)


def _cdf(x: Array) -> Array:
    """Φ(x), the standard normal distribution function, in float64."""
    return 0.5 * erfc(-SQRT_HALF * x.astype(np.float64))


# Past ±40, Φ is 0 or 1 and all slopes are constant. Clipped there, x and its powers stay finite:
# x Φ(x) tends to 0 at −∞, but −∞ · 0 is not a number.
FAR = 40.0


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
