"""For lesson 03: seven operations on arrays, as you might find them in real code. Three are wrong.

Each takes arrays and returns (y, backward). With all seven, training seems to work.

Spoilers ahead: run your gradient check on them before you read on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Operation = Callable[..., tuple[Array, Callable[[Array], tuple[Array, ...]]]]


def softplus(x):
    """ln(1 + eˣ)   x (N, C)"""

    def backward(g):
        return (g / (1 + np.exp(-x)),)

    return np.logaddexp(0, x), backward


def gelu(x):
    """½ x (1 + tanh u) with u = √(2/π) (x + 0.044715 x³)   x (N, C)"""
    root = np.sqrt(2 / np.pi)
    t = np.tanh(root * (x + 0.044715 * x**3))

    def backward(g):
        slope = root * (1 + 0.044715 * x**2)
        return (g * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * slope),)

    return 0.5 * x * (1 + t), backward


def softmax(x):
    """eˣ / Σ eˣ   x (N, C), row by row"""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)

    def backward(g):
        return (y * (g - (g * y).sum(axis=1, keepdims=True)),)

    return y, backward


def layer_norm(x, gamma):
    """γ (x − μ) / σ   x (N, C), γ (C,), μ and σ of each row"""
    centered = x - x.mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-5)
    normal = centered * rstd

    def backward(g):
        h = g * gamma
        dx = rstd * (h - h.mean(axis=1, keepdims=True))
        return dx, (g * normal).sum(axis=0)

    return gamma * normal, backward


def divide(x, y):
    """x / y   x (N, C), y (N, 1): each row divided by its own number"""

    def backward(g):
        return g / y, (-g * x / y**2).sum(axis=1, keepdims=True)

    return x / y, backward


def smooth(x, w):
    """y[n, i] = Σⱼ x[n, i+j−1] w[j], zeros outside   x (N, C), w (3,)"""
    left, right = np.pad(x, ((0, 0), (1, 0)))[:, :-1], np.pad(x, ((0, 0), (0, 1)))[:, 1:]

    def backward(g):
        before, after = np.pad(g, ((0, 0), (1, 0)))[:, :-1], np.pad(g, ((0, 0), (0, 1)))[:, 1:]
        dx = before * w[0] + g * w[1] + after * w[2]
        return dx, np.array([(left * g).sum(), (x * g).sum(), (right * g).sum()])

    return left * w[0] + x * w[1] + right * w[2], backward


def lengths(x):
    """√Σx² of each row   x (N, C) -> (N,)"""
    y = np.sqrt((x**2).sum(axis=1))

    def backward(g):
        return (x * (g / y)[:, None],)

    return y, backward


def suspects(seed: int = 0) -> dict[str, tuple[Operation, tuple[Array, ...]]]:
    """name -> (operation, float64 arrays to try it on)"""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, 6))
    arguments: dict[Operation, tuple[Any, ...]] = {
        softplus: (x,),
        gelu: (x,),
        softmax: (x,),
        layer_norm: (x, rng.uniform(0.5, 2, 6)),
        divide: (x, rng.uniform(1, 2, (4, 1))),
        smooth: (x, rng.uniform(0.1, 0.6, 3) + np.array([0, 1, 0])),
        lengths: (x,),
    }
    return {op.__name__: (op, arrays) for op, arrays in arguments.items()}
