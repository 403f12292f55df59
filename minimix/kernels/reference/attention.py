"""Scaled dot-product attention; `minimix.functional.attention` has the mathematics."""

from __future__ import annotations

from math import sqrt

from ..dispatch import Array, Arrays, kernel
from .rowwise import softmax, softmax_backward


def _weights(q: Array, k: Array) -> tuple[Array, Array]:
    """p = softmax(q kᵀ / √D), and 1/√D; D = 0 counts as 1."""
    scale = q.dtype.type(1 / sqrt(max(q.shape[-1], 1)))
    return softmax.reference(q @ k.swapaxes(-1, -2) * scale), scale


@kernel(q="... T D", k="... S D", v="... S E")
def attention(q: Array, k: Array, v: Array) -> Array:
    """p v with p = softmax(q kᵀ / √D).   q (…, T, D), k (…, S, D), v (…, S, E) -> (…, T, E)"""
    return _weights(q, k)[0] @ v


@kernel(q="... T D", k="... S D", v="... S E", g="... T E", to="... T D")
def attention_backward(q: Array, k: Array, v: Array, g: Array, to: Arrays = ()) -> Arrays:
    """dq = dz k,  dk = dzᵀ q,  dv = pᵀ g  with dz = p (dp − Σ p dp) / √D and dp = g vᵀ.

    Where all three are of one shape, they can be written into three arrays: `to`.
    """
    p, scale = _weights(q, k)
    dz = softmax_backward.reference(p, g @ v.swapaxes(-1, -2)) * scale
    found = dz @ k, dz.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g
    for target, array in zip(to, found, strict=bool(to)):
        target[...] = array
    return to or found
