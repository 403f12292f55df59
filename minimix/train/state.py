"""Everything that training changes: what a checkpoint has to hold, and no more.

The order of the images and what augmentation does to them follow from seed, epoch and index, so
there is no random generator whose state could be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..autograd import Array
from ..data import Dataset, shuffle_patches
from ..errors import CheckpointError, MinimixError
from ..nn import Module
from ..optim import Optimizer
from ..parallel import ALONE, Ranks, Shard, fewest, shard
from ..runs import Checkpoint
from ..version import __version__
from .architecture import code_of, sha256_of
from .averaging import WeightAverage
from .config import Config, config_of, differences, flat
from .divergence import divergence
from .probe import check, network
from .whitening import MOST, whiten

MAY_CHANGE = ("data", "threads")  # settings that say where, not what


@dataclass
class Tally:
    """The epoch so far: sums over its images."""

    images: int = 0
    loss: float = 0.0
    correct: int = 0

    def add(self, images: int, loss: float, correct: int) -> None:
        """Add a batch: how many images, their mean loss, and how many were classified correctly."""
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
class TrainingState:
    """The parts that change, how they go into a checkpoint and come out again."""

    config: Config
    data: Dataset
    model: Module
    optimizer: Optimizer
    average: WeightAverage | None
    code: str | None = None  # the file that the model's class is in, where it is the user's
    tally: Tally = field(default_factory=Tally)
    drawn: list[list[Any]] = field(default_factory=list)  # states of generators, by rank, as saved

    @classmethod
    def build(
        cls,
        config: Config,
        data: Dataset,
        checkpoint: Checkpoint | None = None,
        model: Module | None = None,
    ) -> Self:
        """The state before the first step, or the one in a checkpoint.

        data   the whole data set; of it is used what `config` says
        model  the network, where it is not made here of what `config` says

        Errors: ValueError where the network cannot be trained on these images (`probe.network`),
        CheckpointError where the checkpoint is of other settings, another data set or model.
        """
        config = config.complete()
        data = config.limited(data)
        config.check_data(data)
        code = code_of(config.model)
        if checkpoint:
            _check_same(config, data, code, checkpoint)
        if model is None:
            model = network(config, data)
        else:
            check(config, data, model)
        if config.whiten and checkpoint is None:
            seen = shuffle_patches(data.train_images[:MOST], config.shuffle_patches)
            whiten(model, seen, config.seed, data.mean, data.std)
        average = WeightAverage(model, config.ema) if config.ema else None
        optimizer = config.optimizer_of(model, data.n_classes)
        state = cls(config, data, model, optimizer, average, code)
        if checkpoint:
            state._restore(checkpoint)
        return state

    @property
    def step(self) -> int:
        """Steps taken since the beginning."""
        return self.optimizer.steps

    @property
    def n_steps(self) -> int:
        """Steps per epoch; the last batch may be smaller."""
        return -(-len(self.data.train_images) // self.config.batch_size)

    def part(self, ranks: Ranks) -> tuple[int, Shard]:
        """How many images the next step looks at, and which of them are this rank's."""
        size = self.config.batch_size
        n = min(size, len(self.data.train_images) - self.step % self.n_steps * size)
        return n, shard(n, ranks.rank, ranks.size)

    def share(self, ranks: Ranks) -> None:
        """Let every rank begin with what rank 0 has.

        Errors: MinimixError, in all ranks, where their settings or data sets differ, or a batch
        cannot be divided among them.
        """
        if ranks.size == 1:
            return
        mine = {**flat(asdict(self.config)), "data set": self.data.fingerprint}
        first = ranks.broadcast(mine)
        for rank, settings in enumerate(ranks.gather(mine)):
            for key, value in settings.items():
                if key not in MAY_CHANGE and value != first.get(key):
                    raise MinimixError(
                        f"rank {rank} was started with `{key}` {value}, rank 0 with "
                        f"{first.get(key)}; all must be the same"
                    )
        if self.config.batch_size < fewest(ranks.size):
            raise MinimixError(
                f"`batch_size` is {self.config.batch_size}, too small for {ranks.size} processes "
                f"to divide; expected at least {fewest(ranks.size)}"
            )
        arrays = {name: array.copy() for name, array in self.arrays().items()}
        drawn = self.drawn
        self._restore(ranks.broadcast(Checkpoint(Path("rank 0"), arrays, self.facts())))
        for i, generator in enumerate(self._generators()):  # other images, other random numbers
            if ranks.rank < len(drawn):
                generator.bit_generator.state = drawn[ranks.rank][i]
            else:
                child = generator.spawn(ranks.size)[ranks.rank]
                generator.bit_generator.state = child.bit_generator.state

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

    def facts(self, ranks: Ranks = ALONE) -> dict[str, Any]:
        """The rest, as JSON can express it; the states of random generators by rank."""
        generators = ranks.gather([g.bit_generator.state for g in self._generators()])
        drawn = {"generators": generators} if generators[0] else {}
        return {**self.description(), "tally": asdict(self.tally), **drawn}

    def description(self) -> dict[str, Any]:
        """What is needed besides the weights to use them: settings, classes, versions."""
        code = {} if self.code is None else {"code": sha256_of(self.code)}
        return {
            "version": __version__,
            "config": asdict(self.config),
            **code,
            "data": {
                "name": self.data.name,
                "class_names": list(self.data.class_names),
                "image_size": list(self.data.train_images.shape[1:3]),
                "mean": list(self.data.mean),
                "std": list(self.data.std),
                "sha256": self.data.fingerprint,
            },
        }

    def check_finite(self, saved: Path | None) -> None:
        """Raise DivergenceError unless every array is finite, so that one can resume from it."""
        for name, array in self.arrays().items():
            if not np.isfinite(array).all():
                raise divergence(self.config, f"after step {self.step}", name, saved)

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "average": self.average}
        return {part: owner for part, owner in parts.items() if owner is not None}

    def _generators(self) -> list[np.random.Generator]:
        """What the model draws random numbers from while it is trained, as dropout does."""
        held = (value for _, m in self.model.named_modules() for value in vars(m).values())
        found = {id(v): v for v in held if isinstance(v, np.random.Generator)}
        return list(found.values())

    def _restore(self, checkpoint: Checkpoint) -> None:
        try:
            for part, owner in self._parts().items():
                start = part + "."
                arrays = checkpoint.arrays.items()
                owner.load_state_dict(
                    {k.removeprefix(start): a for k, a in arrays if k.startswith(start)}
                )
            self.tally = Tally(**checkpoint.facts["tally"])
            self.drawn = checkpoint.facts.get("generators", [])
            saved = self.drawn[0] if self.drawn else []
            for generator, state in zip(self._generators(), saved, strict=True):
                generator.bit_generator.state = state
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{checkpoint.path} is of another model: {error}") from error


def _check_same(config: Config, data: Dataset, code: str | None, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError where a checkpoint was made with other settings or another data set."""
    try:
        began, learned = config_of(checkpoint.facts), checkpoint.facts["data"]
        name, digest = learned["name"], learned["sha256"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint.path} lacks its settings or its data set ({error}); start another run"
        ) from error
    for key, mine, other in differences(config, began):
        if key not in MAY_CHANGE:
            raise CheckpointError(
                f"`{key}` is {mine}, but this run was begun with {other}; "
                "leave it out, or start another run"
            )
    check_code(config, code, checkpoint.facts, "this run", "start another run")
    if data.fingerprint != digest:
        raise CheckpointError(
            f"the data set {data.name} ({data.source}) has sha256 {data.fingerprint[:12]}…, this "
            f"run was begun with {name}, {digest[:12]}…; name that one as `data`"
        )


def check_code(
    config: Config, code: str | None, facts: Mapping[str, Any], run: str, way: str
) -> None:
    """Raise CheckpointError where the user's file is not the one that a run was begun with.

    code   its text now, None where the network is one of minimix's
    facts  of the run's checkpoint
    run, way  what to call the run, and what else can be done
    """
    if code is not None and sha256_of(code) != facts.get("code"):
        path, _, _ = config.model.rpartition(":")
        raise CheckpointError(
            f"{path} has changed since {run} was begun with it; put it back as it was (the run "
            f"folder keeps it as model.py), or {way}"
        )
