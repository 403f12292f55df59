"""A model as an ONNX file: the tape of a forward pass, in nodes that do the same.

`TABLE` has a translation for each operation, by the operation's name. Images stay (N, H, W, C);
only around convolutions, which ONNX has for (N, C, H, W) alone, axes are exchanged. N is free.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd import Array, Tensor
from ..errors import MinimixError
from ..nn import Module
from ..version import __version__
from .trace import BATCHES, Call, Pass, trace

OPSET = 17  # of ONNX's operators: LayerNormalization is as new as that
IR = 8  # the version of the file format that goes with it
LAST = 2**63 - 1


@dataclass
class Value:
    """What a node takes or gives.

    shapes    its shape in each of the two passes, where it is an argument of an operation
    constant  its numbers, where it is part of the model
    """

    name: str
    shapes: tuple[tuple[int, ...], ...] = ()
    constant: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[0]

    @property
    def ndim(self) -> int:
        return len(self.shapes[0])


TAKEN = re.compile(r"images|logits|[a-z]+_\d+")  # names of the graph's own values


@dataclass
class Graph:
    """The nodes and constants so far."""

    names: Mapping[int, str]  # of the model's parameters, by the identity of their arrays
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    number: Iterator[int] = field(default_factory=itertools.count)  # of the next constant
    result: tuple[tuple[int, ...], ...] = ()  # shapes of what the current operation has to give

    def node(self, kind: str, *inputs: Any, **attributes: Any) -> Value:
        """Add a node of this kind.   inputs: values; arrays and numbers, which become constants;
        None for one that is left out
        """
        from onnx import helper

        name = f"{kind.lower()}_{len(self.nodes)}"
        named = ["" if x is None else self.value(x).name for x in inputs]
        self.nodes.append(helper.make_node(kind, named, [name], name, **attributes))
        return Value(name)

    def value(self, x: Any) -> Value:
        if isinstance(x, Value):
            if x.constant is not None:
                self.constants.setdefault(x.name, x.constant)
            return x
        name = f"constant_{next(self.number)}"
        self.constants[name] = np.asarray(x)
        return Value(name)

    def of(self, array: Array) -> Value:
        """A constant that an operation takes, named as the parameter that it is."""
        kept = array.astype(np.float32)
        name = self.names.get(id(array)) or f"constant_{next(self.number)}"
        return Value(name, (array.shape, array.shape), kept)

    def turned(self, x: Value, axes: Sequence[int], shape: Sequence[int] = ()) -> Value | Array:
        """x with its axes in this order, and then of this shape."""
        if x.constant is not None:
            array = x.constant.transpose(axes)
            return np.ascontiguousarray(array.reshape(shape) if shape else array)
        y = self.node("Transpose", x, perm=list(axes))
        return self.node("Reshape", y, np.array(shape, np.int64)) if shape else y

    def lengths(self, shapes: Sequence[Sequence[int]]) -> Value | Array:
        """A shape, as a node takes it, given what it is in the two passes."""
        first, second = shapes
        parts: list[Value | Array] = []
        for a, b in zip(first, second, strict=True):
            if a == b:
                parts.append(np.array([a], np.int64))
            elif a * BATCHES[1] != b * BATCHES[0] or a % BATCHES[0]:
                raise MinimixError(
                    f"a shape is {tuple(first)} for {BATCHES[0]} images and {tuple(second)} for "
                    f"{BATCHES[1]}; it does not follow from their number"
                )
            else:
                n = self.node("Slice", self.node("Shape", Value("images")), _one(0), _one(1))
                parts.append(self.node("Mul", n, _one(a // BATCHES[0])))
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.array(first, np.int64)
        return self.node("Concat", *parts, axis=0)


def to_onnx(
    model: Module,
    image_shape: Sequence[int],
    *,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    about: Mapping[str, Any] | None = None,
) -> bytes:
    """The content of an .onnx file that computes what `model` computes in evaluation mode.

    image_shape  (H, W, C)
    normalize    mean and std, by channel: the file then takes images uint8 and normalizes them;
                 otherwise it takes them float32, normalized
    about        facts to be kept in the file's metadata, as JSON

    Input `images` (N, H, W, C), output `logits` (N, classes), for any N; opset 17.

    Errors: MinimixError where the package onnx is not installed, naming an operation that has no
    translation, or saying what in the model a file cannot express: float64, for one.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError as error:
        raise MinimixError(
            "this needs the package onnx: python -m pip install 'minimix[export]'"
        ) from error
    for name, array in model.state_dict().items():
        if array.dtype == np.float64:
            what = f"{name} is float64, and a file has numbers of float32"
            raise MinimixError(f"{what}; convert a copy of the model: .astype(np.float32)")
    passes = trace(model, image_shape)
    parameters = model.named_parameters()
    graph = Graph({id(p.array): name for name, p in parameters if not TAKEN.fullmatch(name)})
    start = Value("images")
    if normalize is not None:
        mean, std = (np.array(numbers, np.float64) for numbers in normalize)
        pixels = graph.node("Cast", start, to=TensorProto.FLOAT)
        scaled = graph.node("Mul", pixels, (1 / (255 * std)).astype(np.float32))
        start = graph.node("Add", scaled, (-mean / std).astype(np.float32))
    logits = _translate(graph, passes, start)
    graph.nodes.append(helper.make_node("Identity", [logits.name], ["logits"], "logits"))

    kind = TensorProto.FLOAT if normalize is None else TensorProto.UINT8
    inputs = [helper.make_tensor_value_info("images", kind, ["N", *image_shape])]
    shape = ["N", passes[0].logits.shape[1]]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
    constants = [numpy_helper.from_array(a, name) for name, a in graph.constants.items()]
    made = helper.make_model(
        helper.make_graph(graph.nodes, type(model).__name__, inputs, outputs, constants),
        producer_name="minimix",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    facts = about or {}
    helper.set_model_props(made, {k: json.dumps(v, ensure_ascii=False) for k, v in facts.items()})
    checker.check_model(made)
    return made.SerializeToString()


def _translate(graph: Graph, passes: tuple[Pass, Pass], start: Value) -> Value:
    """Add the nodes of all operations; the value that is the logits."""
    known = tuple({id(one.images): start} for one in passes)
    for calls in zip(*(one.calls for one in passes), strict=True):
        name = calls[0].name
        if name not in TABLE:
            raise MinimixError(f"{name} has no translation to ONNX; the model uses it")
        options = calls[0].options
        varying = name in ("reshape", "broadcast_to")  # whose shape may have N in it
        if not varying and not _same(options, calls[1].options):
            raise MinimixError(f"{name}: its options follow from the images; a file cannot say so")
        graph.result = tuple(call.result.shape for call in calls)
        result = TABLE[name](graph, *_arguments(graph, known, calls), **options)
        for values, call in zip(known, calls, strict=True):
            values[id(call.result)] = result
    found = [values.get(id(one.logits)) for values, one in zip(known, passes, strict=True)]
    if found[0] is None or found[0] is not found[1]:
        raise MinimixError("the logits are not the result of an operation on the tape")
    return found[0]


def _arguments(
    graph: Graph, known: Sequence[dict[int, Value]], calls: Sequence[Call]
) -> list[Value | None]:
    """The arguments of an operation: results of earlier ones, or parts of the model."""
    arguments: list[Value | None] = []
    for pair in zip(*(call.arguments for call in calls), strict=True):
        if pair[0] is None and pair[1] is None:
            arguments.append(None)
            continue
        arrays = [x.array if isinstance(x, Tensor) else np.asarray(x) for x in pair]
        before = [values.get(id(a)) for values, a in zip(known, arrays, strict=True)]
        if before[0] is not None and before[0] is before[1]:
            shapes = tuple(a.shape for a in arrays)
            arguments.append(Value(before[0].name, shapes, before[0].constant))
        elif before == [None, None] and np.array_equal(arrays[0], arrays[1]):
            arguments.append(graph.of(arrays[0]))
        else:
            raise MinimixError(
                f"{calls[0].name}: an argument follows from the images, but not by operations on "
                "the tape; compute it with minimix's operations"
            )
    return arguments


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b or a == b


def _one(n: int) -> Array:
    return np.array([n], np.int64)


# ------------------------------------------------------------------ the translations

Translation = Callable[..., Value]


def _plain(kind: str) -> Translation:
    """An operation that ONNX has under another name."""
    return lambda g, *xs: g.node(kind, *xs)


def gelu(g: Graph, x: Value, *, approximate: str = "none") -> Value:
    half = g.node("Mul", x, np.float32(0.5))
    if approximate == "tanh":
        cubed = g.node("Mul", g.node("Mul", x, x), x)
        inner = g.node("Add", x, g.node("Mul", cubed, np.float32(0.044715)))
        inner = g.node("Tanh", g.node("Mul", inner, np.float32(math.sqrt(2 / math.pi))))
    else:
        inner = g.node("Erf", g.node("Mul", x, np.float32(math.sqrt(0.5))))
    return g.node("Mul", half, g.node("Add", inner, np.float32(1)))


def softmax(g: Graph, x: Value, *, axis: int = -1) -> Value:
    return g.node("Softmax", x, axis=axis)


def log_softmax(g: Graph, x: Value, *, axis: int = -1) -> Value:
    return g.node("LogSoftmax", x, axis=axis)


def clip(g: Graph, x: Value, *, low: Any = None, high: Any = None) -> Value:
    for kind, bound in (("Max", low), ("Min", high)):
        x = x if bound is None else g.node(kind, x, np.asarray(bound, np.float32))
    return x


def where(g: Graph, condition: Value, x: Value, y: Value) -> Value:
    return g.node("Where", _fixed("where", condition, True).astype(bool), x, y)


def _fixed(name: str, x: Value | None, otherwise: float) -> Array:
    """The numbers of a value that is part of the model; `otherwise` where there is none."""
    if x is None:
        return np.array(otherwise)
    if x.constant is None:
        raise MinimixError(f"{name}: an argument is the result of an operation; it has to be fixed")
    return x.constant


def linear(g: Graph, x: Value, w: Value, b: Value | None = None) -> Value:
    y = g.node("MatMul", x, w)
    return y if b is None else g.node("Add", y, b)


def depthwise_conv2d(g: Graph, x: Value, w: Value, b: Value | None = None) -> Value:
    k, _, c = w.shape
    before = (k - 1) // 2
    pads = [before, before, k - 1 - before, k - 1 - before]
    return _conv(g, x, g.turned(w, (2, 0, 1), (c, 1, k, k)), b, group=c, pads=pads)


def patchify(g: Graph, x: Value, w: Value, b: Value | None = None) -> Value:
    return _conv(g, x, g.turned(w, (3, 2, 0, 1)), b, strides=[w.shape[0]] * 2)


def conv2d(
    g: Graph,
    x: Value,
    w: Value,
    b: Value | None = None,
    *,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Value:
    if padding == "same":
        zeros = [dilation * (k - 1) for k in w.shape[:2]]
        before = [n // 2 for n in zeros]
        pads = before + [n - m for n, m in zip(zeros, before, strict=True)]
    else:
        pads = [0 if padding == "valid" else int(padding)] * 4
    sizes = {"strides": [int(stride)] * 2, "dilations": [int(dilation)] * 2}
    return _conv(g, x, g.turned(w, (3, 2, 0, 1)), b, group=int(groups), pads=pads, **sizes)


def _conv(g: Graph, x: Value, w: Any, b: Value | None, **attributes: Any) -> Value:
    """ONNX's convolution, between exchanges of axes."""
    y = g.node("Conv", g.node("Transpose", x, perm=[0, 3, 1, 2]), w, b, **attributes)
    return g.node("Transpose", y, perm=[0, 2, 3, 1])


def batch_norm(
    g: Graph,
    x: Value,
    gamma: Value | None,
    beta: Value | None,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if training or running_mean is None or running_var is None:
        raise MinimixError("batch_norm: it looks at the batch, which in evaluation it must not")
    scale = 1 / np.sqrt(running_var.astype(np.float64) + eps)
    scale = scale * _fixed("batch_norm", gamma, 1.0)
    shift = _fixed("batch_norm", beta, 0.0) - running_mean * scale
    return g.node("Add", g.node("Mul", x, scale.astype(np.float32)), shift.astype(np.float32))


def layer_norm(g: Graph, x: Value, gamma: Value, beta: Value, *, eps: float = 1e-5) -> Value:
    return g.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=eps)


def attention(g: Graph, q: Value, k: Value, v: Value) -> Value:
    axes = [*range(k.ndim - 2), k.ndim - 1, k.ndim - 2]
    scaled = g.node("Mul", q, np.float32(1 / math.sqrt(max(q.shape[-1], 1))))
    scores = g.node("MatMul", scaled, g.node("Transpose", k, perm=axes))
    return g.node("MatMul", g.node("Softmax", scores, axis=-1), v)


def max_pool2d(
    g: Graph, x: Value, *, size: int, stride: int | None = None, padding: int = 0
) -> Value:
    return _pool(g, "MaxPool", x, size, stride, padding)


def avg_pool2d(
    g: Graph, x: Value, *, size: int, stride: int | None = None, padding: int = 0
) -> Value:
    return _pool(g, "AveragePool", x, size, stride, padding, count_include_pad=1)


def _pool(
    g: Graph, kind: str, x: Value, size: int, stride: int | None, padding: int, **more: Any
) -> Value:
    window = {"kernel_shape": [size] * 2, "strides": [stride or size] * 2, "pads": [padding] * 4}
    y = g.node(kind, g.node("Transpose", x, perm=[0, 3, 1, 2]), **window, **more)
    return g.node("Transpose", y, perm=[0, 2, 3, 1])


def _reduce(kind: str) -> Translation:
    def reduce(g: Graph, x: Value, *, axis: Any = None, keepdims: bool = False) -> Value:
        axes = _axes(x, axis)
        if not axes:  # to ONNX that would mean all of them
            return g.node("Identity", x)
        if kind == "ReduceSum":  # the one whose axes are an input in this opset
            return g.node(kind, x, np.array(axes, np.int64), keepdims=int(keepdims))
        return g.node(kind, x, axes=axes, keepdims=int(keepdims))

    return reduce


def var(
    g: Graph, x: Value, *, axis: Any = None, correction: float = 0, keepdims: bool = False
) -> Value:
    axes = _axes(x, axis)
    counts = [math.prod(shape[i] for i in axes) for shape in x.shapes]
    if correction and counts[0] != counts[1]:
        raise MinimixError("var: its correction is for the number of images, which is free")
    if not axes:  # each number's own
        return g.node("Sub", x, x)
    centered = g.node("Sub", x, g.node("ReduceMean", x, axes=axes, keepdims=1))
    squares = g.node("Mul", centered, centered)
    y = g.node("ReduceMean", squares, axes=axes, keepdims=int(keepdims))
    return g.node("Mul", y, np.float32(counts[0] / (counts[0] - correction))) if correction else y


def std(g: Graph, x: Value, **options: Any) -> Value:
    return g.node("Sqrt", var(g, x, **options))


def _axes(x: Value, axis: Any) -> list[int]:
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return [int(i) % x.ndim for i in axes]


def reshape(g: Graph, x: Value, *, shape: Any) -> Value:
    first, second = g.result
    free = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    if len(free) == 1 and 0 not in first:  # the one length that need not be said
        lengths = [-1 if i in free else n for i, n in enumerate(first)]
        return g.node("Reshape", x, np.array(lengths, np.int64))
    return g.node("Reshape", x, g.lengths(g.result), allowzero=1)


def broadcast_to(g: Graph, x: Value, *, shape: Any) -> Value:
    return g.node("Expand", x, g.lengths(g.result))


def transpose(g: Graph, x: Value, *, axes: Sequence[int] | None = None) -> Value:
    order = range(x.ndim)[::-1] if axes is None else [int(i) % x.ndim for i in axes]
    return g.node("Transpose", x, perm=list(order))


def flip(g: Graph, x: Value, *, axis: Any = None) -> Value:
    axes = _axes(x, axis)
    return _slice(g, x, {i: slice(None, None, -1) for i in axes})


def index(g: Graph, x: Value, *, at: Any) -> Value:
    """Slices, then the numbers and arrays of numbers, the last axis first, then new axes."""
    items = list(at) if isinstance(at, tuple) else [at]
    axes = sum(item is not None and item is not Ellipsis for item in items)
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    place = next(i for i, item in enumerate(items) if item is Ellipsis)
    items[place : place + 1] = [slice(None)] * (x.ndim - axes)
    arrays = [item for item in items if isinstance(item, (np.ndarray, list))]
    numbers = [item for item in items if isinstance(item, (int, np.integer))]
    plain = all(np.asarray(a).dtype.kind in "iu" and np.ndim(a) == 1 for a in arrays)
    if not plain or (arrays and len(arrays) + len(numbers) > 1):
        raise MinimixError(f"index: {at!r:.60} has no translation to ONNX")
    kept = [item for item in items if not isinstance(item, (int, np.integer))]
    new = [i for i, item in enumerate(kept) if item is None]
    items = [item for item in items if item is not None]
    y = _slice(g, x, {i: item for i, item in enumerate(items) if isinstance(item, slice)})
    for i in range(len(items))[::-1]:
        if not isinstance(items[i], slice):
            y = g.node("Gather", y, np.asarray(items[i], np.int64), axis=i)
    return g.node("Unsqueeze", y, np.array(new, np.int64)) if new else y


def _slice(g: Graph, x: Value, slices: Mapping[int, slice]) -> Value:
    slices = {i: s for i, s in slices.items() if s != slice(None)}
    if not slices:
        return g.node("Identity", x)
    rows = []
    for s in slices.values():
        step = 1 if s.step is None else int(s.step)
        start = (0 if step > 0 else LAST) if s.start is None else int(s.start)
        stop = (LAST if step > 0 else -LAST) if s.stop is None else int(s.stop)
        rows.append((start, stop, step))
    starts, stops, steps = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return g.node("Slice", x, starts, stops, np.array(list(slices), np.int64), steps)


def concatenate(g: Graph, *xs: Value, axis: int) -> Value:
    return g.node("Concat", *xs, axis=int(axis) % xs[0].ndim)


def stack(g: Graph, *xs: Value, axis: int) -> Value:
    axis = int(axis) % (xs[0].ndim + 1)
    return g.node("Concat", *(g.node("Unsqueeze", x, _one(axis)) for x in xs), axis=axis)


def pad(g: Graph, x: Value, *, width: Sequence[tuple[int, int]]) -> Value:
    sides = [int(before) for before, _ in width] + [int(after) for _, after in width]
    return g.node("Pad", x, np.array(sides, np.int64))


def einsum(g: Graph, *xs: Value, subscripts: str) -> Value:
    return g.node("Einsum", *xs, equation=subscripts.replace(" ", ""))


TABLE: dict[str, Translation] = {
    **{
        name: _plain(kind)
        for name, kind in {
            "abs": "Abs",
            "add": "Add",
            "divide": "Div",
            "exp": "Exp",
            "log": "Log",
            "matmul": "MatMul",
            "maximum": "Max",
            "minimum": "Min",
            "multiply": "Mul",
            "negative": "Neg",
            "power": "Pow",
            "relu": "Relu",
            "sigmoid": "Sigmoid",
            "sqrt": "Sqrt",
            "subtract": "Sub",
            "tanh": "Tanh",
        }.items()
    },
    **{
        name: _reduce(kind)
        for name, kind in {
            "max": "ReduceMax",
            "mean": "ReduceMean",
            "min": "ReduceMin",
            "sum": "ReduceSum",
        }.items()
    },
    **{
        translation.__name__: translation
        for translation in (
            *(attention, avg_pool2d, batch_norm, broadcast_to, clip, concatenate, conv2d),
            *(depthwise_conv2d, einsum, flip, gelu, index, layer_norm, linear, log_softmax),
            *(max_pool2d, pad, patchify, reshape, softmax, stack, std, transpose, var, where),
        )
    },
    "pointwise_conv2d": linear,
}
