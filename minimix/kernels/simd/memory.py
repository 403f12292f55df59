"""Arrays for results: aligned to cache lines, and in large pages that are already there.

A vector load that straddles two cache lines costs two, and NumPy aligns to 16 bytes only. And a
freshly mapped page costs three times a warm write: by default the C library of Linux gives large
arrays back to the system as soon as they are freed, and every training step pays for all its pages
again. Pages of 2 MiB instead of 4 KiB need fewer entries in the processor's translation lookaside
buffer (TLB); NumPy asks for those only where an array has 4 MiB.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from ctypes import addressof, c_char, c_int, c_size_t, c_void_p
from math import prod
from typing import Any

import numpy as np

LINE = 64  # bytes
HEAP = 2**30  # bytes of addresses, not of memory, for which large pages are requested


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """np.empty(shape, dtype) that begins at a cache line."""
    dtype = np.dtype(dtype)
    block: Any = np.empty(prod(shape) * dtype.itemsize + LINE, np.uint8)
    # Three times as fast as asking NumPy where it lies.
    return np.ndarray(shape, dtype, block, -addressof(c_char.from_buffer(block)) % LINE)


def empty_like(x: np.ndarray) -> np.ndarray:
    return empty(x.shape, x.dtype)


def keep_freed_memory() -> None:
    """Ask glibc to reuse large arrays instead of returning their pages, and Linux for large pages.
    Elsewhere: nothing.

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
        library = ctypes.CDLL(None)
        mallopt, madvise = library.mallopt, library.madvise
        malloc, free = library.malloc, library.free
    except (AttributeError, OSError):  # another C library
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    malloc.argtypes, malloc.restype = [c_size_t], c_void_p
    free.argtypes, madvise.argtypes = [c_void_p], [c_void_p, c_size_t, c_int]
    if block := malloc(HEAP):  # the next arrays will lie there
        first = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
        madvise(first, HEAP - mmap.PAGESIZE, mmap.MADV_HUGEPAGE)
        free(block)
