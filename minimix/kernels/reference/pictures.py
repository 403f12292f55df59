"""What pictures go through before they are learned from, each one through operations of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..dispatch import Array, kernel
from ..retouching import Retouch
from . import colour, geometry


@kernel(images="uint8: n H W 3")
def retouch(images: Array, operations: Array, parameters: Array, fill: Array) -> Array:
    """Each image after its operations, one by one.   uint8 (n, H, W, 3) -> a new one, the same

    operations int64 (steps, n), of `Retouch`; parameters float64 (steps, 6, n), p of each;
    fill uint8 (3,) is the colour of a pixel that comes from outside.
    """
    images = images.copy()
    for chosen, given in zip(operations, parameters, strict=True):
        for operation in np.unique(chosen):
            if operation != Retouch.NONE:
                which = np.flatnonzero(chosen == operation)
                p = given[:, which]
                images[which] = _OPERATIONS[operation](images[which], p, fill)
    return images


_OPERATIONS: dict[int, Callable[[Array, Array, Array], Array]] = {
    Retouch.FLIP: lambda x, p, fill: geometry.flip(x),
    Retouch.ENLARGE: lambda x, p, fill: geometry.enlarge(x, *p[:4].astype(np.int64)),
    Retouch.NEAREST: lambda x, p, fill: geometry.affine_nearest(x, p, fill),
    Retouch.BILINEAR: lambda x, p, fill: geometry.affine_smooth(x, p, fill, cubic=False),
    Retouch.BICUBIC: lambda x, p, fill: geometry.affine_smooth(x, p, fill, cubic=True),
    Retouch.BRIGHTNESS: lambda x, p, fill: colour.brightness(x, p[0]),
    Retouch.CONTRAST: lambda x, p, fill: colour.contrast(x, p[0]),
    Retouch.SATURATION: lambda x, p, fill: colour.saturation(x, p[0]),
    Retouch.SHARPNESS: lambda x, p, fill: colour.sharpness(x, p[0]),
    Retouch.POSTERIZE: lambda x, p, fill: colour.posterize(x, p[0]),
    Retouch.SOLARIZE: lambda x, p, fill: colour.solarize(x, p[0]),
    Retouch.SOLARIZE_ADD: lambda x, p, fill: colour.solarize_add(x, p[0]),
    Retouch.INVERT: lambda x, p, fill: colour.invert(x),
    Retouch.AUTOCONTRAST: lambda x, p, fill: colour.autocontrast(x),
    Retouch.EQUALIZE: lambda x, p, fill: colour.equalize(x),
}
