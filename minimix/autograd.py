"""The engine: tensors, the tape, and backward.

A `Tensor` is an array that remembers where it came from. An operation is a plain function of
arrays that returns its result and a function for the way back:

    @op
    def multiply(x, y):
        def backward(g):
            return g * y, g * x
        return x * y, backward

`@op` lifts it to tensors. Calling it appends a `Node` to the tape: the tensors that went in and
the function for the way back. `Tensor.backward` walks the nodes from the newest to the oldest,
hands each one the gradient of its output, and adds what comes out to the tensors that went in:
the chain rule, and nothing else. (Reverse-mode automatic differentiation: Linnainmaa 1970;
Baydin et al. 2018, arXiv:1502.05767.)

The engine knows no operation and no kernel; those live on the floors above and beside it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

Array = np.ndarray
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class _Mode(threading.local):
    recording = True


_mode = _Mode()
_serial = itertools.count()


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block, or a function decorated with `@no_grad()`, nothing is recorded."""
    before, _mode.recording = _mode.recording, False
    try:
        yield
    finally:
        _mode.recording = before


def is_recording() -> bool:
    """Whether operations are being recorded in this thread (False inside `no_grad`)."""
    return _mode.recording


_watchers: list[Callable[[str, tuple[Any, ...], Tensor], None]] = []


@contextmanager
def watch(watcher: Callable[[str, tuple[Any, ...], Tensor], None]) -> Iterator[None]:
    """Inside this block `watcher(name, arguments, result)` is called after every operation."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class Node:
    """One line of the tape: which tensors went in, and how a gradient comes back.

    `serial` counts up as the tape is written, so an output's number is always larger than its
    inputs' and the order of the tape is already a topological order: no sorting of graphs.
    """

    __slots__ = ("backward", "inputs", "names", "op", "serial", "shape", "version", "versions")

    def __init__(
        self,
        op: str,
        names: Sequence[str],
        inputs: tuple[Tensor, ...],
        output: Tensor,
        backward: Callable[[Array], Any],
    ) -> None:
        self.op = op
        self.names = names
        self.inputs = inputs
        self.versions = tuple(t.version for t in inputs)
        self.shape, self.version = output.shape, output.version
        self.backward: Callable[[Array], Any] | None = backward
        self.serial = next(_serial)

    def pull(self, version: int, g: Array) -> list[tuple[Tensor, Array]]:
        """The inputs that want a gradient, each with its share of `g`. Frees what was saved.

        version  that of the result as it is now
        """
        if self.backward is None:
            raise RuntimeError(
                f"backward has already passed through this {self.op}, and what it saved is freed; "
                "run the forward pass again before a second backward"
            )
        for name, now, recorded in zip(
            (*(f"argument {name!r}" for name in self.names), "the result"),
            (*(t.version for t in self.inputs), version),
            (*self.versions, self.version),
            strict=True,
        ):
            if now != recorded:
                raise RuntimeError(
                    f"{self.op}: {name} was changed in place after the forward pass "
                    f"(version {now}, recorded {recorded}); the gradient would be wrong. "
                    "Change it after backward, or work on a copy"
                )
        backward, inputs, self.backward = self.backward, self.inputs, None
        self.inputs, self.versions = (), ()
        shares = backward(g)
        if not isinstance(shares, tuple):
            shares = (shares,)
        if len(shares) != len(inputs):
            raise RuntimeError(
                f"{self.op}: backward returned {len(shares)} gradients for {len(inputs)} arguments"
            )
        return [
            (t, self._checked(name, t, share))
            for name, t, share in zip(self.names, inputs, shares, strict=True)
            if t.requires_grad
        ]

    def _checked(self, name: str, t: Tensor, share: Any) -> Array:
        """One gradient: computed now if left for later, un-broadcast, and held to its form."""
        if callable(share):
            share = share()
        if share is None:
            raise RuntimeError(f"{self.op} has no gradient for its argument {name!r}")
        share = np.asarray(share)
        if share.shape != t.shape and share.shape == self.shape and share.ndim >= t.ndim:
            share = unbroadcast(share, t.shape)
        if share.shape != t.shape:
            raise RuntimeError(
                f"{self.op}: the gradient of {name!r} has shape {share.shape}, "
                f"but {name!r} has shape {t.shape}"
            )
        if share.dtype != t.dtype:
            raise RuntimeError(
                f"{self.op}: the gradient of {name!r} is {share.dtype}, but {name!r} is {t.dtype}"
            )
        return share


def _hand_on(
    shares: list[tuple[Tensor, Array]], waiting: dict[Tensor, Array], owned: set[Tensor]
) -> None:
    """Add each share to what waits for its tensor. `owned`: whose sum was made here."""
    for source, share in shares:
        if source not in waiting:
            waiting[source] = share
        elif source in owned:
            waiting[source] += share
        else:  # the first two shares may be one array, or the caller's: add into a new one
            waiting[source] = waiting[source] + share
            owned.add(source)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum `g` over the axes along which an array of `shape` was broadcast to `g.shape`.

    Broadcasting copies a value to many places; the derivative of a copy is a sum.
    """
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True) if stretched else g


class Tensor:
    """An array of float32 or float64 with a memory of how it was computed.

    Tensor(array, requires_grad=False). Numbers, lists and integer arrays become float32; float32
    and float64 arrays are kept as they are, without a copy. Arithmetic operators and methods such
    as `sum`, `reshape` and `matmul` are attached by `minimix.functional`.

        array          the NumPy array. Assigning to it (or `t.array -= …`) is noticed by the tape;
                       writing into it through a slice is not: use `t[...] = …`, which is
        grad           the gradient that `backward` left here, an array of the same shape and
                       dtype; None before. Gradients add up until `zero_grad`
        requires_grad  whether backward should leave a gradient here
        shape, ndim, size, dtype   those of the array
    """

    __slots__ = (
        "__weakref__", "_array", "_keeps_grad", "_version", "grad", "node", "requires_grad"
    )  # fmt: skip
    __array_ufunc__ = None  # so that `array + tensor` asks the tensor, not NumPy

    # Attached by minimix.functional, which stands one floor above.
    __add__: Callable[..., Tensor]
    __radd__: Callable[..., Tensor]
    __sub__: Callable[..., Tensor]
    __rsub__: Callable[..., Tensor]
    __mul__: Callable[..., Tensor]
    __rmul__: Callable[..., Tensor]
    __truediv__: Callable[..., Tensor]
    __rtruediv__: Callable[..., Tensor]
    __pow__: Callable[..., Tensor]
    __rpow__: Callable[..., Tensor]
    __matmul__: Callable[..., Tensor]
    __rmatmul__: Callable[..., Tensor]
    __neg__: Callable[..., Tensor]
    __getitem__: Callable[..., Tensor]
    exp: Callable[..., Tensor]
    log: Callable[..., Tensor]
    sqrt: Callable[..., Tensor]
    tanh: Callable[..., Tensor]
    sum: Callable[..., Tensor]
    mean: Callable[..., Tensor]
    max: Callable[..., Tensor]
    reshape: Callable[..., Tensor]
    transpose: Callable[..., Tensor]

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        if isinstance(array, Tensor):
            raise TypeError("Tensor(x): x is a Tensor already; use x itself, or x.detach()")
        kept = isinstance(array, (np.ndarray, np.generic)) and array.dtype in FLOATS
        array = np.asarray(array)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a Tensor holds float32 or float64, not {array.dtype}")
        self._array: Array = array if kept else array.astype(np.float32)
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
        if self.node is not None:
            raise RuntimeError(
                f"this tensor is the result of {self.node.op}; assigning to it would cut the tape. "
                "Assign to a leaf, or to .detach()"
            )
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
        """Whether it was made by hand rather than by a recorded operation."""
        return self.node is None

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._array, dtype=dtype, copy=copy)

    def __float__(self) -> float:
        return float(self._array.item())

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
        """The same array without its memory: a leaf that requires no gradient."""
        leaf = Tensor(self._array)
        leaf._version = self._version
        return leaf

    def astype(self, dtype: Any) -> Tensor:
        """A leaf, copied into another precision. No gradient flows back through it, and so it is
        refused to a result that is on the tape: convert what went in, or .detach() first."""
        if self.node is not None:
            raise RuntimeError(
                f"this tensor is the result of {self.node.op}; astype would cut the tape. "
                "Convert the leaves, or .detach() first"
            )
        return Tensor(self._array.astype(dtype), requires_grad=self.requires_grad)

    # ---- changing it in place

    def __setitem__(self, index: Any, value: Any) -> None:
        if is_recording() and (self.requires_grad or self.node is not None):
            raise RuntimeError(
                "assigning to part of a tensor that is on the tape would corrupt its gradients; "
                "do it inside `with no_grad():`, or build the value with pad or concatenate"
            )
        self._array[index] = value.array if isinstance(value, Tensor) else value
        self.version += 1

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def retain_grad(self) -> Tensor:
        """Let backward leave a gradient here although this tensor is no leaf. Returns self."""
        self._keeps_grad = True
        return self

    # ---- the way back

    def backward(self, gradient: Any = None) -> None:
        """Add d(self)/d(leaf) to the `grad` of every leaf that requires one.

        gradient  the cotangent, of self's shape: what the rest of the computation would have sent
                  back. Left out, self must have one element, and 1 is sent.

        The tape frees what it saved as it goes: a second backward through the same nodes raises
        RuntimeError.
        """
        if not self.requires_grad:
            raise RuntimeError("backward from a tensor that depends on nothing that requires_grad")
        if gradient is None:
            if self.size != 1:
                raise RuntimeError(
                    f"backward from shape {self.shape} needs a gradient of that shape; "
                    "only a single number knows that it means 1"
                )
            gradient = np.ones_like(self._array)
        gradient = gradient.array if isinstance(gradient, Tensor) else gradient
        gradient = np.asarray(gradient, dtype=self.dtype)
        if gradient.shape != self.shape:
            raise ValueError(
                f"backward: gradient has shape {gradient.shape}, the tensor {self.shape}"
            )

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
            del t  # nothing here keeps it in memory any longer: on the way back nobody reads it
            _hand_on(node.pull(version, g), waiting, owned)

    def _tape(self) -> list[Tensor]:
        """Every tensor that self depends on and that wants a gradient, the newest last."""
        seen = {self}
        stack = [self]
        found: list[Tensor] = []
        while stack:
            t = stack.pop()
            found.append(t)
            for source in t.node.inputs if t.node else ():
                if source.requires_grad and source not in seen:
                    seen.add(source)
                    stack.append(source)
        return sorted(found, key=lambda t: t.node.serial if t.node else -1)


def op(function: Callable[..., tuple[Array, Callable[[Array], Any]]]) -> Callable[..., Tensor]:
    """Lift `function(*arrays, **options) -> (y, backward)` to tensors.

    Positional arguments are arrays, tensors, numbers or None; options are keyword-only and pass
    through untouched. `backward(g)` returns one gradient per positional argument (None for one
    that was None or has no gradient); a gradient given as a function of no arguments is computed
    only if somebody wants it. The engine adds gradients up over fan-out, sums them back over
    broadcast axes, and holds each to the shape and dtype of its argument.

    The original stays reachable as `.array`: arrays in, `(y, backward)` out, no tape.

    Errors: TypeError where tensors of float32 and float64 meet; RuntimeError from backward, naming
    the operation and the argument, where a gradient has the wrong form.
    """
    name = function.__name__.strip("_")
    signature = inspect.signature(function)
    argument_names = [
        p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]

    def names_of(args: Sequence[Any]) -> list[str]:
        return argument_names + [f"argument {i}" for i in range(len(argument_names), len(args))]

    @functools.wraps(function)
    def lifted(*args: Any, **options: Any) -> Tensor:
        try:
            if len(args) < len(argument_names):  # some left at None, or by keyword: bias=…
                bound = signature.bind(*args, **options)
                bound.apply_defaults()
                args, options = bound.args, bound.kwargs
            dtype = _common_dtype(args)
            result = function(*(_array(a, dtype) for a in args), **options)
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
        tensors = [a for a in args if isinstance(a, Tensor)]
        if tensors and out.dtype != dtype:
            raise RuntimeError(f"{name}: arguments of {dtype} gave a result of {out.dtype}")
        for t in tensors:
            if np.may_share_memory(out.array, t.array):  # a view: writing into one changes both
                out._version = t._version
        if _mode.recording and any(t.requires_grad for t in tensors):
            out.requires_grad = True
            inputs = tuple(a if isinstance(a, Tensor) else NO_TENSOR for a in args)
            out.node = Node(name, names_of(args), inputs, out, result[1])
        for watcher in _watchers:
            watcher(name, args, out)
        return out

    lifted.array = function  # type: ignore[attr-defined]
    return lifted


def _common_dtype(args: Sequence[Any]) -> np.dtype:
    """That of the tensors; where there are none, of the first float array; else float32."""
    tensors = [a.dtype for a in args if isinstance(a, Tensor)]
    arrays = [a.dtype for a in args if isinstance(a, np.ndarray) and a.dtype in FLOATS]
    for dtype in tensors:
        if dtype != tensors[0]:
            raise TypeError(f"arguments of {tensors[0]} and {dtype}; convert one with .astype()")
    return (tensors or arrays or [np.dtype(np.float32)])[0]


def _array(a: Any, dtype: np.dtype) -> Array | None:
    """What an operation sees of an argument: what is no tensor takes the tensors' dtype."""
    if a is None:
        return None
    return a.array if isinstance(a, Tensor) else np.asarray(a, dtype=dtype)


NO_TENSOR = Tensor(0.0)  # stands on the tape where an argument was not a tensor
