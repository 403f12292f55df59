"""Module: parameters, buffers and other modules under names; what a layer is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from ..autograd import FLOATS, Array, Tensor, no_grad

Observer = Callable[["Module", tuple[Any, ...], Any], None]
_observers: list[Observer] = []


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Inside this block `observer(module, inputs, output)` is told of every call of every module.

    What looks inside a running model (summaries, activation histograms, the search for the layer
    that diverged first) looks through this.
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


@contextmanager
def evaluating(model: Module) -> Iterator[Module]:
    """Inside this block `model` is in evaluation mode; afterwards, each of its modules is in the
    mode that it was in before, whatever happened: batch norms that were frozen stay frozen.
    """
    modes = [(module, module.training) for _, module in model.named_modules()]
    try:
        yield model.eval()
    finally:
        for module, training in modes:
            module.training = training


class Parameter(Tensor):
    """A tensor that training changes: it requires a gradient, and modules find it by its name."""

    __slots__ = ()

    def __init__(self, array: Any) -> None:
        super().__init__(array, requires_grad=True)


class Module:
    """The base of layers and models: a function with parameters.

    Assign Parameters and Modules as attributes, arrays that are state but not trained through
    `register_buffer`, and write `forward`. Names, and the order of everything, are those of
    assignment.

        training   True or False: whether batch norm and dropout behave as in training
    """

    def __init__(self) -> None:
        self.training = True
        self._parameters: dict[str, Parameter] = {}
        self._buffers: dict[str, Array] = {}
        self._modules: dict[str, Module] = {}

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any) -> Any:
        output = self.forward(*inputs)
        for observer in _observers:
            observer(self, inputs, output)
        return output

    # ---- what it is made of

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__
        if isinstance(value, (Parameter, Module)) and "_modules" not in held:
            raise RuntimeError(f"call super().__init__() before assigning {name!r}")
        if type(value) is Tensor and name in held.get("_parameters", ()):
            raise TypeError(f"{name!r} is a parameter; assign a Parameter, not a bare Tensor")
        is_buffer = isinstance(value, np.ndarray) and name in held.get("_buffers", ())
        for kind, fits in (
            ("_parameters", isinstance(value, Parameter)),
            ("_buffers", is_buffer),
            ("_modules", isinstance(value, Module)),
        ):  # a name means one thing at a time
            if fits:
                held[kind][name] = value
            elif kind in held:
                held[kind].pop(name, None)
        super().__setattr__(name, value)

    def register_buffer(self, name: str, array: Array) -> None:
        """State that is saved with the model but not trained, such as running statistics."""
        self._buffers[name] = array
        setattr(self, name, array)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (named "") and all those inside, with dotted names, depth first."""
        yield prefix, self
        for name, module in self._modules.items():
            yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: str) -> Iterator[tuple[str, Any]]:
        for prefix, module in self.named_modules():
            for name, value in getattr(module, kind).items():
                yield (f"{prefix}.{name}" if prefix else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names, in the order of assignment.

        A parameter that is held under two names is given once, under the first.
        """
        seen: set[Parameter] = set()
        for name, parameter in self._named("_parameters"):
            if parameter not in seen:
                seen.add(parameter)
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """All buffers with their dotted names, in the order of assignment."""
        return self._named("_buffers")

    def n_parameters(self) -> int:
        """How many numbers training can change."""
        return sum(p.size for p in self.parameters())

    # ---- saving and loading

    def state_dict(self) -> dict[str, Array]:
        """Every parameter and buffer by name, module by module. The arrays are not copies."""
        state: dict[str, Array] = {}
        for prefix, module in self.named_modules():
            values = {n: p.array for n, p in module._parameters.items()} | module._buffers
            state |= {(f"{prefix}.{n}" if prefix else n): array for n, array in values.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over the values of a `state_dict`, converted to this module's precision.

        All or nothing. Errors: ValueError naming the first key that is missing, unexpected, or of
        another shape.
        """
        mine = self.state_dict()
        for key in mine:
            if key not in state:
                raise ValueError(f"load_state_dict: {key!r} is missing ({len(state)} keys given)")
        for key, value in state.items():
            if key not in mine:
                raise ValueError(f"load_state_dict: {key!r} is not in this {type(self).__name__}")
            if np.shape(value) != mine[key].shape:
                raise ValueError(
                    f"load_state_dict: {key!r} has shape {np.shape(value)}, "
                    f"this {type(self).__name__} needs {mine[key].shape}"
                )
        values = {key: np.array(state[key], array.dtype) for key, array in mine.items()}
        for parameter in self.parameters():
            parameter.version += 1
        for key, array in mine.items():
            array[...] = values[key]

    # ---- changing all of it at once

    def train(self, training: bool = True) -> Self:
        """Behave as in training: batch statistics, dropout. Returns self."""
        for _, module in self.named_modules():
            module.training = training
        return self

    def eval(self) -> Self:
        """Behave as in use: running statistics, no dropout. Returns self."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradient of every parameter."""
        for parameter in self.parameters():
            parameter.grad = None

    def astype(self, dtype: Any) -> Self:
        """Convert every parameter and buffer to float32 or float64, in place. Returns self."""
        if np.dtype(dtype) not in FLOATS:
            raise ValueError(f"astype: dtype is {np.dtype(dtype)}; expected float32 or float64")
        for parameter in self.parameters():
            parameter._array = parameter.array.astype(dtype)
            parameter.grad = None
            parameter.version += 1
        for _, module in self.named_modules():
            for name, array in module._buffers.items():
                if array.dtype in FLOATS:
                    module.register_buffer(name, array.astype(dtype))
        return self

    # ---- being read

    def multiply_adds(self, x: Tensor, y: Tensor) -> int:
        """Multiplications (each with its addition) of one forward call from x to y."""
        return 0

    def extra_repr(self) -> str:
        """What stands between the parentheses when a layer is printed."""
        return ""

    def __repr__(self) -> str:
        inside = [f"({name}): {module!r}" for name, module in self._modules.items()]
        if not inside:
            return f"{type(self).__name__}({self.extra_repr()})"
        body = "\n".join(inside).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.extra_repr()}\n  {body}\n)"

    def summary(self, input_shape: tuple[int, ...]) -> str:
        """A table of every layer: name, kind, output shape, parameters, multiply-adds.

        input_shape  that of a batch, (N, H, W, C); multiply-adds are those of the whole batch.
        """
        names = {id(module): name for name, module in self.named_modules()}
        rows: list[tuple[str, str, str, int, int]] = []

        def note(module: Module, inputs: tuple[Any, ...], y: Any) -> None:
            if module._parameters or not module._modules:
                n = sum(p.size for p in module._parameters.values())
                kind = f"{type(module).__name__}({module.extra_repr()})"
                work = module.multiply_adds(inputs[0], y)
                rows.append((names[id(module)], kind, str(y.shape), n, work))

        dtype = next((p.dtype for p in self.parameters()), np.dtype(np.float32))
        with no_grad(), observe(note), evaluating(self):
            self(Tensor(np.zeros(input_shape, dtype)))
        total = ("", "", "", self.n_parameters(), sum(row[4] for row in rows))
        return _table([*rows, total], f"{type(self).__name__}, input {input_shape}")


def _table(rows: list[tuple[str, str, str, int, int]], title: str) -> str:
    head = ("name", "layer", "output", "parameters", "multiply-adds")
    text = [head] + [(*row[:3], f"{row[3]:,}", f"{row[4]:,}") for row in rows]
    widths = [max(len(row[i]) for row in text) for i in range(5)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in text
    ]
    rule = "─" * max(map(len, lines))
    return "\n".join([title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1]])
