"""A data set in an .npz file of x_train, y_train, x_test and y_test, as Keras saves its own."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from ..errors import DataError
from .dataset import Dataset, check_images

NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)
MOST_CLASSES = 65_536


def find(path: Path) -> Path | None:
    """`path`, if it is an .npz file with one of these sets of names."""
    return path if os.path.isfile(path) and _names(path) else None


def _names(path: Path) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {name.removesuffix(".npy") for name in archive.namelist()}
    except Exception:  # no zip archive, a damaged one, not to be read: `describe` will say so
        return ()
    return next((names for names in NAMES if inside.issuperset(names)), ())


def read(path: Path) -> Dataset:
    """The data set in such a file.

    Images are uint8, (N, H, W) for gray ones or (N, H, W, C); labels whole numbers (N,) or (N, 1).
    Classes are named by an array `class_names`, where there is one, or else by their numbers.

    Errors: DataError where the file is damaged, or its arrays are not of this form.
    """
    names = _names(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [np.asarray(file[name]) for name in names]
            class_names = file.get("class_names")
    except Exception as error:  # a damaged file raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is damaged, or its arrays are not of numbers: {reason}") from error
    try:
        parts = []
        for i in (0, 2):
            images, labels = arrays[i], arrays[i + 1]
            images = images[..., None] if images.ndim == 3 else images
            check_images(images, names[i])
            parts += [images, _labels(labels, names[i + 1])]
        if class_names is None:
            n = 1 + max(int(parts[i].max(initial=0)) for i in (1, 3))
            if n > MOST_CLASSES:
                raise ValueError(f"labels go up to {n - 1}; expected less than {MOST_CLASSES:,}")
            class_names = np.arange(n)
        classes = tuple(map(str, class_names.tolist()))
        a, b, c, d = parts
        return Dataset(path.stem, a, b, c, d, classes, str(path))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be used: {error}") from error


def _labels(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        raise ValueError(
            f"`{name}` are {labels.dtype} {labels.shape}; expected whole numbers (N,); "
            "of one-hot ones save y.argmax(axis=1)"
        )
    return labels
