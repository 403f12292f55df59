"""One training in several processes: how long a step takes, and how much of it is MPI.

    python -m bench.ranks [ROUNDS]

Each round starts every arrangement once, one after the other, so that whatever else the machine
does falls on all of them; a figure is the median over rounds of a run's median step. It is the loop
of `minimix train` with the preset `plain`, on images of noise. `python -m bench.ranks step …` is
one such run, in as many processes as mpiexec starts; `python -m bench.ranks paper` prints what
many machines would do, by the formula in results/mpi.md.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

WARM, STEPS = 3, 12

# name: processes, threads of each, batch size, synchronized batch norm, early sums
ARRANGEMENTS = {
    "1 × 2 threads": (1, 2, 128, True, True),
    "2 × 1 thread": (2, 1, 128, True, True),
    "2 × 1 thread, sums after backward": (2, 1, 128, True, False),
    "2 × 1 thread, not synchronized": (2, 1, 128, False, True),
    "1 × 1 thread": (1, 1, 128, True, True),
    "4 × 1 thread": (4, 1, 128, True, True),
    "1 × 1 thread, batch 64": (1, 1, 64, True, True),
    "4 × 1 thread, batch 256": (4, 1, 256, True, True),
}


def step(threads: int, batch_size: int, synchronized: bool, early: bool) -> None:
    """Train for a few steps; rank 0 prints the median step, and the median of its time in MPI."""
    from minimix.data import Dataset
    from minimix.kernels import set_num_threads
    from minimix.parallel import Ranks, world
    from minimix.parallel.early import Early
    from minimix.runs.elsewhere import Elsewhere
    from minimix.train import Config, TrainingState, train

    ranks = world()
    inside, sent = [0.0], [0]

    def timed(call):
        def measured(self, *args):
            start = time.perf_counter()
            result = call(self, *args)
            inside[0] += time.perf_counter() - start
            arrays = args[1] if call.__name__ == "begin" else args[:1]
            sent[0] += sum(np.asarray(a).nbytes for a in arrays) if ranks.size > 1 else 0
            return result

        return measured

    for owner, name in (
        (Ranks, "sum"), (Ranks, "reduce"), (Ranks, "highest"), (Early, "begin"), (Early, "finish"),
    ):  # fmt: skip
        setattr(owner, name, timed(getattr(owner, name)))
    if not early:
        sys.modules["minimix.fuse.convmixer"].announce = lambda parameters, gradients: None

    class Clock(Elsewhere):
        """A run folder that keeps the times of its steps."""

        def __init__(self) -> None:
            super().__init__(Path("none"), None)
            self.steps: list[tuple[float, float, int]] = []

        def time(self, step: int, **seconds: float) -> None:
            if "seconds" in seconds:
                self.steps.append((seconds["seconds"], inside[0], sent[0]))
            inside[0], sent[0] = 0.0, 0

    set_num_threads(threads)
    rng = np.random.default_rng(0)
    n = batch_size * (WARM + STEPS)
    images = rng.integers(0, 256, (n + 8, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, n + 8)
    names = tuple("abcdefghij")
    data = Dataset("noise", images[:n], labels[:n], images[n:], labels[n:], names)
    config = replace(Config(), epochs=1, batch_size=batch_size, sync_batch_norm=synchronized)
    config = replace(config, threads=threads)
    run = Clock()
    train(TrainingState.build(config, data), run, quiet=True, ranks=ranks)
    if ranks.first:
        steps, within, sizes = zip(*run.steps[WARM:], strict=True)
        print(json.dumps([median(steps), median(within), median(sizes)]))


def start(processes: int, *arguments: object) -> list[float]:
    """Run `step` in so many processes."""
    command = [sys.executable, "-m", "bench.ranks", "step", *map(str, arguments)]
    if processes > 1:
        mpiexec = shutil.which(
            "mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        )
        command = [mpiexec or "mpiexec", "-n", str(processes), *command]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main(rounds: int) -> None:
    times: dict[str, list[list[float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, (processes, *arguments) in ARRANGEMENTS.items():
            times[name].append(start(processes, *arguments))
            time.sleep(1)  # for whoever else uses this machine
    base = [seconds for seconds, _, _ in times["1 × 2 threads"]]
    print(f"{'':32}  {'ms a step':>9}  {'in MPI':>6}  {'KB sent':>7}  1 × 2 threads / this")
    for name, figures in times.items():
        seconds, within, sizes = (median(column) for column in zip(*figures, strict=True))
        ratio = median(b / s for b, (s, _, _) in zip(base, figures, strict=True))
        print(
            f"{name:32}  {1e3 * seconds:9.1f}  {1e3 * within:6.1f}  {sizes / 1e3:7.0f}  {ratio:.2f}"
        )


# ---- on paper, from what was measured

IMAGE = 73.8e-3 / 128  # seconds an image, of a machine of two cores: 2 × 1 thread above
GRADIENTS, FORWARD, BACKWARD, NORMS = 700e3, 3072, 2056, 17  # bytes of a message; batch norms
EARLY = 7 / 8  # of the gradients: sent while others are computed, of 8 blocks
BACK = 0.5  # of a step: backward through the blocks that come after the first message
NETWORKS = {"1 Gbit/s": (50e-6, 117e6), "10 Gbit/s": (30e-6, 1.17e9)}  # latency, bytes a second


def predicted(n: int, batch_size: int, latency: float, speed: float) -> tuple[float, float]:
    """Seconds a step on n machines: computing, and in messages that are waited for."""
    rounds, compute = math.log2(n), IMAGE * batch_size / n
    gradients = 2 * rounds * latency + 2 * (n - 1) / n * GRADIENTS / speed
    hidden = min(EARLY * gradients, BACK * compute)
    norms = NORMS * rounds * (2 * latency + (FORWARD + BACKWARD) / speed)
    return compute, gradients - hidden + norms + rounds * latency


def paper() -> None:
    for network, (latency, speed) in NETWORKS.items():
        print(f"\n{network:10} |  128 images a step       |  128 images a machine")
        print("machines   |  ms + messages  speed-up  |  ms + messages  speed-up")
        for n in (1, 2, 4, 8, 16, 32, 64):
            cells = []
            for batch_size in (128, 128 * n):
                compute, messages = predicted(n, batch_size, latency, speed)
                speedup = batch_size / 128 * predicted(1, 128, latency, speed)[0]
                speedup /= compute + messages
                cells.append(f"{1e3 * compute:5.1f} + {1e3 * messages:4.1f}     {speedup:8.1f}")
            print(f"{n:>8}   |  {cells[0]}  |  {cells[1]}")


if __name__ == "__main__":
    if sys.argv[1:] == ["paper"]:
        paper()
    elif sys.argv[1:2] == ["step"]:
        threads, batch_size, synchronized, early = sys.argv[2:]
        step(int(threads), int(batch_size), synchronized == "True", early == "True")
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
