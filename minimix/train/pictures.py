"""Pictures of any size to a model, and what its layers see of them to the eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from ..autograd import Array, Tensor, no_grad
from ..data import normalize
from ..errors import DataError, MinimixError
from ..models import ConvMixer
from ..nn import DepthwiseConv2d, Module, Patchify, observe


def read(path: Path, size: Sequence[int]) -> Array:
    """The picture in a file: its largest central rectangle of this shape, (height, width), resized.

    Returns uint8 (height, width, 3); transparency is laid on white. Errors: DataError where the
    file is no picture, MinimixError where Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise MinimixError("reading pictures needs Pillow: pip install pillow") from None
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


def explain(model: ConvMixer, image: Array, path: Path, columns: int = 8) -> None:
    """Draw, layer after layer, what the patch embedding and the depthwise convolutions see.

    A row a layer, and in it the channels whose output varies most over this image: the filter, and
    below it what it answers where. Written to `path` in the format that its suffix names.
    Errors: MinimixError where matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MinimixError(
            "--explain needs matplotlib: pip install matplotlib, or minimix[plots]"
        ) from None

    seen: list[tuple[str, Array, Array]] = []  # layer, filters (k, k, 1 or 3, C), output (H, W, C)

    def note(module: Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, Patchify):
            seen.append(("patch embedding", module.weight.array, output.array[0]))
        elif isinstance(module, DepthwiseConv2d):
            seen.append(
                (f"depthwise {len(seen)}", module.weight.array[:, :, None], output.array[0])
            )

    with no_grad(), observe(note):
        model(Tensor(normalize(image[None])))

    figure = Figure(figsize=(1.1 * columns + 1.6, 1.5 * len(seen)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2 * len(seen),
        columns + 1,
        width_ratios=[1.4] + [1] * columns,
        height_ratios=[2, 5] * len(seen),
    )

    def draw(place: Any, picture: Array, **how: Any) -> None:
        axes = figure.add_subplot(place)
        axes.imshow(picture, interpolation="nearest", **how)
        axes.axis("off")

    for row, (layer, filters, output) in enumerate(seen):
        label = figure.add_subplot(grid[2 * row : 2 * row + 2, 0])
        label.axis("off")
        label.text(0, 0.1, layer, fontsize=9)
        for column, c in enumerate(np.argsort(-output.std(axis=(0, 1)))[:columns], start=1):
            draw(grid[2 * row, column], _shown(filters[..., c]), cmap="RdBu", vmin=0, vmax=1)
            draw(grid[2 * row + 1, column], output[..., c], cmap="gray")
    draw(grid[0:2, 0], image)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise MinimixError(f"cannot write {path}: {error}") from error


def _shown(kernel: Array) -> Array:
    """A filter (k, k, 1 or 3) scaled to 0 … 1 with its zero at the middle."""
    scaled = 0.5 + 0.5 * kernel / np.abs(kernel).max()
    return scaled[:, :, 0] if kernel.shape[2] == 1 else scaled
