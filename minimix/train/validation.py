"""A part of the training images to choose settings by, so that test images choose nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data import Dataset
from ..data.dataset import sample

SEED = 0  # of the choice: the same images are held out in every run


def _is_mapped(images: object) -> bool:
    """Whether these are, or are a part of, what is mapped from a file."""
    return isinstance(images, np.memmap) or (
        isinstance(images, np.ndarray) and _is_mapped(images.base)
    )


def _ends_evenly(labels: np.ndarray, n: int) -> bool:
    """Whether the last n are the same share of every class, nearly."""
    share = np.empty(len(labels))  # of its class that comes before an image, with itself
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        share[of_class] = np.arange(1, len(of_class) + 1) / len(of_class)
    return bool(share[:-n].max() <= share[-n:].min() + 0.1 * n / len(labels))


def held_out(data: Dataset, n: int) -> Dataset:
    """The data set with n of its training images in place of its test images.

    They come from all classes as evenly as all training images do; which ones follows from the data
    set and n alone. The others, in their order, are the training images. Images that are mapped
    into memory are not copied where the last n of them will do, as in the cache of a folder.

    Errors: ValueError where that leaves nothing to train on.
    """
    images, labels = data.train_images, data.train_labels
    if n >= len(images):
        raise ValueError(
            f"`validation` is {n:,}; expected fewer than the {len(images):,} training images"
        )
    if _is_mapped(images) and _ends_evenly(labels, n):
        return replace(
            data,
            train_images=images[:-n],
            train_labels=labels[:-n],
            test_images=images[-n:],
            test_labels=labels[-n:],
        )
    held = np.zeros(len(images), bool)
    held[sample(labels, n, SEED)] = True
    return replace(
        data,
        train_images=images[~held],
        train_labels=labels[~held],
        test_images=images[held],
        test_labels=labels[held],
    )
