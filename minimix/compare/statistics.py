"""What a few trainings with different seeds tell: means, their uncertainty, differences.

The standard error of a mean of n values is s/√n, with s² = Σ (x − x̄)² / (n − 1). With few seeds s
itself is uncertain, so an interval that is to hold the true mean in 95 of 100 cases is x̄ ± t s/√n,
where t is a quantile of Student's distribution with n − 1 degrees of freedom ("Student" 1908, "The
probable error of a mean"): 12.7 for two seeds, 4.3 for three, 2.8 for five.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over n values and its standard error, which is NaN for a single value."""

    mean: float
    error: float
    n: int


def mean(values: Sequence[float], resolution: float = 0.0) -> Mean:
    """The mean of at least one value.

    resolution  the smallest difference that two values can have: the standard deviation is taken to
                be no smaller, as values that happen to be equal do not prove that all would be
    """
    n = len(values)
    spread = max(stdev(values), resolution) if n > 1 else math.nan
    return Mean(fmean(values), spread / math.sqrt(n), n)


def probability(t: float, degrees: int) -> float:
    """P(|T| ≤ t) for Student's T with so many degrees of freedom, a whole number from 1 up.

    The finite sums of Abramowitz & Stegun 1964, 26.7.3 and 26.7.4, with θ = atan(t/√degrees).
    """
    theta = math.atan(t / math.sqrt(degrees))
    cos2 = math.cos(theta) ** 2
    odd = degrees % 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0
    for k in range(odd, degrees - 1, 2):  # the exponent of the cosine
        total += term
        term *= cos2 * (k + 1) / (k + 2)
    if odd:
        return 2 / math.pi * (theta + math.sin(theta) * total)
    return math.sin(theta) * total


def quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The t with P(|T| ≤ t) = confidence, by bisection."""
    low, high = 0.0, 1.0
    while probability(high, degrees) < confidence:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if probability(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True)
class Difference:
    """How much more one has than another, over the seeds that both were trained with.

    low, high  the interval that holds the true difference in 95 of 100 cases; NaN for one seed
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """ "better", "worse", or "cannot tell" where the interval holds 0 or there is none."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "cannot tell"


def paired_difference(
    mine: Mapping[int, float], other: Mapping[int, float], resolution: float = 0.0
) -> Difference | None:
    """The difference mine − other seed by seed; None where no seed is common to both.

    Two trainings with one seed see the same images in the same order, so their difference varies
    less than they do.
    """
    differences = [mine[seed] - other[seed] for seed in sorted(mine.keys() & other.keys())]
    if not differences:
        return None
    found = mean(differences, resolution)
    if found.n == 1:
        return Difference(found.mean, math.nan, math.nan, 1)
    half = quantile(found.n - 1) * found.error
    return Difference(found.mean, found.mean - half, found.mean + half, found.n)
