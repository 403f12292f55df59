"""CIFAR-100 in the two layouts in which it is published, read as `cifar10` reads its own.

60,000 color images of 32×32 pixels, 600 of each of a hundred classes (Krizhevsky 2009).

    python version   cifar-100-python/train, test             a pickle each
    binary version   cifar-100-binary/train.bin, test.bin     per image two label bytes, 3072 pixels

Of the two labels of an image, the class and one of twenty groups of classes, the class is used.
"""

from __future__ import annotations

import os
from gzip import GzipFile
from pathlib import Path

from ..errors import DataError
from . import cifar10
from .cifar10 import Layout
from .dataset import Dataset

CLASS_NAMES = (
    *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle"),
    *("bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle"),
    *("caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch"),
    *("crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox"),
    *("girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard"),
    *("lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse"),
    *("mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck"),
    *("pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray"),
    *("road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail"),
    *("snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank"),
    *("telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle"),
    *("wardrobe", "whale", "willow_tree", "wolf", "woman", "worm"),
)
PYTHON = Layout("cifar-100-python", "cifar-100-python.tar.gz", ("train", "test"))
BINARY = Layout("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin", "test.bin"))
LAYOUTS = (PYTHON, BINARY)
LARGEST = 160_000_000  # bytes of a file


def find(path: Path) -> Path | None:
    """The folder or archive of CIFAR-100 that is `path` or in it; None if there is none."""
    if os.path.isfile(path):
        return path if _is_archive(path) else None
    for folder in [path, *(path / layout.folder for layout in LAYOUTS)]:
        if cifar10.layout_of(folder, LAYOUTS):
            return folder
    archives = (path / layout.archive for layout in LAYOUTS)
    return next((archive for archive in archives if os.path.isfile(archive)), None)


def _is_archive(path: Path) -> bool:
    """Whether it is a gzipped tar archive whose first entry is of CIFAR-100."""
    try:
        with GzipFile(path) as packed:
            return b"cifar-100" in packed.read(512)[:100]
    except Exception:  # not gzipped, damaged, not to be read: `describe` will say so
        return False


def read(path: Path, *, n_train: int = 50_000, n_test: int = 10_000) -> Dataset:
    """The data set in an unpacked folder or an archive, of either layout.

    Errors: DataError where a file is missing, truncated, damaged or holds a label of no class.
    """
    layout, unpacked = cifar10.layout_of(path, LAYOUTS), dict[str, bytes]()
    if layout is None:
        layout, unpacked = cifar10.read_archive(path, LAYOUTS, LARGEST)
    parts = []
    for name, n in zip(layout.files, (n_train, n_test), strict=True):
        where = str(path / name)
        content = unpacked.get(name) if unpacked else cifar10.read_file(path / name, LARGEST)
        if content is None:
            raise DataError(f"{where} is missing; {cifar10.mend(path)}")
        if layout is PYTHON:
            images, labels = cifar10.decode_pickle(content, where, n, "fine_labels")
        else:
            images, labels = cifar10.decode_binary(content, where, n, labels=2)
        cifar10.check_classes(labels, len(CLASS_NAMES), where)
        parts += [images.copy(), labels]
    a, b, c, d = parts
    return Dataset("cifar100", a, b, c, d, CLASS_NAMES, str(path))
