"""How long the trainings of a study will take, from a few steps of each network."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..errors import MinimixError
from ..runs import read_log
from .running import Point, beginning, minimix
from .study import Row

STEPS, TESTED = 4, 500  # of an epoch of a warm-up: steps, and test images
SHORT = {"epochs": 2, "early_epochs": 0, "validation": 0}  # of which the second counts


def seconds_by_row(
    points: Sequence[Point], data: Dataset, options: Sequence[str], say: Callable[[str], None]
) -> dict[str, float]:
    """Seconds that one training takes, by the row's name.

    options  of `minimix train`, for all of them
    """
    speeds: dict[str, tuple[float, float]] = {}
    found = {}
    for row in {point.row.name: point.row for point in points}.values():
        config = row.config().complete()
        key = json.dumps([config.model, dict(config.model_settings), config.batch_size])
        if key not in speeds:
            say(f"warming up: {config.name}")
            speeds[key] = _warm_up(row, data, config.batch_size, options)
        step, test = speeds[key]
        part = config.limited(data)
        steps = math.ceil(len(part.train_images) / config.batch_size)
        found[row.name] = config.epochs * (steps * step + len(part.test_images) * test)
    return found


def _warm_up(
    row: Row, data: Dataset, batch_size: int, options: Sequence[str]
) -> tuple[float, float]:
    """Seconds a step, and seconds a test image: of a training that is over at once.

    Of its second epoch: in the first one, kernels may have to be compiled.
    """
    limits: dict[str, Any] = {
        "limit_train": min(len(data.train_images), STEPS * batch_size),
        "limit_test": min(len(data.test_images), TESTED),
    }
    with tempfile.TemporaryDirectory(prefix="minimix-") as folder:
        out = Path(folder, "run")
        words = [*beginning({**row.settings, **SHORT, **limits}), f"--out={out}", "--quiet"]
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
    times = np.minimum(batch_size, limits["limit_train"]) / log.steps["speed"]
    test = log.test_seconds[-1] / limits["limit_test"]
    return float(np.median(times[len(times) // 2 :])), test
