"""Images to learn from: found, downloaded or drawn; augmented; served in batches."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import DataError
from ..files import expand
from . import cifar10, shapes10
from .augment import Augment
from .dataset import Dataset
from .loader import Loader, epoch_order, normalize
from .recognize import describe
from .shuffle import shuffle_patches

__all__ = ["Augment", "Dataset", "Loader", "epoch_order", "load", "normalize", "shuffle_patches"]


def load(
    name: str = "auto",
    *,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """The data set of that name, or at that path.

    auto       CIFAR-10 if it is found or can be downloaded; otherwise shapes10, with a note
    cifar10    CIFAR-10, found or downloaded
    shapes10   the built-in set of drawn shapes
    a path     CIFAR-10 in that folder or archive

    `say` gets a line for what a user should know; `progress(done, total)` the bytes downloaded.
    Errors: DataError, in one line that says what was found and what is expected.
    """
    if name == "shapes10":
        return shapes10.load()
    if name not in ("auto", "cifar10"):
        path = cifar10.find(name) if name else None
        if path is None:
            found = f"{name} is {describe(expand(name))}" if name else "`data` is empty"
            raise DataError(
                f"{found}; expected auto, cifar10, shapes10, or the path of {cifar10.EXPECTED}"
            )
        return cifar10.read(path)
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
