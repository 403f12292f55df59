"""Which images of a batch are whose."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Shard(NamedTuple):
    """A rank's part of a batch.

    positions  which images of the batch, int64, in their order
    weight     what their mean loss counts in the sum over all ranks
    copies     how many ranks look at each image: 1, unless the batch is too small to be divided
    """

    positions: np.ndarray
    weight: float
    copies: int


def fewest(size: int) -> int:
    """The smallest batch that can be divided among so many ranks."""
    return 2 * size if size > 1 else 1


def shard(n: int, rank: int, size: int) -> Shard:
    """The part of a batch of n images that rank 0 … size − 1 looks at.

    Positions i and n − 1 − i stay together, since augmentation mixes these two (MixUp, CutMix): a
    shard is a range of the first half of the batch and the same range of the second half, seen
    from the end. So shards differ by two images at most. A batch with fewer such pairs than ranks
    is not divided: every rank looks at all of it, and their losses count 1/size each.

    Errors: ValueError where there are no images, or no such rank.
    """
    if n < 1 or not 0 <= rank < size:
        raise ValueError(f"shard: rank {rank} of {size}, {n} images; expected at least one image")
    half = (n + 1) // 2  # the middle one of an odd number is its own partner
    if half < size:
        return Shard(np.arange(n), 1 / size, size)
    first = np.arange(half * rank // size, half * (rank + 1) // size)
    second = n - 1 - first[::-1]
    positions = np.concatenate([first, second[second >= half]])
    return Shard(positions, len(positions) / n, 1)
