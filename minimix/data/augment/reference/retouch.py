"""A batch of images, each changed by operations of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....kernels.dispatch import Array, kernel
from ..operations import Retouch
from . import color, geometry


@kernel(
    images="uint8: n H W 3", operations="int64: s n", parameters="float64: s 6 n", fill="uint8: 3"
)
def retouch(images: Array, operations: Array, parameters: Array, fill: Array) -> Array:
    """Apply to each image its operations, in order.   uint8 (n, H, W, C) -> a new array, the same

    operations int64 (steps, n), numbers of `Retouch`; parameters float64 (steps, 6, n), the p of
    each; fill uint8 (C,) is the color of pixels that come from outside.
    Errors: ValueError for operations that do not exist and parameters that they do not take.
    """
    check(images, operations, parameters, fill)
    images = images.copy()
    for chosen, given in zip(operations, parameters, strict=True):
        for operation in np.unique(chosen):
            if operation != Retouch.NONE:
                which = np.flatnonzero(chosen == operation)
                p = given[:, which]
                images[which] = _OPERATIONS[operation](images[which], p, fill)
    return images


def check(images: Array, operations: Array, parameters: Array, fill: Array) -> None:
    """Raise ValueError unless `retouch` can do this: compiled code would write anywhere."""
    n, steps, c = len(images), len(operations), images.shape[-1]
    shapes = operations.shape, parameters.shape, fill.shape
    if shapes != ((steps, n), (steps, 6, n), (c,)):
        raise ValueError(
            f"retouch: operations, parameters and fill are {shapes}; expected "
            f"{(steps, n)}, {(steps, 6, n)} and ({c},)"
        )
    if operations.size and not 0 <= operations.min() <= operations.max() < len(Retouch):
        raise ValueError(
            f"retouch: operations go from {operations.min()} to {operations.max()}; expected 0 to "
            f"{len(Retouch) - 1}"
        )
    if not (abs(parameters) < LARGEST).all():
        raise ValueError(f"retouch: parameters hold {parameters.ravel()[abs(parameters).argmax()]}")
    for operation, low, high in (
        (Retouch.POSTERIZE, 0, 8),
        (Retouch.SOLARIZE_ADD, 0, 255),
    ):
        p = parameters[:, 0][operations == operation]
        if p.size and not low <= p.min() <= p.max() <= high:
            raise ValueError(
                f"retouch: {operation.name} has parameters from {p.min():g} to {p.max():g}; "
                f"expected {low} to {high}"
            )
    boxes = parameters.transpose(1, 0, 2)[:4, operations == Retouch.ENLARGE].astype(np.int64)
    start, length, size = boxes[:2], boxes[2:], np.array(images.shape[1:3])[:, None]
    if not ((start >= 0) & (length >= 1) & (start + length <= size)).all():
        raise ValueError("retouch: a box to ENLARGE is empty, or not inside its image")


LARGEST = 2**30  # of a parameter: the fixed-point arithmetic of a map does not overflow


_OPERATIONS: dict[int, Callable[[Array, Array, Array], Array]] = {
    Retouch.FLIP: lambda x, p, fill: geometry.flip(x),
    Retouch.ENLARGE: lambda x, p, fill: geometry.enlarge(x, *p[:4].astype(np.int64)),
    Retouch.NEAREST: lambda x, p, fill: geometry.affine_nearest(x, p, fill),
    Retouch.BILINEAR: lambda x, p, fill: geometry.affine_smooth(x, p, fill, cubic=False),
    Retouch.BICUBIC: lambda x, p, fill: geometry.affine_smooth(x, p, fill, cubic=True),
    Retouch.BRIGHTNESS: lambda x, p, fill: color.brightness(x, p[0]),
    Retouch.CONTRAST: lambda x, p, fill: color.contrast(x, p[0]),
    Retouch.SATURATION: lambda x, p, fill: color.saturation(x, p[0]),
    Retouch.SHARPNESS: lambda x, p, fill: color.sharpness(x, p[0]),
    Retouch.POSTERIZE: lambda x, p, fill: color.posterize(x, p[0]),
    Retouch.SOLARIZE: lambda x, p, fill: color.solarize(x, p[0]),
    Retouch.SOLARIZE_ADD: lambda x, p, fill: color.solarize_add(x, p[0]),
    Retouch.INVERT: lambda x, p, fill: color.invert(x),
    Retouch.AUTOCONTRAST: lambda x, p, fill: color.autocontrast(x),
    Retouch.EQUALIZE: lambda x, p, fill: color.equalize(x),
}
