"""Images to learn from: found, downloaded or drawn; augmented; served in batches."""

from collections.abc import Callable

from minimix.data import cifar10, shapes10
from minimix.data.augment import Augment
from minimix.data.dataset import Dataset
from minimix.data.loader import Loader, epoch_order, normalize
from minimix.errors import DataError

__all__ = ["Augment", "Dataset", "Loader", "epoch_order", "load", "normalize"]


def load(
    name: str = "auto",
    *,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """The data set of that name, or at that path.

    auto       CIFAR-10 from where it is found, else downloaded, else one line and shapes10
    cifar10    CIFAR-10, found or downloaded, or DataError with what to do
    shapes10   the drawn set
    a path     CIFAR-10 in that folder or archive

    `say` gets a line for what a user should know; `progress(done, total)` the bytes downloaded.
    """
    if name == "shapes10":
        return shapes10.load()
    if name not in ("auto", "cifar10"):
        path = cifar10.find(name)
        if path is None:
            raise DataError(
                f"no CIFAR-10 at {name}: expected auto, cifar10, shapes10, an archive, or a "
                "folder that is or holds cifar-10-batches-py or cifar-10-batches-bin"
            )
        return cifar10.read(path)
    path = cifar10.find()
    if path is None:
        from minimix.data import download  # the network's modules are slow to import

        try:
            path = download.fetch(say=say, progress=progress)
        except DataError as error:
            if name == "cifar10":
                raise
            say(f"{error}; meanwhile this uses shapes10, a set that is drawn")
            return shapes10.load()
    return cifar10.read(path)
