"""fuse(model): the same ConvMixer in fewer passes over memory, several layers in one operation.

Activations do not fit into a cache, so a layer that reads and writes all of them for a handful of
multiplications mostly waits. Convolution, GELU and batch norm together need one pass: the
convolution writes z and, while z is still at hand, sums the moments of gelu(z); after that, batch
norm is a factor and a term for each channel,

    y = γ (a − μ) r + β = s a + t,     a = gelu(z),  r = 1/√(σ²+ε),  s = γ r,  t = β − μ s

which whoever reads z next applies on the way. Only z is saved for backward; a and y are computed
again.

On the way back, with g = dy, batch norm first needs two sums over all pixels,

    dγ = Σ g x̂     dβ = Σ g     x̂ = (a − μ) r

and then every pixel of z gets dz = gelu′(z) γ r (g − dβ/M − x̂ dγ/M), again on the way into
whatever reads it: the transposed convolution and the weight's gradient.

In training only: in evaluation the norms are constants, and backward is left to the plain model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import kernels, nn
from .autograd import Array, Tensor, is_recording, op
from .functional import concatenate
from .models import ConvMixer

# Where nothing has to be kept for the way back, no more images at a time than make layers of about
# so many bytes: what one layer writes is then still in cache when the next one reads it.
CACHED = 4 << 20


def fuse(model: ConvMixer) -> FusedConvMixer:
    """A faster model with the parameters, buffers and numbers of `model`.

    model  a ConvMixer made of the layers it is made of in minimix.models: exact GELU, biases, batch
           norm. TypeError, naming the layer, where one has been replaced

    Nothing is copied: training one trains the other, and either's state_dict loads into the other.
    What comes out differs by rounding only. A layer inside is no longer called on its own, so
    `nn.observe` sees the model as a whole.
    """
    if not isinstance(model, ConvMixer):
        raise TypeError(f"fuse: model is a {type(model).__name__}; expected a ConvMixer")
    _check("stem", model.stem, nn.Patchify)
    for i in range(len(model.blocks)):
        block: Any = model.blocks[i]
        places, *channels = block
        if not isinstance(places, nn.Residual):
            raise TypeError(f"fuse: blocks.{i}.0 is {places!r}; expected a Residual")
        _check(f"blocks.{i}.0.fn", places.fn, nn.DepthwiseConv2d)
        _check(f"blocks.{i}", channels, nn.PointwiseConv2d, first=1)
    return FusedConvMixer(model)


def _check(name: str, layers: Any, convolution: type[nn.Module], first: int = 0) -> None:
    kinds: tuple[type[nn.Module], ...] = (convolution, nn.GELU, nn.BatchNorm)
    for i, (layer, kind) in enumerate(zip(layers, kinds, strict=True)):
        plain = type(layer) is kind and getattr(layer, "approximate", "none") == "none"
        if not plain or (i == 0 and layer.bias is None):
            raise TypeError(
                f"fuse: {name}.{i + first} is {layer!r}; expected a {kind.__name__} as ConvMixer "
                "has it. Use the model unfused"
            )


class FusedConvMixer(nn.Module):
    """What `fuse` makes; names in its state dict are those of the ConvMixer it was made from."""

    def __init__(self, model: ConvMixer) -> None:
        super().__init__()
        self.stem: Any = model.stem
        self.blocks: Any = model.blocks
        self.pool = model.pool
        self.head = model.head
        self.training = model.training
        self._plain = (model,)  # in a tuple, where it is no module of this one's

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as ConvMixer, and with its errors."""
        patchify, _, norm = self.stem
        p, _, c, d = patchify.weight.shape
        fits = x.ndim == 4 and x.shape[3] == c and not (x.shape[1] % p or x.shape[2] % p)
        if not fits or (is_recording() and not norm.training):
            return self._plain[0](x)  # which says what does not fit, or how to differentiate
        if norm.training:
            return self.head(self.pool(self._train(x)))
        n, h, w, _ = x.shape
        size = x.array.itemsize * (h // p) * (w // p) * d  # of one image, after a layer
        at_once = max(1, CACHED // max(1, size))
        parts = (x.array[i : i + at_once] for i in range(0, max(1, n), at_once))
        return concatenate([self.head(self.pool(self._infer(part))) for part in parts])

    def _train(self, x: Tensor) -> Tensor:
        patchify, _, norm = self.stem
        y = fused_embedding(x, *_affine(patchify, norm), norm=_settings(norm))
        parameters, norms = [], []
        for places, pointwise, _, norm2 in self.blocks:
            depthwise, _, norm1 = places.fn
            parameters += [*_affine(depthwise, norm1), *_affine(pointwise, norm2)]
            norms.append((_settings(norm1), _settings(norm2)))
        return fused_blocks(y, *parameters, norms=norms)

    def _infer(self, x: Array) -> Tensor:
        patchify, _, norm = self.stem
        p, _, c, d = patchify.weight.shape
        y = kernels.infer_channels(
            kernels.cut_patches(x, p), patchify.weight.array.reshape(p * p * c, d),
            patchify.bias.array, *_scale_and_shift(norm),
        )  # fmt: skip
        for places, pointwise, _, norm2 in self.blocks:
            depthwise, _, norm1 = places.fn
            for mix, layer, norm in (
                (kernels.infer_places, depthwise, norm1),
                (kernels.infer_channels, pointwise, norm2),
            ):
                y = mix(y, layer.weight.array, layer.bias.array, *_scale_and_shift(norm))
        return Tensor(y)


def _affine(layer: Any, norm: nn.BatchNorm) -> tuple[Tensor, ...]:
    return layer.weight, layer.bias, norm.weight, norm.bias


def _settings(norm: nn.BatchNorm) -> dict[str, Any]:
    return {
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
        "momentum": norm.momentum,
        "eps": norm.eps,
    }


def _scale_and_shift(norm: nn.BatchNorm) -> tuple[Array, Array]:
    """Batch norm in evaluation as a factor and a term for each channel."""
    scale = norm.weight.array / np.sqrt(norm.running_var + norm.eps)
    scale = scale.astype(norm.weight.dtype)
    return scale, norm.bias.array - norm.running_mean * scale


# ---- the operations


def _rstd(mean: Array, var: Array, m: int, norm: dict[str, Any]) -> Array:
    """1/√(σ²+ε); moves the running statistics of `norm`, as `batch_norm` does."""
    if m < 2:
        raise ValueError(f"batch_norm: {m} value a channel; training needs at least 2")
    momentum = norm["momentum"]
    running_mean, running_var = norm["running_mean"], norm["running_var"]
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (m / (m - 1)) - running_var)
    return 1 / np.sqrt(var + var.dtype.type(norm["eps"]))


@op
def fused_embedding(x: Array, w: Array, b: Array, gamma: Array, beta: Array, *, norm: dict):
    """Patch embedding, GELU, batch norm.   x (N, H, W, C), w (p, p, C, D) -> (N, H/p, W/p, D)

        z = patches(x) w + b     y = s gelu(z) + t

        dx = patches⁻¹(dz wᵀ)     dw = patches(x)ᵀ dz     db = Σ dz

    b, γ, β (D,). norm: what `batch_norm` takes by name: running_mean, running_var, momentum, eps.
    """
    p, _, c, d = w.shape
    patches, matrix = kernels.cut_patches(x, p), w.reshape(p * p * c, d)
    rows = patches.reshape(-1, p * p * c)
    z, mean, var = kernels.embed(rows, matrix, b)
    z = z.reshape(*patches.shape[:3], d)
    rstd = _rstd(mean, var, len(rows), norm)
    scale = gamma * rstd

    def backward(g):
        dgamma, dbeta = kernels.gelu_norm_sums(z, g, mean, rstd)
        dz = kernels.gelu_norm_backward(z, g, mean, rstd, gamma, dgamma, dbeta).reshape(-1, d)

        def dx():
            dpatches = kernels.matmul(dz, matrix.T).reshape(patches.shape)
            return kernels.join_patches(dpatches, p)

        dw = kernels.matmul(rows.T, dz).reshape(w.shape)
        return dx, dw, kernels.channel_sum(dz), dgamma, dbeta

    return kernels.gelu_affine(z, scale, beta - mean * scale), backward


@op
def fused_blocks(x: Array, *parameters: Array, norms: Sequence[tuple[dict, dict]]):
    """The blocks of a ConvMixer, one after the other.   x (N, H, W, C) -> as x

    parameters of each block: w1 (k, k, C), b1, gamma1, beta1, w2 (C, C), b2, gamma2, beta2, the
    others (C,); norms of each: two times what `batch_norm` takes by name: running_mean,
    running_var, momentum, eps.

    Three arrays of the size of x make a block: z₁, z₂ and what comes in. The last is not saved: it
    is one pass over the z₂ of the block before, and so computed again on the way back (Chen et al.,
    arXiv:1604.06174).
    """
    blocks = []
    y = x
    for i, (norm1, norm2) in enumerate(norms):
        of_block = parameters[8 * i : 8 * (i + 1)]
        output, back = _block(y, *of_block, norm1=norm1, norm2=norm2)
        y = output()
        blocks.append((output, back))

    def backward(g):
        gradients: list[Array] = []
        while blocks:
            _, back = blocks.pop()
            g, *of_parameters = back(g, blocks[-1][0]() if blocks else x)
            gradients[:0] = of_parameters
        return g, *gradients

    return y, backward


def _block(
    x: Array,
    w1: Array, b1: Array, gamma1: Array, beta1: Array,
    w2: Array, b2: Array, gamma2: Array, beta2: Array,
    *, norm1: dict[str, Any], norm2: dict[str, Any],
) -> tuple[Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]:  # fmt: skip
    """A block of a ConvMixer: what computes y, as often as it is asked, and the way back.

        z₁ = depthwise(x, w₁) + b₁     u = s₁ gelu(z₁) + t₁ + x        mixes places
        z₂ = u w₂ + b₂                 y = s₂ gelu(z₂) + t₂            mixes channels

    u is never written to memory: it goes into the product as it is computed. And back, x given:

        du = dz₂ w₂ᵀ                                  dw₂ = uᵀ dz₂            db₂ = Σ dz₂
        dx = dz₁ convolved with the flipped w₁ + du   dw₁ = correlate(x, dz₁) db₁ = Σ dz₁

    The sums that the first norm needs are taken from du while it is still in cache.
    """
    m = x.size // x.shape[-1]
    z1, mean1, var1 = kernels.mix_places(x, w1, b1)
    rstd1 = _rstd(mean1, var1, m, norm1)
    scale1 = gamma1 * rstd1
    z2, mean2, var2 = kernels.mix_channels(z1, x, scale1, beta1 - mean1 * scale1, w2, b2)
    rstd2 = _rstd(mean2, var2, m, norm2)
    scale2 = gamma2 * rstd2
    saved = [z2]  # from where backward takes it, so that dx can have its memory

    def output():
        return kernels.gelu_affine(saved[0], scale2, beta2 - mean2 * scale2)

    def backward(g, x):
        z2 = saved.pop()
        dgamma2, dbeta2 = kernels.gelu_norm_sums(z2, g, mean2, rstd2)
        du, dw2, db2, dgamma1, dbeta1 = kernels.mix_channels_backward(
            z2, g, (mean2, rstd2, gamma2, dgamma2, dbeta2), z1, x, (mean1, rstd1, gamma1, beta1), w2
        )
        del z2
        dx, dw1, db1 = kernels.mix_places_backward(
            z1, du, (mean1, rstd1, gamma1, dgamma1, dbeta1), x, w1
        )
        return dx, dw1, db1, dgamma1, dbeta1, dw2, db2, dgamma2, dbeta2

    return output, backward
