"""Images to learn from: found, downloaded or drawn; augmented; served in batches."""

from minimix.data.augment import Augment
from minimix.data.dataset import Dataset
from minimix.data.loader import Loader, epoch_order, normalize

__all__ = ["Augment", "Dataset", "Loader", "epoch_order", "normalize"]
