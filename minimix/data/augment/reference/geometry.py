"""Crops, flips and affine maps.   images uint8 (n, H, W, C) throughout

The results are those of Pillow, to the bit: its fixed-point arithmetic, its rounding, its
convention of where a pixel's center is. Every image has its own parameters, in arrays (n,).
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ....kernels.dispatch import kernel


def flip(images: np.ndarray) -> np.ndarray:
    """Mirrored left to right."""
    return images[:, :, ::-1]


@kernel(images="uint8: n H W 3", top="int64: n", left="int64: n", padding=int)
def pad_crop(
    images: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    padding: int,
    mode: str,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Pad by `padding` on every side, then cut out from row top and column left.

    mode "zero" pads with black, "reflect" with the mirrored image, its edge not repeated.
    size, (height, width), is what is cut out: by default H×W. top and left are whole numbers (n,).
    Errors: ValueError if a crop does not lie inside the padded image.
    """
    n, h, w, c = images.shape
    height, width = size or (h, w)
    check_crop(images, top, left, padding, mode, (height, width))
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(images, sides, mode="constant" if mode == "zero" else "reflect")
    # Every window as a view, a row of pixels being one run of w·c bytes; then one copy.
    rows = padded.reshape(n, h + 2 * padding, -1)
    windows = sliding_window_view(rows, (height, width * c), axis=(1, 2))[:, :, ::c]
    return windows[np.arange(n), top, left].reshape(n, height, width, c)


def check_crop(
    images: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    padding: int,
    mode: str,
    size: tuple[int, int],
) -> None:
    """Raise ValueError unless `pad_crop` can cut this out."""
    if mode not in ("zero", "reflect"):
        raise ValueError(f"pad_crop: mode is {mode!r}; expected 'zero' or 'reflect'")
    for name, start, length, whole in (
        ("top", top, size[0], images.shape[1]),
        ("left", left, size[1], images.shape[2]),
    ):
        last = whole + 2 * padding - length
        if padding < 0 or length < 1 or last < 0:
            raise ValueError(
                f"pad_crop: size is {size[0]}×{size[1]}, which cannot be cut out of "
                f"{images.shape[1]}×{images.shape[2]} pixels with a padding of {padding}"
            )
        if start.size and not 0 <= start.min() <= start.max() <= last:
            raise ValueError(
                f"pad_crop: {name} goes from {start.min()} to {start.max()}; expected 0 to {last}"
            )


def _at(images: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The pixels (n, rows, columns, C) at these places, which broadcast to (n, rows, columns).

    The same as `images[i, row, column]`, but `take` is five times as fast as indexing.
    """
    n, h, w, c = images.shape
    place = (np.arange(n)[:, None, None] * h + row) * w + column
    return images.reshape(-1, c).take(place, axis=0)


# ------------------------------------------------------------------ crop and enlarge


def enlarge(
    images: np.ndarray, top: np.ndarray, left: np.ndarray, height: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Cut out height×width from row top and column left, and enlarge it to H×W, bilinearly.

    As Pillow's `crop` and `resize`: first horizontally, rounded to bytes, then vertically.
    """
    h, w = images.shape[1:3]
    row, column = np.ogrid[:h, :w]
    near, far, weight = (part[:, None, :] for part in _stretch(left, width, w))
    across = _between(_at(images, row, near), _at(images, row, far), weight)
    near, far, weight = (part[:, :, None] for part in _stretch(top, height, h))
    return _between(_at(across, near, column), _at(across, far, column), weight)


_BITS = 22  # of a weight's fraction


def _between(near: np.ndarray, far: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean in which `near` has the weight weight / 2²² and `far` the rest."""
    weight = weight[..., None]
    mixed = near * weight + far * ((1 << _BITS) - weight)
    return ((mixed + (1 << (_BITS - 1))) >> _BITS).astype(np.uint8)


def _stretch(
    start: np.ndarray, length: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` places on a line, the two pixels between which it lies when `length`
    pixels from `start` on are stretched over it, and the weight of the first.   Each (n, size).
    """
    center = (np.arange(size) + 0.5) * length[:, None] / size
    first = np.maximum(np.floor(center - 0.5), 0)
    share = np.minimum(1 - (center - 0.5 - first), 1)  # 1 before the first pixel's center
    weight = (share * (1 << _BITS) + 0.5).astype(np.int32)
    near = (start[:, None] + first).astype(np.int64)
    return near, np.minimum(near + 1, (start + length - 1)[:, None]), weight


# ------------------------------------------------------------------ affine maps

# maps (6, n): a to f of x_in = a x + b y + c, y_in = d x + e y + f, with pixel centers at halves.


def affine_nearest(images: np.ndarray, maps: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Each pixel is the one nearest to its origin, or `fill` if that is outside.

    In fixed point with 16 bits of fraction, as Pillow's NEAREST.
    """
    h, w = images.shape[1:3]
    a, b, c, d, e, f = maps[..., None, None]  # each (n, 1, 1)
    y, x = np.ogrid[:h, :w]
    column = (_fixed(a) * x + _fixed(b) * y + _fixed(c + (a + b) * 0.5)) >> 16
    row = (_fixed(d) * x + _fixed(e) * y + _fixed(f + (d + e) * 0.5)) >> 16
    outside = (column < 0) | (column >= w) | (row < 0) | (row >= h)
    out = _at(images, row.clip(0, h - 1), column.clip(0, w - 1))
    out[outside] = fill
    return out


def _fixed(v: np.ndarray) -> np.ndarray:
    return np.floor(v * 65536.0 + 0.5).astype(np.int64)


def affine_smooth(
    images: np.ndarray, maps: np.ndarray, fill: np.ndarray, cubic: bool
) -> np.ndarray:
    """Each pixel is interpolated from the 2×2 around its origin, or if `cubic` the 4×4.

    `fill` if the origin is outside. As Pillow's BILINEAR and BICUBIC: the last pixel repeats beyond
    the border, and values are truncated to bytes.
    """
    h, w = images.shape[1:3]
    a, b, c, d, e, f = maps[..., None, None]
    y, x = np.ogrid[0.5 : h + 0.5, 0.5 : w + 0.5]
    column, row = a * x + b * y + c, d * x + e * y + f
    outside = (column < 0) | (column >= w) | (row < 0) | (row >= h)
    column, row = column - 0.5, row - 0.5
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right, down = (column - left)[..., None], (row - top)[..., None]

    between: Callable[..., np.ndarray] = _cubic if cubic else _linear
    taps = range(-1, 3) if cubic else range(2)
    columns = [(left + i).clip(0, w - 1) for i in taps]
    lines = []
    for j in taps:
        rows = (top + j).clip(0, h - 1)
        pixels = [_at(images, rows, column).astype(np.float64) for column in columns]
        lines.append(between(*pixels, right))
    out = between(*lines, down).clip(0, 255).astype(np.uint8)
    out[outside] = fill
    return out


def _linear(p: np.ndarray, q: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From p at t = 0 to q at t = 1."""
    return p + (q - p) * t


def _cubic(p: np.ndarray, q: np.ndarray, r: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From q at t = 0 to r at t = 1, with p before and s after (Keys 1981, a = −1)."""
    return q + t * (r - p + t * (2 * (p - q) + r - s + t * (q - p - r + s)))
