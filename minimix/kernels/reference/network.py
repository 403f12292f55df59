"""What a network's kernels mean.

float32 or float64, and the result has the dtype of the arguments. Images are (N, H, W, C), rows
are (M, C) with M = N·H·W.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Array = np.ndarray

SQRT_HALF = 0.7071067811865476  # 1/√2
INV_SQRT_2PI = 0.3989422804014327  # 1/√(2π)
SQRT_2_OVER_PI = 0.7978845608028654  # √(2/π)


# ---- Gaussian error linear unit

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


def erf(x: Array) -> Array:
    """The error function 2/√π ∫₀ˣ exp(−t²) dt, elementwise."""
    size = np.minimum(np.abs(x.astype(np.float64)), 6.0)  # erf(6) is 1 to the last bit
    y = np.empty_like(size)
    near, far = size <= 0.46875, size > 4.0
    middle = ~(near | far)
    t = size[near]
    y[near] = t * _quotient(_NEAR, t * t)
    t = size[middle]
    y[middle] = 1.0 - np.exp(-t * t) * _quotient(_MIDDLE, t)
    t = size[far]
    s = 1.0 / (t * t)
    y[far] = 1.0 - np.exp(-t * t) / t * (_INV_SQRT_PI - s * _quotient(_FAR, s))
    return np.where(np.isnan(x), np.nan, np.copysign(y, x)).astype(x.dtype)


def gelu(x: Array) -> Array:
    """x Φ(x), Φ the standard normal distribution function."""
    return (0.5 * x * (1.0 + erf(x * SQRT_HALF))).astype(x.dtype)


def gelu_backward(x: Array, g: Array) -> Array:
    """g (Φ(x) + x φ(x)), φ the standard normal density."""
    cdf = 0.5 * (1.0 + erf(x * SQRT_HALF))
    pdf = INV_SQRT_2PI * np.exp(-0.5 * x * x)
    return (g * (cdf + x * pdf)).astype(x.dtype)


def gelu_tanh(x: Array) -> Array:
    """½ x (1 + tanh u) with u = √(2/π) (x + 0.044715 x³)."""
    u = SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)
    return (0.5 * x * (1.0 + np.tanh(u))).astype(x.dtype)


def gelu_tanh_backward(x: Array, g: Array) -> Array:
    """g (½ (1 + tanh u) + ½ x (1 − tanh² u) u′) with u′ = √(2/π) (1 + 3·0.044715 x²)."""
    t = np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
    slope = SQRT_2_OVER_PI * (1.0 + 3 * 0.044715 * x * x)
    return (g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)).astype(x.dtype)


# ---- depthwise convolution, "same" padding: (k−1)//2 before and the rest after


def _pad_same(x: Array, k: int, before: int) -> Array:
    after = k - 1 - before
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))


def depthwise_conv2d(x: Array, w: Array) -> Array:
    """y[n,h,v,c] = Σᵢⱼ x[n, h+i−b, v+j−b, c] w[i,j,c], b = (k−1)//2, zero outside the image.

    x (N, H, W, C), w (k, k, C) -> (N, H, W, C).
    """
    k, (_, h, v, _) = w.shape[0], x.shape
    padded = _pad_same(x, k, (k - 1) // 2)
    y = np.zeros_like(x)
    for i in range(k):
        for j in range(k):
            y += padded[:, i : i + h, j : j + v] * w[i, j]
    return y


def depthwise_conv2d_dx(g: Array, w: Array) -> Array:
    """Gradient of `depthwise_conv2d` for x: convolution of g with the flipped kernel.

    An even kernel pads unevenly, and its flip the other way round: k//2 before.
    """
    k, (_, h, v, _) = w.shape[0], g.shape
    padded = _pad_same(g, k, k // 2)
    dx = np.zeros_like(g)
    for i in range(k):
        for j in range(k):
            dx += padded[:, i : i + h, j : j + v] * w[k - 1 - i, k - 1 - j]
    return dx


def depthwise_conv2d_dw(x: Array, g: Array, k: int) -> Array:
    """Gradient of `depthwise_conv2d` for w: dw[i,j,c] = Σₙₕᵥ x[n, h+i−b, v+j−b, c] g[n,h,v,c]."""
    _, h, v, c = x.shape
    padded = _pad_same(x, k, (k - 1) // 2)
    dw = np.empty((k, k, c), x.dtype)
    for i in range(k):
        for j in range(k):
            dw[i, j] = np.einsum("nhvc,nhvc->c", padded[:, i : i + h, j : j + v], g)
    return dw


# ---- batch normalisation over rows (M, C)


def channel_sum(x: Array) -> Array:
    """Σₘ x[m, c]: the gradient of a bias.   x (M, C) -> (C,)"""
    return x.sum(axis=0)


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel.   x (M, C) -> (C,), (C,)"""
    mean = x.mean(axis=0)
    return mean, np.square(x - mean).mean(axis=0)


def normalize(x: Array, mean: Array, rstd: Array, gamma: Array, beta: Array) -> Array:
    """γ (x − mean) rstd + β.   x (M, C), the others (C,) -> (M, C)"""
    return (x - mean) * (rstd * gamma) + beta


def batch_norm_backward(
    x: Array, g: Array, mean: Array, rstd: Array, gamma: Array
) -> tuple[Array, Array, Array]:
    """Gradients of training-mode batch normalisation for x, γ and β.

    With x̂ = (x − mean) rstd:  dβ = Σ g,  dγ = Σ g x̂,  dx = γ rstd (g − dβ/M − x̂ dγ/M).
    """
    m = len(x)
    normal = (x - mean) * rstd
    dbeta = g.sum(axis=0)
    dgamma = (g * normal).sum(axis=0)
    return gamma * rstd * (g - dbeta / m - normal * (dgamma / m)), dgamma, dbeta


# ---- a ConvMixer's layers, fused: functional/fused.py has the mathematics
#
# A norm is what batch normalisation of a = gelu(z) knows of its channels: (mean, rstd, γ, β) on
# the way forward, (mean, rstd, γ, dγ, dβ) on the way back. As factor and term: scale = γ rstd,
# shift = β − mean · scale.

Moments = tuple[Array, Array, Array]  # z, and the mean and biased variance of gelu(z)


def _with_moments(z: Array) -> Moments:
    return z, *channel_moments(gelu(z).reshape(-1, z.shape[-1]))


def embed(x: Array, w: Array, b: Array) -> Moments:
    """z = x w + b, and the moments of gelu(z).   x (M, K), w (K, C) -> (M, C), (C,), (C,)"""
    return _with_moments(x @ w + b)


def mix_places(x: Array, w: Array, b: Array) -> Moments:
    """z = depthwise(x, w) + b, and the moments of gelu(z).   x (N, H, W, C), w (k, k, C)"""
    return _with_moments(depthwise_conv2d(x, w) + b)


def mix_channels(z: Array, x: Array, scale: Array, shift: Array, w: Array, b: Array) -> Moments:
    """z₂ = u w + b with u = scale gelu(z) + shift + x, and the moments of gelu(z₂).

    z, x (N, H, W, K), scale, shift (K,), w (K, C)
    """
    return _with_moments((gelu(z) * scale + shift + x) @ w + b)


def gelu_affine(z: Array, scale: Array, shift: Array) -> Array:
    """scale gelu(z) + shift.   z (…, C), the others (C,)"""
    return gelu(z) * scale + shift


def infer_places(x: Array, w: Array, b: Array, scale: Array, shift: Array) -> Array:
    """scale gelu(depthwise(x, w) + b) + shift + x.   x (N, H, W, C)"""
    return gelu_affine(depthwise_conv2d(x, w) + b, scale, shift) + x


def infer_channels(x: Array, w: Array, b: Array, scale: Array, shift: Array) -> Array:
    """scale gelu(x w + b) + shift.   x (…, K), w (K, C)"""
    return gelu_affine(x @ w + b, scale, shift)


def gelu_norm_sums(z: Array, g: Array, mean: Array, rstd: Array) -> tuple[Array, Array]:
    """dγ = Σ g x̂ and dβ = Σ g, with x̂ = (gelu(z) − mean) rstd.   z, g (N, H, W, C)"""
    rows, c = g.reshape(-1, z.shape[-1]), z.shape[-1]
    return (rows * ((gelu(z).reshape(-1, c) - mean) * rstd)).sum(axis=0), rows.sum(axis=0)


def gelu_norm_backward(
    z: Array, g: Array, mean: Array, rstd: Array, gamma: Array, dgamma: Array, dbeta: Array
) -> Array:
    """dz = gelu′(z) γ rstd (g − dβ/M − x̂ dγ/M).   z, g (N, H, W, C)"""
    m = z.size // z.shape[-1]
    normal = (gelu(z) - mean) * rstd
    return gelu_backward(z, gamma * rstd * (g - dbeta / m - normal * (dgamma / m)))


def mix_channels_backward(
    z2: Array, g: Array, norm2: tuple[Array, ...],
    z1: Array, x: Array, norm1: tuple[Array, ...], w: Array,
) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    """Back through gelu, batch norm and `mix_channels`: du, dw, db, and dγ, dβ of norm1."""
    mean, rstd, gamma, beta = norm1
    dz2 = gelu_norm_backward(z2, g, *norm2)
    u = gelu_affine(z1, gamma * rstd, beta - mean * gamma * rstd) + x
    rows = dz2.reshape(-1, w.shape[1])
    du = dz2 @ w.T
    dw, db = u.reshape(-1, w.shape[0]).T @ rows, rows.sum(axis=0)
    return du, dw, db, *gelu_norm_sums(z1, du, mean, rstd)


def mix_places_backward(
    z: Array, g: Array, norm: tuple[Array, ...], x: Array, w: Array
) -> tuple[Array, Array, Array]:
    """Back through gelu, batch norm and `mix_places`, and past them by the residual: dx, dw, db."""
    dz = gelu_norm_backward(z, g, *norm)
    db = dz.reshape(-1, dz.shape[-1]).sum(axis=0)
    return depthwise_conv2d_dx(dz, w) + g, depthwise_conv2d_dw(x, dz, len(w)), db


# ---- matrix product and optimiser


def matmul(a: Array, b: Array, bias: Array | None = None) -> Array:
    """a @ b, and + bias (C,) where there is one, of two matrices (M, K) and (K, C)."""
    return a @ b if bias is None else a @ b + bias


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
