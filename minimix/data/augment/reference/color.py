"""Colors.   images uint8 (n, H, W, C), each with its own parameter from an array (n,)

The results are those of Pillow's operations of the same names (ImageEnhance, ImageOps), to the bit.
"""

import numpy as np


def _blend(plain: np.ndarray, images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """plain + factor (images − plain), in float32, truncated to bytes: factor 1 changes nothing."""
    plain = plain.astype(np.float32)
    out = images - plain
    out *= factor.astype(np.float32)[:, None, None, None]
    out += plain
    return out.clip(0, 255, out=out).astype(np.uint8)


def _gray(images: np.ndarray) -> np.ndarray:
    """Luma after ITU-R 601, in fixed point; of other than three channels their mean, rounded.

    -> uint8 (n, H, W, 1)
    """
    if images.shape[3] != 3:
        return images.mean(axis=3, keepdims=True).round().astype(np.uint8)
    luma = np.full(images.shape[:3], 0x8000, np.uint32)
    for channel, weight in enumerate((19595, 38470, 7471)):
        luma += images[..., channel] * np.uint32(weight)
    return (luma >> 16).astype(np.uint8)[..., None]


def brightness(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Factor 0 gives black, 1 the image, more than 1 a brighter one; likewise below."""
    return _blend(np.zeros(1), images, factor)


def contrast(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Factor 0 gives the gray of the mean brightness."""
    mean = _gray(images).mean(axis=(1, 2, 3), keepdims=True)
    return _blend(np.floor(mean + 0.5), images, factor)


def saturation(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Factor 0 gives the image in gray (ImageEnhance.Color)."""
    gray = np.repeat(_gray(images), images.shape[3], axis=3)  # broadcasting over channels is slow
    return _blend(gray, images, factor)


def sharpness(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Factor 0 gives a blurred copy: a mean over 3×3 in which the center counts five times."""
    wide = images.astype(np.float32)  # in which sums of whole numbers are exact
    columns = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    total = columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:]
    total += 4 * wide[:, 1:-1, 1:-1]
    blurred = images.copy()  # the border stays
    blurred[:, 1:-1, 1:-1] = (total + 6.5) / 13  # rounded; there are no ties
    return _blend(blurred, images, factor)


def invert(images: np.ndarray) -> np.ndarray:
    return 255 - images


def posterize(images: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Keep the highest `bits` (0 to 8) of every byte."""
    mask = 256 - (1 << (8 - bits.astype(np.int64)))
    return images & mask.astype(np.uint8)[:, None, None, None]


def solarize(images: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Invert values of at least the threshold."""
    return np.where(images < threshold[:, None, None, None], images, 255 - images)


def solarize_add(images: np.ndarray, add: np.ndarray) -> np.ndarray:
    """Add to values below 128."""
    brighter = np.minimum(images + add.astype(np.int64)[:, None, None, None], 255)
    return np.where(images < 128, brighter, images).astype(np.uint8)


def autocontrast(images: np.ndarray) -> np.ndarray:
    """Stretch each channel so that its lowest value is 0 and its highest 255."""
    n, h, w, c = images.shape
    low, high = (of(of(images, axis=1), axis=1).astype(np.float64) for of in (np.min, np.max))
    scale = np.where(high > low, 255.0 / np.maximum(high - low, 1), 1.0)
    shift = np.where(high > low, low * scale, 0.0)
    # Whole rows, so that the innermost loop is long: three channels at a time is slow.
    scale, shift = (np.tile(a, (1, w))[:, None] for a in (scale, shift))
    stretched = images.reshape(n, h, w * c) * scale
    stretched -= shift
    return stretched.clip(0, 255, out=stretched).astype(np.uint8).reshape(images.shape)


def equalize(images: np.ndarray) -> np.ndarray:
    """Map each channel by its cumulative histogram, so that its values spread evenly."""
    n, h, w, c = images.shape
    channel = np.arange(n * c).reshape(n, 1, 1, c) * 256
    flat = channel + images
    counts = np.bincount(flat.ravel(), minlength=n * c * 256).reshape(n * c, 256)
    brightest = 255 - np.argmax(counts[:, ::-1] > 0, axis=1)
    step = (h * w - counts[np.arange(n * c), brightest]) // 255
    below = np.cumsum(counts, axis=1) - counts
    table = (step[:, None] // 2 + below) // np.maximum(step, 1)[:, None]
    table = np.where(step[:, None] == 0, np.arange(256), table.clip(0, 255))
    return table.astype(np.uint8).ravel()[flat]
