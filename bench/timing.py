"""Times that can be compared: candidates take turns, and the same round is compared with itself.

A machine that does something else for a moment slows down whoever is running. So candidates are
never timed one after the other but in rounds, each round starting with another one, and what is
reported is the median over rounds, with quartiles.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

Calls = dict[str, Callable[[], object]]
Times = dict[str, list[float]]  # seconds a call, one for each round


SETTLE = 0.02  # seconds; PyTorch's threads were seen to spin for 8 ms after their last work


def burst(call: Callable[[], object], seconds: float) -> float:
    """Median seconds a call over about so many seconds, at least once.

    Calls of the first SETTLE seconds, at least one, are not counted: they find the other
    candidate's data in the caches, and its idle threads still spinning on a core. Of a call that
    takes a second this is nothing, so it is counted and not made twice.
    """
    begun = time.perf_counter()
    call()
    first = time.perf_counter() - begun
    times = [first] if first > 50 * SETTLE else []
    while not times and time.perf_counter() < begun + SETTLE:
        call()
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def interleave(calls: Calls, rounds: int, seconds: float = 0.0) -> Times:
    """Every candidate in every round, after a call in which it loads or compiles what it needs."""
    for call in calls.values():
        call()
    times: Times = {name: [] for name in calls}
    names = list(calls)
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            times[name].append(burst(calls[name], seconds))
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def quotient(times: list[float], others: list[float]) -> dict[str, float]:
    """Median and quartiles of one time over another of the same round."""
    return spread([one / other for one, other in zip(times, others, strict=True)])


def ratio(times: Times, mine: str = "minimix") -> dict[str, float | str] | None:
    """How many times faster `mine` is than the fastest of the others, round by round."""
    others = {name: statistics.median(t) for name, t in times.items() if name != mine}
    if not others:
        return None
    best = min(others, key=lambda name: others[name])
    return {"against": best, **quotient(times[best], times[mine])}


def say(what: str) -> None:
    print(f"measured {what}", file=sys.stderr, flush=True)
