"""fuse(model): the same model in fewer passes over memory, several layers in one operation.

Activations do not fit into a cache, so a layer that reads and writes all of them for a handful of
multiplications mostly waits. Convolution, GELU and batch norm together need one pass: the
convolution writes z and, while z is still in cache, sums the moments of act(z); after that, batch
norm is a factor and a term for each channel,

    y = γ (a − μ) r + β = s a + t,     a = act(z),  r = 1/√(σ²+ε),  s = γ r,  t = β − μ s

which are applied wherever z is read next. Only z is saved for backward; a and y are computed again.

In the backward pass, with g = dy, batch norm first needs two sums over all pixels,

    dγ = Σ g x̂     dβ = Σ g     x̂ = (a − μ) r

and then every pixel of z gets dz = act′(z) γ r (g − dβ/M − x̂ dγ/M), again while it is read for
what comes next: the transposed convolution and the weight's gradient.

In evaluation μ and σ² are constants, and a whole stage is one pass that saves nothing.

A ResNet has its batch norms before the activation. There, normalization, the sum with the shortcut
and ReLU are one pass over z, and z is again all that is saved: the input of a convolution, or of a
block, is max(γ (z − μ) r + β + shortcut, 0), computed again on the way back.

First come the models, which decide whether all this applies, then the operations; the passes
themselves are kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from . import kernels, nn
from .autograd import Array, Tensor, is_recording, op
from .functional import concatenate
from .functional.norm import move_statistics, normalized_backward
from .kernels.reference.conv import result_size
from .models import ConvMixer, ResNet, resnet
from .nn.module import Module, is_observed
from .parallel.early import announce, announcing
from .parallel.moments import whole_moments, whole_sums

# In inference, as many images at a time as make about this many bytes a stage: what one stage
# writes is then still in cache when the next one reads it.
CACHED = 4 << 20


def fuse(model: Module) -> Module:
    """A faster model that shares everything with `model`, and gives the same numbers.

    What is fused are the blocks of a ConvMixer with batch norm, and the stem before them where it
    is a patch embedding; exact GELU or ReLU, whichever it has throughout. And of a ResNet the
    convolutions with batch norm and ReLU after them, and whole blocks. Any other model is returned
    as it is.

    The two are one model with two ways to run: what is assigned, loaded, trained, frozen or
    switched to evaluation in one is so in the other. Numbers differ by rounding only. Where the
    fused operations do not apply, the layers run one by one as in `model`: with batch norms in
    different modes, gradients in evaluation, layers of another kind, parameters or statistics of
    another precision, inside an `nn.observe` block.

    Errors: TypeError where `model` is not a Module.
    """
    if not isinstance(model, Module):
        raise TypeError(f"fuse: model is a {type(model).__name__}; expected a Module")
    if isinstance(model, ConvMixer) and type(model).forward is ConvMixer.forward:
        return FusedConvMixer(model)
    if isinstance(model, ResNet) and type(model).forward is ResNet.forward:
        return FusedResNet(model)
    return model


class FusedConvMixer(ConvMixer):
    """What `fuse` returns: a ConvMixer that shares all but its `forward` with another one."""

    def __init__(self, model: ConvMixer) -> None:
        object.__setattr__(self, "__dict__", vars(model))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as ConvMixer, and with its errors."""
        stem, blocks = _stages(self)
        if stem is not None and _fusible(self, x, [stem, *blocks]):
            return self._run(x, [stem, *blocks])
        x = self.stem(x)
        if blocks and _fusible(self, x, blocks):
            return self._run(x, blocks)
        return self.head(self.pool(self.blocks(x)))

    def _run(self, x: Tensor, stages: list[Stage]) -> Tensor:
        if stages[0].norm.training:
            return self.head(self.pool(_train(x, stages, own=announcing() and _is_own(self))))
        n, height, width, _ = x.shape
        p = stages[0].patch
        pixels = (height // p) * (width // p)
        size = x.array.itemsize * pixels * stages[0].norm.weight.size  # of one image, after a stage
        at_once = max(1, CACHED // size)
        parts = (x.array[i : i + at_once] for i in range(0, n, at_once))
        return self.head(concatenate([self.pool(Tensor(_infer(part, stages))) for part in parts]))


class FusedResNet(ResNet):
    """What `fuse` returns: a ResNet that shares all but its `forward` with another one."""

    def __init__(self, model: ResNet) -> None:
        object.__setattr__(self, "__dict__", vars(model))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as ResNet, and with its errors."""
        if is_observed() or not isinstance(x, Tensor):
            return super().forward(x)
        return _one_by_one(list(self.children()), x)


# ---- what can be fused of a ConvMixer


class Stage(NamedTuple):
    """A convolution, an activation, and the batch norm after it."""

    convolution: Any  # a Patchify, a DepthwiseConv2d or a PointwiseConv2d
    relu: bool
    norm: nn.BatchNorm

    @property
    def patch(self) -> int:
        """How many pixels down and across one result is for."""
        return len(self.convolution.weight) if type(self.convolution) is nn.Patchify else 1

    def parameters(self) -> tuple[Tensor, ...]:
        return self.convolution.weight, self.convolution.bias, self.norm.weight, self.norm.bias


def _stages(model: ConvMixer) -> tuple[Stage | None, list[Stage]]:
    """The stem's, or None where it has another kind; and two a block, none where one has."""
    stages: list[Stage] = []
    for block in _layers(model.blocks):
        residual, *rest = _layers(block) or [None]
        inside = _layers(residual.fn) if _is_plain(residual, nn.Residual) else []
        upper, lower = _stage(inside, nn.DepthwiseConv2d), _stage(rest, nn.PointwiseConv2d)
        if upper is None or lower is None:
            return None, []
        stages += upper, lower
    plain = _is_plain(model.blocks, nn.Sequential)
    return _stage(_layers(model.stem), nn.Patchify) if plain else None, stages


def _layers(layers: Any) -> list[Any]:
    """What a Sequential holds; nothing where it is none."""
    return list(layers.children()) if _is_plain(layers, nn.Sequential) else []


def _stage(layers: list[Any], convolution: type[nn.Module]) -> Stage | None:
    """These layers as one stage, if they are one."""
    if len(layers) != 3 or not any(_is_plain(layers[1], kind) for kind in (nn.GELU, nn.ReLU)):
        return None
    if not (_is_plain(layers[0], convolution) and _is_plain(layers[2], nn.BatchNorm)):
        return None
    return Stage(layers[0], type(layers[1]) is nn.ReLU, layers[2])


def _is_plain(layer: Any, kind: type[nn.Module], bias: bool = True) -> bool:
    """Whether a layer is of this kind, with all its parameters, and nothing about it replaced.

    Without a bias, where it is told that there is none.
    """
    own = vars(layer) if type(layer) is kind else {"forward": None}
    without = own.get("weight", 0) is None or (own.get("bias", 0) is None) is bias
    return not ("forward" in own or without or own.get("approximate", "none") != "none")


def _is_own(model: Module) -> bool:
    """Whether each parameter is in one place of the model."""
    places = [id(p) for _, m in model.named_modules() for p in m._parameters.values()]
    return len(places) == len(set(places))


def _fusible(model: ConvMixer, x: Tensor, stages: list[Stage]) -> bool:
    """Whether the fused operations give what these layers give for x."""
    if is_observed() or not isinstance(x, Tensor) or x.ndim != 4 or not x.size:
        return False
    n, height, width, channels = x.shape
    training, d, dtype = stages[0].norm.training, stages[0].norm.weight.size, x.dtype
    for convolution, relu, norm in stages:
        weight = convolution.weight.array
        k = weight.shape[:1] * 2
        shapes = {nn.Patchify: (*k, channels, d), nn.DepthwiseConv2d: (*k, d)}
        vectors = [convolution.bias.array, norm.weight.array, norm.bias.array]
        vectors += [norm.running_mean, norm.running_var]
        alike = [type(v) is np.ndarray and v.shape == (d,) and v.dtype == dtype for v in vectors]
        if not (
            norm.training == training
            and relu == stages[0].relu
            and all(isinstance(v, float) and 0 <= v <= 1 for v in (norm.momentum, norm.eps))
            and weight.shape == shapes.get(type(convolution), (d, d))
            and weight.dtype == dtype
            and all(alike)
        ):
            return False
    p, embeds = stages[0].patch, type(stages[0].convolution) is nn.Patchify
    if height % p or width % p or not (embeds or channels == d):
        return False
    if training:
        return n * (height // p) * (width // p) > 1
    # A pool of another kind may look at the whole batch.
    return _is_plain(model.pool, nn.GlobalAvgPool) and not is_recording()


# ---- what can be fused of a ResNet


class Unit(NamedTuple):
    """A convolution without a bias, and the batch norm after it."""

    convolution: Any  # a Conv2d or a PointwiseConv2d
    norm: nn.BatchNorm

    def how(self) -> How:
        options = getattr(self.convolution, "options", {"stride": 1, "padding": 0})
        return How(options["stride"], options["padding"], self.norm.eps)

    def parameters(self) -> tuple[Tensor, ...]:
        return self.convolution.weight, self.norm.weight, self.norm.bias

    def result(self, shape: tuple[int, ...], dtype: Any, training: bool) -> tuple[int, ...] | None:
        """The shape of what it makes of an image; None where it must run as it is."""
        how, norm, w = self.how(), self.norm, self.convolution.weight.array
        w = w if w.ndim == 4 else w[None, None]
        (n, height, width, c), (k, l, each, d) = shape, w.shape
        size = result_size((height, width), (k, l), how.stride, 1, (how.padding,) * 4)
        vectors = norm.weight.array, norm.bias.array, norm.running_mean, norm.running_var
        fits = (
            each == c
            and min(size) > 0
            and norm.training == training
            and all(isinstance(v, float) and 0 <= v <= 1 for v in (norm.momentum, norm.eps))
            and w.dtype == dtype
            and all(type(v) is np.ndarray and v.shape == (d,) and v.dtype == dtype for v in vectors)
            and n * size[0] * size[1] > (1 if training else 0)
        )
        return (n, *size, d) if fits else None


class How(NamedTuple):
    """What `fused_residuals` must know of a unit, beside its parameters."""

    stride: int
    padding: int
    eps: float


def _unit(convolution: Any, norm: Any) -> Unit | None:
    """These two layers as a unit, if they are one."""
    options = {"dilation": 1, "groups": 1} | getattr(convolution, "options", {})
    if not (
        any(_is_plain(convolution, kind, bias=False) for kind in (nn.Conv2d, nn.PointwiseConv2d))
        and _is_plain(norm, nn.BatchNorm)
        and options["dilation"] == options["groups"] == 1
        and all(type(options.get(name, 0)) is int for name in ("stride", "padding"))
        and options.get("stride", 1) > 0
        and options.get("padding", 0) >= 0
    ):
        return None
    return Unit(convolution, norm)


def _branch(block: Any) -> list[Unit]:
    """What a block adds to its shortcut, as units; none where it has something else."""
    if not (type(block) in (resnet.BasicBlock, resnet.Bottleneck) and "forward" not in vars(block)):
        return []
    numbers = "123" if type(block) is resnet.Bottleneck else "12"
    pairs = [(getattr(block, f"conv{i}"), getattr(block, f"bn{i}")) for i in numbers]
    units = [unit for pair in pairs if (unit := _unit(*pair))]
    return units if len(units) == len(pairs) else []


def _result(units: list[Unit], x: Tensor) -> tuple[int, ...] | None:
    """The shape of what units make of x; None where they must run as they are."""
    if not units or x.ndim != 4 or not x.size:
        return None
    training, shape = units[0].norm.training, x.shape
    if not training and is_recording():
        return None
    for unit in units:
        result = unit.result(shape, x.dtype, training)
        if result is None:
            return None
        shape = result
    return shape


def _one_by_one(layers: list[Any], x: Tensor) -> Tensor:
    """Layers one after the other: each time as many of them as a rule takes, or one as it is."""
    while layers:
        taken = (rule(layers, x) for rule in (_inside, _own_blocks, _other_block, _activated))
        n, y = next(filter(None, taken), (1, None))
        x = layers[0](x) if y is None else y
        layers = layers[n:]
    return x


Taken = tuple[int, Tensor] | None  # how many layers a rule has taken, and what they give


def _inside(layers: list[Any], x: Tensor) -> Taken:
    """The layers of a Sequential."""
    first = layers[0]
    return (1, _one_by_one(_layers(first), x)) if _is_plain(first, nn.Sequential) else None


def _own_blocks(layers: list[Any], x: Tensor) -> Taken:
    """Blocks that add their own input."""

    def belongs(block: Any) -> bool:
        units = _branch(block)
        alike = units and units[0].norm.training == _branch(layers[0])[0].norm.training
        own = alike and _is_plain(block.downsample, nn.Identity)
        return bool(own) and _result(units, x) == x.shape

    blocks = [_branch(block) for block in takewhile(belongs, layers)]
    return (len(blocks), _run(x, x, blocks)) if blocks else None


def _other_block(layers: list[Any], x: Tensor) -> Taken:
    """A block whose shortcut is another layer."""
    units = _branch(layers[0])
    shape = _result(units, x)
    if shape is None:
        return None
    shortcut = layers[0].downsample
    given = None
    if (
        type(shortcut) is resnet.ConvShortcut
        and "forward" not in vars(shortcut)
        and len(shortcut) == 2
    ):
        unit = _unit(*shortcut)
        given = unit and _result([unit], x)
    elif type(shortcut) is resnet.PadShortcut and "forward" not in vars(shortcut):
        n, height, width, c = x.shape
        s = shortcut.stride
        given = n, -(-height // s), -(-width // s), c + shortcut.missing
    return (1, _run(x, shortcut(x), [units])) if given == shape else None


def _activated(layers: list[Any], x: Tensor) -> Taken:
    """Convolution, batch norm, ReLU."""
    if len(layers) < 3 or not _is_plain(layers[2], nn.ReLU):
        return None
    unit = _unit(*layers[:2])
    return (3, _run(x, None, [[unit]])) if unit and _result([unit], x) else None


def _run(x: Tensor, shortcut: Tensor | None, blocks: list[list[Unit]]) -> Tensor:
    """Blocks in training or in evaluation. `shortcut` is x itself where all add their input."""
    units = [unit for block in blocks for unit in block]
    if not units[0].norm.training:
        z, added = x.array, None if shortcut is None else shortcut.array
        for block in blocks:
            z = added = _infer_block(z, added, block)
        return Tensor(z)
    moments: list[Moments] = []
    y = fused_residuals(
        x,
        None if shortcut is x else shortcut,
        *(p for unit in units for p in unit.parameters()),
        how=[[unit.how() for unit in block] for block in blocks],
        own=shortcut is x,
        moments=moments,
    )
    for unit, of_batch in zip(units, moments, strict=True):
        norm = unit.norm
        move_statistics(norm.running_mean, norm.running_var, *of_batch, norm.momentum)
    return y


def _infer_block(x: Array, shortcut: Array | None, units: list[Unit]) -> Array:
    for i, unit in enumerate(units):
        w, gamma, beta = (p.array for p in unit.parameters())
        mean, rstd = unit.norm.running_mean, _rstd(unit.norm.running_var, unit.norm.eps)
        added = shortcut if i == len(units) - 1 else None
        x = kernels.normalize_relu(_convolve(x, w, unit.how()), mean, rstd, gamma, beta, added)
    return x


# ---- both ways to run a ConvMixer


def _train(x: Tensor, stages: list[Stage], own: bool) -> Tensor:
    """Embedding, where it is among the stages, and blocks in training.

    own  whether each parameter is used here alone

    Running statistics move after all has been computed.
    """
    moments: list[Moments] = []
    y, blocks, relu = x, stages, stages[0].relu
    if type(stages[0].convolution) is nn.Patchify:
        stem, *blocks = stages
        eps = stem.norm.eps
        y = fused_embedding(x, *stem.parameters(), eps=eps, moments=moments, relu=relu)
    parameters = [p for stage in blocks for p in stage.parameters()]
    every_eps = [stage.norm.eps for stage in blocks]
    y = fused_blocks(y, *parameters, eps=every_eps, moments=moments, relu=relu, own=own)
    for stage, of_batch in zip(stages, moments, strict=True):
        norm = stage.norm
        move_statistics(norm.running_mean, norm.running_var, *of_batch, norm.momentum)
    return y


def _infer(x: Array, stages: list[Stage]) -> Array:
    """Embedding, where it is among the stages, and blocks in evaluation.   x (N, H, W, C)"""
    y = x
    for convolution, relu, norm in stages:
        w, b = convolution.weight.array, convolution.bias.array
        scale = norm.weight.array / np.sqrt(norm.running_var + norm.eps)
        scale = scale.astype(x.dtype)
        shift = norm.bias.array - norm.running_mean * scale
        if type(convolution) is nn.DepthwiseConv2d:
            y = kernels.infer_places(y, w, b, scale, shift, relu=relu)
            continue
        if type(convolution) is nn.Patchify:  # a patch is one pixel of many channels
            y = kernels.cut_patches(y, len(w))
        y = kernels.infer_channels(y, w.reshape(-1, b.size), b, scale, shift, relu=relu)
    return y


Moments = tuple[Array, Array, int]  # μ and σ², each (C,), and how many numbers a channel has


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
    rstd = _rstd(var, eps)
    scale = gamma * rstd

    def backward(g):
        dgamma, dbeta = kernels.act_norm_sums(z, g, mean, rstd, relu=relu)
        sums = whole_sums(dgamma, dbeta, len(rows))
        dz = kernels.act_norm_backward(z, g, mean, rstd, gamma, *sums, relu=relu).reshape(-1, d)

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
    moments: list[Moments],
    relu: bool = False,
    own: bool = False,
):
    """The blocks of a ConvMixer, one after the other.   x (N, H, W, C) -> as x

    parameters  of each block: w₁ (k, k, C), b₁, γ₁, β₁, w₂ (C, C), b₂, γ₂, β₂, the others (C,)
    eps         ε₁ and ε₂ of each block
    moments     what each norm knows of its input is appended to it
    own         whether no other operation uses these parameters: ranks then begin to sum the
                gradients of a block as soon as it has them

    A block has three arrays of the size of x: z₁, z₂ and its input. The input is not saved: it is
    one pass over the z₂ of the block before, and computed again on the way back (Chen et al. 2016,
    arXiv:1604.06174).
    """
    blocks: list[tuple[Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]] = []
    y = x
    for i in range(len(eps) // 2):
        output, back = _block(
            y, parameters[8 * i : 8 * i + 8], eps[2 * i : 2 * i + 2], moments, relu
        )
        y = output()
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
) -> tuple[Callable[[], Array], Callable[[Array, Array], tuple[Array, ...]]]:
    """One block: a function that computes y, as often as it is called, and its backward.

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
    rstd1 = _rstd(var1, eps[0])
    scale1 = gamma1 * rstd1
    z2, mean2, var2 = kernels.mix_channels(z1, x, scale1, beta1 - mean1 * scale1, w2, b2, relu=relu)
    mean2, var2, whole = whole_moments(mean2, var2, m)
    rstd2 = _rstd(var2, eps[1])
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

    return output, backward


def _rstd(var: Array, eps: float) -> Array:
    """r = 1/√(σ²+ε)"""
    return 1 / np.sqrt(var + var.dtype.type(eps))


# ---- a ResNet's blocks


def _single(a: Array) -> Array:
    """(…, C) -> (…, 1, C): all channels in one group."""
    return a[..., None, :]


def _kernel(w: Array) -> Array:
    """The weight of a convolution, also of a pointwise one, as `kernels.conv2d` has it."""
    return _single(w if w.ndim == 4 else w[None, None])


def _convolve(x: Array, w: Array, how: How) -> Array:
    return kernels.conv2d(_single(x), _kernel(w), how.stride, 1, (how.padding,) * 4)[..., 0, :]


@op
def fused_residuals(
    x,
    shortcut,
    *parameters,
    how: Sequence[Sequence[How]],
    own: bool,
    moments: list[Moments],
):
    """Blocks of convolutions with batch norm and ReLU.   x (N, H, W, C) -> (N, H′, W′, D)

        y ← max(norm(conv(y, w)), 0)                 each convolution of a block but the last
        y ← max(norm(conv(y, w)) + shortcut, 0)      the last

    parameters  of each convolution: w, γ, β
    shortcut    (N, H′, W′, D), or None: there is none
    own         each block's own input is its shortcut; else there is only one block
    how         stride, padding and ε of each convolution, block by block
    moments     what each norm knows of its input is appended to it

    Of each convolution its result z is saved; what ReLU gives is computed from it again.
    """
    of = (parameters[i : i + 3] for i in range(0, len(parameters), 3))
    blocks, y = [], x
    for block in how:
        blocks.append(Residual([Convolution(next(of), each) for each in block]))
        y = blocks[-1].forward(y, y if own else shortcut, moments)

    def backward(g):
        inputs = [x]
        for block in blocks[:-1]:
            inputs.append(block.output(inputs[-1]))
        gradients: list[Any] = []
        output = y
        while blocks:
            source = inputs.pop()
            dx, added, *of_parameters = blocks.pop().backward(g, source, output)
            gradients[:0] = of_parameters
            if not own:
                return dx, None if shortcut is None else added, *gradients
            g, output = dx(), source
            g += added
        return g, None, *gradients

    return y, backward


class Convolution:
    """A convolution and its norm: parameters, and after `forward` z and what the norm knows."""

    def __init__(self, parameters: Sequence[Array], how: How) -> None:
        self.w, self.gamma, self.beta = parameters
        self.how = how

    def forward(self, x: Array, moments: list[Moments]) -> None:
        self.z = _convolve(x, self.w, self.how)
        rows = self.z.reshape(-1, self.z.shape[-1])
        self.mean, var, whole = whole_moments(*kernels.channel_moments(rows), len(rows))
        moments.append((self.mean, var, whole))
        self.rstd = _rstd(var, self.how.eps)

    def output(self, shortcut: Array | None = None) -> Array:
        norm = self.mean, self.rstd, self.gamma, self.beta
        return kernels.normalize_relu(self.z, *norm, shortcut)

    def backward(self, g: Array, x: Array) -> tuple[Callable[[], Array], Array, Array, Array]:
        """From the gradient of the norm's result to those of x, w, γ and β. Frees z."""
        z, w = self.z, _kernel(self.w)
        del self.z
        rows, flat = (a.reshape(-1, a.shape[-1]) for a in (z, g))
        dz, dgamma, dbeta = normalized_backward(rows, flat, self.mean, self.rstd, self.gamma)
        dz = _single(dz.reshape(z.shape))
        options = self.how.stride, 1, (self.how.padding,) * 4
        dw = kernels.conv2d_dw(_single(x), dz, w.shape[:2], *options).reshape(self.w.shape)
        return (
            lambda: kernels.conv2d_dx(dz, w, x.shape[1:3], *options)[..., 0, :],
            dw,
            dgamma,
            dbeta,
        )


class Residual(NamedTuple):
    """Convolutions one after the other, the last of which adds a shortcut."""

    convolutions: list[Convolution]

    def forward(self, x: Array, shortcut: Array | None, moments: list[Moments]) -> Array:
        *others, last = self.convolutions
        for convolution in others:
            convolution.forward(x, moments)
            x = convolution.output()
        last.forward(x, moments)
        return last.output(shortcut)

    def output(self, shortcut: Array | None) -> Array:
        return self.convolutions[-1].output(shortcut)

    def backward(self, g: Array, x: Array, y: Array) -> tuple[Any, ...]:
        """The gradients of x (a function), of the shortcut, and of w, γ, β; y is the result."""
        gradients: list[Array] = []
        added = g = kernels.relu_backward(y, g)
        while True:
            last = self.convolutions.pop()
            source = self.convolutions[-1].output() if self.convolutions else x
            dx, *of_parameters = last.backward(g, source)
            gradients[:0] = of_parameters
            if not self.convolutions:
                return dx, added, *gradients
            g = kernels.relu_backward(source, dx())
