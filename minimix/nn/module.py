"""Module: parameters, buffers and other modules under names; what a layer is made of."""

from __future__ import annotations

from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from ..autograd import FLOATS, Array, Tensor

__all__ = ["Module", "Parameter", "evaluating", "observe"]

MAPPINGS = (dict, UserDict, MappingProxyType)
CONTAINERS = (*MAPPINGS, list, tuple, set, frozenset, deque, UserList, ValuesView, np.ndarray)
# Asked of every attribute, again and again: remembered.
_contains: Callable[[type], bool] = cache(lambda kind: issubclass(kind, CONTAINERS))
Observer = Callable[["Module", tuple[Any, ...], Any], None]
_observers: list[tuple[Observer, Callable[[Module], None] | None]] = []


@contextmanager
def observe(observer: Observer, entering: Callable[[Module], None] | None = None) -> Iterator[None]:
    """Inside this block `observer(module, inputs, output)` is called after every call of a module.

    entering  where given, `entering(module)` is called before it

    Summaries, activation histograms and the search for the layer that diverged first use this. A
    fused model runs layer by layer meanwhile, so that every layer is seen.
    """
    pair = (observer, entering)
    _observers.append(pair)
    try:
        yield
    finally:
        _observers.remove(pair)


def is_observed() -> bool:
    """Whether an `observe` block is in force."""
    return bool(_observers)


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

    Assign Parameters and Modules as attributes, register arrays that are state but not trained
    with `register_buffer`, and write `forward`. Names, and the order of everything, are those of
    assignment. Several modules go into a ModuleList or a ModuleDict, several parameters into a
    ParameterList: what is in a plain list would not be found, and is refused.

        training   True or False: whether batch norm and dropout behave as in training

    A name that stands for a parameter or a module takes another of either, or None. A buffer takes
    arrays of its shape, converted to its dtype. `del` removes any of them.
    """

    def __init__(self) -> None:
        self.training = True
        self._buffer_names: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, value in vars(cls).items():
            if isinstance(value, (Parameter, Module)):
                what = f"{cls.__name__}.{name} is a {type(value).__name__} of the class"
                raise TypeError(
                    f"{what}, which all its instances would share; assign it in __init__"
                )
            _refuse_hidden(name, value)

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any) -> Any:
        for _, entering in _observers:
            if entering is not None:
                entering(self)
        output = self.forward(*inputs)
        for observer, _ in _observers:
            observer(self, inputs, output)
        return output

    # ---- what it is made of

    def __setattr__(self, name: str, value: Any) -> None:
        held: Any = vars(self).get(name)
        buffers = vars(self).get("_buffer_names", ())
        if isinstance(value, (Parameter, Module)):
            self._check(name, value)
            if name in buffers:
                self._buffer_names = tuple(other for other in buffers if other != name)
        elif name in buffers:
            value = _as_buffer(name, value, held)
        elif isinstance(held, (Parameter, Module)) and value is not None:
            kind, other = _kind(held), type(value).__name__
            hint = f"; its numbers are {name}.array" if kind == "Parameter" else ""
            raise TypeError(f"{name!r} takes a {kind} or None, not a {other}{hint}")
        else:
            _refuse_hidden(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._buffer_names = tuple(other for other in self._buffer_names if other != name)

    def register_buffer(self, name: str, array: Any) -> None:
        """State that is saved with the model but not trained, such as running statistics.

        array  of numbers, of any shape and dtype; kept without a copy. What the name stood for
               before is replaced
        """
        self._check(name, None)
        if isinstance(array, Tensor) or np.asarray(array).dtype.kind not in "biuf":
            raise TypeError(f"buffer {name!r} is a {type(array).__name__}; expected real numbers")
        super().__setattr__(name, np.asarray(array))
        if name not in self._buffer_names:
            self._buffer_names = (*self._buffer_names, name)

    def _check(self, name: str, value: Any) -> None:
        """Raise an error where the name cannot be, or a module would be inside itself."""
        if "training" not in vars(self):
            raise RuntimeError(f"call super().__init__() before assigning {name!r}")
        if not name or "." in name:
            raise ValueError(f"{name!r} cannot be a name: names are joined by dots in a state dict")
        if hasattr(Module, name) or name == "training":
            raise ValueError(f"{name!r} is part of every Module; choose another name")
        if isinstance(value, Module) and any(m is self for _, m in value.named_modules()):
            raise ValueError(f"{name!r}: this {type(self).__name__} would contain itself")

    @property
    def _parameters(self) -> dict[str, Parameter]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}

    @property
    def _buffers(self) -> dict[str, Array]:
        return {name: vars(self)[name] for name in self._buffer_names}

    @property
    def _modules(self) -> dict[str, Module]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def children(self) -> Iterator[Module]:
        """The modules that this one holds itself, in the order of assignment."""
        return iter(self._modules.values())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (named "") and all those inside, with dotted names, depth first.

        A module that is held under two names is given under both.
        """
        for name, value in vars(self).items():
            _refuse_hidden(name, value)  # a list that was filled after it was assigned
        yield prefix, self
        for name, module in self._modules.items():
            yield from module.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: str) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in getattr(module, kind).items():
                if id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{prefix}.{name}" if prefix else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names, in the order of assignment.

        A parameter that is held under two names is given once, under the first.
        """
        return self._named("_parameters")

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once, in the order of `named_parameters`."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """All buffers with their dotted names, in the order of registration; each once."""
        return self._named("_buffers")

    def n_parameters(self) -> int:
        """How many numbers the parameters have; a shared parameter counts once."""
        return sum(p.size for p in self.parameters())

    # ---- saving and loading

    def state_dict(self) -> dict[str, Array]:
        """Every parameter and buffer by name, module by module. The arrays are not copies."""
        return {
            f"{prefix}.{name}" if prefix else name: array
            for prefix, module in self.named_modules()
            for name, array in module._arrays().items()
        }

    def _arrays(self) -> dict[str, Array]:
        return {name: p.array for name, p in self._parameters.items()} | self._buffers

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy in the values of a `state_dict`, converted to this module's precision.

        All or nothing. Errors: ValueError naming the first key that is missing, unexpected, of
        another shape, or whose values cannot be converted: text, complex numbers, fractions where
        integers are held, numbers that float32 cannot hold; or where two names of one shared
        parameter are given different values.
        """
        mine, owner = self.state_dict(), type(self).__name__
        new: dict[int, tuple[str, Array, Array]] = {}
        for key, value in fitted(mine, state, owner).items():
            first, _, other = new.setdefault(id(mine[key]), (key, mine[key], value))
            if not np.array_equal(value, other, equal_nan=True):
                both = f"load_state_dict: {first!r} and {key!r}"
                raise ValueError(f"{both} are shared in this {owner}, but their values differ")
        for parameter in self.parameters():
            parameter.version += 1
        for _, array, value in new.values():
            array[...] = value

    # ---- changing all of it at once

    def train(self, training: bool = True) -> Self:
        """Behave as in training: batch statistics, dropout. Returns self."""
        for _, module in self.named_modules():
            vars(module)["training"] = training
        return self

    def eval(self) -> Self:
        """Behave as in inference: running statistics, no dropout. Returns self."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradient of every parameter."""
        for parameter in self.parameters():
            parameter.grad = None

    def astype(self, dtype: Any) -> Self:
        """Convert parameters, gradients and buffers to float32 or float64, in place. Returns self.

        What is shared stays shared; buffers of integers stay as they are.
        """
        Tensor(0.0).astype(dtype)  # which refuses all but these two
        for parameter in self.parameters():
            if parameter.dtype != dtype:
                parameter._array = parameter.array.astype(dtype)
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.astype(dtype)
                parameter.version += 1
        converted: dict[int, tuple[Array, Array]] = {}  # the old array too: so its id stays its own
        for _, module in self.named_modules():
            for name, array in module._buffers.items():
                if array.dtype in FLOATS and array.dtype != dtype:
                    _, new = converted.setdefault(id(array), (array, array.astype(dtype)))
                    module.register_buffer(name, new)
        return self

    # ---- being read

    def extra_repr(self) -> str:
        """What stands between the parentheses when a layer is printed."""
        return ""

    def __repr__(self) -> str:
        inside = [f"({name}): {module!r}" for name, module in self._modules.items()]
        if not inside:
            return f"{type(self).__name__}({self.extra_repr()})"
        body = "\n".join(inside).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.extra_repr()}\n  {body}\n)"


def _kind(held: Any) -> str:
    return "Parameter" if isinstance(held, Parameter) else "Module"


def _refuse_hidden(name: str, value: Any) -> None:
    """Raise TypeError where a list, a dict or the like holds modules or parameters."""
    held = [value] if _contains(type(value)) else []
    for container in held:  # grows as containers are found inside
        for one in _inside(container):
            if isinstance(one, (Parameter, Module)):
                what = f"{name!r} is a {type(value).__name__} that holds a {type(one).__name__}"
                use = f"use nn.{_kind(one)}List or nn.ModuleDict"
                raise TypeError(f"{what}, which would not be trained or saved; {use}")
            if _contains(type(one)) and not any(one is other for other in held):
                held.append(one)


def _inside(value: Any) -> list[Any]:
    """What a container holds, the keys of a mapping too; of an array only objects."""
    if isinstance(value, MAPPINGS):
        return [*value, *value.values()]
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype == object else []
    return list(value)


def _as_buffer(name: str, value: Any, buffer: Array) -> Array:
    """`value` as what the buffer becomes: of its shape and dtype."""
    where, hint = f"{name!r} is a buffer of", "register_buffer replaces it"
    array = None if isinstance(value, Tensor) or value is None else np.asarray(value)
    if array is None or not np.can_cast(array.dtype, buffer.dtype, "same_kind"):
        what = type(value).__name__ if array is None else f"{array.dtype} array"
        raise TypeError(f"{where} {buffer.dtype} and takes such arrays, not a {what}; {hint}")
    if array.shape != buffer.shape:
        raise ValueError(f"{where} shape {buffer.shape}, and was assigned {array.shape}; {hint}")
    return array.astype(buffer.dtype, copy=False)


def fitted(mine: Mapping[str, Array], state: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Copies of a state dict's values that can be written into `mine`, in its order.

    Errors: ValueError naming the first key that is missing, not in `mine`, or does not fit there.
    """
    for key in (*mine, *state):
        if key not in state:
            raise ValueError(f"load_state_dict: {key!r} is missing ({len(state)} keys given)")
        if key not in mine:
            raise ValueError(f"load_state_dict: {key!r} is not in this {owner}")
    return {key: _converted(key, state[key], array, owner) for key, array in mine.items()}


def _converted(key: str, value: Any, mine: Array, owner: str) -> Array:
    """A copy of a state dict's value that can be written into `mine`, or ValueError."""
    where = f"load_state_dict: {key!r}"
    if type(value).__module__.startswith("torch"):
        raise ValueError(f"{where} is a PyTorch tensor; convert with minimix.from_torch")
    array = np.asarray(value)
    if array.shape != mine.shape:
        raise ValueError(f"{where} has shape {array.shape}, this {owner} needs {mine.shape}")
    how: Any = "same_kind" if mine.dtype.kind == "f" else "safe"
    if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, mine.dtype, how):
        raise ValueError(f"{where} is {array.dtype}, this {owner} needs {mine.dtype}")
    if not mine.flags.writeable:
        raise ValueError(f"{where}: the array of this {owner} is read-only")
    with np.errstate(over="raise"):
        try:
            return np.array(array, mine.dtype)
        except FloatingPointError:
            raise ValueError(f"{where} has values that {mine.dtype} cannot hold") from None
