"""What optimisers share: groups of parameters with settings, and a state that can be saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..autograd import Array, Tensor

Moved: TypeAlias = tuple[Array, Array, dict[str, Array]]  # a parameter, its gradient and state


class Optimizer:
    """Base of the optimisers.

    parameters  tensors, or groups: dicts with "params" and whatever settings differ there
    groups      the groups as they stand, each with every setting; `optimizer.lr = …` sets them all

    steps       how often `step` was called

    A parameter without a gradient is left alone.
    Errors: TypeError and ValueError where a parameter is no tensor or comes twice, or a setting is
    unknown or out of range.
    """

    def __init__(
        self, parameters: Iterable[Tensor] | Iterable[dict[str, Any]], **settings: Any
    ) -> None:
        kind = type(self).__name__
        given: list[Any] = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if not given:
            raise ValueError(f"{kind}: there are no parameters to train")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.groups: list[dict[str, Any]] = []
        for group in groups:
            for name in ("params", *group):
                if name not in {"params", *settings} or name not in group:
                    raise ValueError(
                        f"{kind}: {'unknown' if name in group else 'missing'} setting {name!r} in "
                        f"a group; there are params, {', '.join(settings)}"
                    )
            params = group["params"]
            params = [params] if isinstance(params, Tensor) else list(params)
            self.groups.append({**settings, **group, "params": params})
        for i, p in enumerate(self.parameters()):
            if not isinstance(p, Tensor):
                raise TypeError(f"{kind}: parameter {i} is a {type(p).__name__}; expected a Tensor")
        if len(set(self.parameters())) < len(self.parameters()):
            raise ValueError(f"{kind}: a parameter is given twice, and would be moved twice a step")
        for group in self.groups:
            self._check(group)
        self.steps = 0
        self.state: list[dict[str, Array]] = [
            self._fresh(p, group) for group in self.groups for p in group["params"]
        ]

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError, naming the setting and its value, where one makes no sense."""
        for name in ("lr", "weight_decay"):
            if not group[name] >= 0:
                raise ValueError(f"{type(self).__name__}: {name} is {group[name]}; expected ≥ 0")

    def _fresh(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Array]:
        """What is remembered of a parameter, before the first step."""
        raise NotImplementedError

    def _update(self, moved: Sequence[Moved], group: dict[str, Any]) -> None:
        """Change these parameters of a group, and their states, in place."""
        raise NotImplementedError

    def parameters(self) -> list[Tensor]:
        return [p for group in self.groups for p in group["params"]]

    @property
    def lr(self) -> float:
        """The learning rate of the first group; assigning sets that of all."""
        return self.groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = value

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for p in self.parameters():
            p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        self.steps += 1
        states = iter(self.state)
        for group in self.groups:
            moved = []
            for p in group["params"]:
                state = next(states)
                if p.grad is not None:
                    moved.append((p.array, p.grad, state))
                    p.version += 1  # a tape that still holds this parameter must notice
            self._update(moved, group)

    def state_dict(self) -> dict[str, Array]:
        """The step count and what is remembered of each parameter, "0.m", "0.v", …; no copies."""
        state = {f"{i}.{name}": a for i, s in enumerate(self.state) for name, a in s.items()}
        return {"steps": np.asarray(self.steps, np.int64), **state}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`, all or nothing.

        Errors: ValueError naming the first key that does not fit.
        """
        mine = self.state_dict()
        for key in sorted(mine.keys() ^ state.keys()):
            raise ValueError(
                f"load_state_dict: {key!r} is {'missing' if key in mine else 'unknown'}"
            )
        for key, value in mine.items():
            if np.shape(state[key]) != value.shape:
                raise ValueError(
                    f"load_state_dict: {key!r} has shape {np.shape(state[key])}, "
                    f"expected {value.shape}"
                )
        values = {key: np.array(state[key], value.dtype) for key, value in mine.items()}
        for key, value in mine.items():
            value[...] = values[key]
        self.steps = int(state["steps"])
