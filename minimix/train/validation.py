"""A part of the training images to choose settings by, so that test images choose nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data import Dataset
from ..data.dataset import sample

SEED = 0  # of the choice: the same images are held out in every run


def held_out(data: Dataset, n: int) -> Dataset:
    """The data set with n of its training images in place of its test images.

    They come from all classes as evenly as all training images do; which ones follows from the data
    set and n alone. The others, in their order, are the training images. Images that are mapped
    into memory from the cache of a folder stay there: it has them in such an order that the last n
    will do. Others are copied.

    Errors: ValueError where that leaves nothing to train on.
    """
    images, labels = data.train_images, data.train_labels
    if n >= len(images):
        raise ValueError(
            f"`validation` is {n:,}; expected fewer than the {len(images):,} training images"
        )
    if isinstance(images.base, np.memmap):
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
