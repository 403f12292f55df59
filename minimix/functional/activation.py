"""Activations, which stand between the linear maps, and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from .. import kernels
from ..autograd import Array, op
from ..errors import expect

__all__ = ["dropout", "gelu", "log_softmax", "relu", "sigmoid", "softmax"]


@op
def gelu(x, *, approximate: Literal["none", "tanh"] = "none"):
    """Gaussian error linear unit.   x (any shape) -> y (same)

        y  = x Φ(x)                 Φ: standard normal distribution function
        dx = g (Φ(x) + x φ(x))      φ: its density

    approximate="tanh" replaces Φ(x) by ½ (1 + tanh(√(2/π) (x + 0.044715 x³))).

    Hendrycks & Gimpel 2016, arXiv:1606.08415.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}; it can be 'none' or 'tanh'")
    if approximate == "tanh":
        return kernels.gelu_tanh(x), lambda g: kernels.gelu_tanh_backward(x, g)
    return kernels.gelu(x), lambda g: kernels.gelu_backward(x, g)


@op
def relu(x):
    """Rectified linear unit.   x (any shape) -> max(x, 0)

    dx = 0 where x ≤ 0 (at the kink x = 0 too), else g.   Nair & Hinton 2010.
    """
    y = kernels.relu(x)
    return y, lambda g: kernels.relu_backward(y, g)


@op
def sigmoid(x):
    """Logistic function.   x (any shape) -> y = 1 / (1 + e⁻ˣ)

    dx = g y (1 − y).   Computed from e^−|x|, which neither overflows nor loses what is small.
    """
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e), lambda g: g * e / np.square(1 + e)


@op
def softmax(x, *, axis: int = -1):
    """Softmax.   x (any shape) -> y = eˣ / Σ eˣ along `axis`

    dx = y (g − Σ g y).   The largest x is subtracted first, so that nothing overflows.
    """
    y = _last(x, axis, kernels.softmax)
    return y, lambda g: _last(y, axis, kernels.softmax_backward, g)


@op
def log_softmax(x, *, axis: int = -1):
    """Logarithm of softmax.   x (any shape) -> y = x − ln Σ eˣ along `axis`

    dx = g − eʸ Σ g.   The largest x is subtracted first: stable at any size of x.
    """
    with np.errstate(over="ignore", divide="ignore"):  # x far below, and ln 0 of an empty axis
        shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
        y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))

    return y, lambda g: g - np.exp(y) * g.sum(axis=axis, keepdims=True)


def _last(x: Array, axis: int, kernel: Callable[..., Array], *others: Array) -> Array:
    """A kernel of rows, applied along `axis`."""
    rows = [np.moveaxis(np.atleast_1d(a), axis, -1) for a in (x, *others)]
    return np.moveaxis(kernel(*rows), -1, axis).reshape(x.shape)


@op
def dropout(x, *, p: float, rng: np.random.Generator):
    """Set each number to 0 with probability p, and scale the rest by 1/(1 − p).

    x (any shape) -> x m,  m = Bernoulli(1 − p) / (1 − p) drawn from rng;   dx = g m

    Errors: ValueError unless 0 ≤ p < 1.   Srivastava et al. 2014.
    """
    expect("dropout", "0 ≤ x < 1", p=p)
    mask = (rng.random(x.shape) >= p).astype(x.dtype) / x.dtype.type(1 - p)

    return x * mask, lambda g: g * mask
