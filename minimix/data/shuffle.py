"""Images whose patches lie in another order, which is the same for every image.

What an image shows is still there, but neighbors are neighbors no more. A network that treats its
patches as a set with positions to be learned cannot notice; one that relies on which patches lie
side by side must.
"""

from __future__ import annotations

import numpy as np

from .draws import Draws

SEED = 1  # of the order: another one would be another data set


def shuffle_patches(images: np.ndarray, size: int) -> np.ndarray:
    """Exchange the patches of images.   images (N, H, W, C) -> the same shape and dtype

    size  the side of a patch in pixels, which must divide H and W; 0: leave the images as they are

    The order follows from the number of patches alone. Errors: ValueError where `size` does not
    divide the image.
    """
    if not size:
        return images
    n, height, width, channels = images.shape
    check_patches(size, height, width)
    rows, columns = height // size, width // size
    patches = images.reshape(n, rows, size, columns, size, channels).swapaxes(2, 3)
    patches = patches.reshape(n, rows * columns, size, size, channels)[:, order(rows * columns)]
    patches = patches.reshape(n, rows, columns, size, size, channels).swapaxes(2, 3)
    return np.ascontiguousarray(patches).reshape(images.shape)


def order(n: int) -> np.ndarray:
    """The order of n patches: place i shows the patch that was at order(n)[i]."""
    return np.argsort(Draws(SEED, 0, np.arange(n)).bits("patches")[:, 0], kind="stable")


def check_patches(size: int, height: int, width: int) -> None:
    """Raise ValueError unless images of this size can be cut into patches to be shuffled."""
    if size and (height % size or width % size):
        raise ValueError(
            f"`shuffle_patches` is {size}, which does not divide an image of {height}×{width} "
            "pixels"
        )
