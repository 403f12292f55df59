"""MNIST, Fashion-MNIST, and what else comes as idx files, gzipped or not.

    train-images-idx3-ubyte   train-labels-idx1-ubyte   t10k-images-idx3-ubyte   t10k-labels-idx1…

An idx file is two zero bytes, the type of its numbers, how many axes it has, the length of each
(four bytes, the highest first), and the numbers (LeCun, Cortes & Burges, "The MNIST database").
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from .dataset import Dataset

FASHION = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
KNOWN = {  # by the labels of the first ten training images: the files have the same names
    (5, 0, 4, 1, 9, 2, 1, 3, 1, 4): ("mnist", tuple("0123456789")),
    (9, 0, 0, 3, 0, 2, 7, 2, 5, 5): ("fashion_mnist", FASHION),
}
INSIDE = ("", "raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw")  # of torchvision's folders
PARTS = (  # in the order of a Dataset: words that a file's name has, and the usual name
    (("train",), "images", "train-images-idx3-ubyte"),
    (("train",), "labels", "train-labels-idx1-ubyte"),
    (("t10k", "test"), "images", "t10k-images-idx3-ubyte"),
    (("t10k", "test"), "labels", "t10k-labels-idx1-ubyte"),
)
LARGEST = 1 << 31  # bytes of a file


def find(path: Path) -> Path | None:
    """The folder of idx files that is `path`, is in it, or that the file `path` is in."""
    if os.path.isfile(path):
        return path.parent if _is_idx(path.name) else None
    folders = (path / inside for inside in INSIDE)
    return next((f for f in folders if os.path.isdir(f) and any(map(_is_idx, os.listdir(f)))), None)


def _is_idx(name: str) -> bool:
    return name.removesuffix(".gz").endswith("ubyte")


def read(folder: Path) -> Dataset:
    """The data set in a folder of four idx files: gray images, or colored ones with four axes.

    Errors: DataError where a file is missing, damaged or of something else, or there are several.
    """
    parts = [_read(_file(folder, *part)) for part in PARTS]
    for i in (0, 2):
        if parts[i].ndim == 3:
            parts[i] = parts[i][..., None]
    for i in (1, 3):
        if parts[i].shape[1:] == (1,):
            parts[i] = parts[i][:, 0]
        if parts[i].ndim != 1:
            shape = parts[i].shape
            raise DataError(f"{folder} has labels of shape {shape}; expected one for each image")
    labels = parts[1]
    most = max(int(part.max(initial=0)) for part in parts[1::2])
    numbers = tuple(str(i) for i in range(most + 1))
    name, class_names = KNOWN.get(tuple(labels[:10].tolist()), (folder.name, numbers))
    try:
        a, b, c, d = parts
        return Dataset(name, a, b, c, d, class_names, str(folder))
    except ValueError as error:
        raise DataError(f"{folder} holds idx files that do not fit together: {error}") from error


def _file(folder: Path, split: tuple[str, ...], kind: str, usual: str) -> Path:
    """The file of one part; an unpacked one comes before a gzipped one."""
    there = (n for n in sorted(os.listdir(folder)) if os.path.isfile(folder / n))
    names = [n for n in there if _is_idx(n) and kind in n.lower()]
    names = [n for n in names if any(word in n.lower() for word in split)]
    different = {name.removesuffix(".gz") for name in names}
    if not names:
        raise DataError(f"{folder} holds no file {usual}, gzipped or not")
    if len(different) > 1:
        raise DataError(
            f"{folder} holds the idx files of several sets, {' and '.join(sorted(different)[:2])}; "
            "put those of one into a folder of their own"
        )
    return folder / names[0]


def _read(path: Path) -> np.ndarray:
    """The numbers of an idx file, uint8."""
    damaged = f"{path} is damaged or not a whole idx file of bytes"
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            start = file.read(4)
            axes = start[3] if start[:3] == b"\0\0\x08" else 0
            shape = np.frombuffer(file.read(4 * axes), ">u4").tolist()
            if not 1 <= axes == len(shape) <= 4 or math.prod(shape) > LARGEST:
                raise DataError(damaged)
            content = file.read(math.prod(shape) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise DataError(f"{damaged} ({error})") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) != math.prod(shape):
        raise DataError(f"{damaged}: it says {tuple(shape)}, and there are {len(content):,} bytes")
    return np.frombuffer(content, np.uint8).reshape(shape)
