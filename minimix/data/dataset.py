"""A data set in memory: what every source of images returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, split into a training and a test set.

    Images are uint8 (N, H, W, 3), all of one size; labels are whole numbers (N,) below
    `len(class_names)`, which become int64. Errors: ValueError, in one line, for anything else.
    """

    name: str  # "cifar10" or "shapes10"
    train_images: np.ndarray = field(repr=False)
    train_labels: np.ndarray = field(repr=False)
    test_images: np.ndarray = field(repr=False)
    test_labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    source: str = ""  # where it came from, in words, for the log

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"`class_names` are {self.class_names}; expected different ones")
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            check_images(images, f"{part}_images")
            check_labels(labels, len(images), self.n_classes, f"{part}_labels")
            object.__setattr__(self, f"{part}_labels", labels.astype(np.int64, copy=False))
        train, test = self.train_images.shape[1:], self.test_images.shape[1:]
        if train != test:
            raise ValueError(f"`test_images` are (N, *{test}); expected (N, *{train})")

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """sha256, as hex, of the shapes and every byte: a checkpoint notices a changed set."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def check_images(images: np.ndarray, name: str = "images") -> None:
    """Raise ValueError, or TypeError for no array, unless they are uint8 (N, H, W, 3)."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"`{name}` are a {type(images).__name__}; expected a NumPy array")
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 and images.size:
        return
    what = f"`{name}` are {images.dtype} {images.shape}; expected uint8 (N, H, W, 3)"
    if not images.size:
        raise ValueError(f"{what}, at least one")
    raise ValueError(what + _mend(images))


def _mend(images: np.ndarray) -> str:
    """What to do to make these images uint8 (N, H, W, 3), where that can be seen."""
    if images.ndim == 4 and images.shape[1] == 3 != images.shape[3]:
        return "; these are (N, C, H, W): pass images.transpose(0, 2, 3, 1)"
    if images.ndim == 3:
        return "; for gray ones pass np.stack([images] * 3, axis=3), for a single one images[None]"
    if images.ndim != 4:
        return ""
    if images.shape[3] == 1:
        return "; for gray ones pass np.repeat(images, 3, axis=3)"
    if images.shape[3] == 4:
        return "; to leave out transparency pass images[..., :3]"
    if images.shape[3] != 3 or images.dtype.kind not in "iuf":
        return ""
    low, high = images.min(), images.max()
    if images.dtype.kind == "f" and 0 <= low <= high <= 1:
        return ", from 0 to 255: pass (255 * images).round().astype(np.uint8)"
    if 0 <= low <= high <= 255:
        return "; pass images.round().astype(np.uint8)"
    return f", from 0 to 255; these go from {low:g} to {high:g}"


def check_labels(
    labels: np.ndarray, n: int, n_classes: int | None = None, name: str = "labels"
) -> None:
    """Raise ValueError, or TypeError for no array, unless they are n labels of classes."""
    if not isinstance(labels, np.ndarray):
        raise TypeError(f"`{name}` are a {type(labels).__name__}; expected a NumPy array")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"`{name}` are {labels.dtype} {labels.shape}; expected whole numbers (N,)")
    if len(labels) != n:
        raise ValueError(f"`{name}` are {len(labels)}; expected {n}, one for each image")
    low, high = labels.min(), labels.max()
    if low < 0 or (n_classes is not None and high >= n_classes):
        expected = "at least 0" if n_classes is None else f"0 to {n_classes - 1}"
        raise ValueError(f"`{name}` go from {low} to {high}; expected {expected}")
