"""Crops of padded images."""

from __future__ import annotations

import numpy as np

from ....kernels.simd.jit import kernel
from ..reference.geometry import check_crop


@kernel
def _pad_crop(images, rows, columns, top, left, out):
    """`rows` and `columns` say where those of a padded image come from; -1: black."""
    n, height, width = out.shape[:3]
    for i in range(n):
        for row in range(height):
            y = rows[top[i] + row]
            for column in range(width):
                x = columns[left[i] + column]
                for c in range(3):
                    out[i, row, column, c] = images[i, y, x, c] if y >= 0 and x >= 0 else 0


def pad_crop(images, top, left, padding, mode, size=None):
    n, h, w = images.shape[:3]
    size = size or (h, w)
    check_crop(images, top, left, padding, mode, size)
    options = {"constant_values": -1} if mode == "zero" else {"mode": "reflect"}
    rows, columns = (np.pad(np.arange(length), padding, **options) for length in (h, w))
    out = np.empty((n, *size, 3), np.uint8)
    images = images if images.flags.carray else images.copy(order="C")
    _pad_crop(images, rows, columns, np.array(top), np.array(left), out)
    return out
