"""Weights and images as PNG, in a page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from ..autograd import Array

NEGATIVE, POSITIVE = (0, 114, 178), (230, 159, 0)  # Okabe & Ito's blue and orange


def png(pixels: Array) -> bytes:
    """uint8 (H, W, 3) or with opacity (H, W, 4) -> a PNG file.   W3C, "PNG", third edition."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # a row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


def data_uri(pixels: Array) -> str:
    """The same as the address of an image that is in the page itself."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def tiles(pictures: Array, columns: int, zoom: int, gap: int) -> Array:
    """Small pictures, enlarged, in rows of `columns`; what is between them is transparent.

    uint8 (n, h, w, 4) -> uint8 (H, W, 4)
    """
    n, h, w, _ = pictures.shape
    rows = -(-n // columns)
    large = pictures.repeat(zoom, axis=1).repeat(zoom, axis=2)
    h, w = h * zoom + gap, w * zoom + gap
    sheet = np.zeros((rows * h, columns * w, 4), np.uint8)
    for i, picture in enumerate(large):
        y, x = i // columns * h, i % columns * w
        sheet[y : y + h - gap, x : x + w - gap] = picture
    return sheet[: rows * h - gap, : columns * w - gap]


def colours(filters: Array) -> Array:
    """Filters of three channels, each over its own range around grey.

    float (n, h, w, 3) -> uint8 (n, h, w, 4)
    """
    most = np.maximum(abs(filters).max(axis=(1, 2, 3), keepdims=True), 1e-12)
    opaque = np.full((*filters.shape[:3], 1), 255.0)
    return np.concatenate([127.5 + 127.5 * filters / most, opaque], axis=3).round().astype(np.uint8)


def signed(kernels: Array) -> Array:
    """Kernels, each over its own range: orange where positive, blue where negative, clear at zero.

    float (n, h, w) -> uint8 (n, h, w, 4); clear rather than white, so that it suits a dark page
    """
    most = np.maximum(abs(kernels).max(axis=(1, 2), keepdims=True), 1e-12)
    hue = np.where(kernels[..., None] > 0, POSITIVE, NEGATIVE)
    opacity = 255 * abs(kernels / most)[..., None]
    return np.concatenate([hue, opacity.round()], axis=3).astype(np.uint8)


def strongest(kernels: Array, most: int) -> Array:
    """The `most` of the largest norm, largest first.   (n, …) -> (≤ most, …)"""
    norms = np.linalg.norm(kernels.reshape(len(kernels), -1), axis=1)
    return kernels[np.argsort(-norms, kind="stable")[:most]]
