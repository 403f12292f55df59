"""Pictures of any size to a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import functional as F
from ..autograd import Array, Tensor, no_grad
from ..data import normalize
from ..errors import DataError
from ..nn import Module


def read(path: Path, size: Sequence[int]) -> Array:
    """The picture in a file: its largest central rectangle of this shape, (height, width), resized.

    Returns uint8 (height, width, 3); transparency is laid on white. Errors: DataError where the
    file is no picture.
    """
    from PIL import Image, ImageOps  # not worth its time to those who only train

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is no picture, or damaged"
        raise DataError(f"cannot read {path}: {reason}") from error
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    height, width = size
    return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC))


def probabilities(model: Module, image: Array) -> Array:
    """Of each class, (n_classes,), for one image uint8 (H, W, 3)."""
    with no_grad():
        return F.softmax(model(Tensor(normalize(image[None])))).array[0]
