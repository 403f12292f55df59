"""A run as the page speaks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autograd import Array
from .inside import Inside
from .reading import Reading

NO_WEIGHTS = "There are no weights in this folder yet."


@dataclass(frozen=True)
class Subject:
    """What was read of a run, what its model looks like inside, and what to call it."""

    name: str
    reading: Reading
    inside: Inside | None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return self.reading.epochs

    def last(self, key: str) -> float:
        """A number of the last epoch; NaN where there is none."""
        return self.epochs[-1].get(key, np.nan) if self.epochs else np.nan

    def each(self, key: str) -> Array:
        """A number of every epoch."""
        return np.array([epoch[key] for epoch in self.epochs], float)

    @property
    def class_names(self) -> list[str]:
        n = len(self.epochs[-1]["confusion"]) if self.epochs else 0
        names = self.inside.class_names if self.inside else []
        return names if len(names) == n else [str(i) for i in range(n)]

    @property
    def speed(self) -> float:
        """Images a second, the median: the first steps compile."""
        speeds = self.reading.steps["speed"]
        return float(np.nanmedian(speeds)) if np.isfinite(speeds).any() else np.nan
