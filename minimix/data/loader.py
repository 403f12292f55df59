"""Batches: which images, in which order, made ready while the last batch is still learned from."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from minimix.data.cifar10 import MEAN, STD
from minimix.data.draws import Draws

Batch: TypeAlias = tuple[np.ndarray, np.ndarray]

# (images uint8 (n, H, W, 3), labels (n,), indices (n,), seed, epoch) -> batch
Transform: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray, int, int], Batch]


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of 0 … n - 1, int64 (n,): the order in which this epoch sees the images.

    A function of its arguments alone, so a resumed run goes on where the interrupted one was.
    """
    keys = Draws(seed, epoch, np.arange(n)).bits("order")[:, 0]
    return np.argsort(keys, kind="stable")


def normalize(images: np.ndarray) -> np.ndarray:
    """uint8 (…, 3) -> float32 (…, 3): scaled to [0, 1], less MEAN, divided by STD, by channel."""
    scale = 1 / (255 * np.array(STD))
    shift = -np.array(MEAN) / STD
    # Over whole rows, so that the innermost loop is long: three channels at a time is slow.
    width = images.shape[-2]
    rows = images.reshape(*images.shape[:-2], width * 3)
    out = np.multiply(rows, np.tile(scale, width).astype(np.float32), dtype=np.float32)
    out += np.tile(shift, width).astype(np.float32)
    return out.reshape(images.shape)


def plain(
    images: np.ndarray, labels: np.ndarray, _indices: np.ndarray, _seed: int, _epoch: int
) -> Batch:
    """The transform that only normalises: what a network is evaluated on."""
    return normalize(images), labels


class Loader:
    """One epoch of batches.   images uint8 (N, H, W, 3), labels (N,) whole numbers

    Iterating yields `transform(images, labels, indices, seed, epoch)` for one run of
    `batch_size` indices after another: by default float32 images (n, H, W, 3), normalised, and
    int64 labels (n,). The last batch may be smaller; `drop_last` leaves it out. `skip` is the
    number of batches left out at the start, for a run that resumes inside an epoch.

    The next two batches are made in one background thread. Each is a function of the arguments
    alone, whatever the timing, and the thread ends with the iteration, however that ends.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        transform: Transform = plain,
        shuffle: bool = True,
        drop_last: bool = False,
        skip: int = 0,
        n_classes: int | None = None,
    ):
        check_images(images, labels, n_classes)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.images, self.labels = images, labels
        self.batch_size, self.drop_last, self.skip = batch_size, drop_last, skip
        self.seed, self.epoch, self.transform = seed, epoch, transform
        self.shuffle = shuffle

    def __len__(self) -> int:
        """The number of batches of a whole epoch."""
        n, size = len(self.images), self.batch_size
        return n // size if self.drop_last else -(-n // size)

    def _batch(self, indices: np.ndarray) -> Batch:
        return self.transform(
            self.images[indices], self.labels[indices], indices, self.seed, self.epoch
        )

    def __iter__(self) -> Iterator[Batch]:
        n, size = len(self.images), self.batch_size
        order = epoch_order(n, self.seed, self.epoch) if self.shuffle else np.arange(n)
        ahead: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(1, thread_name_prefix="minimix-loader")
        try:
            for i in range(self.skip, len(self)):
                ahead.append(pool.submit(self._batch, order[i * size : (i + 1) * size]))
                if len(ahead) > 2:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def check_images(images: np.ndarray, labels: np.ndarray, n_classes: int | None = None) -> None:
    """Raise ValueError, with what was given and what is needed, unless one can train on these."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"images must be uint8 (N, H, W, 3), channels last, got {images.dtype} {images.shape}"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be whole numbers (N,), got {labels.dtype} {labels.shape}")
    if len(labels) != len(images):
        raise ValueError(f"got {len(labels)} labels for {len(images)} images")
    if len(images) == 0:
        raise ValueError("got 0 images, need at least 1")
    low, high = labels.min(), labels.max()
    if low < 0 or (n_classes is not None and high >= n_classes):
        expected = "at least 0" if n_classes is None else f"between 0 and {n_classes - 1}"
        raise ValueError(f"labels must be {expected}, got {low} to {high}")
