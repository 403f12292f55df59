"""Arrays for results: aligned to cache lines, and in pages that are already there.

A vector load that straddles two cache lines costs two, and NumPy aligns to 16 bytes only. And a
freshly mapped page costs three times a warm write: by default the C library of Linux gives large
arrays back to the system as soon as they are freed, and every training step pays for all its pages
again.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import addressof, c_char
from math import prod
from typing import Any

import numpy as np

LINE = 64  # bytes


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """np.empty(shape, dtype) that begins at a cache line."""
    dtype = np.dtype(dtype)
    block: Any = np.empty(prod(shape) * dtype.itemsize + LINE, np.uint8)
    # Three times as fast as asking NumPy where it lies.
    return np.ndarray(shape, dtype, block, -addressof(c_char.from_buffer(block)) % LINE)


def empty_like(x: np.ndarray) -> np.ndarray:
    return empty(x.shape, x.dtype)


def keep_freed_memory() -> None:
    """Ask glibc to reuse large arrays instead of returning their pages. Elsewhere: nothing.

    This is for the whole process, until it ends. Not done where MINIMIX_MALLOPT is 0, or where the
    environment has settings of its own for glibc's malloc (MALLOC_…_, GLIBC_TUNABLES).
    """
    settings = os.environ
    own = any(n.startswith("MALLOC_") and n.endswith("_") for n in settings)
    own = own or "glibc.malloc" in settings.get("GLIBC_TUNABLES", "")
    if own or settings.get("MINIMIX_MALLOPT") == "0" or not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of <malloc.h>
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
