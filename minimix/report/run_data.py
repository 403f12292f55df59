"""Everything that the page shows of a run: its log, its model, the model's mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Array
from ..errors import CheckpointError, DataError
from ..nn import Module
from ..runs import RunLog, read_log
from ..train.architecture import NotMadeAgainError
from ..train.config import config_of
from ..train.trained import load_model
from .mistakes import Mistake, find_data, worst_mistakes

NO_WEIGHTS = "No weights have been saved in this run folder yet."


@dataclass(frozen=True)
class TrainedModel:
    """A run's model, what was recorded about it, and its mistakes, or why there are none."""

    model: Module
    name: str
    data: str  # the data set's name
    sha256: str  # and fingerprint
    image_shape: tuple[int, int, int]  # (H, W, C)
    class_names: list[str]
    mistakes: list[Mistake]
    why_none: str


@dataclass(frozen=True)
class RunData:
    """A run as the page shows it.

    name    unique in the page, except for a folder that is given twice
    number  its position among the runs of the page, which decides its color
    """

    name: str
    number: int
    log: RunLog
    model: TrainedModel | None
    why_none: str = NO_WEIGHTS  # where there is no model

    @property
    def tested_on(self) -> str:
        """What kind of images the model was tested on: "test" or "validation"."""
        return self.log.tested_on

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return self.log.epochs

    def last(self, key: str) -> float:
        """A value of the last epoch; NaN before the first is complete."""
        return self.epochs[-1].get(key, np.nan) if self.epochs else np.nan

    def each(self, key: str) -> Array:
        """A value of every epoch."""
        return np.array([epoch[key] for epoch in self.epochs], float)

    @property
    def class_names(self) -> list[str]:
        n = len(self.epochs[-1]["confusion"]) if self.epochs else 0
        names = self.model.class_names if self.model else []
        return names if len(names) == n else [str(i) for i in range(n)]

    @property
    def recall(self) -> Array:
        """The fraction of each class that is classified correctly; NaN without test images."""
        return np.diag(self.confusion_rates)

    @property
    def confusion_rates(self) -> Array:
        """The confusion matrix, each row divided by its sum; NaN for a class without images."""
        counts = self.epochs[-1]["confusion"]
        total = counts.sum(axis=1, keepdims=True)
        return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)

    @property
    def images_per_second(self) -> float:
        """The median over the steps, as the first ones compile; NaN if no clock was read."""
        speeds = self.log.steps["speed"]
        return float(np.nanmedian(speeds)) if np.isfinite(speeds).any() else np.nan


def tested_on(runs: Sequence[RunData]) -> str:
    """What kind of images runs were tested on."""
    return " or ".join(sorted({run.tested_on for run in runs}))


def collect(folders: Sequence[Path], say: Callable[[str], None]) -> list[RunData]:
    """Read run folders, and test their models on the images that they were tested on.

    say  gets a line for what takes a while

    Errors: CheckpointError if a folder is not a run's, or is damaged.
    """
    logs = [read_log(folder) for folder in folders]
    short = [log.name for log in logs]
    runs = []
    for number, log in enumerate(logs):
        name = log.name if short.count(log.name) == 1 else str(log.folder)
        if len({log.tested_on for log in logs}) > 1:
            name += f" ({log.tested_on} images)"
        try:
            runs.append(RunData(name, number, log, _model(log.folder, say)))
        except NotMadeAgainError as error:
            runs.append(RunData(name, number, log, None, str(error)))
    return runs


def _model(folder: Path, say: Callable[[str], None]) -> TrainedModel | None:
    """The newest weights in a run folder; None if there are none yet."""
    if not any(folder.glob("*.safetensors")):
        return None
    model, facts = load_model(folder)
    config = config_of(facts)
    try:
        about = facts["data"]
        height, width = about["image_size"]
        channels = len(about["mean"])
        name, sha256, class_names = str(about["name"]), str(about["sha256"]), about["class_names"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the weights in {folder} are damaged: they do not say what data they were trained on"
        ) from error
    mistakes, why_none = [], f"The model classifies every {config.tested_on} image correctly."
    try:
        data = find_data(config, name, sha256)
    except DataError as error:
        why_none = str(error)
    else:
        say(f"testing the model of {folder} on {len(data.test_images):,} images")
        mistakes = worst_mistakes(model, data, shuffled=config.shuffle_patches)
    return TrainedModel(
        model, config.name, name, sha256, (height, width, channels), class_names, mistakes, why_none
    )
