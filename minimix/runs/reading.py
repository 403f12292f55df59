"""What was logged of a run, read and checked: it may be half written, damaged or malicious."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Array
from ..errors import CheckpointError
from .folder import ABOUT, METRICS, MODEL, TIMING

COUNTS = ("step", "epoch")
STEP_KEYS = (*COUNTS, "loss", "accuracy", "lr", "grad_norm")
EPOCH_KEYS = (*COUNTS, "train_loss", "train_accuracy", "test_loss", "test_accuracy")
HELD_OUT = {"validation_loss": "test_loss", "validation_accuracy": "test_accuracy"}


@dataclass(frozen=True)
class RunLog:
    """What was logged of a run.

    about         run.json: "command", "settings", "versions" and more
    steps         by the names of STEP_KEYS, "seconds" and "speed" in images per second, float64
                  (steps,); these two are NaN where no time was logged
    epochs        a dict for each completed epoch: EPOCH_KEYS, the norms by layer, "confusion"
                  (n, n), and "mirrored_accuracy" where mirrored images were tested as well
    seconds       of all steps and tests together
    test_seconds  of each test
    tested_on     which images "test_loss" and "test_accuracy" are of: "test", or "validation"
                  images, which were held out of the training images
    finished      whether training has ended
    """

    folder: Path
    about: dict[str, Any]
    steps: dict[str, Array]
    epochs: list[dict[str, Any]]
    seconds: float
    test_seconds: list[float]
    finished: bool
    tested_on: str = "test"

    @property
    def name(self) -> str:
        return Path(os.path.abspath(self.folder)).name

    @property
    def settings(self) -> dict[str, Any]:
        return self.about["settings"]

    @property
    def steps_per_epoch(self) -> float | None:
        """None in the first epoch, when nobody has counted them."""
        return self.epochs[0]["step"] / self.epochs[0]["epoch"] if self.epochs else None


def read_log(folder: Path) -> RunLog:
    """Read a run folder. CheckpointError where it is none, or a line of it is damaged.

    A last line that is still being written is left out.
    """
    about = _about(folder)
    steps: dict[str, list[float]] = {key: [] for key in STEP_KEYS}
    epochs = []
    for line in _lines(folder / METRICS):
        if line.content.get("kind") == "step":
            for key, value in line.numbers(STEP_KEYS).items():
                steps[key].append(value)
        elif line.content.get("kind") == "epoch":
            epochs.append(_epoch(line))

    taken: dict[str, dict[float, float]] = {key: {} for key in ("seconds", "images_per_s")}
    test_seconds = []
    if os.path.lexists(folder / TIMING):
        for line in _lines(folder / TIMING):
            for key, by_step in taken.items():
                if key in line.content and math.isfinite(number := line.number(key)):
                    by_step[line.number("step")] = number
            if "test_seconds" in line.content:
                test_seconds.append(line.number("test_seconds"))
    columns = {key: np.array(values, float) for key, values in steps.items()}
    for name, by_step in zip(("seconds", "speed"), taken.values(), strict=True):
        columns[name] = np.array([by_step.get(step, np.nan) for step in steps["step"]], float)
    test_seconds = [one for one in test_seconds if math.isfinite(one)]
    return RunLog(
        folder,
        about,
        columns,
        epochs,
        sum(taken["seconds"].values()) + sum(test_seconds),
        test_seconds,
        os.path.lexists(folder / MODEL),
        "validation" if about["settings"].get("validation") else "test",
    )


@dataclass(frozen=True)
class Line:
    """A JSON object and where it stands."""

    where: str
    content: dict[str, Any]

    def number(self, key: str) -> float:
        return self.checked(key, self.content.get(key))

    def checked(self, key: str, value: Any) -> float:
        """`value` if it is a number. CheckpointError otherwise."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise CheckpointError(
                f"{self.where} is damaged: {key!r} is {value!r:.40}; expected a number"
            )
        if abs(value) >= 1e30:  # as good as infinite, and no axis has to hold it
            return math.inf if value > 0 else -math.inf
        return float(value)

    def numbers(self, keys: Sequence[str]) -> dict[str, float]:
        """The numbers of those names, of which steps and epochs count from 1."""
        found = {key: self.number(key) for key in keys}
        for key in COUNTS:
            if not 1 <= found[key] < math.inf:
                raise CheckpointError(f"{self.where} is damaged: {key!r} is {found[key]:g}")
        return found


def _about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if not os.path.isdir(folder):
        raise CheckpointError(f"there is no run folder {folder}")
    about = _parse(_bytes(path), f"{path}").content
    if not isinstance(about.get("settings"), dict):
        raise CheckpointError(f"{path} is damaged: it holds no settings")
    return about


def _lines(path: Path) -> Iterator[Line]:
    for number, line in enumerate(_bytes(path).splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            yield _parse(line, f"{path}, line {number},")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror or error}; expected a run folder, "
            "as minimix train writes it"
        ) from error


def _parse(content: bytes, where: str) -> Line:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is damaged: it is not JSON") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where} is damaged: expected an object, not {content[:40]!r}")
    return Line(where, value)


def _epoch(line: Line) -> dict[str, Any]:
    held_out = {new: line.content[old] for old, new in HELD_OUT.items() if old in line.content}
    line.content.update(held_out)
    epoch: dict[str, Any] = line.numbers(EPOCH_KEYS)
    if "mirrored_accuracy" in line.content:
        epoch["mirrored_accuracy"] = line.number("mirrored_accuracy")
    for key in ("weight_norms", "gradient_norms"):
        norms = line.content.get(key)
        if not isinstance(norms, dict):
            raise CheckpointError(f"{line.where} is damaged: {key!r} does not name layers")
        epoch[key] = {name: line.checked(key, value) for name, value in norms.items()}
    epoch["confusion"] = _square(line, line.content.get("confusion"))
    return epoch


def _square(line: Line, rows: Any) -> Array:
    """Lists of counts, as many in each as there are of them, as an array (n, n)."""
    n = len(rows) if isinstance(rows, list) else 0
    if n and all(isinstance(row, list) and len(row) == n for row in rows):
        counts = np.array([[line.checked("confusion", n) for n in row] for row in rows])
        if np.isfinite(counts).all() and (counts >= 0).all():
            return counts
    raise CheckpointError(f"{line.where} is damaged: 'confusion' is not a square of counts")
