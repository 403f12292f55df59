"""Batches: which images, in which order, prepared while the network learns from the last ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from ..parallel import shard
from .cifar10 import MEAN, STD
from .dataset import check_images, check_labels
from .draws import Draws

Batch: TypeAlias = tuple[np.ndarray, np.ndarray]

# (images uint8 (n, H, W, C), labels (n,), indices (n,), seed, epoch) -> batch
Transform: TypeAlias = Callable[..., Batch]


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch goes through n images: a permutation of 0 … n - 1, int64 (n,).

    A function of its arguments alone, so that a resumed run goes on where it was.
    """
    keys = Draws(seed, epoch, np.arange(n)).bits("order")[:, 0]
    return np.argsort(keys, kind="stable")


def normalize(
    images: np.ndarray, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> np.ndarray:
    """uint8 (…, W, C) -> float32 (…, W, C): scaled to [0, 1], minus mean, over std, by channel.

    mean, std  C numbers each, those of the data set; by default CIFAR-10's

    Errors: ValueError for another dtype or shape.
    """
    c = len(mean)
    if images.dtype != np.uint8 or images.ndim < 2 or images.shape[-1] != c:
        raise ValueError(
            f"normalize: images are {images.dtype} {images.shape}; expected uint8 (…, W, {c})"
        )
    scale = 1 / (255 * np.array(std))
    shift = -np.array(mean) / std
    # Whole rows, so that the innermost loop is long: three channels at a time is slow.
    width = images.shape[-2]
    rows = images.reshape(*images.shape[:-2], width * c)
    out = np.multiply(rows, np.tile(scale, width).astype(np.float32), dtype=np.float32)
    out += np.tile(shift, width).astype(np.float32)
    return out.reshape(images.shape)


@dataclass(frozen=True)
class Plain:
    """The transform that only normalizes: for evaluation.

    images uint8 (n, H, W, C), labels (n,), … -> float32 (n, H, W, C) and the same labels. mean, std
    are C numbers each, by default CIFAR-10's. Errors: ValueError, as `normalize`.
    """

    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, _indices: np.ndarray, _seed: int, _epoch: int
    ) -> Batch:
        return normalize(images, self.mean, self.std), labels


PLAIN = Plain()  # for images of CIFAR-10


class Loader:
    """One epoch of batches.   images uint8 (N, H, W, C), labels (N,) whole numbers

    Iterating yields `transform(images, labels, indices, seed, epoch)` for `batch_size` indices at a
    time: by default float32 images (n, H, W, 3), normalized as CIFAR-10's are, and labels (n,). The
    last batch may be smaller. `skip` batches are left out at the start, for a run that resumes
    inside an epoch.

    Where several processes train together, `ranks` says which one this is and how many there are,
    and a batch is this one's shard of it (`minimix.parallel.shard`). The transform is then also
    given `first=`, the index that the whole batch begins with.

    Two batches ahead are prepared in a background thread. Each is a function of the arguments
    alone, whatever the timing, and the thread ends with the iteration, however that ends.

    Errors: ValueError for images, labels or numbers that make no sense, before the first batch.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        transform: Transform = PLAIN,
        shuffle: bool = True,
        skip: int = 0,
        n_classes: int | None = None,
        ranks: tuple[int, int] = (0, 1),
    ):
        check_images(images)
        check_labels(labels, len(images), n_classes)
        for name, value, least in (("batch_size", batch_size, 1), ("skip", skip, 0)):
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"`{name}` is {value}; expected a whole number from {least} up")
        self.images, self.labels = images, labels
        self.batch_size, self.skip = batch_size, skip
        self.seed, self.epoch, self.transform = seed, epoch, transform
        self.shuffle, self.ranks = shuffle, ranks

    def __len__(self) -> int:
        """The number of batches of a whole epoch."""
        return -(-len(self.images) // self.batch_size)

    def _batch(self, indices: np.ndarray) -> Batch:
        transform = self.transform
        if self.ranks != (0, 1):
            transform = partial(transform, first=indices[0])
            indices = indices[shard(len(indices), *self.ranks).positions]
        return transform(self.images[indices], self.labels[indices], indices, self.seed, self.epoch)

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
