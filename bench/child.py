"""What must be measured in a process of its own: memory, page faults, start-up.

python -m bench.child memory FORM NET   ->  one JSON line
python -m bench.child start             ->  one JSON line
python -m bench.child preset NAME       ->  one JSON line
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def _status(field: str) -> int:
    """A size from /proc/self/status, in bytes; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def memory(form: str, name: str) -> dict[str, Any]:
    """The most memory that training steps take beyond what was there before the first."""
    from .nets import NETS, Minimix, Torch

    net = next(net for net in NETS if str(net) == name)
    if form in ("minimix", "minimix unfused"):
        _warm(Minimix, net)
        model: Any = Minimix(net, fused=form == "minimix")
    else:
        _warm(lambda small: Torch(small, form), net)
        model = Torch(net, form)
    before = _status("VmRSS")
    for _ in range(3):
        model.step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        model.step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    peak = _status("VmHWM")
    return {"step": peak - before, "process": peak, "faults a step": faults / 3}


def _warm(make: Any, net: Any) -> None:
    """Load what is only loaded by a first step (kernels, libraries), on a tiny batch."""
    small = make(net._replace(batch=2))
    small.step()


def start() -> dict[str, Any]:
    """Seconds to import minimix, and from there to the end of a first step and of a second."""
    begun = time.perf_counter()
    import minimix  # noqa: F401

    imported = time.perf_counter()
    from .nets import Minimix, Net

    model = Minimix(Net(128, 8, 5, 4, 128))
    model.step()
    first = time.perf_counter()
    model.step()
    second = time.perf_counter()
    return {"import": imported - begun, "first step": first - imported, "step": second - first}


def preset(name: str) -> dict[str, Any]:
    """Seconds of `minimix train` from its settings to the end of a first step and test, and again.

    The images are noise: as many as one batch to train on, and a few to test on.
    """
    from dataclasses import replace

    import numpy as np

    from minimix.data import Dataset
    from minimix.runs.elsewhere import Elsewhere
    from minimix.train import PRESETS, TrainingState, train

    tested: list[float] = []

    class Clock(Elsewhere):
        """A run folder that keeps nothing; it notes when a test has ended."""

        def time(self, step: int, **seconds: float) -> None:
            if "test_seconds" in seconds:
                tested.append(time.perf_counter())

    config = replace(PRESETS[name], epochs=2, mirror=False)
    n = config.batch_size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n + 8, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, n + 8)
    data = Dataset("noise", images[:n], labels[:n], images[n:], labels[n:], tuple("abcdefghij"))
    begun = time.perf_counter()
    train(TrainingState.build(config, data), Clock(Path("none"), None), quiet=True)
    first, second = tested
    return {"first step": first - begun, "step": second - first}


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    modes: dict[str, Any] = {"memory": memory, "start": start, "preset": preset}
    print(json.dumps(modes[what](*arguments)))
