"""Where pixels go: crops, flips, and affine maps.   images uint8 (n, H, W, 3) throughout

What Pillow also does is done as Pillow does it, to the bit: its fixed-point arithmetic, its way
of rounding, its idea of where a pixel's centre is.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def pad_crop(
    images: np.ndarray, top: np.ndarray, left: np.ndarray, padding: int, mode: str
) -> np.ndarray:
    """Pad by `padding` on every side, cut out H×W from row top, column left (each (n,)).

    mode "zero" pads with black, "reflect" with the mirrored image, its edge not repeated.
    """
    n, h, w, c = images.shape
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(images, sides, mode="constant" if mode == "zero" else "reflect")
    # Every window as a view, a row of pixels being one run of w·c bytes; then one copy.
    rows = padded.reshape(n, h + 2 * padding, -1)
    windows = sliding_window_view(rows, (h, w * c), axis=(1, 2))[:, :, ::c]
    return windows[np.arange(n), top, left].reshape(images.shape)


def flip(images: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Mirror the images of which (n,) bool left to right."""
    out = images.copy()
    out[which] = images[which, :, ::-1]
    return out
