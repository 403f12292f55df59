"""Learning rates over time: functions from a step (0, 1, …, total − 1) to a learning rate.

    schedule = one_cycle(0.01, total=3900)
    for step in range(3900):
        optimizer.lr = schedule(step)
        …

`step` may be a fraction. After `total` a schedule stays at its last value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from ..errors import expect

Schedule = Callable[[float], float]


def piecewise(steps: Sequence[float], rates: Sequence[float]) -> Schedule:
    """Straight lines between the points (steps[i], rates[i]), flat before and after.

    Two points at the same step make a jump.
    Errors: ValueError if lengths differ, the steps do not increase, or a rate is negative.
    """
    if len(steps) != len(rates) or not len(steps):
        raise ValueError(f"piecewise: {len(steps)} steps but {len(rates)} rates")
    for i, (step, rate) in enumerate(zip(steps, rates, strict=True)):
        expect("piecewise", "≥ 0", **{f"steps[{i}]": step, f"rates[{i}]": rate})
    if any(b < a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"piecewise: steps {list(steps)} do not increase")

    def rate_at(step: float) -> float:
        if step <= steps[0]:
            return float(rates[0])
        for a, b, low, high in zip(steps, steps[1:], rates, rates[1:], strict=False):
            if step < b:
                return low + (high - low) * (step - a) / (b - a)
        return float(rates[-1])

    return rate_at


def constant(lr: float) -> Schedule:
    """lr, always."""
    expect("constant", "≥ 0", lr=lr)
    return lambda step: lr


def warmup_cosine(lr: float, total: float, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """A straight line up to lr in `warmup` steps, then half a cosine down to `final`.

    The first step has a rate already: lr / (warmup + 1).
    Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677.
    """
    expect("warmup_cosine", "> 0", lr=lr, total=total)
    expect("warmup_cosine", "≥ 0", final=final)
    if not 0 <= warmup < total:
        raise ValueError(f"warmup_cosine: warmup is {warmup}; expected 0 ≤ warmup < total, {total}")

    def rate_at(step: float) -> float:
        if step < warmup:
            return lr * (step + 1) / (warmup + 1)
        t = min((step - warmup) / (total - warmup), 1.0)
        return final + (lr - final) * 0.5 * (1 + math.cos(math.pi * t))

    return rate_at


def one_cycle(
    lr: float, total: float, peak_at: float = 0.25, start: float = 0.04, final: float = 0.0
) -> Schedule:
    """A straight line from start·lr up to lr at the fraction `peak_at`, and down to final·lr.

    Smith & Topin 2018, arXiv:1708.07120.
    """
    expect("one_cycle", "> 0", lr=lr, total=total)
    expect("one_cycle", "≥ 0", start=start, final=final)
    expect("one_cycle", "0 < x < 1", peak_at=peak_at)
    return piecewise([0, peak_at * total, total], [start * lr, lr, final * lr])


def official(lr: float, total: float, epochs: int | None = None) -> Schedule:
    """The ConvMixer authors' CIFAR-10 schedule: 0 to lr by 2/5 of the way, lr/20 by 4/5, then 0.

    They look up the rate of a step at its end: step 0 has that of the line at 1, and the last step
    has 0.

    epochs  E: the corners are at the ends of whole epochs, ⌊2E/5⌋ and ⌊4E/5⌋, as theirs are.
            Without it they are at 2/5 and 4/5 of `total`
    """
    expect("official", "> 0", lr=lr, total=total, epochs=1 if epochs is None else epochs)
    first, second = total * 2 / 5, total * 4 / 5
    if epochs is not None:
        first, second = (total * (part * epochs // 5) / epochs for part in (2, 4))
    line = piecewise([0, first, second, total], [0, lr, lr / 20, 0])
    return lambda step: line(step + 1)
