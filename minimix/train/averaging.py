"""Averaging weights over the steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from ..autograd import Array
from ..errors import expect
from ..nn import Module
from ..runs.checkpoint import UPDATES


class WeightAverage:
    """An exponential moving average of everything in a model's state dict.

        θ̄ ← d θ̄ + (1 − d) θ,    d = min(decay, (1 + t) / (10 + t))    t: updates so far

    Each step of the optimizer lands beside the valley's floor, now on one side, now on the other;
    the average of many steps is nearer to it. At first d is small, so that the random initial
    weights are soon forgotten. Batch norm's running statistics are averaged like the weights that
    they belong to.

        average = WeightAverage(model, decay=0.97)
        … optimizer.step(); average.update() …
        with average.applied():
            … evaluate the model …

    decay  0 ≤ decay < 1; ValueError otherwise
    mean   the averages, by the names of the state dict, in the dtypes of the model
    Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging".
    """

    def __init__(self, model: Module, decay: float) -> None:
        expect("WeightAverage", "0 ≤ x < 1", decay=decay)
        self.model = model
        self.decay = decay
        self.updates = 0
        self.mean = {name: array.copy() for name, array in model.state_dict().items()}

    def update(self) -> None:
        """Include the weights as they are now.

        Errors: ValueError if the model has gained or lost arrays, or changed a shape, since.
        """
        now = self.model.state_dict()
        _match(now, self.mean)
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, array in now.items():
            mean = self.mean[name] = self.mean[name].astype(array.dtype, copy=False)
            if array.dtype.kind == "f":
                mean += mean.dtype.type(1 - d) * (array - mean)
            else:
                mean[...] = array  # a count has no average

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside this block the model has the averaged weights; afterwards its own again."""
        own = {name: array.copy() for name, array in self.model.state_dict().items()}
        try:
            self.model.load_state_dict(self.mean)
            yield
        finally:
            self.model.load_state_dict(own)

    def state_dict(self) -> dict[str, Array]:
        """The number of updates and every average, by the model's names; no copies."""
        return {UPDATES: np.asarray(self.updates, np.int64), **self.mean}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`. ValueError naming the first key that does not fit."""
        _match(state, self.state_dict())
        loaded = {name: np.array(state[name], mean.dtype) for name, mean in self.mean.items()}
        self.mean, self.updates = loaded, int(state[UPDATES])


def _match(state: Mapping[str, Array], mine: Mapping[str, Array]) -> None:
    """ValueError naming the first key that is missing, unknown or of another shape."""
    for key in sorted(mine.keys() | state.keys()):
        if key not in mine or key not in state:
            word = "missing" if key in mine else "unknown"
            raise ValueError(f"WeightAverage: {key!r} is {word}")
        if np.shape(state[key]) != mine[key].shape:
            raise ValueError(
                f"WeightAverage: {key!r} has shape {np.shape(state[key])}, "
                f"expected {mine[key].shape}"
            )
