"""What optimizers share: groups of parameters with settings, and a state that can be saved."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..autograd import Array, Tensor
from ..errors import expect, whole
from ..nn.module import fitted

RANGES = {"lr": "≥ 0", "weight_decay": "≥ 0", "momentum": "0 ≤ x < 1", "eps": "> 0"}
Parameters: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]]
State: TypeAlias = dict[str, Any]  # of one parameter: arrays like its own ("m", "v"), a count ("t")
Moved: TypeAlias = tuple[Array, Array, State]  # a parameter's array, its gradient and its state


class Optimizer:
    """The base of the optimizers.

    parameters  tensors; or groups: dicts with "params" and the settings that differ there

    groups      the groups, each with every setting; `optimizer.lr = …` sets the rate of them all
    state       what is remembered of each parameter, in the order of `parameters()`
    steps       how many steps were made

    A parameter without a gradient is left alone.
    Errors: TypeError if a parameter is not a tensor; ValueError if there are none, if one is given
    twice, shares memory with another or is the result of an operation, or if a setting is unknown
    or out of range.
    """

    def __init__(self, parameters: Parameters, **settings: Any) -> None:
        self.groups = self._grouped(parameters, settings)
        self._check_parameters()
        for group in self.groups:
            self._check(group)
        self.steps = 0
        self.state: list[State] = [
            self._fresh(p, group) for group in self.groups for p in group["params"]
        ]
        self._seen: list[Array | None] = [None] * len(self.state)  # whose dtype the states have

    # ---- what a kind of optimizer adds

    def _check(self, group: Mapping[str, Any]) -> None:
        """ValueError naming the setting and its value if one makes no sense."""
        for name, expected in RANGES.items():
            if name in group:
                expect(self._kind, expected, **{name: group[name]})

    def _fresh(self, p: Tensor, group: Mapping[str, Any]) -> State:
        """What is remembered of a parameter, before the first step."""
        raise NotImplementedError

    def _update(self, moved: Sequence[Moved], group: dict[str, Any]) -> None:
        """Change these parameters of a group, and their states, in place."""
        raise NotImplementedError

    # ---- in use

    def parameters(self) -> list[Tensor]:
        """Every parameter of every group."""
        return [p for group in self.groups for p in group["params"]]

    @property
    def lr(self) -> float:
        """The learning rate of the first group; assigning sets that of every group."""
        return self.groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        expect(self._kind, RANGES["lr"], lr=value)
        for group in self.groups:
            group["lr"] = value

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for p in self.parameters():
            p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient, in place.

        Where a parameter has another dtype than before (`Module.astype`), its state follows, and a
        gradient of another dtype is converted.
        Errors: ValueError, before anything has changed, if a gradient has not its parameter's
        shape, or a parameter's array is read-only.
        """
        i = 0
        work = []
        for group in self.groups:
            moved = []
            for p in group["params"]:
                g, array = p.grad, p.array
                if g is not None:
                    if array is not self._seen[i]:
                        self._meet(i, array)
                    if type(g) is not Array or g.dtype != array.dtype or g.shape != array.shape:
                        g = self._converted(i, g, array)
                    moved.append((array, g, self.state[i]))
                i += 1
            work.append((group, moved))
        self.steps += 1
        for p in self.parameters():
            if p.grad is not None:
                p.version += 1  # a tape that still holds this parameter must notice
        for group, moved in work:
            self._update(moved, group)

    def _meet(self, i: int, array: Array) -> None:
        """Parameter i has an array that is new here: its state takes on the array's dtype."""
        if not array.flags.writeable:
            raise ValueError(f"{self._kind}: parameter {i} is read-only; assign a copy to it")
        for name, a in self.state[i].items():
            if name != "t":
                self.state[i][name] = np.asarray(a, array.dtype)
        self._seen[i] = array

    def _converted(self, i: int, g: Any, array: Array) -> Array:
        """A gradient in its parameter's dtype."""
        g = np.asarray(g, array.dtype)
        if g.shape != array.shape:
            where = f"{self._kind}: the gradient of parameter {i}"
            raise ValueError(f"{where} has shape {g.shape}, the parameter {array.shape}")
        return g

    # ---- saving and loading

    def state_dict(self) -> dict[str, Array]:
        """The number of steps and what each parameter's state is, "0.m", "0.v", …; no copies."""
        states = {f"{i}.{name}": a for i, s in enumerate(self.state) for name, a in s.items()}
        return {key: np.asarray(a) for key, a in ({"steps": self.steps} | states).items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`: all of it or, after an error, nothing.

        Arrays are copied, in the dtype of their parameters.
        Errors: ValueError naming the first key that does not fit.
        """
        for i, p in enumerate(self.parameters()):
            self._meet(i, p.array)
        values = fitted(self.state_dict(), state, self._kind)
        counts = {key: int(a) for key, a in values.items() if a.dtype.kind == "i"}
        whole("load_state_dict", least=0, **counts)
        values |= counts
        self.state = [{n: values[f"{i}.{n}"] for n in s} for i, s in enumerate(self.state)]
        self.steps = values["steps"]

    # ---- what it was given

    @property
    def _kind(self) -> str:
        return type(self).__name__

    def _grouped(self, parameters: Any, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Groups that each have all settings, from tensors or groups."""
        if isinstance(parameters, Mapping) or not isinstance(parameters, Iterable):
            given = f"{self._kind}: parameters is a {type(parameters).__name__}"
            raise TypeError(f"{given}; expected tensors, such as model.parameters(), or groups")
        groups: list[Any] = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if not groups or not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        complete = []
        for group in groups:
            if not isinstance(group, Mapping):
                raise TypeError(f"{self._kind}: a {type(group).__name__} stands among the groups")
            for name in ("params", *group):
                if name not in {"params", *settings} or name not in group:
                    word = "unknown" if name in group else "missing"
                    there = f"there are params, {', '.join(settings)}"
                    raise ValueError(f"{self._kind}: {word} setting {name!r} in a group; {there}")
            params = group["params"]
            params = [params] if isinstance(params, Tensor) else list(params)
            complete.append({**settings, **group, "params": params})
        return complete

    def _check_parameters(self) -> None:
        parameters = self.parameters()
        if not parameters:
            raise ValueError(f"{self._kind}: there are no parameters to train")
        for i, p in enumerate(parameters):
            where = f"{self._kind}: parameter {i}"
            if not isinstance(p, Tensor):
                raise TypeError(f"{where} is a {type(p).__name__}; expected a Tensor")
            if not p.is_leaf:
                raise ValueError(f"{where} is the result of an operation; expected a leaf")
        by_place = sorted(parameters, key=lambda p: p.array.__array_interface__["data"][0])
        for p, q in itertools.pairwise(by_place):
            if p is q or np.shares_memory(p.array, q.array):
                raise ValueError(f"{self._kind}: a parameter is given twice, or two share memory")
