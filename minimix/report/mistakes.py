"""The test images that a model is most wrong about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..autograd import Array, Tensor, no_grad
from ..data import Dataset, Loader, Plain, cifar10, shapes10, shuffle_patches
from ..errors import DataError
from ..nn import Module
from ..train.config import Config
from ..train.evaluation import fastest


@dataclass(frozen=True)
class Mistake:
    """A misclassified test image."""

    image: Array  # uint8 (H, W, 3)
    label: str
    predicted: str
    confidence: float  # the model's probability of `predicted`


def find_data(config: Config, name: str, sha256: str) -> Dataset:
    """The data set that a model was trained on, wherever it is now. Nothing is downloaded.

    name, sha256  what the run recorded of it

    Errors: DataError if it is not found, or has changed.
    """
    if name == "shapes10":
        data = shapes10.load()
    else:
        if config.data not in ("auto", "cifar10"):
            data = config.load()
        elif path := cifar10.find():
            data = cifar10.read(path)
        else:
            raise DataError(f"{name} was not found; set MINIMIX_DATA to its folder")
    try:
        data = config.limited(data)
    except ValueError as error:
        raise DataError(f"this run was trained on more: {error}".replace("`", "")) from error
    if data.fingerprint != sha256:
        raise DataError(f"the {name} data at {data.source} is not what this run was trained on")
    return data


def worst_mistakes(
    model: Module, data: Dataset, count: int = 24, shuffled: int = 0
) -> list[Mistake]:
    """The misclassified test images, the most confident predictions first.

    shuffled  side of the patches that change places before the model sees an image; 0: none
    """
    images, labels = data.test_images, data.test_labels
    net = fastest(model)
    with no_grad():
        transform = Plain(data.mean, data.std)
        batches = Loader(images, labels, 500, transform=transform, shuffle=False)
        logits = np.concatenate(
            [net(Tensor(shuffle_patches(x, shuffled))).array for x, _ in batches]
        )
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return [
        Mistake(
            images[i],
            data.class_names[labels[i]],
            data.class_names[predicted[i]],
            float(confidence[i]),
        )
        for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    ]
