"""What the layers of a ConvMixer see in an image, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files
from .. import functional as F
from ..autograd import Array, Tensor, no_grad
from ..data import normalize
from ..errors import MinimixError
from ..models import ConvMixer
from ..nn import DepthwiseConv2d, GlobalAvgPool, Module, Patchify, evaluating, observe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8  # channels drawn of each layer
BLUE, ORANGE = "#0072B2", "#E69F00"  # Okabe & Ito's: below zero, above


def evidence(model: ConvMixer, image: Array) -> Array:
    """What each place of an image says for each class.

    image uint8 (H, W, 3) -> float (H/p, W/p, n_classes)

    The head is linear and comes after a mean over places, so that it may as well come before:
    these are the logits of every place by itself, and their mean over the places are the logits.
    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", arXiv:1512.04150.
    """
    return _look(model, image)[1]


def explain(model: ConvMixer, image: Array, class_names: Sequence[str] | None = None) -> Figure:
    """Draw, from the answer to the first layer's filters, what `model` sees in an image.

    image        uint8 (H, W, 3); H and W divisible by the patch size
    class_names  of the logits; without them they are counted

    In the first row, what each place says for the three likeliest classes, against the mean of
    all classes. Then a row a layer: the channels that vary most over this image, the filter above
    and what it answers at every place below. Errors: MinimixError where there is no matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise MinimixError(
            "--explain needs matplotlib: pip install matplotlib, or minimix[plots]"
        ) from None

    layers, places = _look(model, image)
    logits = places.mean(axis=(0, 1))
    names = class_names or [f"class {i}" for i in range(len(logits))]
    shares = F.softmax(Tensor(logits)).array
    likely = np.argsort(-shares)[:3]
    speaks = places - places.mean(axis=2, keepdims=True)
    most = max(float(abs(speaks[..., likely]).max()), 1e-12)

    blend = LinearSegmentedColormap.from_list("", [BLUE, "white", ORANGE])
    heights = [3.2] + [1.75] * len(layers)
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.05)
    figure = Figure(figsize=(11, sum(heights)), layout=layout)
    FigureCanvasAgg(figure)
    top, *rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]

    def draw(axes: Any, picture: Array, limit: float = 0.0) -> None:
        """A picture as it is, or around zero and up to ±limit in blue and orange."""
        around_zero = {"cmap": blend, "vmin": -limit, "vmax": limit} if limit else {}
        axes.imshow(picture, interpolation="nearest", **around_zero)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#cccccc")

    first, *maps = top.subplots(1, 1 + len(likely))
    draw(first, image)
    first.set_title("the image", fontsize=11)
    for axes, c in zip(maps, likely, strict=True):
        draw(axes, speaks[..., c], most)
        axes.set_title(f"{names[c]}, {100 * shares[c]:.1f} %", fontsize=11)
    top.suptitle(
        "What speaks for a class, and where: orange for it, blue against it",
        fontsize=12, x=0.01, ha="left", weight="bold",
    )  # fmt: skip

    for row, (title, filters, output) in zip(rows, layers, strict=True):
        row.suptitle(title, fontsize=10, x=0.01, ha="left")
        grid = row.subplots(2, COLUMNS, height_ratios=[1, 2.2], squeeze=False)
        chosen = np.argsort(-output.std(axis=(0, 1)), kind="stable")[:COLUMNS]
        for above, below, c in zip(grid[0], grid[1], chosen, strict=False):
            kernel, answer = filters[..., c], output[..., c]
            size = max(float(abs(kernel).max()), 1e-12)
            if kernel.shape[2] == 1:
                draw(above, kernel[:, :, 0], size)
            else:
                draw(above, 0.5 + 0.5 * kernel / size)
            draw(below, answer, max(float(abs(answer).max()), 1e-12))
        for unused in grid[:, len(chosen) :].flat:
            unused.axis("off")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format that the path's suffix names, png without one, or not at all.

    MinimixError where there is no such format, or the file cannot be written.
    """
    with io.BytesIO() as file:
        try:
            figure.savefig(file, format=path.suffix[1:] or "png", dpi=120)
        except ValueError as error:
            raise MinimixError(f"cannot write {path}: {error}") from error
        files.write(path, file.getvalue())


def _look(model: ConvMixer, image: Array) -> tuple[list[tuple[str, Array, Array]], Array]:
    """One image's way through a model: layers, and the logits of each place.

    layers  (title, filters (k, k, 1 or 3, C), output (H/p, W/p, C)) of the patch embedding and
            of each depthwise convolution
    """
    layers: list[tuple[str, Array, Array]] = []
    features: list[Array] = []

    def note(module: Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, Patchify):
            title = "patch embedding: the filters, and what they answer"
            layers.append((title, module.weight.array, output.array[0]))
        elif isinstance(module, DepthwiseConv2d):
            title = f"depthwise convolution of block {len(layers)}"
            layers.append((title, module.weight.array[:, :, None], output.array[0]))
        elif isinstance(module, GlobalAvgPool):
            features.append(inputs[0].array[0])

    with no_grad(), observe(note), evaluating(model):
        model(Tensor(normalize(image[None])))
    with no_grad():
        return layers, model.head(Tensor(features[0])).array
