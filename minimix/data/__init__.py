"""Images to learn from: found, downloaded or drawn; augmented; served in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError
from ..files import expand
from . import cifar10, cifar100, folders, idx, npz, shapes10
from .augment import Augment
from .dataset import Dataset
from .loader import Loader, Plain, epoch_order, normalize
from .recognize import EXPECTED, describe
from .shuffle import shuffle_patches

__all__ = [
    "Augment",
    "Dataset",
    "Loader",
    "Plain",
    "epoch_order",
    "load",
    "normalize",
    "shuffle_patches",
]


def load(
    name: str = "auto",
    *,
    image_size: int | Sequence[int] = 0,
    test_fraction: float = 0.1,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """The data set of that name, or at that path.

    auto       CIFAR-10 if it is found or can be downloaded; otherwise shapes10, with a note
    cifar10    CIFAR-10, found or downloaded
    shapes10   the built-in set of drawn shapes
    a path     CIFAR-10, CIFAR-100, MNIST or another set in idx files, an .npz file, a
               folder that has a folder of pictures for each class (and train/ and test/, or not)

    image_size     side of the images in pixels, or (height, width): pictures are cropped and
                   resized to it (0: 32), other sets must have it (0: any)
    test_fraction  fraction of the pictures of each class to test on, where they have no test/
    say            gets a line for what a user should know
    progress       is called with (done, total): bytes downloaded, or pictures read

    Returns images uint8 (N, H, W, C) and labels int64 (N,), see `Dataset`; pictures of a folder are
    read once, and mapped into memory from the cache afterwards.

    Errors: in one line that says what was found and what is expected, DataError; DiskError where
    the cache cannot be written.
    """
    height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
    if name in ("auto", "cifar10", "shapes10"):
        data = _load(name, say, progress)
    elif not name:
        raise DataError(f"`data` is empty; expected auto, cifar10, shapes10, or {EXPECTED}")
    elif (known := _read(expand(name))) is not None:
        data = known
    elif found := folders.find(expand(name)):
        size = (height or folders.SIDE, width or folders.SIDE)
        return folders.read(found, size, test_fraction, say=say, progress=progress)
    else:
        what = describe(expand(name))
        raise DataError(f"{name} is {what}; expected auto, cifar10, shapes10, or {EXPECTED}")
    if height and data.train_images.shape[1:3] != (height, width):
        h, w = data.train_images.shape[1:3]
        raise DataError(
            f"the images of {data.name} have {h}×{w} pixels; expected `image_size`, "
            f"{height}×{width}"
        )
    return data


def _load(name: str, say: Callable[[str], None], progress: Callable[[int, int], None]) -> Dataset:
    """The data set of that name."""
    if name == "shapes10":
        return shapes10.load()
    path = cifar10.find()
    if path is None:
        from . import download  # the network's modules are slow to import

        try:
            path = download.fetch(say=say, progress=progress)
        except DataError as error:
            if name == "cifar10":
                raise
            say(f"{error}; using the built-in shapes10 set instead")
            return shapes10.load()
    return cifar10.read(path)


def _read(path: Path) -> Dataset | None:
    """The published data set or the .npz file at a path; None where there is neither."""
    for source in (cifar100, idx, npz):
        if found := source.find(path):
            return source.read(found)
    found = cifar10.find(path)
    return cifar10.read(found) if found else None
