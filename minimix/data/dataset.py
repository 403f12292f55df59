"""A data set in memory: what every source of images returns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..errors import DataError
from .draws import Draws


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, split into a training and a test set.

        mx.data.Dataset("mine", images, labels, test_images, test_labels, ("cat", "dog"))

    Images are uint8 (N, H, W, C), all of one size, of one to four channels, in memory or mapped
    from a file (np.memmap); labels are whole numbers (N,) below `len(class_names)`, which become
    int64. Errors: in one line, TypeError where they are no arrays, ValueError for anything else.
    """

    name: str  # such as "cifar10"
    train_images: np.ndarray = field(repr=False)
    train_labels: np.ndarray = field(repr=False)
    test_images: np.ndarray = field(repr=False)
    test_labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    source: str = ""  # where it came from, in words, for the log
    # Of pixels scaled to [0, 1], by channel; left out, they are measured on the training images.
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

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
        if not self.mean and not self.std:
            for name, values in zip(("mean", "std"), moments(self.train_images), strict=True):
                object.__setattr__(self, name, values)
        for name in ("mean", "std"):
            if len(getattr(self, name)) != train[2]:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}; expected {train[2]} numbers, one a channel"
                )

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def renumbered(self, class_names: Sequence[str], where: str) -> Dataset:
        """The same images, with labels that count the classes as `where`, another set, does.

        Errors: DataError, naming it, where this set has a class that the other one lacks.
        """
        if tuple(class_names) == self.class_names:
            return self
        lacking = [name for name in self.class_names if name not in class_names]
        if lacking:
            raise DataError(
                f"{where} has no class {lacking[0]!r}, as {self.name} has; its classes are "
                f"{', '.join(class_names[:3])}" + (", …" if len(class_names) > 3 else "")
            )
        places = np.array([class_names.index(name) for name in self.class_names])
        return replace(
            self,
            train_labels=places[self.train_labels],
            test_labels=places[self.test_labels],
            class_names=tuple(class_names),
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256, as hex, of the shapes and every byte: a checkpoint notices a changed set."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels scaled to [0, 1], by channel.   uint8 (N, H, W, C)

    A channel in which all pixels are the same has the deviation 1: divided by it they stay finite.
    """
    c = images.shape[3]
    total, squares = np.zeros(c, np.int64), np.zeros(c, np.int64)  # whole numbers: exact
    lines = images.reshape(-1, images.shape[2] * c)
    for i in range(0, len(lines), 8192):  # 8192 · 255² < 2³¹
        part = lines[i : i + 8192].astype(np.int32)
        total += part.sum(axis=0, dtype=np.int32).reshape(-1, c).sum(axis=0, dtype=np.int64)
        part *= part
        squares += part.sum(axis=0, dtype=np.int32).reshape(-1, c).sum(axis=0, dtype=np.int64)
    n = images.size // c
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean * mean, 0))
    scaled = np.where(squares * n == total * total, 1, std / 255)
    return tuple((mean / 255).tolist()), tuple(scaled.tolist())


def sample(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n of the images with these labels, drawn at random: indices int64 (n,), ascending.

    As evenly as they come over the classes as these are over the whole set, and of each class at
    least one where n is as many as there are classes.
    """
    turn = np.argsort(Draws(seed, 0, np.arange(len(labels))).bits("sample")[:, 0], kind="stable")
    share = np.empty(len(labels))  # of its class that comes before an image
    for label in np.unique(labels):
        of_class = turn[labels[turn] == label]
        share[of_class] = np.arange(len(of_class)) / len(of_class)
    return np.sort(turn[np.argsort(share[turn], kind="stable")][:n])


MOST_CHANNELS = 4


def check_images(images: np.ndarray, name: str = "images") -> None:
    """Raise ValueError, or TypeError for no array, unless they are uint8 (N, H, W, C), C ≤ 4."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"`{name}` are a {type(images).__name__}; expected a NumPy array")
    fits = images.ndim == 4 and images.shape[3] <= MOST_CHANNELS and not _channels_first(images)
    if images.dtype == np.uint8 and fits and images.size:
        return
    what = f"`{name}` are {images.dtype} {images.shape}; expected uint8 (N, H, W, C), C from 1 to 4"
    if not images.size:
        raise ValueError(f"{what}, at least one")
    raise ValueError(what + _mend(images))


def _channels_first(images: np.ndarray) -> bool:
    """Whether images (N, …) look like (N, C, H, W): of one or three channels."""
    _, first, height, last = images.shape
    if first not in (1, 3) or first == last:
        return False
    return last > MOST_CHANNELS or first == 3 < height == last


def _mend(images: np.ndarray) -> str:
    """What to do to make these images uint8 (N, H, W, C), where that can be seen."""
    if images.ndim == 3:
        return "; for gray ones pass images[..., None], for a single one images[None]"
    if images.ndim != 4:
        return ""
    if _channels_first(images):
        return "; these are (N, C, H, W): pass images.transpose(0, 2, 3, 1)"
    if images.shape[3] > MOST_CHANNELS or images.dtype.kind not in "iuf":
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
