"""What a network costs on this machine: parameters, multiply-adds, images per second, memory.

Each network is measured in a process of its own (python -m minimix.compare.measure, which reads a
request and prints what it found, both JSON), so that the peak of its memory is its own.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from ..autograd import Tensor, no_grad
from ..cost import layers
from ..kernels import set_num_threads
from ..nn import Module, evaluating
from ..optim import AdamW
from ..train.architecture import class_of
from ..train.evaluation import fastest
from .running import minimix

STATE = 16  # bytes a parameter: itself, its gradient, and AdamW's two moments


# ---- in a process of its own


def cost(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the network of a request costs.

    request  "model", a family or a class in a file, and its "settings"; "image_size" (H, W),
             "in_channels", "n_classes", "batch_size", "threads"; "seconds" to measure for at
             least

    Returns "parameters", "multiply_adds" of one image, and images per second in "training" and
    "inference", the medians over the calls after a first; "memory", the bytes that a training step
    needs beyond what Python and its libraries take, where the system tells.
    """
    height, width = request["image_size"]
    classes, batch = request["n_classes"], request["batch_size"]
    set_num_threads(request["threads"])
    model = network(request)
    found: dict[str, Any] = {
        "parameters": model.n_parameters(),
        "multiply_adds": count(model, request),
    }
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, height, width, request["in_channels"]), np.float32)
    labels = rng.integers(0, classes, batch)
    fast = fastest(model)
    optimizer = AdamW(model.parameters(), lr=1e-6)

    def step(n: int = batch) -> None:
        optimizer.zero_grad()
        F.cross_entropy(fast(Tensor(x[:n])), labels[:n]).backward()
        optimizer.step()

    def infer() -> None:
        with no_grad(), evaluating(model):
            fast(Tensor(x))

    step(min(batch, 2))  # kernels are compiled, or loaded
    gc.collect()
    with suppress(OSError):  # Linux: begin anew with the peak
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    found["training"] = batch / _median_time(step, request["seconds"])
    if before:
        found["memory"] = _status("VmHWM") - before + STATE * found["parameters"]
    found["inference"] = batch / _median_time(infer, request["seconds"])
    return found


def network(request: Mapping[str, Any], rng: np.random.Generator | int = 0) -> Module:
    """The network of a request, before training."""
    height, width = request["image_size"]
    offered = {
        "n_classes": request["n_classes"],
        "in_channels": request["in_channels"],
        "image_size": height if height == width else (height, width),
        "rng": rng,
    }
    cls = class_of(request["model"])
    takes = inspect.signature(cls).parameters
    filled = {key: value for key, value in offered.items() if key in takes}
    return cls(**{**filled, **request["settings"]})


def count(model: Module, request: Mapping[str, Any]) -> int:
    """The multiply-adds of matrix products and convolutions for one image."""
    rows, _ = layers(model, (1, *request["image_size"], request["in_channels"]))
    return sum(row.multiply_adds for row in rows)


def _median_time(call: Callable[[], object], seconds: float) -> float:
    """Median seconds a call, over so many seconds, after a first call that is not measured.

    It compiles what has not been compiled yet, and asks the system for memory.
    """
    call()
    times: list[float] = []
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _status(field: str) -> int:
    """A size from /proc/self/status, in bytes; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def _limit_memory() -> None:
    """Let what does not fit into the memory that is free end with a MemoryError.

    Otherwise the system would look for a process to kill, and might find another one.
    """
    with suppress(ImportError, OSError, ValueError, StopIteration):
        import resource

        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(one.split()[1]) for one in lines if one.startswith("MemAvailable"))
        most = int(0.9 * free)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


# ---- in the process that asks


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """`cost` in a process of its own; or "error": why there are no figures, in words."""
    process = minimix(
        __name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = process.communicate(json.dumps(request).encode())
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        killed = process.returncode < 0
        return {"error": "it was ended by the system" if killed else last or "it failed"}
    return json.loads(out)


def main() -> None:
    _limit_memory()
    try:
        found = cost(json.load(sys.stdin))
    except MemoryError:
        found = {"error": "too large for the memory of this machine"}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # large arrays are let go faster by the system
