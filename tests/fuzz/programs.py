"""Random programs over the public operations, and what each of them means in plain NumPy.

A program is a list of steps; each names an operation, the values that go in, and its options. It
can be run twice: by minimix, and by `MEANING`, which is written from the definitions, in float64,
with nothing of minimix in it.
"""

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minimix as mx
from minimix import functional as F

# ------------------------------------------------------------------ what operations mean

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _windows(x, k, stride, padding, border=0.0):
    """(N, H′, W′, C, k, k)"""
    sides = (padding, padding)
    x = np.pad(x, ((0, 0), sides, sides, (0, 0)), constant_values=border)
    return sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]


def _conv2d(x, w, b, *, stride, padding, dilation, groups):
    windows = _windows(x, dilation * (len(w) - 1) + 1, stride, padding)
    parts = zip(
        np.split(windows[..., ::dilation, ::dilation], groups, 3),
        np.split(w, groups, 3),
        strict=True,
    )
    return np.concatenate([np.einsum("nhvcij,ijcd->nhvd", *part) for part in parts], -1) + b


def _attention(q, k, v):
    return _softmax(q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1]), -1) @ v


def _overlapping(x, index, join):
    """Slices of slices that read places twice, and the whole again."""
    part = index(x, slice(1, None))
    return join((index(x, slice(None, -1)), part * 2, index(part, slice(None, None, -2)), x))


def _depthwise(x, w, b):
    k = len(w)
    before = (k - 1) // 2
    x = np.pad(x, ((0, 0), (before, k - 1 - before), (before, k - 1 - before), (0, 0)))
    return np.einsum("nhvcij,ijc->nhvc", sliding_window_view(x, (k, k), axis=(1, 2)), w) + b


def _patchify(x, w, b):
    p = len(w)
    windows = sliding_window_view(x, (p, p), axis=(1, 2))[:, ::p, ::p]
    return np.einsum("nhvcij,ijcd->nhvd", windows, w) + b


def _normalize(x, axes, gamma, beta):
    centered = x - x.mean(axis=axes, keepdims=True)
    return gamma * centered / np.sqrt((centered**2).mean(axis=axes, keepdims=True) + 1e-5) + beta


def _softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _cross_entropy(x, *, labels, label_smoothing):
    k = x.shape[1]
    target = (1 - label_smoothing) * np.eye(k)[labels] + label_smoothing / k
    return -(target * np.log(_softmax(x, 1))).sum() / len(x)


MEANING = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": lambda x, y: x / (2 + np.tanh(y)),
    "power": lambda x, y: (1.5 + np.tanh(x)) ** np.tanh(y),
    "matmul": np.matmul,
    "negative": np.negative,
    "exp": lambda x: np.exp(np.tanh(x)),
    "log": lambda x: np.log(2 + np.tanh(x)),
    "sqrt": lambda x: np.sqrt(2 + np.tanh(x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "softmax": lambda x, *, axis: _softmax(x, axis),
    "log_softmax": lambda x, *, axis: np.log(_softmax(x, axis)),
    "sum": lambda x, *, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims) / 3,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "var": lambda x, *, axis, keepdims: np.var(x, axis=axis, keepdims=keepdims),
    "abs": np.abs,
    "clip": lambda x, *, low, high: np.clip(x, low, high),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": lambda x, y, *, condition: np.where(condition, x, y),
    "einsum": lambda x, y, *, subscripts: np.einsum(subscripts, x, y),
    "attention": _attention,
    "max_pool2d": lambda x, *, size, stride, padding: np.max(
        _windows(x, size, stride, padding, -np.inf), (-1, -2)
    ),
    "avg_pool2d": lambda x, *, size, stride, padding: np.mean(
        _windows(x, size, stride, padding), (-1, -2)
    ),
    "flip": lambda x, *, axis: np.flip(x, axis),
    "swapaxes": lambda x, *, axis1, axis2: np.swapaxes(x, axis1, axis2),
    "broadcast_to": lambda x, *, shape: np.broadcast_to(x, shape),
    "stack": lambda x, y, *, axis: np.stack((x, y, x), axis),
    "unbind": lambda x, *, axis: sum(np.moveaxis(x, axis, 0)) + np.take(x, 0, axis),
    "split": lambda x, *, cut, axis: np.concatenate(np.split(x, [cut], axis)[::-1], axis),
    "overlapping": lambda x: _overlapping(x, lambda a, at: a[at], np.concatenate),
    "reshape": lambda x, *, shape: np.reshape(x, shape),
    "transpose": lambda x, *, axes: np.transpose(x, axes),
    "index": lambda x, *, at: x[at],
    "concatenate": lambda x, y, *, axis: np.concatenate((x, y), axis),
    "pad": lambda x, *, width: np.pad(x, width),
    "linear": lambda x, w, b: x @ w + b,
    "pointwise_conv2d": lambda x, w, b: x @ w + b,
    "depthwise_conv2d": _depthwise,
    "patchify": _patchify,
    "conv2d": _conv2d,
    "batch_norm": lambda x, g, b: _normalize(x, tuple(range(x.ndim - 1)), g, b),
    "layer_norm": lambda x, g, b: _normalize(x, -1, g, b),
    "global_avg_pool": lambda x: x.mean(axis=(1, 2)),
    "cross_entropy": _cross_entropy,
}


def _sum(parts):
    return functools.reduce(lambda a, b: a + b, parts)


OPERATION = {name: getattr(F, name) for name in MEANING if hasattr(F, name)} | {
    "divide": lambda x, y: F.divide(x, 2 + F.tanh(y)),
    "power": lambda x, y: F.power(1.5 + F.tanh(x), F.tanh(y)),
    "exp": lambda x: F.exp(F.tanh(x)),
    "log": lambda x: F.log(2 + F.tanh(x)),
    "sqrt": lambda x: F.sqrt(2 + F.tanh(x)),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sum": lambda x, *, axis, keepdims: F.sum(x, axis=axis, keepdims=keepdims) / 3,
    "concatenate": lambda x, y, *, axis: F.concatenate((x, y), axis),
    "where": lambda x, y, *, condition: F.where(condition, x, y),
    "einsum": lambda x, y, *, subscripts: F.einsum(subscripts, x, y),
    "swapaxes": lambda x, *, axis1, axis2: F.swapaxes(x, axis1, axis2),
    "stack": lambda x, y, *, axis: F.stack((x, y, x), axis),
    "unbind": lambda x, *, axis: _sum(F.unbind(x, axis)) + F.unbind(x, axis)[0],
    "split": lambda x, *, cut, axis: F.concatenate(
        F.split(x, [cut, x.shape[axis] - cut], axis)[::-1], axis
    ),
    "overlapping": lambda x: _overlapping(x, lambda a, at: a[at], F.concatenate),
    "cross_entropy": lambda x, *, labels, label_smoothing: F.cross_entropy(
        x, labels, label_smoothing=label_smoothing
    ),
}


KINKED = {"relu", "max", "min", "abs", "clip", "maximum", "minimum", "max_pool2d"}


# ------------------------------------------------------------------ programs


@dataclass
class Program:
    """Leaves, float64 arrays, and steps over them: (operation, places of what goes in, options)."""

    leaves: list[np.ndarray] = field(default_factory=list)
    steps: list[tuple[str, tuple[int, ...], dict]] = field(default_factory=list)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def smooth(self) -> bool:
        """Whether nothing in it has a kink, where finite differences say nothing."""
        return not KINKED & {name for name, _, _ in self.steps}

    def meaning(self, leaves):
        """Every value of it, leaves first, in plain NumPy."""
        values = list(leaves)
        for name, places, options in self.steps:
            values.append(np.asarray(MEANING[name](*(values[i] for i in places), **options)))
        return values

    def run(self, leaves, cotangents):
        """By minimix: every value, then the gradient of each leaf of Σ value · cotangent."""
        tensors = [mx.Tensor(leaf, requires_grad=True) for leaf in leaves]
        values = list(tensors)
        for name, places, options in self.steps:
            values.append(OPERATION[name](*(values[i] for i in places), **options))
        total = mx.Tensor(np.zeros((), leaves[0].dtype))
        for value, cotangent in zip(values, cotangents, strict=True):
            total = total + (value * cotangent.astype(value.dtype)).sum()
        total.backward()
        return [value.array for value in values], [t.grad for t in tensors]


class Author:
    """Writes a program: draws an operation that fits a value drawn before, and what it needs."""

    def __init__(self, rng: np.random.Generator, large: bool = False) -> None:
        self.rng, self.program = rng, Program()
        n, side, c = (6, 16, 64) if large else (int(rng.integers(1, 4)), int(rng.integers(1, 7)), 3)
        self.leaf((n, side, side, c + int(rng.integers(0, 3))))
        self.values: list[int] = [0]

    def leaf(self, shape) -> int:
        """A new leaf; returns its place. Places are negative until `written` knows them all."""
        self.program.leaves.append(self.rng.standard_normal(shape))
        return -len(self.program.leaves)

    def written(self, length: int) -> Program:
        """A program of so many steps."""
        names = list(MEANING)
        shapes = {-1: self.program.leaves[0].shape}  # of values, by place
        values = [-1]
        steps = []
        tries = 0
        while len(steps) < length and tries < 100 * length:
            tries += 1
            name = names[self.rng.integers(len(names))]
            place = values[-1] if self.rng.random() < 0.7 else self.rng.choice(values)
            found = self.fit(name, int(place), shapes, values)
            if found is None:
                continue
            others, options = found
            for other in others:
                if other < 0:
                    shapes[other] = self.program.leaves[-other - 1].shape
            steps.append((name, (int(place), *others), options))
            ins = [np.zeros(shapes[i]) for i in steps[-1][1]]
            shape = np.shape(MEANING[name](*ins, **options))
            values.append(len(steps) - 1)
            shapes[len(steps) - 1] = shape
        count = len(self.program.leaves)

        def place(i):
            return -i - 1 if i < 0 else count + i

        self.program.steps = [(n, tuple(map(place, ins)), o) for n, ins, o in steps]
        return self.program

    def fit(self, name, place, shapes, values):
        """What goes in beside the value at `place`, and options; None where it does not fit."""
        rng, shape = self.rng, shapes[place]
        size = math.prod(shape)
        image = len(shape) == 4
        c = shape[-1] if shape else 0
        axis = int(rng.integers(-len(shape), len(shape))) if shape else 0
        if size > 200_000:
            return None
        match name:
            case "add" | "subtract" | "multiply" | "divide" | "power" | "maximum" | "minimum":
                same = [v for v in values if shapes[v] == shape]
                if rng.random() < 0.4:
                    return [int(rng.choice(same))], {}
                cut = int(rng.integers(0, len(shape) + 1))
                other = tuple(1 if rng.random() < 0.3 else n for n in shape[cut:])
                return [self.leaf(other)], {}
            case "matmul":
                if not shape:
                    return None
                lead = shape[:-2] if rng.random() < 0.3 else ()
                tail = (c,) if rng.random() < 0.2 else (c, int(rng.integers(1, 5)))
                return [self.leaf((*lead, *tail) if len(tail) == 2 else tail)], {}
            case "softmax" | "log_softmax":
                return ([], {"axis": axis}) if shape else None
            case "sum" | "mean" | "max" | "min" | "var":
                if rng.random() < 0.2 or not shape:
                    return [], {"axis": None, "keepdims": bool(rng.random() < 0.5)}
                return [], {"axis": axis, "keepdims": bool(rng.random() < 0.5)}
            case "reshape":
                factors = [n for n in range(1, size + 1) if size % n == 0][:8]
                first = int(rng.choice(factors))
                return [], {"shape": (first, -1)}
            case "transpose":
                return [], {"axes": tuple(map(int, rng.permutation(len(shape))))}
            case "index":
                return ([], {"at": self.places(shape)}) if shape else None
            case "concatenate":
                if not shape:
                    return None
                other = list(shape)
                other[axis] = int(rng.integers(1, 4))
                return [self.leaf(tuple(other))], {"axis": axis}
            case "pad":
                if not shape:
                    return None
                return [], {"width": [tuple(map(int, rng.integers(0, 2, 2))) for _ in shape]}
            case "linear" | "pointwise_conv2d":
                if not shape or (name == "pointwise_conv2d" and not image):
                    return None
                d = int(rng.integers(1, 9))
                return [self.leaf((c, d)), self.leaf((d,))], {}
            case "depthwise_conv2d":
                k = int(rng.integers(1, 8))
                return ([self.leaf((k, k, c)), self.leaf((c,))], {}) if image else None
            case "patchify":
                if not image:
                    return None
                fits = [p for p in (1, 2, 3, 4) if not (shape[1] % p or shape[2] % p)]
                p, d = int(rng.choice(fits)), int(rng.integers(1, 6))
                return [self.leaf((p, p, c, d)), self.leaf((d,))], {}
            case "conv2d":
                k, padding = int(rng.integers(1, 4)), int(rng.integers(0, 3))
                dilation, groups = (
                    int(rng.integers(1, 3)),
                    int(rng.choice([1, 1, c, math.gcd(c, 4)])),
                )
                if not image or min(shape[1:3]) + 2 * padding < dilation * (k - 1) + 1:
                    return None
                d = groups * int(rng.integers(1, 3)) if groups > 1 else int(rng.integers(1, 12))
                options = {"stride": int(rng.integers(1, 4)), "padding": padding}
                options |= {"dilation": dilation, "groups": groups}
                return [self.leaf((k, k, c // groups, d)), self.leaf((d,))], options
            case "max_pool2d" | "avg_pool2d":
                k = int(rng.integers(1, 5))
                padding = int(rng.integers(0, k // 2 + 1))
                if not image or min(shape[1:3]) + 2 * padding < k:
                    return None
                return [], {"size": k, "stride": int(rng.integers(1, 6)), "padding": padding}
            case "attention":
                if len(shape) < 2:
                    return None
                lead, s, e = shape[:-2], int(rng.integers(1, 6)), int(rng.integers(1, 5))
                if rng.random() < 0.3:
                    return [place, place], {}
                return [self.leaf((*lead, s, c)), self.leaf((*lead, s, e))], {}
            case "einsum":
                if not 2 <= len(shape) <= 4:
                    return None
                letters = "abcd"[: len(shape)]
                kept = rng.permutation([*letters[:-1], "z"])
                other = self.leaf((*shape[:1], c, 3)), f"{letters[0]}{letters[-1]}z"
                return [other[0]], {"subscripts": f"{letters},{other[1]}->{''.join(kept)}"}
            case "clip":
                return [], {"low": -0.5, "high": float(rng.uniform(0, 1))}
            case "where":
                return [self.leaf(shape)], {"condition": rng.random(shape) < 0.5}
            case "stack":
                return [self.leaf(shape)], {"axis": axis}
            case "flip" | "unbind":
                return ([], {"axis": axis}) if shape else None
            case "swapaxes":
                return ([], {"axis1": axis, "axis2": -1}) if shape else None
            case "broadcast_to":
                wider = tuple(3 if n == 1 and rng.random() < 0.5 else n for n in shape)
                return [], {"shape": (2, *wider) if rng.random() < 0.3 else wider}
            case "split":
                return (
                    ([], {"cut": int(rng.integers(0, shape[axis] + 1)), "axis": axis})
                    if shape
                    else None
                )
            case "overlapping":
                return ([], {}) if shape and shape[0] > 1 else None
            case "batch_norm" | "layer_norm":
                if not shape or (name == "batch_norm" and size // max(1, c) < 2) or c < 2:
                    return None
                return [self.leaf((c,)), self.leaf((c,))], {}
            case "global_avg_pool":
                return ([], {}) if image else None
            case "cross_entropy":
                if len(shape) != 2:
                    return None
                labels = rng.integers(0, shape[1], shape[0])
                return [], {"labels": labels, "label_smoothing": float(rng.choice([0, 0.1]))}
        return [], {}

    def places(self, shape):
        """An index that leaves something of every axis: integers, slices of any step, arrays."""
        rng, at = self.rng, []
        for n in shape:
            match rng.integers(5):
                case 0:
                    at.append(slice(None))
                case 1:
                    at.append(slice(None, None, -1))
                case 2:
                    at.append(slice(int(rng.integers(0, n)), None, int(rng.integers(1, 3))))
                case 3:
                    at.append(int(rng.integers(-n, n)))
                case 4:
                    at.append(rng.integers(-n, n, 3) if not any(map(_array, at)) else slice(None))
        return tuple(at)


def _array(i):
    return isinstance(i, np.ndarray)


def disguised(array, dtype, rng):
    """The same numbers in memory of another kind: transposed, reversed, with gaps, read-only …"""
    array = array.astype(dtype)
    match rng.integers(7):
        case 1 if array.ndim:
            array = np.asfortranarray(array)
        case 2 if array.ndim:
            array = array[::-1].copy()[::-1]
        case 3 if array.ndim:
            spread = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, dtype)
            spread[..., ::2] = array
            array = spread[..., ::2]
        case 4:
            raw = np.empty(array.nbytes + 1, np.uint8)  # at an odd address
            odd = raw[1:].view(dtype).reshape(array.shape)
            odd[...] = array
            array = odd
        case 5:
            array.flags.writeable = False
        case 6 if array.ndim:
            array = np.ascontiguousarray(array.T).T
    return array
