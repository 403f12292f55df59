"""Everything that a training changes: what a checkpoint has to hold, and no more.

The order of the images and what augmentation does to them follow from seed, epoch and index, so
there is no random generator whose state could be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..autograd import Array
from ..data import Dataset
from ..errors import CheckpointError
from ..models import ConvMixer
from ..optim import Optimizer, WeightAverage
from ..version import __version__
from .config import Config, option

MAY_CHANGE = ("data", "threads")  # settings that name where, not what


@dataclass
class Tally:
    """The epoch so far: sums over its images."""

    images: int = 0
    loss: float = 0.0
    correct: int = 0

    def add(self, images: int, loss: float, correct: int) -> None:
        """Another step's images, their mean loss, and how many of them were classified right."""
        self.images += images
        self.loss += loss * images
        self.correct += correct

    @property
    def mean_loss(self) -> float:
        return self.loss / self.images

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


@dataclass
class State:
    """The parts that change, how they go into a checkpoint and come out again."""

    config: Config
    data: Dataset
    model: ConvMixer
    optimizer: Optimizer
    average: WeightAverage | None
    tally: Tally = field(default_factory=Tally)

    @property
    def step(self) -> int:
        """Steps taken since the beginning."""
        return self.optimizer.steps

    @property
    def n_steps(self) -> int:
        """Steps of an epoch; the last batch may be smaller."""
        return -(-len(self.data.train_images) // self.config.batch_size)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.n_steps

    @property
    def images_seen(self) -> int:
        return self.epoch * len(self.data.train_images) + self.tally.images

    def arrays(self) -> dict[str, Array]:
        """All arrays by name, "model.…", "optimizer.…" and "average.…"; no copies."""
        return {
            f"{part}.{name}": array
            for part, owner in self._parts().items()
            for name, array in owner.state_dict().items()
        }

    def facts(self) -> dict[str, Any]:
        """The rest, as JSON can say it."""
        return {**described(self.config, self.data), "step": self.step, "tally": asdict(self.tally)}

    def restore(self, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
        """Take over what `arrays` and `facts` gave.

        CheckpointError where they are of other settings, another data set or another model.
        """
        for name, mine in asdict(self.config).items():
            begun = facts["config"].get(name)
            if name not in MAY_CHANGE and mine != begun:
                raise CheckpointError(
                    f"{option(name)} is {mine}, but this run was begun with {begun}; "
                    "leave it out, or start another run"
                )
        if self.data.fingerprint != facts["data"]["sha256"]:
            raise CheckpointError(
                f"the data set {self.data.name} ({self.data.source}) has sha256 "
                f"{self.data.fingerprint[:12]}…, this run was begun with {facts['data']['name']}, "
                f"{facts['data']['sha256'][:12]}…; name that one with --data"
            )
        try:
            for part, owner in self._parts().items():
                start = part + "."
                owner.load_state_dict(
                    {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}
                )
        except ValueError as error:
            raise CheckpointError(f"the checkpoint is of another model: {error}") from error
        self.tally = Tally(**facts["tally"])

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "average": self.average}
        return {part: owner for part, owner in parts.items() if owner is not None}


def described(config: Config, data: Dataset) -> dict[str, Any]:
    """What has to be known beside the weights to use them: settings, classes, versions."""
    return {
        "version": __version__,
        "config": asdict(config),
        "data": {
            "name": data.name,
            "class_names": list(data.class_names),
            "image_size": list(data.train_images.shape[1:3]),
            "sha256": data.fingerprint,
        },
    }
