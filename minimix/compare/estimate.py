"""How long the trainings of a study will take, from a few steps of each network."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..errors import MinimixError
from ..runs import read_log
from ..train.config import Config
from .running import Point, beginning, minimix
from .study import Row

STEPS, TESTED = 4, 500  # of an epoch of a warm-up: steps, and test images
# Settings on which the time of a step or of a test image does not depend.
INDEPENDENT = {
    "epochs", "early_epochs", "validation", "limit_train", "limit_test", "lr", "schedule", "peak",
    "weight_decay", "decay", "label_smoothing", "ema", "mirror", "seed",
}  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Seconds of a step, of a step with smaller crops, and of a test image."""

    step: float
    early_step: float
    test: float


def seconds_by_row(
    points: Sequence[Point], data: Dataset, options: Sequence[str], say: Callable[[str], None]
) -> dict[str, float]:
    """Seconds that one training takes, by the row's name.

    options  of `minimix train`, for all of them
    """
    speeds: dict[str, Speed] = {}
    found = {}
    for row in {point.row.name: point.row for point in points}.values():
        config = row.config().complete()
        depends = {k: v for k, v in asdict(config).items() if k not in INDEPENDENT}
        key = json.dumps([depends, config.early_epochs > 0])
        if key not in speeds:
            say(f"warming up: {config.name}")
            speeds[key] = _warm_up(row, data, config, options)
        speed = speeds[key]
        part = config.limited(data)
        steps = math.ceil(len(part.train_images) / config.batch_size)
        early = min(config.early_epochs, config.epochs)
        training = early * speed.early_step + (config.epochs - early) * speed.step
        tests = config.epochs + config.mirror
        found[row.name] = steps * training + tests * len(part.test_images) * speed.test
    return found


def _warm_up(row: Row, data: Dataset, config: Config, options: Sequence[str]) -> Speed:
    """Speeds from a short training. Its first epoch does not count: it may compile kernels."""
    epochs, early = (3, 2) if config.early_epochs else (2, 0)
    short: dict[str, Any] = {
        "epochs": epochs,
        "early_epochs": early,
        "validation": 0,
        "mirror": False,
        "limit_train": min(len(data.train_images), STEPS * config.batch_size),
        "limit_test": min(len(data.test_images), TESTED),
    }
    with tempfile.TemporaryDirectory(prefix="minimix-") as folder:
        out = Path(folder, "run")
        words = [*beginning({**row.settings, **short}), f"--out={out}", "--quiet"]
        process = minimix(
            "minimix",
            *("train", *words, *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, err = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            said = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise MinimixError(f"{row.name}: {said.partition(': ')[2] or 'the warm-up failed'}")
        log = read_log(out)
    size = min(config.batch_size, short["limit_train"])
    by_epoch = [size / np.median(log.steps["speed"][log.steps["epoch"] == n]) for n in (2, epochs)]
    return Speed(by_epoch[1], by_epoch[0], log.test_seconds[-1] / short["limit_test"])
