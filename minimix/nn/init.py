"""The values that weights start with: float32 arrays of a shape, drawn from a generator."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..autograd import Array
from .module import Module

Seed = np.random.Generator | int | None


def uniform_fan_in(shape: tuple[int, ...], fan_in: int, rng: np.random.Generator) -> Array:
    """An array of `shape`, float32, drawn uniformly from ±1/√fan_in.

    fan_in  the number of inputs that each output reads; the more there are, the smaller the weights
            must be for outputs of the size of the inputs

    PyTorch's default for linear maps and convolutions; LeCun et al. 1998, "Efficient BackProp".
    """
    bound = 1 / np.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def trunc_normal(shape: tuple[int, ...], rng: np.random.Generator, std: float = 0.02) -> Array:
    """Normal numbers of scale `std`; those beyond 2 std are drawn again. How ViTs begin."""
    z = rng.standard_normal(prod(shape), np.float32)
    far = np.flatnonzero(np.abs(z) > 2)
    while far.size:
        z[far] = rng.standard_normal(far.size, np.float32)
        far = far[np.abs(z[far]) > 2]
    return np.float32(std) * z.reshape(shape)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """N(0, 2/fan_in), which keeps the size of activations where ReLU halves them.

    shape  outputs last; fan_in is the product of the others.   He et al. 2015, arXiv:1502.01852.
    """
    return np.float32(np.sqrt(2 / prod(shape[:-1]))) * rng.standard_normal(shape, np.float32)


def xavier_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Uniform in ±√(6/(fan_in + fan_out)), for a matrix.   Glorot & Bengio 2010."""
    return np.float32(np.sqrt(6 / sum(shape))) * (2 * rng.random(shape, np.float32) - 1)


def smooth_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Depthwise filters (k, k, C) that are smooth: near places have nearly equal weights.

    Each is normal, with variance 1/3k², as large as those of `uniform_fan_in`, and covariance
    Σ[a, b] ∝ exp(−|a − b|²/2s²) between places a and b, s = k/4. Rows and columns can be taken one
    after the other: w = L z Lᵀ, where L Lᵀ is the covariance along one of them.

    Trockman, Willmott & Kolter 2022, arXiv:2210.03651, whose covariances also fade with depth.
    """
    k = shape[0]
    distance = np.subtract.outer(np.arange(k), np.arange(k)) / (k / 4)
    variance, directions = np.linalg.eigh(np.exp(-(distance**2) / 2))
    L = directions * np.sqrt(np.maximum(variance, 0))
    z = rng.standard_normal(shape) / np.sqrt(3 * k * k)
    return np.einsum("ai,ijc,bj->abc", L, z, L).astype(np.float32)


def delta(shape: tuple[int, ...], rng: np.random.Generator | None = None) -> Array:
    """Depthwise filters (k, k, C) that leave the image as it is: 1 in the middle, 0 elsewhere."""
    i = np.arange(shape[0]) == (shape[0] - 1) // 2
    return np.broadcast_to((i & i[:, None])[..., None], shape).astype(np.float32)


def redraw(model: Module, kind: Any, draw: Callable[..., Array], rng: np.random.Generator) -> None:
    """Draw the weights of every layer of a kind (or several) again; their biases become 0."""
    layers: list[Any] = [layer for _, layer in model.named_modules() if isinstance(layer, kind)]
    for layer in layers:
        layer.weight.array = draw(layer.weight.shape, rng)
        if layer.bias is not None:
            layer.bias.array = np.zeros_like(layer.bias.array)
