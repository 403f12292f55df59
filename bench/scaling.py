"""How the time of a training step changes: with threads, beside other work, with sizes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Self

import numpy as np

import minimix as mx

from . import machine, nets
from .timing import Times, interleave, quotient, say, spread

BURST = 0.3  # seconds; the system gives a core to one process for some milliseconds at a time


class Neighbor:
    """Another process, which keeps a core busy when it is let; it ends with the `with` block."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def let(self, work: bool) -> None:
        os.kill(self.process.pid, signal.SIGCONT if work else signal.SIGSTOP)


def threads(net: nets.Net | nets.Rival, rounds: int) -> dict[str, Any]:
    """A step on one thread and on all, and on all beside a busy process; PyTorch's likewise."""
    n = mx.kernels.get_num_threads()
    sides: dict[str, Any] = {"minimix": nets.Minimix(net)}
    for form in nets.FORMS[1:2]:
        sides[form] = nets.Torch(net, form)
    with Neighbor() as neighbor:

        def call(side: Any, n: int, busy: bool) -> Callable[[], object]:
            def step() -> None:
                neighbor.let(busy)
                nets.set_threads(n)
                side.step()

            return step

        ways = {"one": (1, False), "all": (n, False), "busy": (n, True)}
        calls = {
            f"{name}, {way}": call(side, *how)
            for name, side in sides.items()
            for way, how in ways.items()
        }
        times = interleave(calls, rounds, BURST)
    nets.set_threads(n)
    say(f"threads of {net}")
    losses = {
        name: np.divide(times[f"{name}, busy"], times[f"{name}, all"]).tolist() for name in sides
    }
    mine, *theirs = losses.values()
    return {
        "net": str(net),
        "threads": n,
        "gain": {name: quotient(times[f"{name}, one"], times[f"{name}, all"]) for name in sides},
        "loss": {name: spread(loss) for name, loss in losses.items()},
        "ratio": quotient(theirs[0], mine) if theirs else None,
    }


def medians(times: Times) -> dict[str, float]:
    """Milliseconds of each candidate."""
    return {value: 1e3 * spread(seconds)["median"] for value, seconds in times.items()}


def sweeps(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds per step as one size varies and the others stay fixed.

    Before that, those of a matrix product by BLAS as threads change: what a second one brings here.
    """
    threads = mx.kernels.get_num_threads()
    base = nets.Net(128, 4, 5, 2, 64)
    series = {
        "threads": {n: base for n in (1, 2, 4, 8) if n <= threads},
        "batch": {n: base._replace(batch=n) for n in (16, 32, 64, 128)},
        "depth": {n: base._replace(depth=n) for n in (2, 4, 8)},
        "pixels": {n * n: base._replace(size=n) for n in (16, 32, 64)},
        "kernel size": {k: base._replace(kernel_size=k) for k in (3, 5, 7, 9)},
    }

    def with_threads(n, work):
        return lambda: (mx.kernels.set_num_threads(n), work())

    product = machine.Product(*machine.LARGE)
    times = interleave({str(n): with_threads(n, product) for n in series["threads"]}, rounds)
    result = {"matrix product by BLAS, other threads": medians(times)}
    for name, family in series.items():
        calls = {}
        for value, net in family.items():
            model = nets.Minimix(net)
            calls[str(value)] = with_threads(value, model.step) if name == "threads" else model.step
        times = interleave(calls, rounds)
        mx.kernels.set_num_threads(threads)
        result[f"{base}, other {name}"] = medians(times)
        say(f"sweep over {name}")
    return result
