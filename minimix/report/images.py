"""Filters and photographs as PNG images inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from ..autograd import Array

# One convention everywhere: blue is negative, orange is positive (Okabe & Ito's).
NEGATIVE, POSITIVE = "#0072b2", "#e69f00"


def data_uri(pixels: Array) -> str:
    """The address of an image that is in the page itself.   uint8 (H, W, 3 or 4)"""
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def tiles(images: Array, columns: int, zoom: int, gap: int) -> Array:
    """Small images, enlarged, in rows of `columns`; the gaps between them are transparent.

    uint8 (n, h, w, 4) -> uint8 (H, W, 4)
    """
    large = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    missing = -len(large) % columns
    large = np.pad(large, ((0, missing), (0, gap), (0, gap), (0, 0)))
    _, h, w, _ = large.shape
    sheet = large.reshape(-1, columns, h, w, 4).swapaxes(1, 2).reshape(-1, columns * w, 4)
    return sheet[: len(sheet) - gap, : columns * w - gap]


def colors(pixels: Array) -> Array:
    """As many channels as a screen has.   (…, C), C from 1 to 4 -> (…, 3)

    One channel is gray, of two the second is green and blue, of four the first three are shown.
    """
    c = pixels.shape[-1]
    return pixels[..., [0, min(1, c - 1), min(2, c - 1)]]


def rgb(filters: Array) -> Array:
    """Filters of images, each scaled to its own range around mid-gray.

    float (n, h, w, C) -> uint8 (n, h, w, 4)
    """
    filters = colors(filters)
    scale = np.maximum(abs(filters).max(axis=(1, 2, 3), keepdims=True), 1e-12)
    opaque = np.full((*filters.shape[:3], 1), 255.0)
    return (
        np.concatenate([127.5 + 127.5 * filters / scale, opaque], axis=3).round().astype(np.uint8)
    )


def signed(kernels: Array) -> Array:
    """Kernels, each scaled to its own range: POSITIVE, NEGATIVE, and transparent at zero.

    float (n, h, w) -> uint8 (n, h, w, 4); transparent, not white, to suit dark pages as well
    """
    scale = np.maximum(abs(kernels).max(axis=(1, 2), keepdims=True), 1e-12)
    positive, negative = (list(bytes.fromhex(hue[1:])) for hue in (POSITIVE, NEGATIVE))
    hue = np.where(kernels[..., None] > 0, positive, negative)
    opacity = 255 * abs(kernels / scale)[..., None]
    return np.concatenate([hue, opacity.round()], axis=3).astype(np.uint8)


def largest(kernels: Array, count: int) -> Array:
    """The `count` kernels of the largest norm, largest first.   (n, …) -> (≤ count, …)"""
    norms = np.linalg.norm(kernels.reshape(len(kernels), -1), axis=1)
    return kernels[np.argsort(-norms, kind="stable")[:count]]
