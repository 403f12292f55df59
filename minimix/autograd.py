"""The engine: tensors, the tape, and backward.

A `Tensor` is an array that remembers where it came from. An operation is a plain function of
arrays that returns its result and a backward function:

    @op
    def multiply(x, y):
        def backward(g):
            return g * y, g * x
        return x * y, backward

`@op` lifts it to tensors. Calling it appends a `Node` to the tape: the tensors that went in and
the backward function. `Tensor.backward` walks the nodes from the newest to the oldest,
passes each one the gradient of its output, and adds what it returns to the gradients of the tensors
that went in: the chain rule, and nothing else. (Reverse-mode automatic differentiation: Linnainmaa
1970; Baydin et al. 2018, arXiv:1502.05767.)

The engine knows no kernel, and operations only by name: `x + y` calls what `minimix.functional`,
one floor above, has put into `operations` as "add".
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast, overload

import numpy as np

from .errors import float_dtype

Array = np.ndarray
Backward = Callable[[Array], Any]  # from the gradient of a result to those of the arguments
Axis = int | tuple[int, ...] | None  # one axis, several, or all
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# NumPy's functions that need no gradient, and its names of options where ours are others.
ANSWERS = {"allclose", "argmax", "argmin", "argsort", "array_equal", "array_equiv", "isclose"}
BOUNDS = {"a_min": "low", "a_max": "high", "min": "low", "max": "high"}
OPTIONS = {**BOUNDS, "ddof": "correction", "pad_width": "width", "newshape": "shape"}
# Functions in C, whose arguments NumPy before 2.4 does not name.
IN_C = {"concatenate": lambda arrays, axis=0: None, "where": lambda condition, x, y: None}
operations: dict[str, Callable[..., Any]] = {}  # by name; filled by minimix.functional
numpys: dict[str, Callable[..., Any]] = {}  # by NumPy's name, where that is not ours

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])

_serial = itertools.count()
_blocks = ContextVar("no_grad", default=0)  # how many no_grad blocks this thread or task is in


class Node:
    """One line of the tape: which tensors went in, and how a gradient comes back.

    `serial` counts up as the tape is written, so an output's number is always larger than its
    inputs' and the order of the tape is already a topological order: no sorting of graphs.
    """

    __slots__ = ("backward", "inputs", "names", "op", "serial", "shape", "versions")

    def __init__(
        self, op: str, names: Sequence[str], inputs: tuple[Tensor, ...], y: Tensor, back: Backward
    ) -> None:
        self.op, self.names, self.inputs = op, names, inputs
        self.versions = tuple(t.version for t in (*inputs, y))
        self.shape = y.shape
        self.backward: Backward | None = back
        self.serial = next(_serial)

    def pull(self, version: int, g: Array) -> list[tuple[Tensor, Array | Part]]:
        """The inputs that require a gradient, each with its share of `g`. Frees what was saved.

        version  that of the result as it is now
        """
        if self.backward is None:
            raise RuntimeError(
                f"backward has already passed through this {self.op}, and what it saved is freed; "
                "run the forward pass again before a second backward"
            )
        named = [*(f"argument {name!r}" for name in self.names), "the result"]
        versions = [*(t.version for t in self.inputs), version]
        for name, now, recorded in zip(named, versions, self.versions, strict=True):
            if now != recorded:
                raise RuntimeError(
                    f"{self.op}: {name} was changed in place after the forward pass "
                    f"(version {now}, recorded {recorded}); the gradient would be wrong. "
                    "Change it after backward, or work on a copy"
                )
        backward, inputs, self.backward = self.backward, self.inputs, None
        self.inputs, self.versions = (), ()
        shares = backward(g)
        shares = shares if isinstance(shares, tuple) else (shares,)
        if len(shares) != len(inputs):
            given = f"{len(shares)} gradients for {len(inputs)} arguments"
            raise RuntimeError(f"{self.op}: backward returned {given}")
        return [
            (t, share if isinstance(share, Part) else self._checked(name, t, share))
            for name, t, share in zip(self.names, inputs, shares, strict=True)
            if t.requires_grad
        ]

    def _checked(self, name: str, t: Tensor, share: Any) -> Array:
        """One gradient: computed if it was deferred, un-broadcast, its shape and dtype checked."""
        if callable(share):
            share = share()
        if share is None:
            raise RuntimeError(f"{self.op} has no gradient for its argument {name!r}")
        share = np.asarray(share)
        if share.shape != t.shape and share.shape == self.shape and share.ndim >= t.ndim:
            share = unbroadcast(share, t.shape)
        if share.shape != t.shape or share.dtype != t.dtype:
            given, wanted = (f"{a.dtype} of shape {a.shape}" for a in (share, t))
            raise RuntimeError(f"{self.op}: the gradient of {name!r} is {given}, not {wanted}")
        return share


class Part:
    """A gradient that is 0 but for one part, x[at], no place of which was read twice.

    Called, it is an array. Where one is waiting already, it is added to that part alone: a tensor
    that is cut into pieces would otherwise have a gradient of its whole size from each of them.
    """

    def __init__(self, x: Array, at: Any, g: Array) -> None:
        self.x, self.at, self.g = x, at, g

    def __call__(self) -> Array:
        dx = np.zeros_like(self.x)
        dx[self.at] = self.g
        return dx


def _accumulate(
    shares: list[tuple[Tensor, Array | Part]], waiting: dict[Tensor, Array], owned: set[Tensor]
) -> None:
    """Add each share to the gradient waiting for its tensor. `owned`: those summed here."""
    for source, share in shares:
        if isinstance(share, Part):
            if source in owned:
                waiting[source][share.at] += share.g
                continue
            share = share()
            if source not in waiting:
                owned.add(source)  # an array that nobody else has
        if source not in waiting:
            waiting[source] = share
        elif source in owned:
            waiting[source] += share
        else:  # the first two shares may be one array, or the caller's: add into a new one
            waiting[source] = np.asarray(waiting[source] + share)  # also of single numbers
            owned.add(source)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum `g` over the axes along which an array of `shape` was broadcast to `g.shape`.

    Broadcasting copies a value to many places; the derivative of a copy is a sum.
    """
    g = g.reshape((1,) * (len(shape) - g.ndim) + g.shape)
    axes = tuple(i for i in range(-g.ndim, 0) if -i > len(shape) or g.shape[i] != 1 == shape[i])
    total = g.sum(axis=axes, keepdims=True, dtype=np.float64).astype(g.dtype) if axes else g
    return total.reshape(total.shape[g.ndim - len(shape) :])


class Tensor:
    """An array of float32 or float64 that remembers how it was computed.

    Tensor(array, requires_grad=False). Numbers, lists and integer arrays become float32; float32
    and float64 arrays are kept as they are, without a copy.

        array          the NumPy array. Assigning to it (or `t.array -= …`) is noticed by the tape;
                       writing into it through a slice is not: use `t[...] = …`, which is
        grad           the gradient that `backward` left here, an array of the same shape and
                       dtype; None before. Gradients add up until `zero_grad`
        requires_grad  whether backward should leave a gradient here
        shape, ndim, size, dtype   those of the array

    Operators and methods are operations of `minimix.functional`. NumPy's functions are too, where
    both have one of the same name (np.exp, np.concatenate); the others are NumPy's own, and refuse
    a tensor that requires a gradient, since the gradient would be lost. Comparisons give NumPy
    arrays of bool, which have no gradient. Tensors are hashed by identity.
    """

    __slots__ = (
        "__weakref__", "_array", "_keeps_grad", "_version", "grad", "node", "requires_grad"
    )  # fmt: skip

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        if isinstance(array, Tensor):
            raise TypeError("Tensor(x): x is a Tensor already; use x itself, or x.detach()")
        self._array: Array = _floats(array)
        self.requires_grad = bool(requires_grad)
        self.grad: Array | None = None
        self.node: Node | None = None
        self._version = [0]  # one count for all tensors that share this memory
        self._keeps_grad = False

    # ---- what it looks like

    @property
    def array(self) -> Array:
        return self._array

    @array.setter
    def array(self, value: Array) -> None:
        value = np.asarray(value, dtype=self.dtype)
        if value.shape != self.shape:
            raise ValueError(f"assigned shape {value.shape} to a tensor of shape {self.shape}")
        self._only_leaves("assigning to it would cut the tape: assign to a leaf, or .detach()")
        self._array = value
        self.version += 1

    @property
    def version(self) -> int:
        """How often these numbers were changed in place; the tape compares it."""
        return self._version[0]

    @version.setter
    def version(self, value: int) -> None:
        self._version[0] = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def is_leaf(self) -> bool:
        """Whether it was created directly, not by a recorded operation."""
        return self.node is None

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self._array.item())

    def __int__(self) -> int:
        return int(self._array.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"a tensor of shape {self.shape} is neither true nor false; "
                "compare it and use .any() or .all()"
            )
        return bool(self._array.item())

    def __repr__(self) -> str:
        body = np.array2string(self._array, prefix="Tensor(", precision=4, threshold=60)
        tail = f", op={self.node.op}" if self.node else ""
        tail += ", requires_grad=True" if self.requires_grad and self.is_leaf else ""
        return f"Tensor({body}, {self.dtype}{tail})"

    def item(self) -> float:
        """The value of a tensor of one element, as a Python float."""
        return self._array.item()

    def numpy(self) -> Array:
        """The array itself (no copy)."""
        return self._array

    def detach(self) -> Tensor:
        """A leaf with the same array that requires no gradient and remembers nothing."""
        leaf = Tensor(self._array)
        leaf._version = self._version
        return leaf

    def astype(self, dtype: Any) -> Tensor:
        """A leaf, copied into float32 or float64.

        Errors: ValueError for another dtype; RuntimeError for a result that is on the tape, since
        no gradient would flow back: convert what went in, or .detach() first.
        """
        self._only_leaves("astype would cut the tape: convert the leaves, or .detach() first")
        return Tensor(self._array.astype(float_dtype(dtype)), requires_grad=self.requires_grad)

    def __getstate__(self) -> Any:
        """What copy and pickle take: all of a leaf. A copied result would have a tape of its own,
        which leads to copies of the leaves, so no gradient would ever reach the leaves themselves.
        """
        self._only_leaves(
            "only leaves can be copied or pickled: use .detach(), or compute it again"
        )
        return super().__getstate__()

    def _only_leaves(self, why: str) -> None:
        if self.node is not None:
            raise RuntimeError(f"this tensor is the result of {self.node.op}; {why}")

    # ---- for NumPy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.requires_grad and is_recording():
            raise TypeError(
                "a tensor that requires a gradient would lose it as part of a NumPy array; use "
                "minimix.functional (concatenate puts tensors together), or .detach() where "
                "no gradient should flow back"
            )
        return np.array(self._array, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """np.exp(t) and array + t: the operation of that name. Others, and those with options, are
        NumPy's, on arrays; of a tensor that requires a gradient only what answers yes or no."""
        operation = _of_numpy(ufunc)
        if method == "__call__" and not options and operation:
            return operation(*inputs)
        if any(isinstance(out, Tensor) for out in options.get("out", ())):
            raise TypeError(f"np.{ufunc.__name__} cannot write into a Tensor; use t[...] = …")
        answers = "d" * ufunc.nin + "->?" in ufunc.types  # np.less, np.isnan, …
        with no_grad() if answers else nullcontext():
            plain = [np.asarray(x) if isinstance(x, Tensor) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """np.concatenate([t, u], 1): the operation of that name. Others are NumPy's, on arrays; of
        a tensor that requires a gradient only what answers yes or no."""
        if function is np.einsum:
            return operations["einsum"](*args, **options)
        operation = _of_numpy(function)
        if operation:
            signature = inspect.signature(IN_C.get(function.__name__, function))
            given = signature.bind(*args, **options).arguments
            x = given.pop(next(iter(given)))
            return operation(x, **{OPTIONS.get(name, name): y for name, y in given.items()})
        with no_grad() if function.__name__ in ANSWERS else nullcontext():
            return function._implementation(*args, **options)

    # ---- operators and methods: each calls the operation that it names

    def __add__(self, other: Any) -> Tensor:
        return operations["add"](self, other)

    def __radd__(self, other: Any) -> Tensor:
        return operations["add"](other, self)

    def __sub__(self, other: Any) -> Tensor:
        return operations["subtract"](self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return operations["subtract"](other, self)

    def __mul__(self, other: Any) -> Tensor:
        return operations["multiply"](self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return operations["multiply"](other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return operations["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return operations["divide"](other, self)

    def __pow__(self, other: Any) -> Tensor:
        return operations["power"](self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return operations["power"](other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return operations["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return operations["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return operations["negative"](self)

    def __abs__(self) -> Tensor:
        return operations["abs"](self)

    def __getitem__(self, at: Any) -> Tensor:
        return operations["index"](self, at=at)

    def exp(self) -> Tensor:
        """eˣ of each number."""
        return operations["exp"](self)

    def log(self) -> Tensor:
        """Natural logarithm of each number."""
        return operations["log"](self)

    def sqrt(self) -> Tensor:
        """Square root of each number."""
        return operations["sqrt"](self)

    def tanh(self) -> Tensor:
        """Hyperbolic tangent of each number."""
        return operations["tanh"](self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Sum over all axes, one axis or several; `keepdims` keeps them with length 1."""
        return operations["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Mean over all axes, one axis or several; `keepdims` keeps them with length 1."""
        return operations["mean"](self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Largest value over all axes, one axis or several; `keepdims` keeps them with length 1."""
        return operations["max"](self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Smallest value over all axes, one or several; `keepdims` keeps them with length 1."""
        return operations["min"](self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Tensor:
        """Σ (x − μ)² / (n − correction) over all axes, one or several."""
        return operations["var"](self, axis=axis, correction=correction, keepdims=keepdims)

    def std(self, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Tensor:
        """Square root of `var`."""
        return operations["std"](self, axis=axis, correction=correction, keepdims=keepdims)

    def clip(self, low: Any = None, high: Any = None) -> Tensor:
        """Confined to the interval from low to high; None: no bound."""
        return operations["clip"](self, low=low, high=high)

    def reshape(self, *shape: Any) -> Tensor:
        """The same numbers in another shape: t.reshape(2, -1) or t.reshape((2, -1))."""
        return operations["reshape"](self, shape=_lengths(shape))

    def transpose(self, *axes: Any) -> Tensor:
        """Axes permuted: t.transpose(1, 0) or t.transpose((1, 0)); reversed if none are given."""
        return operations["transpose"](self, axes=_lengths(axes) if axes else None)

    @property
    def T(self) -> Tensor:
        """Axes reversed."""
        return operations["transpose"](self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged: each matrix of a stack transposed."""
        return operations["swapaxes"](self, -1, -2)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged."""
        return operations["swapaxes"](self, axis1, axis2)

    def flatten(self, start: int = 0, end: int = -1) -> Tensor:
        """The axes from start to end, that one included, made into one."""
        return operations["flatten"](self, start, end)

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Without an axis of length 1, several, or all of them."""
        return operations["squeeze"](self, axis)

    def unsqueeze(self, axis: int | tuple[int, ...]) -> Tensor:
        """With an axis of length 1 put in, or several."""
        return operations["unsqueeze"](self, axis)

    def expand(self, *shape: Any) -> Tensor:
        """Repeated along axes of length 1 and new leading ones; −1 keeps a length."""
        return operations["broadcast_to"](self, shape=_lengths(shape))

    def flip(self, axis: Axis = None) -> Tensor:
        """Turned around along all axes, one axis or several."""
        return operations["flip"](self, axis=axis)

    def split(self, n_or_sizes: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
        """Cut along an axis into n equal parts, or into parts of given sizes."""
        return operations["split"](self, n_or_sizes, axis)

    def unbind(self, axis: int = 0) -> tuple[Tensor, ...]:
        """The parts along an axis, without it."""
        return operations["unbind"](self, axis)

    # ---- comparisons: NumPy arrays of bool

    def __eq__(self, other: Any) -> Any:
        return self._array == _plain(other)

    def __ne__(self, other: Any) -> Any:
        return self._array != _plain(other)

    def __lt__(self, other: Any) -> Any:
        return self._array < _plain(other)

    def __le__(self, other: Any) -> Any:
        return self._array <= _plain(other)

    def __gt__(self, other: Any) -> Any:
        return self._array > _plain(other)

    def __ge__(self, other: Any) -> Any:
        return self._array >= _plain(other)

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    __hash__ = object.__hash__

    # ---- changing it in place

    def __iadd__(self, other: Any) -> Self:
        return self._changed("+", self + other)

    def __isub__(self, other: Any) -> Self:
        return self._changed("-", self - other)

    def __imul__(self, other: Any) -> Self:
        return self._changed("*", self * other)

    def __itruediv__(self, other: Any) -> Self:
        return self._changed("/", self / other)

    def __ipow__(self, other: Any) -> Self:
        return self._changed("**", self**other)

    def __imatmul__(self, other: Any) -> Self:
        raise TypeError("x @= y: a matrix product cannot be taken in place; write x = x @ y")

    def _changed(self, operator: str, result: Any) -> Self:
        """What `x += y` leaves in x, where `result` is x + y.

        Where nothing is recorded the numbers of x change in place, and everybody who holds x sees
        it. Where x + y is on the tape x keeps its numbers, since a gradient may need them, and the
        name x is given to the result. A leaf that requires a gradient would be lost by that.
        """
        if not result.requires_grad:
            if result.shape != self.shape:
                what = f"x {operator}= y: x of shape {self.shape}"
                raise ValueError(f"{what} cannot hold a result of shape {result.shape}")
            self[...] = result
            return self
        if self.requires_grad and self.node is None:
            what = f"x {operator}= y: x is a leaf that requires a gradient; change it inside"
            new = f"or write x = x {operator} y for a new tensor"
            raise RuntimeError(f"{what} `with no_grad():`, {new}")
        return result

    def __setitem__(self, index: Any, value: Any) -> None:
        if is_recording() and (self.requires_grad or self.node is not None):
            what = "assigning to part of a tensor that is on the tape would corrupt its gradients"
            use = "do it inside `with no_grad():`, or build the value with pad or concatenate"
            raise RuntimeError(f"{what}; {use}")
        self._array[index] = np.asarray(value) if isinstance(value, Tensor) else value
        self.version += 1

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def retain_grad(self) -> Tensor:
        """Let backward leave a gradient here although this tensor is no leaf. Returns self."""
        self._keeps_grad = True
        return self

    # ---- the backward pass

    def backward(self, gradient: Any = None) -> None:
        """Add d(self)/d(leaf) to the `grad` of every leaf that requires one.

        gradient  the cotangent, of self's shape: what the rest of the computation would have sent
                  back. Left out, self must have one element, and 1 is sent.

        The tape frees what it saved as it goes: a second backward through the same nodes raises
        RuntimeError.
        """
        if not self.requires_grad:
            raise RuntimeError("backward from a tensor that depends on nothing that requires_grad")
        if gradient is None and self.size != 1:
            what = f"backward from shape {self.shape} needs a gradient of that shape; only for"
            raise RuntimeError(f"{what} a tensor of one element it is 1 when left out")
        gradient = np.asarray(np.ones(self.shape) if gradient is None else gradient, self.dtype)
        if gradient.shape != self.shape:
            shapes = f"{gradient.shape}, the tensor {self.shape}"
            raise ValueError(f"backward: gradient has shape {shapes}")

        waiting: dict[Tensor, Array] = {self: gradient}
        owned: set[Tensor] = set()  # whose waiting gradient is a sum made here, safe to add into
        tape = self._tape()
        while tape:
            t = tape.pop()  # the newest
            g = waiting.pop(t)
            owned.discard(t)
            if t._keeps_grad or t.node is None:
                t.grad = np.array(g, order="C") if t.grad is None else np.asarray(t.grad + g)
            if t.node is None:
                continue
            node, version = t.node, t.version
            del t  # so that it can be freed: backward does not need it again
            _accumulate(node.pull(version, g), waiting, owned)

    def _tape(self) -> list[Tensor]:
        """Every tensor that self depends on and that requires a gradient, newest last."""
        found, seen = [self], {self}
        for t in found:  # which grows meanwhile
            for source in t.node.inputs if t.node else ():
                if source.requires_grad and source not in seen:
                    seen.add(source)
                    found.append(source)
        return sorted(found, key=lambda t: t.node.serial if t.node else -1)


class Operation(Protocol[P]):
    """What `op` makes of a function of arrays: the same parameters, but Tensors in and out."""

    __name__: str
    array: Callable[P, Any]

    def __call__(self, *args: P.args, **options: P.kwargs) -> Tensor: ...


def op(function: Callable[P, tuple[Any, Callable[[Array], Any]]]) -> Operation[P]:
    """Lift `function(*arrays, **options) -> (y, backward)` to tensors.

    Positional arguments are tensors, arrays, numbers or None; the function sees arrays. They are
    not copied: a NumPy array that is written into before backward gives a wrong gradient, while a
    tensor that changes is noticed. Options are keyword-only, no tensors, and passed on unchanged.
    `backward(g)` returns one gradient per positional argument (None for one that was None or has no
    gradient); a gradient given as a function of no arguments is computed only if it is needed. The
    engine adds gradients up over fan-out, sums them back over broadcast axes, and checks the shape
    and dtype of each.

    The original stays reachable as `.array`: arrays in, `(y, backward)` out, no tape.

    Errors: TypeError where tensors of float32 and float64 meet, and for a tensor as an option or
    inside a list, where its gradient would be lost; RuntimeError from backward, naming the
    operation and the argument, where a gradient has the wrong shape or dtype.
    """
    name = function.__name__.strip("_")
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    argument_names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    required = len(argument_names)
    on_arrays: Callable[..., Any] = function

    def names_of(args: Sequence[Any]) -> list[str]:
        return argument_names + [f"argument {i}" for i in range(required, len(args))]

    def without_tensors(options: dict[str, Any]) -> None:
        for option, value in options.items():
            if isinstance(value, Tensor):
                what = f"{name}: {option} is a Tensor, but no gradient flows back through an option"
                raise TypeError(f"{what}; give {option}.array or {option}.item()")

    without_tensors({p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY})

    @functools.wraps(function)
    def lifted(*args: Any, **options: Any) -> Tensor:
        try:
            if len(args) < required:  # some left at None, or by keyword: bias=…
                bound = signature.bind(*args, **options)
                bound.apply_defaults()
                args, options = bound.args, bound.kwargs
            if options:
                without_tensors(options)
            tensors = [a for a in args if isinstance(a, Tensor)]
            dtype = _common_dtype(tensors, args)
            arrays = [a._array if isinstance(a, Tensor) else _operand(a, dtype) for a in args]
            result = on_arrays(*arrays, **options)
            if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
                raise TypeError(f"returned a {type(result).__name__}; expected (y, backward)")
        except (IndexError, TypeError, ValueError) as error:
            if str(error).startswith((f"{name}:", f"{name}(")):
                raise
            kind = next(k for k in (TypeError, ValueError, IndexError) if isinstance(error, k))
            given = zip(names_of(args), args, strict=False)
            shapes = [f"{n} {a.shape}" for n, a in given if hasattr(a, "shape")]
            raise kind(f"{name}: {error} (given {', '.join(shapes) or args})") from error
        out = Tensor(result[0])
        y = out._array
        if tensors and y.dtype != dtype:
            raise RuntimeError(f"{name}: arguments of {dtype} gave a result of {y.dtype}")
        for t in tensors:  # a view: writing into one changes both
            if y is t._array or (y.base is not None and np.may_share_memory(y, t._array)):
                out._version = t._version
        if any(t.requires_grad for t in tensors) and is_recording():
            out.requires_grad = True
            inputs = tuple(a if isinstance(a, Tensor) else NO_TENSOR for a in args)
            out.node = Node(name, names_of(args), inputs, out, result[1])
        for watcher in _watchers:
            watcher(name, args, options, out)
        return out

    vars(lifted)["array"] = function
    return cast(Operation[P], lifted)


def _floats(value: Any) -> Array:
    """value as an array of float32 or float64: float arrays as they are, all else as float32."""
    is_array = isinstance(value, (np.ndarray, np.generic))
    if is_array and value.dtype in FLOATS:
        return _numbers(value)
    swapped = is_array and value.dtype.char == "d"  # float64, its bytes in another order
    return _numbers(value).astype(np.float64 if swapped else np.float32)


def _numbers(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"a Tensor holds float32 or float64, not {array.dtype}")
    return array


def _operand(value: Any, dtype: np.dtype) -> Array | None:
    """What an operation sees of an argument that is no tensor: an array of the tensors' dtype."""
    if value is None or isinstance(value, (int, float)):
        return None if value is None else np.asarray(value, dtype)
    return _numbers(value).astype(dtype, copy=False)


def _common_dtype(tensors: Sequence[Tensor], args: Sequence[Any]) -> np.dtype:
    """That of the tensors; where there are none, of the first float array; else float32."""
    if not tensors:
        arrays = (a.dtype for a in args if isinstance(a, np.ndarray) and a.dtype in FLOATS)
        return next(arrays, FLOATS[0])
    dtype = tensors[0].dtype
    for t in tensors:
        if t.dtype != dtype:
            raise TypeError(f"arguments of {dtype} and {t.dtype}; convert one with .astype()")
    return dtype


def _of_numpy(function: Any) -> Callable[..., Any] | None:
    """The operation that is a function of NumPy's."""
    return numpys.get(function.__name__, operations.get(function.__name__))


def _plain(other: Any) -> Any:
    """The array of a tensor; anything else as it is."""
    return other._array if isinstance(other, Tensor) else other


def _lengths(values: tuple[Any, ...]) -> Any:
    """reshape(2, 3) and reshape((2, 3)) mean the same, and so for transpose."""
    return values[0] if len(values) == 1 and not isinstance(values[0], int) else values


NO_TENSOR = Tensor(0.0)  # stands on the tape where an argument was not a tensor


# ---- not recording, and looking on


@overload
def no_grad() -> _Block: ...
@overload
def no_grad(function: F) -> F: ...


def no_grad(function: Any = None) -> Any:
    """Nothing is recorded inside `with no_grad():`, nor in a function decorated with `@no_grad`.

    A decorated generator or coroutine records nothing while its own body runs; what runs between
    its steps records as before. Errors: TypeError for a class or an asynchronous generator.
    """
    return _Block() if function is None else _Block()(function)


class _Block:
    """What no_grad() gives: a block for `with`, or a decorator."""

    def __enter__(self) -> None:
        _blocks.set(_blocks.get() + 1)

    def __exit__(self, *error: object) -> None:
        _blocks.set(_blocks.get() - 1)

    def __call__(self, function: F) -> F:
        def generator(*args: Any, **options: Any) -> Any:
            inner = function(*args, **options)
            resume = functools.partial(inner.send, None)
            while True:
                try:
                    with no_grad():
                        value = resume()
                except StopIteration as end:
                    return end.value
                try:
                    resume = functools.partial(inner.send, (yield value))
                except BaseException as error:
                    resume = functools.partial(inner.throw, error)

        async def coroutine(*args: Any, **options: Any) -> Any:
            with no_grad():
                return await function(*args, **options)

        def plain(*args: Any, **options: Any) -> Any:
            with no_grad():
                return function(*args, **options)

        if inspect.isclass(function) or inspect.isasyncgenfunction(function):
            kind = "a class" if inspect.isclass(function) else "an asynchronous generator"
            raise TypeError(
                f"no_grad: {function.__qualname__} is {kind}; decorate functions and methods, or "
                "use `with no_grad():` inside"
            )
        wrapped: Any = plain
        if inspect.isgeneratorfunction(function):
            wrapped = generator
        elif inspect.iscoroutinefunction(function):
            wrapped = coroutine
        return cast(F, functools.wraps(function)(wrapped))


def is_recording() -> bool:
    """Whether operations are being recorded: False inside `no_grad`."""
    return not _blocks.get()


Watcher = Callable[[str, tuple[Any, ...], dict[str, Any], Tensor], None]
_watchers: list[Watcher] = []


@contextmanager
def watch(watcher: Watcher) -> Iterator[None]:
    """Inside this block watcher(name, arguments, options, result) is told of every operation."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
