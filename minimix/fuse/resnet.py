"""A ResNet, fused: batch norm, the sum with the shortcut, and ReLU in one pass.

Here batch norm comes before the activation. A convolution writes z, which is all that is saved of
it: its input, or that of a block, is max(γ (z − μ) r + β + shortcut, 0) of what stands before it,
with r = 1/√(σ²+ε), computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from .. import kernels, nn
from ..autograd import Array, Tensor, is_recording, op
from ..kernels.reference.conv import result_size
from ..models import ResNet, resnet
from ..nn.module import is_observed
from ..parallel.moments import whole_moments, whole_sums
from .layers import Moments, contents, inverse_std, is_plain, move


class FusedResNet(ResNet):
    """What `fuse` returns: a ResNet that shares all but its `forward` with another one."""

    def __init__(self, model: ResNet) -> None:
        object.__setattr__(self, "__dict__", vars(model))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as ResNet, and with its errors."""
        if is_observed() or not isinstance(x, Tensor):
            return super().forward(x)
        return _one_by_one(list(self.children()), x)


# ---- what can be fused


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
        any(is_plain(convolution, kind, bias=False) for kind in (nn.Conv2d, nn.PointwiseConv2d))
        and is_plain(norm, nn.BatchNorm)
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


# ---- the rules


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
    return (1, _one_by_one(contents(first), x)) if is_plain(first, nn.Sequential) else None


def _own_blocks(layers: list[Any], x: Tensor) -> Taken:
    """Blocks that add their own input."""

    def belongs(block: Any) -> bool:
        units = _branch(block)
        alike = units and units[0].norm.training == _branch(layers[0])[0].norm.training
        own = alike and is_plain(block.downsample, nn.Identity)
        return bool(own) and _result(units, x) == x.shape

    blocks = [_branch(block) for block in takewhile(belongs, layers)]
    return (len(blocks), _run(x, None, blocks, Pad(1, 0))) if blocks else None


def _other_block(layers: list[Any], x: Tensor) -> Taken:
    """A block whose shortcut is another layer."""
    units = _branch(layers[0])
    shape = _result(units, x)
    if shape is None:
        return None
    shortcut = layers[0].downsample
    given, pad = None, None
    if (
        type(shortcut) is resnet.ConvShortcut
        and "forward" not in vars(shortcut)
        and len(shortcut) == 2
    ):
        unit = _unit(*shortcut)
        given = unit and _result([unit], x)
    elif type(shortcut) is resnet.PadShortcut and "forward" not in vars(shortcut):
        n, height, width, c = x.shape
        pad = Pad(shortcut.stride, shortcut.missing)
        given = n, -(-height // pad.stride), -(-width // pad.stride), c + pad.missing
    if given != shape:
        return None
    return 1, _run(x, None if pad else shortcut(x), [units], pad)


def _activated(layers: list[Any], x: Tensor) -> Taken:
    """Convolution, batch norm, ReLU."""
    if len(layers) < 3 or not is_plain(layers[2], nn.ReLU):
        return None
    unit = _unit(*layers[:2])
    return (3, _run(x, None, [[unit]])) if unit and _result([unit], x) else None


# ---- both ways to run


def _run(
    x: Tensor, shortcut: Tensor | None, blocks: list[list[Unit]], own: Pad | None = None
) -> Tensor:
    """Blocks in training or in evaluation. `own`: how each makes its shortcut of its input."""
    units = [unit for block in blocks for unit in block]
    if not units[0].norm.training:
        z, added = x.array, None if shortcut is None else shortcut.array
        for block in blocks:
            z = _infer_block(z, own.pad(z) if own else added, block)
        return Tensor(z)
    moments: list[Moments] = []
    y = fused_residuals(
        x,
        shortcut,
        *(p for unit in units for p in unit.parameters()),
        how=[[unit.how() for unit in block] for block in blocks],
        own=own,
        moments=moments,
    )
    move([unit.norm for unit in units], moments)
    return y


def _infer_block(x: Array, shortcut: Array | None, units: list[Unit]) -> Array:
    for i, unit in enumerate(units):
        w, gamma, beta = (p.array for p in unit.parameters())
        how, w = unit.how(), w if w.ndim == 4 else w[None, None]
        norm = unit.norm.running_mean, inverse_std(unit.norm.running_var, how.eps), gamma, beta
        added = shortcut if i == len(units) - 1 else None
        x = kernels.conv2d_relu(x, w, how.stride, how.padding, norm, added)
    return x


# ---- the operation


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
    own: Pad | None,
    moments: list[Moments],
):
    """Blocks of convolutions with batch norm and ReLU.   x (N, H, W, C) -> (N, H′, W′, D)

        y ← max(norm(conv(y, w)), 0)                 each convolution of a block but the last
        y ← max(norm(conv(y, w)) + shortcut, 0)      the last

    parameters  of each convolution: w, γ, β
    shortcut    (N, H′, W′, D), or None: there is none, or it is made of x
    own         how each block's shortcut is made of its own input; without, there is only one block
    how         stride, padding and ε of each convolution, block by block
    moments     what each norm knows of its input is appended to it

    Of each convolution its result z is saved; what ReLU gives is computed from it again.
    """
    of = (parameters[i : i + 3] for i in range(0, len(parameters), 3))
    blocks, y = [], x
    for block in how:
        blocks.append(Residual([Convolution(next(of), each) for each in block]))
        y = blocks[-1].forward(y, own.pad(y) if own else shortcut, moments)

    def backward(g):
        inputs = [x]
        for block in blocks[:-1]:
            inputs.append(block.output(inputs[-1]))
        gradients: list[Any] = []
        dx, output = (lambda: g), y
        added: Any = None
        while blocks:
            source = inputs.pop()
            dx, added, *of_parameters = blocks.pop().backward(dx, added, source, output)
            gradients[:0] = of_parameters
            output = source
        if not own:
            return dx, None if shortcut is None else added, *gradients
        return own.add(added, dx()), None, *gradients

    return y, backward


Gradient = Callable[[], Array]


class Pad(NamedTuple):
    """A shortcut without parameters: every `stride`-th pixel, and zeros for `missing` channels."""

    stride: int
    missing: int

    def pad(self, x: Array) -> Array:
        """x (N, H, W, C) -> (N, H/stride, W/stride, C + missing)"""
        if self == (1, 0):
            return x
        x = x[:, :: self.stride, :: self.stride]
        y = np.zeros((*x.shape[:3], x.shape[3] + self.missing), x.dtype)
        self._inside(y)[...] = x
        return y

    def add(self, g: Array, dx: Array) -> Array:
        """dx, to which the gradient of x is added, g being that of what `pad` makes of it."""
        dx[:, :: self.stride, :: self.stride] += self._inside(g)
        return dx

    def _inside(self, y: Array) -> Array:
        first = self.missing // 2
        return y[..., first : y.shape[3] - (self.missing - first)]


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
        self.rstd = inverse_std(var, self.how.eps)

    def output(self, shortcut: Array | None = None) -> Array:
        norm = self.mean, self.rstd, self.gamma, self.beta
        return kernels.normalize_relu(self.z, *norm, shortcut)

    def backward(
        self, dy: Gradient, added: Array | None, x: Array, y: Array
    ) -> tuple[Gradient, Array, Array, Array, Array]:
        """From the gradient of y = `output`, which is dy() + added, to those of x (a function), of
        the shortcut, and of w, γ and β. Frees z.

        A gradient comes from a function, so that it is freed as soon as it is used: what is written
        next takes its memory, which is still in the cache.
        """
        z, w = self.z, _kernel(self.w)
        del self.z
        rows, y = (a.reshape(-1, a.shape[-1]) for a in (z, y))
        added = None if added is None else added.reshape(rows.shape)
        g, mean, rstd = dy().reshape(rows.shape), self.mean, self.rstd
        h, dgamma, dbeta = kernels.relu_norm_sums(rows, y, g, mean, rstd, added)
        del g
        norm = mean, rstd, self.gamma, *whole_sums(dgamma, dbeta, len(rows))
        dz = [_single(kernels.batch_norm_dx(rows, h, norm).reshape(z.shape))]
        options = self.how.stride, 1, (self.how.padding,) * 4
        dw = kernels.conv2d_dw(_single(x), dz[0], w.shape[:2], *options).reshape(self.w.shape)
        return (
            lambda: kernels.conv2d_dx(dz.pop(), w, x.shape[1:3], *options)[..., 0, :],
            h.reshape(z.shape),
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

    def backward(self, dy: Gradient, added: Array | None, x: Array, y: Array) -> tuple[Any, ...]:
        """As that of a `Convolution`, of all of them."""
        gradients: list[Array] = []
        shortcut = None
        while self.convolutions:
            last = self.convolutions.pop()
            source = self.convolutions[-1].output() if self.convolutions else x
            dy, h, *of_parameters = last.backward(dy, added, source, y)
            gradients[:0] = of_parameters
            shortcut = h if shortcut is None else shortcut
            added, y = None, source
            del h
        return dy, shortcut, *gradients
