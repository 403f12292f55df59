"""A ConvMixer's layers, fused; `minimix.fuse` has the mathematics.

act is GELU, or ReLU where `relu` is true.

A norm is what batch normalization of a = act(z) knows of its channels: (mean, rstd, γ, β) in the
forward pass, (mean, rstd, γ, dγ, dβ) in the backward pass. As a scale and a shift: scale = γ rstd,
shift = β − mean · scale.
"""

from __future__ import annotations

from ..dispatch import Array, Arrays, kernel
from . import activation
from .depthwise import depthwise_conv2d, depthwise_conv2d_dw, depthwise_conv2d_dx
from .norm import channel_moments, channel_sum
from .patches import cut_patches

Norm = Arrays  # what batch normalization knows: see above


def _act(z: Array, relu: bool) -> Array:
    return activation.relu(z) if relu else activation.gelu(z)


def _with_moments(z: Array, relu: bool) -> Arrays:
    return z, *channel_moments(_act(z, relu).reshape(-1, z.shape[-1]))


@kernel(x="M K", w="K C", b="C")
def embed(x: Array, w: Array, b: Array, *, relu: bool = False) -> Arrays:
    """z = x w + b, and the moments of act(z).   x (M, K), w (K, C) -> (M, C), (C,), (C,)"""
    return _with_moments(x @ w + b, relu)


@kernel(x="N H W C", w="k k C", b="C")
def mix_places(x: Array, w: Array, b: Array, *, relu: bool = False) -> Arrays:
    """z = depthwise(x, w) + b, and the moments of act(z).   x (N, H, W, C), w (k, k, C)"""
    return _with_moments(depthwise_conv2d(x, w) + b, relu)


@kernel(z="N H W K", x="N H W K", scale="K", shift="K", w="K C", b="C")
def mix_channels(
    z: Array, x: Array, scale: Array, shift: Array, w: Array, b: Array, *, relu: bool = False
) -> Arrays:
    """z₂ = u w + b with u = scale act(z) + shift + x, and the moments of gelu(z₂).

    z, x (N, H, W, K), scale, shift (K,), w (K, C)
    """
    return _with_moments((_act(z, relu) * scale + shift + x) @ w + b, relu)


@kernel(z="... C", scale="C", shift="C")
def act_affine(z: Array, scale: Array, shift: Array, *, relu: bool = False) -> Array:
    """scale act(z) + shift.   z (…, C), the others (C,)"""
    return _act(z, relu) * scale + shift


@kernel(x="N H W B", places="k k C", channels="C C", affine="S 3 C", stem="p p B C")
def infer_convmixer(
    x: Array,
    places: tuple[Array, ...],
    channels: tuple[Array, ...],
    affine: Array,
    stem: Array | None = None,
    *,
    relu: bool = False,
    pool: bool = True,
) -> Array:
    """A ConvMixer in evaluation, all but its head.   x (N, H, W, B) -> (N, C)

    The patch embedding, where there is one, and the blocks, if any; what a convolution gives
    becomes scale act(y + bias) + shift. Then, where pool is true, the mean over all pixels; where
    it is not, the result is (N, H/p, W/p, C).

    places, channels  of each block: depthwise weights (k, k, C), pointwise weights (C, C)
    affine            bias, scale and shift of each convolution, the embedding's first
    stem              the embedding's weights (p, p, B, C); p divides H and W
    """

    def stage(y: Array, row: Array) -> Array:
        return act_affine(y + row[0], row[1], row[2], relu=relu)

    if stem is not None:
        x = stage(cut_patches(x, len(stem)) @ stem.reshape(-1, stem.shape[-1]), affine[0])
        affine = affine[1:]
    for w1, w2, upper, lower in zip(places, channels, affine[::2], affine[1::2], strict=True):
        x = stage(depthwise_conv2d(x, w1), upper) + x
        x = stage(x @ w2, lower)
    return x.mean(axis=(1, 2)) if pool else x


@kernel(z="N H W C", g="N H W C", mean="C", rstd="C")
def act_norm_sums(z: Array, g: Array, mean: Array, rstd: Array, *, relu: bool = False) -> Arrays:
    """dγ = Σ g x̂ and dβ = Σ g, with x̂ = (act(z) − mean) rstd.   z, g (N, H, W, C)"""
    rows, c = g.reshape(-1, z.shape[-1]), z.shape[-1]
    normal = (_act(z, relu).reshape(-1, c) - mean) * rstd
    return channel_sum(rows * normal), channel_sum(rows)


@kernel(z="N H W C", g="N H W C", norm="C")
def act_norm_backward(z: Array, g: Array, norm: Norm, *, relu: bool = False) -> Array:
    """dz = act′(z) γ rstd (g − dβ/M − x̂ dγ/M).   z, g (N, H, W, C)"""
    (mean, rstd, gamma, dgamma, dbeta), m = norm, z.size // z.shape[-1]
    normal = (_act(z, relu) - mean) * rstd
    back = activation.relu_backward if relu else activation.gelu_backward
    return back(z, gamma * rstd * (g - dbeta / m - normal * (dgamma / m)))


@kernel(z2="N H W C", g="N H W C", norm2="C", z1="N H W K", x="N H W K", norm1="K", w="K C")
def mix_channels_backward(
    z2: Array, g: Array, norm2: Norm, z1: Array, x: Array, norm1: Norm, w: Array, relu: bool = False
) -> Arrays:
    """Back through act, batch norm and `mix_channels`: du, dw, db, and dγ, dβ of norm1."""
    mean, rstd, gamma, beta = norm1
    dz2 = act_norm_backward(z2, g, norm2, relu=relu)
    u = act_affine(z1, gamma * rstd, beta - mean * gamma * rstd, relu=relu) + x
    rows = dz2.reshape(-1, w.shape[1])
    du = dz2 @ w.T
    dw, db = u.reshape(-1, w.shape[0]).T @ rows, channel_sum(rows)
    return du, dw, db, *act_norm_sums(z1, du, mean, rstd, relu=relu)


@kernel(z="N H W C", g="N H W C", norm="C", x="N H W C", w="k k C")
def mix_places_backward(
    z: Array, g: Array, norm: Norm, x: Array, w: Array, *, relu: bool = False
) -> Arrays:
    """Back through act, batch norm and `mix_places`, and past them by the residual: dx, dw, db."""
    dz = act_norm_backward(z, g, norm, relu=relu)
    db = channel_sum(dz.reshape(-1, dz.shape[-1]))
    return depthwise_conv2d_dx(dz, w) + g, depthwise_conv2d_dw(x, dz, len(w)), db
