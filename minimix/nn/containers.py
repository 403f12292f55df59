"""Modules made of modules: one after the other, with a shortcut around them, in lists and dicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, TypeVar

from ..autograd import Tensor
from .module import Module, Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterList", "Residual", "Sequential"]

Item = TypeVar("Item", Module, Parameter)


class _List(Module, MutableSequence[Item]):
    """A list of items, which are attributes named "0", "1", …, renumbered as the list changes."""

    kind: type[Item]

    def __init__(self, items: Iterable[Item] = ()) -> None:
        super().__init__()
        self._hold(list(items))

    def _items(self) -> list[Item]:
        return [value for value in vars(self).values() if isinstance(value, self.kind)]

    def _hold(self, items: list[Item]) -> None:
        """Hold exactly these items; if one is invalid, change nothing."""
        for i, item in enumerate(items):
            if not isinstance(item, self.kind):
                name, kind = type(self).__name__, self.kind.__name__
                raise TypeError(f"{name}: item {i} is {item!r}; expected a {kind}")
            self._check(str(i), item)
        for name in [name for name, value in vars(self).items() if isinstance(value, self.kind)]:
            delattr(self, name)
        for i, item in enumerate(items):
            setattr(self, str(i), item)

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items())

    def __contains__(self, item: object) -> bool:
        return any(item is one for one in self)

    def index(self, item: Any, start: int = 0, stop: int | None = None) -> int:
        """Where this very item is; equal numbers do not count."""
        for i in range(*slice(start, stop).indices(len(self))):
            if self[i] is item:
                return i
        raise ValueError(f"{type(self).__name__}: {item!r} is not in it")

    def __getitem__(self, i: Any) -> Any:
        """The i-th item, or a list of the same kind of those in a slice; nothing is copied."""
        return self._list(self._items()[i]) if isinstance(i, slice) else self._items()[i]

    def _list(self, items: list[Any]) -> Any:
        return ModuleList(items) if self.kind is Module else ParameterList(items)

    def __setitem__(self, i: Any, value: Any) -> None:
        items = self._items()
        items[i] = value
        self._hold(items)

    def __delitem__(self, i: Any) -> None:
        items = self._items()
        del items[i]
        self._hold(items)

    def insert(self, i: int, item: Item) -> None:
        """Put an item before the i-th; those after it are renumbered."""
        items = self._items()
        items.insert(i, item)
        self._hold(items)


class ModuleList(_List[Module]):
    """A list of modules under the names "0", "1", …; has no forward.

    Indexed, sliced, appended to and iterated over as a list is. A slice holds the same modules.
    """

    kind = Module


class ParameterList(_List[Parameter]):
    """A list of parameters under the names "0", "1", …; has no forward."""

    kind = Parameter


class ModuleDict(Module, MutableMapping[str, Module]):
    """A dict of modules, whose keys are their names; has no forward."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    __eq__, __hash__ = object.__eq__, object.__hash__  # as other modules, by identity

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"ModuleDict: {key!r} is {module!r}; expected a Module")
        if hasattr(ModuleDict, key):
            raise ValueError(f"ModuleDict: {key!r} is part of every ModuleDict; choose another key")
        setattr(self, key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        delattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


class Sequential(ModuleList):
    """One layer after the other: x -> layers[n−1](… layers[0](x))."""

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    def _list(self, items: list[Module]) -> Sequential:
        return Sequential(*items)

    def forward(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x


class Residual(Module):
    """x -> fn(x) + x, for an fn that keeps the shape.   He et al. 2016, arXiv:1512.03385.

    Errors: ValueError, naming both, where the shape of fn(x) is not that of x.
    """

    def __init__(self, fn: Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        y = self.fn(x)
        if y.shape != x.shape:
            raise ValueError(f"Residual: fn gave shape {y.shape}, not that of x, {x.shape}")
        return y + x
