"""What can be seen inside a run's model: its weights, and the images it is most wrong about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Array, Tensor, no_grad
from ..data import Dataset, Loader, cifar10, shapes10
from ..errors import DataError
from ..fuse import fuse
from ..models import ConvMixer
from ..train.saved import config_of, load_model


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for something else."""

    image: Array  # uint8 (H, W, 3)
    label: str
    taken_for: str
    confidence: float  # probability of that


@dataclass(frozen=True)
class Inside:
    """A model, what it was saved with, and its mistakes, or in words why they are not known."""

    model: ConvMixer
    facts: dict[str, Any]
    mistakes: list[Mistake]
    why_none: str

    @property
    def class_names(self) -> list[str]:
        return self.facts["data"]["class_names"]


def look_inside(folder: Path, say: Callable[[str], None]) -> Inside | None:
    """The newest weights in a run folder; None where there are none yet.

    Errors: CheckpointError where there are files of weights and none of them is whole.
    """
    if not any(folder.glob("*.safetensors")):
        return None
    model, facts = load_model(folder)
    try:
        data = find_data(facts)
    except DataError as error:
        return Inside(model, facts, [], str(error))
    say(f"looking at {len(data.test_images):,} test images through {folder}")
    mistakes = worst_mistakes(model, data)
    return Inside(model, facts, mistakes, "" if mistakes else "It made no mistake.")


def find_data(facts: dict[str, Any]) -> Dataset:
    """The data set that a model was trained on, wherever it is now; it is not downloaded.

    DataError where it is nowhere to be found, or has changed.
    """
    config = config_of(facts)
    name = facts["data"]["name"]
    if name == "shapes10":
        data = shapes10.load()
    else:
        named = None if config.data in ("auto", "cifar10") else config.data
        path = cifar10.find(named) or cifar10.find()
        if path is None:
            raise DataError(f"{name} was not found; name its folder in MINIMIX_DATA")
        data = cifar10.read(path)
    data = config.limited(data)
    if data.fingerprint != facts["data"]["sha256"]:
        raise DataError(f"the {name} at {data.source} is not the one this run learned from")
    return data


def worst_mistakes(model: ConvMixer, data: Dataset, most: int = 24) -> list[Mistake]:
    """The test images that the model gives the largest probability of being what they are not."""
    images, labels = data.test_images, data.test_labels
    net = fuse(model)
    with no_grad():
        batches = Loader(images, labels, 500, shuffle=False)
        logits = np.concatenate([net(Tensor(x)).array for x, _ in batches])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    taken = shares.argmax(axis=1)
    wrong = np.flatnonzero(taken != labels)
    order = wrong[np.argsort(-shares[wrong, taken[wrong]], kind="stable")][:most]
    return [
        Mistake(
            images[i],
            data.class_names[labels[i]],
            data.class_names[taken[i]],
            float(shares[i, taken[i]]),
        )
        for i in order
    ]
