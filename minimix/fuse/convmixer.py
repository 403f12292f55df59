"""A ConvMixer, fused: convolution, activation and norm in one pass.

With layer norm, that is `layernorm.py`. Here is what decides, and batch norm.

The convolution writes z and, while z is still in cache, sums the moments of act(z); after that,
batch norm is a factor and a term for each channel,

    y = γ (a − μ) r + β = s a + t,     a = act(z),  r = 1/√(σ²+ε),  s = γ r,  t = β − μ s

which are applied wherever z is read next. Only z is saved for backward; a and y are computed again.

In the backward pass, with g = dy, batch norm first needs two sums over all pixels,

    dγ = Σ g x̂     dβ = Σ g     x̂ = (a − μ) r

and then every pixel of z gets dz = act′(z) γ r (g − dβ/M − x̂ dγ/M), again while it is read for
what comes next: the transposed convolution and the weight's gradient.

In evaluation μ and σ² are constants, and all blocks are one kernel, which keeps a few images at a
time in cache from the patches to the mean over their pixels, and saves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from .. import kernels, nn
from ..autograd import Array, Tensor, is_recording, op
from ..models import ConvMixer
from ..nn.module import is_observed
from ..parallel.early import announce, announcing
from ..parallel.moments import whole_moments, whole_sums
from .layernorm import fused_layer_embedding, layer_block
from .layers import Moments, contents, inverse_std, is_own, is_plain, move


class FusedConvMixer(ConvMixer):
    """What `fuse` returns: a ConvMixer that shares all but its `forward` with another one."""

    def __init__(self, model: ConvMixer) -> None:
        object.__setattr__(self, "__dict__", vars(model))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as ConvMixer, and with its errors."""
        stem, blocks = _stages(self.stem), _stages(self.blocks)
        if stem is not None and blocks is not None and _fusible(self, x, stem + blocks):
            return self._run(x, stem + blocks)
        x = self.stem(x)
        if blocks is not None and _fusible(self, x, blocks):
            return self._run(x, blocks)
        return self.head(self.pool(self.blocks(x)))

    def _run(self, x: Tensor, stages: list[Stage]) -> Tensor:
        if stages[0].of_batch or not _only_infers(self):
            return self.head(self.pool(_train(x, stages, own=announcing() and is_own(self))))
        return self.head(Tensor(_infer(x.array, stages)))


# ---- what can be fused


class Stage(NamedTuple):
    """A convolution, an activation, and the norm after it."""

    convolution: Any  # a Patchify, a DepthwiseConv2d or a PointwiseConv2d
    relu: bool
    norm: Any  # a BatchNorm or a LayerNorm
    residual: bool = True  # whether the input is added, if it is depthwise

    @property
    def layer(self) -> bool:
        """Whether its norm is over the channels of each pixel."""
        return type(self.norm) is nn.LayerNorm

    @property
    def of_batch(self) -> bool:
        """Whether its norm looks at the whole batch."""
        return not self.layer and self.norm.training

    @property
    def patch(self) -> int:
        """How many pixels down and across one result is for."""
        return len(self.convolution.weight) if type(self.convolution) is nn.Patchify else 1

    def parameters(self) -> tuple[Tensor, ...]:
        return self.convolution.weight, self.convolution.bias, self.norm.weight, self.norm.bias


def _stages(part: nn.Module) -> list[Stage] | None:
    """A stem or blocks as stages: an embedding is one, a block two; None where that is not all."""
    if not is_plain(part, nn.Sequential):
        return None
    stages: list[Stage] = []
    layers = contents(part)
    while layers:
        if embedding := _stage(layers[:3], nn.Patchify):
            stages.append(embedding)
            layers = layers[3:]
            continue
        parts = contents(layers[0])
        residual = bool(parts) and is_plain(parts[0], nn.Residual)
        inside, rest = (contents(parts[0].fn), parts[1:]) if residual else (parts[:3], parts[3:])
        upper, lower = _stage(inside, nn.DepthwiseConv2d), _stage(rest, nn.PointwiseConv2d)
        if upper is None or lower is None:
            return None
        stages += upper._replace(residual=residual), lower
        layers = layers[1:]
    return stages


def _stage(layers: list[Any], convolution: type[nn.Module]) -> Stage | None:
    """These layers as one stage, if they are one."""
    if len(layers) != 3 or not any(is_plain(layers[1], kind) for kind in (nn.GELU, nn.ReLU)):
        return None
    norms = nn.BatchNorm, nn.LayerNorm
    if not (is_plain(layers[0], convolution) and any(is_plain(layers[2], n) for n in norms)):
        return None
    return Stage(layers[0], type(layers[1]) is nn.ReLU, layers[2])


def _only_infers(model: ConvMixer) -> bool:
    """Whether nobody asks for gradients, and the pool is the mean over the pixels of an image.

    A pool of another kind may look at the whole batch.
    """
    return is_plain(model.pool, nn.GlobalAvgPool) and not is_recording()


def _fusible(model: ConvMixer, x: Tensor, stages: list[Stage]) -> bool:
    """Whether the fused operations give what these layers give for x."""
    if is_observed() or not stages or not isinstance(x, Tensor) or x.ndim != 4 or not x.size:
        return False
    n, height, width, channels = x.shape
    layer, of_batch, dtype = stages[0].layer, stages[0].of_batch, x.dtype
    residuals = [s.residual for s in stages if type(s.convolution) is nn.DepthwiseConv2d]
    for stage in stages:
        convolution, relu, norm, residual = stage
        weight, d = convolution.weight.array, norm.weight.size
        k = weight.shape[:1] * 2
        shapes = {nn.Patchify: (*k, channels, d), nn.DepthwiseConv2d: (*k, channels)}
        vectors, numbers = [convolution.bias.array, norm.weight.array, norm.bias.array], [norm.eps]
        if not stage.layer:
            vectors += [norm.running_mean, norm.running_var]
            numbers.append(norm.momentum)
        alike = [type(v) is np.ndarray and v.shape == (d,) and v.dtype == dtype for v in vectors]
        if not (
            stage.layer == layer
            and stage.of_batch == of_batch
            and relu == stages[0].relu
            and (residual or (layer and not any(residuals)))
            and all(isinstance(v, float) and 0 <= v <= 1 for v in numbers)
            and weight.shape == shapes.get(type(convolution), (channels, channels))
            and (channels == d or type(convolution) is nn.Patchify)
            and height % stage.patch == width % stage.patch == 0
            and weight.dtype == dtype
            and all(alike)
        ):
            return False
        height, width, channels = height // stage.patch, width // stage.patch, d
        if of_batch and n * height * width < 2:
            return False
    return layer or of_batch or _only_infers(model)


# ---- both ways to run


def _train(x: Tensor, stages: list[Stage], own: bool) -> Tensor:
    """Embeddings, each with the blocks after it, in training.

    own  whether each parameter is used here alone

    Running statistics move after all has been computed.
    """
    moments: list[Moments] | None = None if stages[0].layer else []
    y, relu, left = x, stages[0].relu, stages
    while left:
        if type(left[0].convolution) is nn.Patchify:
            stem, *left = left
            eps, parameters = stem.norm.eps, stem.parameters()
            if moments is None:
                y = fused_layer_embedding(y, *parameters, eps=eps, relu=relu)
            else:
                y = fused_embedding(y, *parameters, eps=eps, moments=moments, relu=relu)
        blocks = list(takewhile(lambda stage: type(stage.convolution) is not nn.Patchify, left))
        left = left[len(blocks) :]
        of_all = [p for stage in blocks for p in stage.parameters()]
        every_eps = [stage.norm.eps for stage in blocks]
        how = {"relu": relu, "residual": all(stage.residual for stage in blocks), "own": own}
        y = fused_blocks(y, *of_all, eps=every_eps, moments=moments, **how)
    if moments is not None:
        move([stage.norm for stage in stages], moments)
    return y


def _infer(x: Array, stages: list[Stage]) -> Array:
    """Embeddings, blocks and pool in evaluation.   x (N, H, W, C) -> (N, D)

    A kernel at a time: an embedding, where one comes next, and all blocks of the same shapes.
    """
    while stages:
        first = int(type(stages[0].convolution) is nn.Patchify)
        shapes = [stage.convolution.weight.shape for stage in stages[first:]]
        other = (i for i, shape in enumerate(shapes) if len(shape) > 3 or shape != shapes[i % 2])
        end = first + next(other, len(shapes))
        now, stages = stages[:end], stages[end:]
        weights, norms = [s.convolution.weight.array for s in now], [s.norm for s in now]
        affine = np.empty((end, 3, norms[0].weight.size), x.dtype)
        bias, scale, shift = affine.swapaxes(0, 1)
        bias[:] = [stage.convolution.bias.array for stage in now]
        eps = np.array([norm.eps for norm in norms], x.dtype)
        scale[:], shift[:] = ([getattr(n, of).array for n in norms] for of in ("weight", "bias"))
        layer = now[0].layer
        if not layer:
            scale /= np.sqrt(np.stack([norm.running_var for norm in norms]) + eps[:, None])
            shift -= np.stack([norm.running_mean for norm in norms]) * scale
        stem, places, channels = weights[:first], weights[first::2], weights[first + 1 :: 2]
        x = kernels.infer_convmixer(
            x, tuple(places), tuple(channels), affine, stem[0] if stem else None,
            eps if layer else None, relu=now[0].relu, pool=not stages,
            residual=all(stage.residual for stage in now),
        )  # fmt: skip
    return x


# ---- the operations


@op
def fused_embedding(
    x, w, b, gamma, beta, *, eps: float, moments: list[Moments], relu: bool = False
):
    """Patch embedding, activation, batch norm.   x (N, H, W, C), w (p, p, C, D) -> (N, H/p, W/p, D)

        z = patches(x) w + b     y = s act(z) + t

        dx = patches⁻¹(dz wᵀ)     dw = patches(x)ᵀ dz     db = Σ dz

    b, γ, β (D,). What the norm knows of act(z) is appended to `moments`.
    """
    p, _, c, d = w.shape
    patches, matrix = kernels.cut_patches(x, p), w.reshape(p * p * c, d)
    rows = patches.reshape(-1, p * p * c)
    z, mean, var = kernels.embed(rows, matrix, b, relu=relu)
    z = z.reshape(*patches.shape[:3], d)
    mean, var, whole = whole_moments(mean, var, len(rows))
    moments.append((mean, var, whole))
    rstd = inverse_std(var, eps)
    scale = gamma * rstd

    def backward(g):
        dgamma, dbeta = kernels.act_norm_sums(z, g, mean, rstd, relu=relu)
        sums = whole_sums(dgamma, dbeta, len(rows))
        norm = mean, rstd, gamma, *sums
        dz = kernels.act_norm_backward(z, g, norm, relu=relu).reshape(-1, d)

        def dx():
            return kernels.join_patches(kernels.matmul(dz, matrix.T).reshape(patches.shape), p)

        dw = kernels.matmul(rows.T, dz).reshape(w.shape)
        return dx, dw, kernels.channel_sum(dz), dgamma, dbeta

    return kernels.act_affine(z, scale, beta - mean * scale, relu=relu), backward


@op
def fused_blocks(
    x,
    *parameters,
    eps: Sequence[float],
    moments: list[Moments] | None,
    relu: bool = False,
    residual: bool = True,
    own: bool = False,
):
    """The blocks of a ConvMixer, one after the other.   x (N, H, W, C) -> as x

    parameters  of each block: w₁ (k, k, C), b₁, γ₁, β₁, w₂ (C, C), b₂, γ₂, β₂, the others (C,)
    eps         ε₁ and ε₂ of each block
    moments     what each norm knows of its input is appended to it; None: these are layer norms
    residual    whether the upper halves add their input; with batch norms they do
    own         whether no other operation uses these parameters: ranks then begin to sum the
                gradients of a block as soon as it has them

    A block has three arrays of the size of x: z₁, z₂ and its input. With batch norms the input is
    not saved: it is one pass over the z₂ of the block before, and computed again on the way back
    (Chen et al. 2016, arXiv:1604.06174).
    """
    blocks: list[tuple[Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]] = []
    y = x
    for i in range(len(eps) // 2):
        of, both = parameters[8 * i : 8 * i + 8], eps[2 * i : 2 * i + 2]
        if moments is None:
            y, output, back = layer_block(y, of, both, relu, residual)
        else:
            y, output, back = _block(y, of, both, moments, relu)
        blocks.append((output, back))

    def backward(g):
        gradients: list[Array] = []
        while blocks:
            _, back = blocks.pop()
            g, *of_parameters = back(g, blocks[-1][0]() if blocks else x)
            if own:
                i = 8 * len(blocks)
                announce(parameters[i : i + 8], of_parameters)
            gradients[:0] = of_parameters
        return g, *gradients

    return y, backward


def _block(
    x: Array,
    parameters: Sequence[Array],
    eps: Sequence[float],
    moments: list[Moments],
    relu: bool,
) -> tuple[Array, Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]:
    """One block: y, a function that computes it again, and its backward.

        z₁ = depthwise(x, w₁) + b₁     u = s₁ act(z₁) + t₁ + x        mixes places
        z₂ = u w₂ + b₂                 y = s₂ act(z₂) + t₂            mixes channels

    u is never written to memory: it goes into the product as it is computed. And back, x given:

        du = dz₂ w₂ᵀ                                  dw₂ = uᵀ dz₂            db₂ = Σ dz₂
        dx = dz₁ convolved with the flipped w₁ + du   dw₁ = correlate(x, dz₁) db₁ = Σ dz₁

    The sums that the first norm needs are taken from du while it is still in cache.
    """
    w1, b1, gamma1, beta1, w2, b2, gamma2, beta2 = parameters
    m = x.size // x.shape[-1]
    z1, mean1, var1 = kernels.mix_places(x, w1, b1, relu=relu)
    mean1, var1, whole = whole_moments(mean1, var1, m)
    rstd1 = inverse_std(var1, eps[0])
    scale1 = gamma1 * rstd1
    z2, mean2, var2 = kernels.mix_channels(z1, x, scale1, beta1 - mean1 * scale1, w2, b2, relu=relu)
    mean2, var2, whole = whole_moments(mean2, var2, m)
    rstd2 = inverse_std(var2, eps[1])
    scale2 = gamma2 * rstd2
    moments += [(mean1, var1, whole), (mean2, var2, whole)]
    saved = [z2]  # from where backward takes it, so that dx can have its memory

    def output():
        return kernels.act_affine(saved[0], scale2, beta2 - mean2 * scale2, relu=relu)

    def backward(g, x):
        z2 = saved.pop()
        dgamma2, dbeta2 = kernels.act_norm_sums(z2, g, mean2, rstd2, relu=relu)
        norm2 = mean2, rstd2, gamma2, *whole_sums(dgamma2, dbeta2, m)
        du, dw2, db2, dgamma1, dbeta1 = kernels.mix_channels_backward(
            z2, g, norm2, z1, x, (mean1, rstd1, gamma1, beta1), w2, relu=relu
        )
        del z2
        norm1 = mean1, rstd1, gamma1, *whole_sums(dgamma1, dbeta1, m)
        dx, dw1, db1 = kernels.mix_places_backward(z1, du, norm1, x, w1, relu=relu)
        return dx, dw1, db1, dgamma1, dbeta1, dw2, db2, dgamma2, dbeta2

    return output(), output, backward
