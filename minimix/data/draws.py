"""Random numbers that are a function of where they are used, and of nothing else.

With a generator that counts, what an image looks like depends on how many images came before it:
on the order, on threads, on where a run was resumed. Here a number is a hash of (seed, epoch, name
of the draw, image index), so it can be computed at any time, in any order, for a whole batch.

The hash is the finalizer of SplitMix64 (Steele, Lea & Flood 2014), applied once per key.
"""

import zlib
from copy import copy
from functools import lru_cache

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(x: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that flips half of the bits when one changes."""
    x = (x ^ (x >> _SHIFTS[0])) * _FACTORS[0]
    x = (x ^ (x >> _SHIFTS[1])) * _FACTORS[1]
    return x ^ (x >> _SHIFTS[2])


@lru_cache(1024)  # every batch of an epoch asks for the same
def _fold(key: int, part: int) -> int:
    """A key made of a key and a whole number, modulo 2⁶⁴."""
    return int(mix(np.array([(key * int(_GAMMA) + part + int(_GAMMA)) % 2**64], np.uint64))[0])


class Draws:
    """The random numbers of some images in one epoch.   indices (n,) -> n numbers a draw"""

    def __init__(self, seed: int, epoch: int, indices: np.ndarray):
        self.key = _fold(_fold(0, seed), epoch)
        self.indices = np.asarray(indices).astype(np.uint64)

    def of(self, which: np.ndarray) -> "Draws":
        """The random numbers of some of these images."""
        some = copy(self)
        some.indices = self.indices[which]
        return some

    def bits(self, name: str, per_image: int = 1) -> np.ndarray:
        """uint64 (n, per_image), each bit a fair coin; another name gives other numbers."""
        key = _fold(self.key, zlib.crc32(name.encode()))
        of_image = mix(np.uint64(key) + self.indices * _GAMMA)
        return mix(of_image[:, None] + np.arange(1, per_image + 1, dtype=np.uint64) * _GAMMA)

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """float64 (n,), evenly from [low, high)."""
        return low + (high - low) * self.uniforms(name, 1)[:, 0]

    def uniforms(self, name: str, per_image: int) -> np.ndarray:
        """float64 (n, per_image), evenly from [0, 1)."""
        return (self.bits(name, per_image) >> np.uint64(11)) * 2.0**-53

    def integers(self, name: str, high: int | np.ndarray) -> np.ndarray:
        """int64 (n,), evenly from 0 … high - 1; high is a number or one for each image (n,)."""
        return (self.uniform(name) * high).astype(np.int64)

    def normals(self, name: str, per_image: int) -> np.ndarray:
        """float64 (n, per_image) from N(0, 1), by Box & Muller 1958."""
        half = -(-per_image // 2)
        u = self.uniforms(name, 2 * half)
        radius = np.sqrt(-2 * np.log1p(-u[:, :half]))
        angle = 2 * np.pi * u[:, half:]
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return pairs[:, :per_image]
