"""A picture of what the layers of a model compute for one image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .. import files
from .. import functional as F
from ..autograd import Array, Tensor, no_grad
from ..data import normalize
from ..data.cifar10 import MEAN, STD
from ..errors import MinimixError
from ..nn import Conv2d, DepthwiseConv2d, Linear, Module, Patchify, evaluating, observe
from .charts import style
from .formatting import layer_name, printable
from .images import NEGATIVE, POSITIVE, colors

COLUMNS = 8  # channels drawn of each layer
SIGNED = LinearSegmentedColormap.from_list("", [NEGATIVE, "white", POSITIVE])


@style({})
def explain(
    model: Module,
    image: Array,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Figure:
    """Draw what `model` computes for an image: the evidence for its prediction, then each layer.

    image        uint8 (H, W, C), of a size that the model takes
    mean, std    those of the model's data set, by channel
    class_names  of the logits (default: class 0, class 1, …)

    First row: for each of the three most probable classes, the logit at each location minus the
    mean over the classes there. The head is linear and follows a mean over locations, so the means
    of these maps are the logits (Zhou et al. 2016, "Learning Deep Features for Discriminative
    Localization", arXiv:1512.04150). A model that does not work like that has no maps. Then a row
    for each layer that mixes places by filters: the channels that vary most over the image, each
    filter above and its output below.
    """
    layers, logits, evidence = _forward(model, normalize(image[None], mean, std))
    names = class_names or [f"class {i}" for i in range(len(logits))]
    probabilities = F.softmax(Tensor(logits)).array
    top_classes = np.argsort(-probabilities)[:3]

    heights = [3.2] + [1.75] * len(layers)
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.05)
    figure = Figure(figsize=(11, sum(heights)), layout=layout)
    FigureCanvasAgg(figure)
    top, *rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]

    first, *maps = top.subplots(1, 1 + len(top_classes))
    _draw(first, colors(image))
    first.set_title("image", fontsize=11)
    if evidence is not None:
        relative = evidence - evidence.mean(axis=2, keepdims=True)
        limit = _limit(relative[..., top_classes])
    for axes, c in zip(maps, top_classes, strict=True):
        if evidence is None:
            axes.axis("off")
        else:
            _draw(axes, relative[..., c], limit)
        words = f"{printable(names[c])}, {100 * probabilities[c]:.1f} %"
        axes.set_title(words, fontsize=11, parse_math=False)
    title = "Evidence for each class by location: orange for it, blue against it"
    if evidence is None:
        title = "The most probable classes; this network does not judge places one by one"
    top.suptitle(title, fontsize=12, x=0.01, ha="left", weight="bold")

    for row, (title, filters, output) in zip(rows, layers, strict=True):
        row.suptitle(title, fontsize=10, x=0.01, ha="left")
        grid = row.subplots(2, COLUMNS, height_ratios=[1, 2.2], squeeze=False)
        chosen = np.argsort(-output.std(axis=(0, 1)), kind="stable")[:COLUMNS]
        for above, below, c in zip(grid[0], grid[1], chosen, strict=False):
            kernel = filters[..., c]
            if kernel.shape[2] == 0:
                above.axis("off")
            elif kernel.shape[2] == 1:
                _draw(above, kernel[:, :, 0], _limit(kernel))
            else:
                _draw(above, colors(0.5 + 0.5 * kernel / _limit(kernel)))
            _draw(below, output[..., c], _limit(output[..., c]))
        for unused in grid[:, len(chosen) :].flat:
            unused.axis("off")
    return figure


def _draw(axes: Axes, picture: Array, limit: float = 0.0) -> None:
    """A picture as it is, or with a limit numbers from −limit (blue) to limit (orange)."""
    signed = {"cmap": SIGNED, "vmin": -limit, "vmax": limit} if limit else {}
    axes.imshow(picture, interpolation="nearest", **signed)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")


def _limit(values: Array) -> float:
    """The largest absolute value, or a little more than 0."""
    return max(float(abs(values).max()), 1e-12)


@style({})
def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format that the path's suffix names (default: PNG), or nothing at all.

    Errors: MinimixError if there is no such format, DiskError if the file cannot be written.
    """
    with io.BytesIO() as file:
        try:
            figure.savefig(file, format=path.suffix[1:] or "png", dpi=120)
        except (ValueError, RuntimeError) as error:  # no such format, or no LaTeX to make it with
            reason = str(error).partition("\n")[0]
            raise MinimixError(f"cannot write {path}: {reason}") from error
        files.write(path, file.getvalue())


def _forward(model: Module, x: Array) -> tuple[list[tuple[str, Array, Array]], Array, Array | None]:
    """What a model computes for one image, x (1, H, W, C), normalized.

    Returns its layers: (title, filters (k, k, channels, C), output (h, w, C)) of patch embeddings
    or the first convolution, and of each depthwise one, with no channels where the filters are not
    of images; the logits (n_classes,); and those of each location (h, w, n_classes), or None where
    the logits are not the mean of such.
    """
    layers: list[tuple[str, Array, Array]] = []
    outputs: list[Array] = []  # of every module, with a row for each place
    linear: list[tuple[Linear, Array, Tensor]] = []  # of which one is the head
    grid = (0, 0)
    names = {id(module): name for name, module in model.named_modules()}

    def note(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal grid
        if not isinstance(output, Tensor):
            return
        y = output.array
        if isinstance(module, Patchify) or (isinstance(module, Conv2d) and not layers):
            what = "patch embedding" if isinstance(module, Patchify) else "first convolution"
            filters = module.weight.array
            shown = "filters above, their outputs below"
            if filters.shape[2] != x.shape[3]:  # of what a layer before has made
                filters, shown = filters[:, :, :0], "outputs"
                what = f"patch embedding {1 + sum('patch' in title for title, *_ in layers)}"
            layers.append((f"{what}: {shown}", filters, y[0]))
            grid = y.shape[1:3]
        elif isinstance(module, DepthwiseConv2d):
            title = layer_name(names[id(module)])
            layers.append((title, module.weight.array[:, :, None], y[0]))
        if isinstance(module, Linear) and y.ndim == 2:
            linear.append((module, inputs[0].array[0], output))
        elif y.ndim == 4 or (y.ndim == 3 and y.shape[1] == grid[0] * grid[1]):
            outputs.append(y[0].reshape(*(y.shape[1:3] if y.ndim == 4 else grid), y.shape[-1]))

    with no_grad(), observe(note), evaluating(model):
        result = model(Tensor(x))
    logits = result.array[0]
    for head, pooled in ((head, x) for head, x, y in linear if y is result):
        for places in reversed(outputs):
            mean = places.mean(axis=(0, 1))
            if mean.shape == pooled.shape and np.allclose(mean, pooled, 1e-3, 1e-5):
                with no_grad():
                    return layers, logits, head(Tensor(places)).array
    return layers, logits, None
