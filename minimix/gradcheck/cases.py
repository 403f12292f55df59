"""What is checked: every public operation, layer and model, where its gradient could go wrong.

Each case is an operation, how it is called, and how its inputs are drawn. `minimix gradcheck` runs
them all and prints a table. To add an operation, add its cases here; a test asks for at least one.

Small cases compare the whole Jacobian. Large ones, along random directions, have sizes that are no
multiple of a vector register or a cache block, since that is where compiled loops have their seams.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .. import functional as F
from .. import models, nn
from ..autograd import Array, Tensor
from ..fuse import fuse
from ..models.resnet import Bottleneck, ConvShortcut
from .check import Report, gradcheck

Draw = Callable[[np.random.Generator], Array]
Draws = Draw | tuple[int, ...]  # a shape stands for normal numbers


@dataclass(frozen=True)
class Case:
    """One gradient check.

    build    draws what is checked: a function or module, and its inputs by name
    options  what `gradcheck` is told
    """

    operation: str
    about: str
    build: Callable[[np.random.Generator], tuple[Callable[..., Tensor], dict[str, Any]]]
    options: dict[str, Any] = field(default_factory=dict)

    def check(self) -> Report:
        """The report of this case in the back end that is in force."""
        seed = zlib.crc32(f"{self.operation}, {self.about}".encode())
        f, inputs = self.build(np.random.default_rng(seed))
        return gradcheck(f, inputs, raise_on_failure=False, **self.options)


# ---- how inputs are drawn


def normal(*shape: int, scale: float = 1.0) -> Draw:
    return lambda rng: np.asarray(scale * rng.standard_normal(shape))


def positive(*shape: int) -> Draw:
    return lambda rng: np.asarray(rng.uniform(0.5, 2.0, shape))


def small(*shape: int) -> Draw:
    """Where 1/x and ln x bend within a step of the check."""
    return lambda rng: np.asarray(rng.uniform(0.005, 0.02, shape))


def apart(*shape: int) -> Draw:
    """Numbers of both signs, 0.1 from each other and 0.05 from 0: away from the kinks."""

    def draw(rng: np.random.Generator) -> Array:
        n = int(np.prod(shape))
        return (rng.permutation(n).reshape(shape) - n // 2 + 0.5) / 10

    return draw


def probabilities(*shape: int) -> Draw:
    return lambda rng: rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def _drawn(draws: dict[str, Draws], rng: np.random.Generator) -> dict[str, Array]:
    normals = {name: normal(*d) if isinstance(d, tuple) else d for name, d in draws.items()}
    return {name: draw(rng) for name, draw in normals.items()}


# ---- how cases are made


def _op(
    operation: str,
    about: str,
    call: Callable[..., Tensor] | None = None,
    linear: Sequence[str] = (),
    atol: float | None = None,
    **draws: Draws,
) -> Case:
    """A case of F.operation(*inputs), or of call(F.operation, *inputs)."""

    def build(rng: np.random.Generator) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        function = getattr(F, operation)

        def f(*inputs: Tensor) -> Tensor:
            return call(function, *inputs) if call else function(*inputs)

        f.__name__ = operation
        return f, _drawn(draws, rng)

    return Case(operation, about, build, {"linear": tuple(linear), "atol": atol})


def _module(
    about: str,
    make: Callable[[], nn.Module],
    call: Callable[..., Tensor] | None = None,
    evaluation: bool = False,
    zero: Sequence[str] = (),
    **draws: Draws,
) -> Case:
    """A case of make()(*inputs), or of call(make(), *inputs), its parameters included.

    zero  the parameters whose gradient is 0

    These are not what the module begins with: where γ is 1 and β is 0, a batch norm that forgets
    either is right.
    """

    def build(rng: np.random.Generator) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        module = make().astype(np.float64).train(not evaluation)
        for p in module.parameters():
            p.array = rng.uniform(-1, 1, p.shape)
        for _, buffer in module.named_buffers():
            buffer[...] = rng.uniform(0.5, 1.5, buffer.shape)
        inputs = _drawn(draws, rng)

        def f(*everything: Tensor) -> Tensor:
            given = everything[: len(inputs)]
            return call(module, *given) if call else module(*given)

        f.__name__ = type(module).__name__
        return f, {**inputs, **dict(module.named_parameters())}

    return Case(type(make()).__name__, about, build, {"zero": tuple(zero)})


def _turned(op: Callable[..., Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
    """op with x and the gradient both transposed in memory."""
    return F.transpose(op(F.transpose(x, axes=(2, 0, 1, 3)), *parameters), axes=(3, 1, 2, 0))


# ---- the cases

LABELS = np.array([3, 0, 4, 4, 1])
MEAN, VAR = np.array([0.5, -1.0, 2.0]), np.array([0.5, 1.0, 2.0])
CONVOLUTIONS: tuple[tuple[str, int, int, dict[str, Any]], ...] = (
    ("plain", 3, 2, {}),
    ("stride 2, padding 1", 3, 3, {"stride": 2, "padding": 1}),
    ("dilation 2, same", 3, 2, {"dilation": 2, "padding": "same"}),
    ("kernel 4, same", 4, 4, {"padding": "same"}),
    ("groups", 3, 3, {"groups": 2, "padding": "valid"}),
    ("a group a channel, stride 3", 2, 2, {"groups": 2, "stride": 3, "padding": 1}),
)

EINSUMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("nhtd, nhsd -> nhts", {"x": (2, 2, 3, 2), "y": (2, 2, 2, 2)}),
    ("ji, jk", {"x": (3, 2), "y": (3, 4)}),
    ("ij, k, jk -> ki", {"x": (2, 3), "y": (4,), "z": (3, 4)}),
    ("...i, i... -> ...", {"x": (2, 1, 3), "y": (3, 4)}),
    ("...i, i -> i", {"x": (1, 3), "y": (3,)}),
    ("iij -> j", {"x": (3, 3, 2)}),
    ("ijk -> kj", {"x": (2, 3, 4)}),
)

ABLATIONS: tuple[dict[str, Any], ...] = (
    {"norm": "layer", "residual": "both"},
    {"norm": "none", "residual": "none", "activation": "relu", "filters": "random"},
)

CASES: tuple[Case, ...] = (
    # arithmetic
    _op("add", "equal shapes", linear="xy", x=(3, 4), y=(3, 4)),
    _op("add", "broadcast both ways", linear="xy", x=(2, 1, 3), y=(4, 1)),
    _op("add", "a single number", linear="xy", x=(), y=(2, 3)),
    _op("add", "x + x", lambda add, x: add(x, x), linear="x", x=(4,)),
    _op("subtract", "broadcast both ways", linear="xy", x=(2, 1, 3), y=(4, 1)),
    _op("multiply", "broadcast both ways", linear="xy", x=(2, 1, 3), y=(4, 1)),
    _op("multiply", "x · x · x", lambda mul, x: mul(mul(x, x), x), x=(4,)),
    _op("divide", "broadcast both ways", linear="x", x=(2, 1, 3), y=positive(4, 1)),
    _op("divide", "negative divisor", lambda div, x, y: div(x, -y), x=(4,), y=positive(4)),
    _op("divide", "small divisors", x=(3,), y=small(3)),
    _op("power", "broadcast both ways", x=positive(2, 1, 3), y=(4, 1)),
    _op("power", "small bases", x=small(3), y=(3,)),
    _op("power", "negative base, whole exponent", lambda pow, x: pow(x, 3), x=(5,)),
    _op("power", "zero and one as exponents", lambda pow, x: pow(x, [[0], [1]]), x=(5,)),
    _op("negative", "", linear="x", x=(3, 4)),
    _op("exp", "", x=(3, 4)),
    _op("log", "", x=positive(3, 4)),
    _op("log", "of small numbers", x=small(3)),
    _op("sqrt", "", x=positive(3, 4)),
    _op("sqrt", "of small numbers", x=small(3)),
    _op("tanh", "", x=(3, 4)),
    _op("matmul", "matrices", linear="xy", x=(3, 4), y=(4, 2)),
    _op("matmul", "square matrices", linear="xy", x=(3, 3), y=(3, 3)),
    _op("matmul", "stacks, broadcast both ways", linear="xy", x=(2, 1, 3, 4), y=(3, 4, 2)),
    _op("matmul", "a stack and a matrix", linear="xy", x=(5, 3, 4), y=(4, 2)),
    _op("matmul", "vector and stack", linear="xy", x=(4,), y=(3, 4, 2)),
    _op("matmul", "stack and vector", linear="xy", x=(3, 2, 4), y=(4,)),
    _op("matmul", "two vectors", linear="xy", x=(4,), y=(4,)),
    _op("abs", "away from 0", x=apart(3, 4)),
    _op(
        "maximum",
        "broadcast both ways",
        lambda m, x, y: m(x, y + 0.05),
        x=apart(2, 1, 3),
        y=apart(4, 1),
    ),
    _op(
        "minimum",
        "broadcast both ways",
        lambda m, x, y: m(x, y + 0.05),
        x=apart(2, 1, 3),
        y=apart(4, 1),
    ),
    _op("clip", "both bounds", lambda clip, x: clip(x, low=-0.3, high=0.4), x=apart(3, 4)),
    _op("clip", "one bound", lambda clip, x: clip(x, high=[0.0, 0.1, 0.2, 0.3]), x=apart(3, 4)),
    _op(
        "where",
        "broadcast three ways",
        lambda where, x, y: where(np.eye(3)[:, None] > 0, x, y),
        linear="xy",
        x=(4, 1),
        y=(3,),
    ),
    _op("attention", "", q=(3, 4), k=(5, 4), v=(5, 2)),
    _op("attention", "images and heads", q=(2, 3, 4, 2), k=(2, 3, 4, 2), v=(2, 3, 4, 2)),
    _op("attention", "of itself", lambda f, x: f(x, x, x), x=(2, 3, 2)),
    _op("attention", "large", q=(2, 3, 37, 19), k=(2, 3, 67, 19), v=(2, 3, 67, 23)),
    *(
        _op(
            "einsum",
            subscripts,
            lambda einsum, *xs, subscripts=subscripts: einsum(subscripts, *xs),
            linear=list(shapes),
            **shapes,
        )
        for subscripts, shapes in EINSUMS
    ),
    # reductions
    _op("sum", "all axes", linear="x", x=(2, 3, 4)),
    _op("sum", "axes 0 and −1", lambda sum, x: sum(x, axis=(0, -1)), linear="x", x=(2, 3, 4)),
    _op("sum", "axis kept", lambda sum, x: sum(x, axis=-2, keepdims=True), x=(2, 3, 4)),
    _op("mean", "all axes", linear="x", x=(2, 3, 4)),
    _op("mean", "axes 0 and −1", lambda mean, x: mean(x, axis=(0, -1)), x=(2, 3, 4)),
    _op("mean", "axis kept", lambda mean, x: mean(x, axis=1, keepdims=True), x=(2, 3, 4)),
    _op("max", "all axes", x=apart(2, 3, 4)),
    _op("max", "axes 0 and −1", lambda max, x: max(x, axis=(0, -1)), x=apart(2, 3, 4)),
    _op("max", "axis kept", lambda max, x: max(x, axis=1, keepdims=True), x=apart(2, 3, 4)),
    _op("min", "axis kept", lambda min, x: min(x, axis=1, keepdims=True), x=apart(2, 3, 4)),
    _op("var", "all axes", x=(2, 3, 4)),
    _op("var", "axes 0 and −1", lambda var, x: var(x, axis=(0, -1), correction=1), x=(2, 3, 4)),
    _op("std", "all axes", x=(2, 3, 4)),
    _op("std", "axis kept", lambda s, x: s(x, axis=1, correction=1, keepdims=True), x=(2, 3, 4)),
    _op("max_pool2d", "", lambda pool, x: pool(x, size=2), x=apart(2, 4, 5, 2)),
    _op(
        "max_pool2d",
        "windows that overlap, padding",
        lambda pool, x: pool(x, size=3, stride=2, padding=1),
        x=apart(2, 4, 5, 2),
    ),
    _op(
        "max_pool2d",
        "large",
        lambda pool, x: pool(x, size=3, stride=2, padding=1),
        x=apart(3, 11, 13, 37),
    ),
    _op("avg_pool2d", "", lambda pool, x: pool(x, size=2), linear="x", x=(2, 4, 5, 2)),
    _op(
        "avg_pool2d",
        "windows that overlap, padding",
        lambda pool, x: pool(x, size=3, stride=2, padding=1),
        linear="x",
        x=(2, 4, 5, 2),
    ),
    # shape
    _op("reshape", "", lambda reshape, x: reshape(x, shape=(4, -1)), linear="x", x=(2, 3, 2)),
    _op("transpose", "reversed", linear="x", x=(2, 3, 4)),
    _op("transpose", "cycled", lambda t, x: t(x, axes=(1, -1, 0)), linear="x", x=(2, 3, 4)),
    _op("transpose", "cycled, a cube", lambda t, x: t(x, axes=(1, -1, 0)), linear="x", x=(3, 3, 3)),
    _op("swapaxes", "", lambda f, x: f(x, 0, -1), linear="x", x=(2, 3, 4)),
    _op("flatten", "", lambda f, x: f(x, 1, -2), linear="x", x=(2, 3, 2, 2)),
    _op("squeeze", "", lambda f, x: f(x, 1), linear="x", x=(2, 1, 3)),
    _op("unsqueeze", "", lambda f, x: f(x, -2), linear="x", x=(2, 3)),
    _op("broadcast_to", "", lambda f, x: f(x, shape=(4, -1, 3)), linear="x", x=(2, 1)),
    _op("flip", "all axes", linear="x", x=(3, 4)),
    _op("flip", "the last axis", lambda flip, x: flip(x, axis=-1), linear="x", x=(2, 3, 4)),
    _op("stack", "axis −2", lambda f, x, y: f([x, x, y], axis=-2), linear="xy", x=(2, 3), y=(2, 3)),
    _op("unbind", "", lambda f, x: f(x, 1)[0] * f(x, 1)[2], x=(2, 3, 4)),
    _op("split", "equal parts", lambda f, x: f(x, 3, -1)[0] * f(x, 3, -1)[2], x=(2, 6)),
    _op("split", "sizes", lambda f, x: f(x, (1, 3, 2))[1], linear="x", x=(6, 2)),
    _op("index", "slices", lambda i, x: i(x, at=np.s_[1:, ::-2, None]), linear="x", x=(3, 4)),
    _op("index", "one number", lambda i, x: i(x, at=(0, -1)), linear="x", x=(3, 4)),
    _op("index", "some read twice", lambda i, x: i(x, at=[2, 0, 2]), linear="x", x=(3, 4)),
    _op("index", "pairs", lambda i, x: i(x, at=([0, 1, 0], [2, 2, 2])), linear="x", x=(2, 3)),
    _op("index", "mask", lambda i, x: i(x, at=np.eye(3, dtype=bool)), linear="x", x=(3, 3, 2)),
    _op(
        "concatenate",
        "axis −1",
        lambda c, x, y, z: c([x, y, z], axis=-1),
        linear="xyz",
        x=(2, 3),
        y=(2, 1),
        z=(2, 2),
    ),
    _op("concatenate", "twice the same", lambda c, x: c([x, x]), linear="x", x=(2, 3)),
    _op("pad", "", lambda pad, x: pad(x, width=[(1, 0), (2, 3)]), linear="x", x=(2, 3)),
    # linear maps and convolutions
    _op("linear", "rows", linear="xwb", x=(3, 4), w=(4, 2), b=(2,)),
    _op("linear", "no bias, three axes", linear="xw", x=(2, 3, 4), w=(4, 2)),
    _op("linear", "a vector", linear="xwb", x=(4,), w=(4, 2), b=(2,)),
    _op("linear", "large", linear="xwb", x=(131, 67), w=(67, 45), b=(45,)),
    _op("pointwise_conv2d", "", linear="xwb", x=(2, 2, 3, 4), w=(4, 3), b=(3,)),
    _op("pointwise_conv2d", "no bias", linear="xw", x=(2, 2, 3, 4), w=(4, 3)),
    _op("pointwise_conv2d", "transposed", _turned, linear="xwb", x=(2, 3, 2, 4), w=(4, 3), b=(3,)),
    _op("pointwise_conv2d", "large", linear="xwb", x=(3, 7, 9, 37), w=(37, 41), b=(41,)),
    *(
        _op("depthwise_conv2d", f"kernel {k}", linear="xwb", x=(2, 4, 5, 3), w=(k, k, 3), b=(3,))
        for k in (1, 2, 3, 5)
    ),
    _op(
        "depthwise_conv2d", "kernel larger than the image", linear="xw", x=(2, 2, 3, 2), w=(5, 5, 2)
    ),
    _op(
        "depthwise_conv2d", "transposed", _turned, linear="xwb", x=(3, 3, 2, 3), w=(3, 3, 3), b=(3,)
    ),
    *(
        _op(
            "depthwise_conv2d",
            f"large, kernel {k}",
            linear="xwb",
            x=(2, 11, 13, 37),
            w=(k, k, 37),
            b=(37,),
        )
        for k in (3, 4, 5, 9)
    ),
    *(
        _op("patchify", f"patch {p}", linear="xwb", x=(2, 2 * p, 3 * p, 2), w=(p, p, 2, 3), b=(3,))
        for p in (1, 2, 3)
    ),
    _op("patchify", "transposed", _turned, linear="xw", x=(4, 2, 2, 3), w=(2, 2, 3, 2)),
    _op("patchify", "large", linear="xwb", x=(3, 12, 20, 3), w=(4, 4, 3, 37), b=(37,)),
    *(
        _op(
            "conv2d",
            about,
            lambda conv, *xwb, options=options: conv(*xwb, **options),
            linear="xwb",
            x=(2, 4, 5, 2),
            w=(k, l, 2 // options.get("groups", 1), 4),
            b=(4,),
        )
        for about, k, l, options in CONVOLUTIONS
    ),
    _op(
        "conv2d",
        "3×3",
        lambda conv, x, w, b: conv(x, w, b, padding=1),
        linear="xwb",
        x=(2, 8, 7, 9),
        w=(3, 3, 9, 11),
        b=(11,),
    ),
    _op(
        "conv2d",
        "large",
        lambda conv, x, w, b: conv(x, w, b, stride=2, padding=2, groups=3),
        linear="xwb",
        x=(3, 12, 13, 9),
        w=(5, 5, 3, 15),
        b=(15,),
    ),
    _op(
        "conv2d",
        "a group a channel, large",
        lambda conv, x, w: conv(x, w, stride=2, padding=1, groups=32),
        linear="xw",
        x=(2, 5, 16, 32),
        w=(3, 3, 1, 32),
    ),
    # activations
    _op("gelu", "exact", x=normal(3, 4, scale=2)),
    _op("gelu", "exact, every region of erf", x=lambda rng: np.linspace(-7, 7, 57)),
    _op("gelu", "exact, transposed", _turned, x=(2, 3, 2, 2)),
    _op("gelu", "exact, twice", lambda gelu, x: gelu(gelu(x)), x=normal(3, 4, scale=2)),
    _op("gelu", "exact, large", x=(37, 131)),
    _op("gelu", "tanh", lambda gelu, x: gelu(x, approximate="tanh"), x=normal(3, 4, scale=2)),
    _op("gelu", "tanh, large", lambda gelu, x: gelu(x, approximate="tanh"), x=(37, 131)),
    _op("relu", "away from 0", x=apart(3, 4)),
    _op("sigmoid", "", x=normal(3, 4, scale=3)),
    _op("softmax", "last axis", x=(3, 4)),
    _op("softmax", "first axis", lambda softmax, x: softmax(x, axis=0), x=(3, 4)),
    _op("log_softmax", "last axis", x=(3, 4)),
    _op("log_softmax", "first axis", lambda log_softmax, x: log_softmax(x, axis=0), x=(3, 4)),
    _op(
        "dropout",
        "the same mask each time",
        lambda f, x: f(x, p=0.4, rng=np.random.default_rng(0)),
        linear="x",
        x=(3, 4),
    ),
    # normalization
    _op("batch_norm", "training", x=(5, 3), gamma=(3,), beta=(3,)),
    _op("batch_norm", "training, images", x=(2, 2, 3, 3), gamma=(3,), beta=(3,)),
    _op("batch_norm", "training, transposed", _turned, x=(2, 3, 2, 3), gamma=(3,), beta=(3,)),
    _op("batch_norm", "training, large", x=(3, 7, 9, 37), gamma=(37,), beta=(37,)),
    _op(
        "batch_norm",
        "evaluation",
        lambda f, *xs: f(*xs, running_mean=MEAN, running_var=VAR, training=False),
        linear=("x", "gamma", "beta"),
        x=(5, 3),
        gamma=(3,),
        beta=(3,),
    ),
    _op("layer_norm", "rows", x=(3, 5), gamma=(5,), beta=(5,)),
    _op("layer_norm", "images", x=(2, 2, 3, 4), gamma=(4,), beta=(4,)),
    # pooling and loss
    _op("global_avg_pool", "", linear="x", x=(2, 3, 4, 3)),
    _op("cross_entropy", "integers", lambda loss, x: loss(x, LABELS), logits=(5, 6)),
    _op(
        "cross_entropy",
        "integers, smoothed",
        lambda f, x: f(x, LABELS, label_smoothing=0.2),
        logits=(5, 6),
    ),
    _op("cross_entropy", "probabilities", logits=(5, 6), targets=probabilities(5, 6)),
    _op("cross_entropy", "weights that sum to anything", logits=(5, 6), targets=positive(5, 6)),
    _op(
        "cross_entropy",
        "probabilities, smoothed",
        lambda f, x, q: f(x, q, label_smoothing=0.2),
        logits=(5, 6),
        targets=probabilities(5, 6),
    ),
    _op(
        "cross_entropy",
        "logits of ±10⁴",
        lambda loss, x: loss(x + 1e4 * np.cos(np.arange(30).reshape(5, 6)), LABELS),
        atol=1e-7,  # a logit of 10⁴ is rounded to 10⁻¹²
        logits=(5, 6),
    ),
    # layers
    _module("", lambda: nn.Linear(4, 3), x=(2, 4)),
    _module("no bias", lambda: nn.Linear(4, 3, bias=False), x=(2, 4)),
    _module("", lambda: nn.PointwiseConv2d(4, 3), x=(2, 2, 3, 4)),
    _module("kernel 3", lambda: nn.DepthwiseConv2d(2, 3), x=(2, 3, 4, 2)),
    _module("kernel 4", lambda: nn.DepthwiseConv2d(2, 4), x=(2, 3, 4, 2)),
    _module("patch 2", lambda: nn.Patchify(2, 3, 2), x=(2, 4, 2, 2)),
    _module(
        "stride, padding, groups",
        lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        x=(2, 4, 5, 2),
    ),
    _module("exact", nn.GELU, x=(3, 4)),
    _module("tanh", lambda: nn.GELU("tanh"), x=(3, 4)),
    _module("away from 0", nn.ReLU, x=apart(3, 4)),
    _module("", nn.Sigmoid, x=(3, 4)),
    _module("training", lambda: nn.BatchNorm(3), x=(2, 2, 2, 3)),
    _module("evaluation", lambda: nn.BatchNorm(3), evaluation=True, x=(2, 2, 2, 3)),
    _module("", lambda: nn.LayerNorm(4), x=(3, 4)),
    _module(
        "training, the same mask each time",
        lambda: nn.Dropout(0.4),
        lambda dropout, x: _reseeded(dropout)(x),
        x=(3, 4),
    ),
    _module("evaluation", nn.Dropout, evaluation=True, x=(3, 4)),
    _module("", nn.GlobalAvgPool, x=(2, 3, 2, 3)),
    _module("stride 2, padding 1", lambda: nn.MaxPool2d(3, 2, 1), x=apart(2, 4, 5, 2)),
    _module("stride 2, padding 1", lambda: nn.AvgPool2d(3, 2, 1), x=(2, 4, 5, 2)),
    _module("", lambda: nn.Affine(4), x=(2, 3, 4)),
    _module("", lambda: nn.MLP(3, 5), x=(2, 2, 3)),
    _module("", lambda: nn.PatchEmbed((4, 6), 2, 3, 2), x=(2, 4, 6, 2)),
    _module("2 heads", lambda: nn.SelfAttention(6, 2), x=(2, 4, 6)),
    _module("", nn.Identity, x=(3, 4)),
    _module(
        "linear, GELU, linear",
        lambda: nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)),
        x=(2, 3),
    ),
    _module(
        "called one by one",
        lambda: nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 2)]),
        lambda layers, x: layers[1](layers[0](x)),
        x=(2, 3),
    ),
    _module(
        "called by name",
        lambda: nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(4, 2)}),
        lambda layers, x: layers["b"](layers["a"](x)),
        x=(2, 3),
    ),
    _module(
        "a sum of products",
        lambda: nn.ParameterList([nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))]),
        lambda scales, x: x * scales[0] + x * x * scales[1],
        x=(2, 3),
    ),
    _module("around a linear map", lambda: nn.Residual(nn.Linear(3, 3)), x=(2, 3)),
    # whole models
    *(
        _module(
            f"{mode}, kernel {k}",
            lambda k=k: models.ConvMixer(5, 2, k, 2, 6),  # type: ignore[misc]
            evaluation=mode == "evaluation",
            x=(2, 8, 6, 3),
        )
        for mode in ("training", "evaluation")
        for k in (3, 4)
    ),
    _module(
        "with its loss, as trained",
        lambda: models.ConvMixer(19, 3, 5, 4, 6),
        lambda model, x: F.cross_entropy(model(x), LABELS, label_smoothing=0.1),
        x=(5, 16, 16, 3),
    ),
    *(
        _module(
            ", ".join(settings.values()),
            partial(models.ConvMixer, 3, 1, 3, 2, 2, **settings),
            x=(2, 4, 4, 3),
        )
        for settings in ABLATIONS
    ),
    *(
        _module(
            f"pool {pool}",
            partial(models.ViT, 4, 1, 2, 2, 3, image_size=4, pool=pool, in_channels=2),
            x=(2, 4, 4, 2),
        )
        for pool in ("token", "average", "distilled")
    ),
    _module("", partial(models.ResMLP, 3, 2, 2, 2, image_size=4), x=(2, 4, 4, 3)),
    _module(
        "",
        partial(models.MLPMixer, 3, 1, 2, 2, image_size=4),
        zero=["blocks.0.mlp_tokens.fc2.bias"],  # the same for all channels: norm takes it away
        x=(2, 4, 4, 3),
    ),
    _module("shortcut A", partial(models.ResNet, 8, 2, n_classes=3), x=(2, 5, 6, 3)),
    _module(
        "shortcut B, stem 7x7, evaluation",
        partial(models.ResNet, 8, 2, "7x7", "B", 2),
        evaluation=True,
        x=(2, 16, 14, 3),
    ),
    _module("", lambda: Bottleneck(3, 3, 2, ConvShortcut(3, 12, 2, None), None), x=(3, 6, 6, 3)),
    *(
        _module(
            f"{mode}, kernel 4",
            lambda: fuse(models.ConvMixer(5, 2, 4, 2, 6)),
            evaluation=mode == "evaluation",
            x=(2, 8, 6, 3),
        )
        for mode in ("training", "evaluation")
    ),
    _module(
        "layer norm",
        lambda: fuse(models.ConvMixer(5, 2, 3, 4, 6, norm="layer", stem_dim=3)),
        x=(2, 8, 4, 3),
    ),
    _module("shortcut A", lambda: fuse(models.ResNet(14, 2, n_classes=3)), x=(2, 5, 6, 3)),
    _module("", lambda: fuse(models.ViT(4, 1, 2, 2, 2, image_size=4)), x=(2, 4, 4, 3)),
    _module("", lambda: fuse(models.ResMLP(3, 2, 2, 2, image_size=4)), x=(2, 4, 4, 3)),
    _module(
        "",
        lambda: fuse(models.MLPMixer(3, 1, 2, 2, image_size=4)),
        zero=["blocks.0.mlp_tokens.fc2.bias"],
        x=(2, 4, 4, 3),
    ),
    _module(
        "with its loss, as trained",
        lambda: fuse(models.ConvMixer(19, 3, 5, 4, 6)),
        lambda model, x: F.cross_entropy(model(x), LABELS, label_smoothing=0.1),
        x=(5, 16, 16, 3),
    ),
)


def _reseeded(dropout: nn.Module) -> nn.Module:
    dropout.rng = np.random.default_rng(0)
    return dropout
