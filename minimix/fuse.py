"""fuse(model): the same ConvMixer in fewer passes over memory, several layers in one operation.

Activations do not fit into a cache, so a layer that reads and writes all of them for a handful of
multiplications mostly waits. Convolution, GELU and batch norm together need one pass: the
convolution writes z and, while z is still in cache, sums the moments of gelu(z); after that, batch
norm is a factor and a term for each channel,

    y = γ (a − μ) r + β = s a + t,     a = gelu(z),  r = 1/√(σ²+ε),  s = γ r,  t = β − μ s

which are applied wherever z is read next. Only z is saved for backward; a and y are computed again.

In the backward pass, with g = dy, batch norm first needs two sums over all pixels,

    dγ = Σ g x̂     dβ = Σ g     x̂ = (a − μ) r

and then every pixel of z gets dz = gelu′(z) γ r (g − dβ/M − x̂ dγ/M), again while it is read for
what comes next: the transposed convolution and the weight's gradient.

In evaluation μ and σ² are constants, and a whole stage is one pass that saves nothing.

First comes the model, which decides whether all this applies, then the operations; the passes
themselves are kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import kernels, nn
from .autograd import Array, Tensor, is_recording, op
from .functional import concatenate
from .functional.norm import move_statistics
from .models import ConvMixer
from .nn.module import is_observed
from .parallel.moments import whole_moments, whole_sums

# In inference, as many images at a time as make about this many bytes a stage: what one stage
# writes is then still in cache when the next one reads it.
CACHED = 4 << 20


def fuse(model: ConvMixer) -> FusedConvMixer:
    """A faster model that shares everything with `model`, and gives the same numbers.

    model  a ConvMixer of the layers that it is made with: exact GELU, biases, batch norm

    The two are one model with two ways to run: what is assigned, loaded, trained, frozen or
    switched to evaluation in one is so in the other. Numbers differ by rounding only. Where the
    fused operations do not apply, the layers run one by one as in `model`: with batch norms in
    different modes, gradients in evaluation, layers replaced later, parameters or statistics of
    another precision, inside an `nn.observe` block.

    Errors: TypeError, naming the layer, where `model` is not a ConvMixer or one of its layers is
    not the one that it was made with.
    """
    if not isinstance(model, ConvMixer):
        raise TypeError(f"fuse: model is a {type(model).__name__}; expected a ConvMixer")
    if type(model).forward not in (ConvMixer.forward, FusedConvMixer.forward):
        raise TypeError(f"fuse: {type(model).__name__} has a forward of its own; use it unfused")
    list(_stages(model))
    return FusedConvMixer(model)


class FusedConvMixer(ConvMixer):
    """What `fuse` returns: a ConvMixer that shares all but its `forward` with another one."""

    def __init__(self, model: ConvMixer) -> None:
        object.__setattr__(self, "__dict__", vars(model))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as ConvMixer, and with its errors."""
        stages = _fusible(self, x)
        if not stages:
            return super().forward(x)
        if stages[0].norm.training:
            return self.head(self.pool(_train(x, stages)))
        n, height, width, _ = x.shape
        p, _, _, d = stages[0].convolution.weight.shape
        size = x.array.itemsize * (height // p) * (width // p) * d  # of one image, after a stage
        at_once = max(1, CACHED // size)
        parts = (x.array[i : i + at_once] for i in range(0, n, at_once))
        return self.head(concatenate([self.pool(Tensor(_infer(part, stages))) for part in parts]))


# ---- what can be fused


class Stage(NamedTuple):
    """A convolution, GELU, and the batch norm after it."""

    convolution: Any  # a Patchify, a DepthwiseConv2d or a PointwiseConv2d
    norm: nn.BatchNorm

    def parameters(self) -> tuple[Tensor, ...]:
        return self.convolution.weight, self.convolution.bias, self.norm.weight, self.norm.bias


def _stages(model: ConvMixer) -> Iterator[Stage]:
    """The stem's, and two a block. TypeError, naming it, at a layer that has been replaced."""
    yield _stage("stem", _layers("stem", model.stem, 3), nn.Patchify)
    for i, block in enumerate(_layers("blocks", model.blocks)):
        residual, *rest = _layers(f"blocks.{i}", block, 4)
        _expect(f"blocks.{i}.0", residual, nn.Residual)
        inside = _layers(f"blocks.{i}.0.fn", residual.fn, 3)
        yield _stage(f"blocks.{i}.0.fn", inside, nn.DepthwiseConv2d)
        yield _stage(f"blocks.{i}", rest, nn.PointwiseConv2d, first=1)


def _layers(name: str, layers: Any, count: int | None = None) -> list[Any]:
    """What a Sequential holds, which must be as many layers as ConvMixer has there."""
    _expect(name, layers, nn.Sequential)
    inside = list(layers.children())
    if count is not None and len(inside) != count:
        raise TypeError(f"fuse: {name} has {len(inside)} layers; a ConvMixer has {count} there")
    return inside


def _stage(name: str, layers: list[Any], convolution: type[nn.Module], first: int = 0) -> Stage:
    for i, kind in enumerate((convolution, nn.GELU, nn.BatchNorm)):
        _expect(f"{name}.{first + i}", layers[i], kind)
    return Stage(layers[0], layers[2])


def _expect(name: str, layer: Any, kind: type[nn.Module]) -> None:
    """Raise TypeError unless `layer` is of this kind, as ConvMixer makes it."""
    own = vars(layer) if type(layer) is kind else {"forward": None}
    without = own.get("weight", 0) is None or own.get("bias", 0) is None
    if "forward" in own or without or own.get("approximate", "none") != "none":
        what = repr(layer).partition("(\n")[0]  # of one that holds others, the kind alone
        raise TypeError(
            f"fuse: {name} is {what}; expected a {kind.__name__} as ConvMixer has it. "
            "Use the model unfused"
        )


def _fusible(model: ConvMixer, x: Tensor) -> list[Stage]:
    """The stages of `model`, if the fused operations give what its layers give for x; else none."""
    if is_observed() or not isinstance(x, Tensor) or x.ndim != 4 or not x.size:
        return []
    try:
        stages = list(_stages(model))
    except TypeError:
        return []
    n, height, width, channels = x.shape
    training, d, dtype = stages[0].norm.training, stages[0].norm.weight.size, x.dtype
    for convolution, norm in stages:
        weight = convolution.weight.array
        k = weight.shape[:1] * 2
        shapes = {nn.Patchify: (*k, channels, d), nn.DepthwiseConv2d: (*k, d)}
        vectors = [convolution.bias.array, norm.weight.array, norm.bias.array]
        vectors += [norm.running_mean, norm.running_var]
        alike = [type(v) is np.ndarray and v.shape == (d,) and v.dtype == dtype for v in vectors]
        if not (
            norm.training == training
            and all(isinstance(v, float) and 0 <= v <= 1 for v in (norm.momentum, norm.eps))
            and weight.shape == shapes.get(type(convolution), (d, d))
            and weight.dtype == dtype
            and all(alike)
        ):
            return []
    p = stages[0].convolution.weight.shape[0]
    if height % p or width % p:
        return []
    if training:
        usable = n * (height // p) * (width // p) > 1
    else:
        pool = type(model.pool) is nn.GlobalAvgPool and "forward" not in vars(model.pool)
        usable = pool and not is_recording()  # a pool of another kind may look at the whole batch
    return stages if usable else []


# ---- both ways to run


def _train(x: Tensor, stages: list[Stage]) -> Tensor:
    """Embedding and blocks in training; running statistics move after all has been computed."""
    stem, *rest = stages
    moments: list[Moments] = []
    y = fused_embedding(x, *stem.parameters(), eps=stem.norm.eps, moments=moments)
    parameters = [p for stage in rest for p in stage.parameters()]
    y = fused_blocks(y, *parameters, eps=[stage.norm.eps for stage in rest], moments=moments)
    for stage, of_batch in zip(stages, moments, strict=True):
        norm = stage.norm
        move_statistics(norm.running_mean, norm.running_var, *of_batch, norm.momentum)
    return y


def _infer(x: Array, stages: list[Stage]) -> Array:
    """Embedding and blocks in evaluation.   x (N, H, W, C) -> (N, H/p, W/p, D)"""
    p, _, _, d = stages[0].convolution.weight.shape
    y = kernels.cut_patches(x, p)
    for convolution, norm in stages:
        w, b = convolution.weight.array, convolution.bias.array
        scale = norm.weight.array / np.sqrt(norm.running_var + norm.eps)
        scale = scale.astype(x.dtype)
        shift = norm.bias.array - norm.running_mean * scale
        if type(convolution) is nn.DepthwiseConv2d:
            y = kernels.infer_places(y, w, b, scale, shift)
        else:  # a patch is one pixel of many channels
            y = kernels.infer_channels(y, w.reshape(-1, d), b, scale, shift)
    return y


Moments = tuple[Array, Array, int]  # μ and σ², each (C,), and how many numbers a channel has


@op
def fused_embedding(x, w, b, gamma, beta, *, eps: float, moments: list[Moments]):
    """Patch embedding, GELU, batch norm.   x (N, H, W, C), w (p, p, C, D) -> (N, H/p, W/p, D)

        z = patches(x) w + b     y = s gelu(z) + t

        dx = patches⁻¹(dz wᵀ)     dw = patches(x)ᵀ dz     db = Σ dz

    b, γ, β (D,). What the norm knows of gelu(z) is appended to `moments`.
    """
    p, _, c, d = w.shape
    patches, matrix = kernels.cut_patches(x, p), w.reshape(p * p * c, d)
    rows = patches.reshape(-1, p * p * c)
    z, mean, var = kernels.embed(rows, matrix, b)
    z = z.reshape(*patches.shape[:3], d)
    mean, var, whole = whole_moments(mean, var, len(rows))
    moments.append((mean, var, whole))
    rstd = _rstd(var, eps)
    scale = gamma * rstd

    def backward(g):
        dgamma, dbeta = kernels.gelu_norm_sums(z, g, mean, rstd)
        sums = whole_sums(dgamma, dbeta, len(rows))
        dz = kernels.gelu_norm_backward(z, g, mean, rstd, gamma, *sums).reshape(-1, d)

        def dx():
            return kernels.join_patches(kernels.matmul(dz, matrix.T).reshape(patches.shape), p)

        dw = kernels.matmul(rows.T, dz).reshape(w.shape)
        return dx, dw, kernels.channel_sum(dz), dgamma, dbeta

    return kernels.gelu_affine(z, scale, beta - mean * scale), backward


@op
def fused_blocks(x, *parameters, eps: Sequence[float], moments: list[Moments]):
    """The blocks of a ConvMixer, one after the other.   x (N, H, W, C) -> as x

    parameters  of each block: w₁ (k, k, C), b₁, γ₁, β₁, w₂ (C, C), b₂, γ₂, β₂, the others (C,)
    eps         ε₁ and ε₂ of each block
    moments     what each norm knows of its input is appended to it

    A block has three arrays of the size of x: z₁, z₂ and its input. The input is not saved: it is
    one pass over the z₂ of the block before, and computed again on the way back (Chen et al. 2016,
    arXiv:1604.06174).
    """
    blocks: list[tuple[Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]] = []
    y = x
    for i in range(len(eps) // 2):
        output, back = _block(y, parameters[8 * i : 8 * i + 8], eps[2 * i : 2 * i + 2], moments)
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
    parameters: Sequence[Array],
    eps: Sequence[float],
    moments: list[Moments],
) -> tuple[Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]:
    """One block: a function that computes y, as often as it is called, and its backward.

        z₁ = depthwise(x, w₁) + b₁     u = s₁ gelu(z₁) + t₁ + x        mixes places
        z₂ = u w₂ + b₂                 y = s₂ gelu(z₂) + t₂            mixes channels

    u is never written to memory: it goes into the product as it is computed. And back, x given:

        du = dz₂ w₂ᵀ                                  dw₂ = uᵀ dz₂            db₂ = Σ dz₂
        dx = dz₁ convolved with the flipped w₁ + du   dw₁ = correlate(x, dz₁) db₁ = Σ dz₁

    The sums that the first norm needs are taken from du while it is still in cache.
    """
    w1, b1, gamma1, beta1, w2, b2, gamma2, beta2 = parameters
    m = x.size // x.shape[-1]
    z1, mean1, var1 = kernels.mix_places(x, w1, b1)
    mean1, var1, whole = whole_moments(mean1, var1, m)
    rstd1 = _rstd(var1, eps[0])
    scale1 = gamma1 * rstd1
    z2, mean2, var2 = kernels.mix_channels(z1, x, scale1, beta1 - mean1 * scale1, w2, b2)
    mean2, var2, whole = whole_moments(mean2, var2, m)
    rstd2 = _rstd(var2, eps[1])
    scale2 = gamma2 * rstd2
    moments += [(mean1, var1, whole), (mean2, var2, whole)]
    saved = [z2]  # from where backward takes it, so that dx can have its memory

    def output():
        return kernels.gelu_affine(saved[0], scale2, beta2 - mean2 * scale2)

    def backward(g, x):
        z2 = saved.pop()
        dgamma2, dbeta2 = kernels.gelu_norm_sums(z2, g, mean2, rstd2)
        norm2 = mean2, rstd2, gamma2, *whole_sums(dgamma2, dbeta2, m)
        du, dw2, db2, dgamma1, dbeta1 = kernels.mix_channels_backward(
            z2, g, norm2, z1, x, (mean1, rstd1, gamma1, beta1), w2
        )
        del z2
        norm1 = mean1, rstd1, gamma1, *whole_sums(dgamma1, dbeta1, m)
        dx, dw1, db1 = kernels.mix_places_backward(z1, du, norm1, x, w1)
        return dx, dw1, db1, dgamma1, dbeta1, dw2, db2, dgamma2, dbeta2

    return output, backward


def _rstd(var: Array, eps: float) -> Array:
    """r = 1/√(σ²+ε)"""
    return 1 / np.sqrt(var + var.dtype.type(eps))
