"""A ConvMixer's layers, fused; `minimix.fuse` has the mathematics.

act is GELU, or ReLU where `relu` is true.

A norm is what batch normalization of a = act(z) knows of its channels: (mean, rstd, γ, β) in the
forward pass, (mean, rstd, γ, dγ, dβ) in the backward pass. As a scale and a shift: scale = γ rstd,
shift = β − mean · scale.

Where pixels are normalized instead, a norm is (bias, γ, β), with ε: the convolution's bias is added
to its result z where act is applied.
"""

from __future__ import annotations

from ..dispatch import Array, Arrays, Maybe, kernel
from . import activation
from .depthwise import depthwise_conv2d, depthwise_conv2d_dw, depthwise_conv2d_dx
from .norm import channel_moments, channel_sum
from .patches import cut_patches
from .rowwise import layer_norm_backward, normal

Norm = Arrays  # what a norm knows: see above


def _act(z: Array, relu: bool) -> Array:
    return activation.relu(z) if relu else activation.gelu(z)


def _act_backward(z: Array, g: Array, relu: bool) -> Array:
    return (activation.relu_backward if relu else activation.gelu_backward)(z, g)


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
def mix_channels(z: Array, x: Array, scale: Array, shift: Array, w: Array, b: Array, *,
                 relu: bool = False) -> Arrays:  # fmt: skip
    """z₂ = u w + b with u = scale act(z) + shift + x, and the moments of gelu(z₂).

    z, x (N, H, W, K), scale, shift (K,), w (K, C)
    """
    return _with_moments((_act(z, relu) * scale + shift + x) @ w + b, relu)


@kernel(z="... C", scale="C", shift="C")
def act_affine(z: Array, scale: Array, shift: Array, *, relu: bool = False) -> Array:
    """scale act(z) + shift.   z (…, C), the others (C,)"""
    return _act(z, relu) * scale + shift


@kernel(z="... C", norm="C", added="... C")
def act_layer_norm(z: Array, norm: Norm, eps: float, added: Maybe = None,
                   relu: bool = False) -> Array:  # fmt: skip
    """γ x̂ + β, and + added, of a = act(z + bias); x̂ is a normalized in each row.   z (…, C)"""
    bias, gamma, beta = norm
    y = gamma * normal(_act(z + bias, relu), eps)[0] + beta
    return y if added is None else y + added


@kernel(z="N H W K", norm="K", w="K C", norm2="C", x="N H W K")
def mix_layer_norm(z: Array, norm: Norm, eps: float, w: Array, norm2: Norm, eps2: float,
                   x: Maybe = None, relu: bool = False) -> Arrays:  # fmt: skip
    """z₂ = u w with u = act_layer_norm(z) + x, and act_layer_norm(z₂).   z, x (N, H, W, K)"""
    z2 = act_layer_norm(z, norm, eps, x, relu) @ w
    return z2, act_layer_norm(z2, norm2, eps2, None, relu)


@kernel(x="N H W B", places="k k C", channels="C C", affine="S 3 C", stem="p p B C", eps="S")
def infer_convmixer(x: Array, places: Arrays, channels: Arrays, affine: Array, stem: Maybe = None,
                    eps: Maybe = None, *, relu: bool = False, pool: bool = True,
                    residual: bool = True) -> Array:  # fmt: skip
    """A ConvMixer in evaluation, all but its head.   x (N, H, W, B) -> (N, C)

    The patch embedding, where there is one, and the blocks, if any; what a convolution gives
    becomes scale act(y + bias) + shift. Then, where pool is true, the mean over all pixels; where
    it is not, the result is (N, H/p, W/p, C).

    places, channels  of each block: depthwise weights (k, k, C), pointwise weights (C, C)
    affine            bias, scale and shift of each convolution, the embedding's first
    stem              the embedding's weights (p, p, B, C); p divides H and W
    eps               ε of each; act(y + bias) is then normalized in each pixel first
    residual          whether depthwise halves have a shortcut
    """

    def stage(y: Array, row: Array, one: float | None) -> Array:
        if one is not None:
            return act_layer_norm(y, tuple(row), one, None, relu)
        return act_affine(y + row[0], row[1], row[2], relu=relu)

    rows = list(zip(affine, [None] * len(affine) if eps is None else eps, strict=True))
    if stem is not None:
        x = stage(cut_patches(x, len(stem)) @ stem.reshape(-1, stem.shape[-1]), *rows.pop(0))
    for w1, w2, upper, lower in zip(places, channels, rows[::2], rows[1::2], strict=True):
        u = stage(depthwise_conv2d(x, w1), *upper)
        x = stage((u + x if residual else u) @ w2, *lower)
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
    return _act_backward(z, gamma * rstd * (g - dbeta / m - normal * (dgamma / m)), relu)


@kernel(z2="N H W C", g="N H W C", norm2="C", z1="N H W K", x="N H W K", norm1="K", w="K C")
def mix_channels_backward(z2: Array, g: Array, norm2: Norm, z1: Array, x: Array, norm1: Norm,
                          w: Array, relu: bool = False) -> Arrays:  # fmt: skip
    """Back through act, batch norm and `mix_channels`: du, dw, db, and dγ, dβ of norm1."""
    mean, rstd, gamma, beta = norm1
    dz2 = act_norm_backward(z2, g, norm2, relu=relu)
    u = act_affine(z1, gamma * rstd, beta - mean * gamma * rstd, relu=relu) + x
    rows = dz2.reshape(-1, w.shape[1])
    du = dz2 @ w.T
    dw, db = u.reshape(-1, w.shape[0]).T @ rows, channel_sum(rows)
    return du, dw, db, *act_norm_sums(z1, du, mean, rstd, relu=relu)


@kernel(z="N H W C", g="N H W C", norm="C")
def act_layer_norm_backward(z: Array, g: Array, norm: Norm, eps: float,
                            relu: bool = False) -> Arrays:  # fmt: skip
    """Gradients of `act_layer_norm` for z, γ, β and the bias.   z, g (N, H, W, C)"""
    bias, gamma, _ = norm
    rows, g = (z + bias).reshape(-1, len(bias)), g.reshape(-1, len(bias))
    da, *sums = layer_norm_backward.reference(_act(rows, relu), g, gamma, eps)
    dz = _act_backward(rows, da, relu)
    return dz.reshape(z.shape), *sums, channel_sum(dz)


@kernel(z2="N H W C", g="N H W C", norm2="C", z="N H W K", norm="K", w="K C", x="N H W K")
def mix_layer_norm_backward(z2: Array, g: Array, norm2: Norm, eps2: float, z: Array, norm: Norm,
                            eps: float, w: Array, x: Maybe = None, relu: bool = False,
                            ) -> Arrays:  # fmt: skip
    """Back through `mix_layer_norm`: du, dz, dw, and dγ, dβ and dbias of both norms."""
    dz2, *of_norm2 = act_layer_norm_backward(z2, g, norm2, eps2, relu)
    u, du = act_layer_norm(z, norm, eps, x, relu), dz2 @ w.T
    dw = u.reshape(-1, len(w)).T @ dz2.reshape(-1, w.shape[1])
    dz, *of_norm = act_layer_norm_backward(z, du, norm, eps, relu)
    return du, dz, dw, *of_norm, *of_norm2


@kernel(z="N H W C", g="N H W C", norm="C", x="N H W C", w="k k C")
def mix_places_backward(z: Array, g: Array, norm: Norm, x: Array, w: Array, *,
                        relu: bool = False) -> Arrays:  # fmt: skip
    """Back through act, batch norm and `mix_places`, and past them by the residual: dx, dw, db."""
    dz = act_norm_backward(z, g, norm, relu=relu)
    db = channel_sum(dz.reshape(-1, dz.shape[-1]))
    return depthwise_conv2d_dx(dz, w) + g, depthwise_conv2d_dw(x, dz, len(w)), db
