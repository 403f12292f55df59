"""The sections "Layers", "Filters" and "Model": norms, first weights, the layers in a table."""

from __future__ import annotations

import numpy as np

from ..cost import summary
from ..nn import Conv2d, DepthwiseConv2d, Patchify
from .charts import heat_map
from .formatting import layer_name, number
from .images import data_uri, largest, rgb, signed, tiles
from .markup import Html, details, el, figure, join, note, table
from .run_data import RunData, TrainedModel

KERNELS = 48  # shown of each layer
MOST_POSITIONS = 256


def layers(run: RunData) -> Html:
    if not run.epochs:
        return el("p", "Norms are taken after each epoch; the first is not complete yet.")
    epochs = [epoch["epoch"] for epoch in run.epochs]
    figures, tables = [], []
    for key, title, when in (
        ("weight_norms", "Weight norms", "after each epoch"),
        ("gradient_norms", "Gradient norms", "in the last step of each epoch, after clipping"),
    ):
        names = dict.fromkeys(name for epoch in run.epochs for name in epoch[key])
        rows = {
            layer_name(name): [epoch[key].get(name, 0.0) for epoch in run.epochs] for name in names
        }
        words = f"Euclidean norm of each layer {when}; on the right, the last. Logarithmic colors."
        if rows:
            figures.append(heat_map(title, rows, epochs, words, f"{run.number}"))
        numbers = ((name, *map(number, row)) for name, row in rows.items())
        tables.append(table(("layer", *(f"{epoch:.0f}" for epoch in epochs)), numbers, title))
    grid = el("div", *figures, class_="grid")
    return join(grid, details("The numbers for each layer and epoch", *tables))


def filters(run: RunData) -> Html:
    if run.model is None:
        return el("p", run.why_none)
    figures, first, channels = [], True, run.model.image_shape[-1]
    for name, module in run.model.model.named_modules():
        if isinstance(module, Patchify) or (isinstance(module, Conv2d) and first):
            kernels, columns = module.weight.array.transpose(3, 0, 1, 2), 16
            if kernels.shape[3] != channels:  # of what a layer before has made, not of images
                continue
            what = "patch filters" if isinstance(module, Patchify) else "filters"
            sheet = rgb(largest(kernels, 2 * KERNELS))  # of (D, p, p, C)
        elif isinstance(module, DepthwiseConv2d):
            kernels, what, columns = module.weight.array.transpose(2, 0, 1), "kernels", 12
            sheet = signed(largest(kernels, KERNELS))  # of (C, k, k)
        else:
            first = first and not module._parameters
            continue
        first = False
        size, title = kernels.shape[1], layer_name(name)
        count = f"{len(sheet)} of {len(kernels)}" if len(sheet) < len(kernels) else f"{len(sheet)}"
        words = f"{count} {what} of {size}×{size}"
        picture = tiles(sheet, columns, zoom=max(1, 24 // size), gap=4)
        height, width, _ = picture.shape
        alternative = f"{title}: {words}, largest norm first"
        image = el("img", src=data_uri(picture), alt=alternative, width=width, height=height)
        figures.append(figure(title[0].upper() + title[1:], image, words))
    words = (
        "Largest norm first; each filter is scaled to its own range. Filters of images are shown "
        "as RGB images around mid-gray, depthwise kernels in orange where positive and blue where "
        "negative."
    )
    if not figures:
        return el("p", "This network has no filters that could be shown as images.")
    return join(note(words), el("div", *figures, *_positions(run.model), class_="sheets"))


def _positions(trained: TrainedModel) -> list[Html]:
    """How alike the learned positions of a transformer are: a picture for each patch."""
    found = [p.array[0] for name, p in trained.model.named_parameters() if name == "pos_embed"]
    patches = [m for _, m in trained.model.named_modules() if isinstance(m, Patchify)]
    if not (found and patches):
        return []
    p = len(patches[0].weight.array)
    h, w = trained.image_shape[0] // p, trained.image_shape[1] // p
    if not 0 < h * w <= min(len(found[0]), MOST_POSITIONS):
        return []
    places = found[0][-h * w :]  # after the class token
    unit = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12)
    sheet = signed((unit @ unit.T).reshape(h * w, h, w))
    picture = tiles(sheet, w, zoom=max(1, 24 // max(h, w)), gap=4)
    words = (
        f"cosine similarity of the position embedding of each of {h}×{w} patches to those of all, "
        "where the patch itself is"
    )
    image = el(
        "img", src=data_uri(picture), alt=f"Positions: {words}",
        width=picture.shape[1], height=picture.shape[0],
    )  # fmt: skip
    return [figure("Position embeddings", image, words)]


def model_summary(run: RunData) -> Html:
    if run.model is None:
        return el("p", run.why_none)
    text = summary(run.model.model, (1, *run.model.image_shape))
    return el("pre", text, class_="scroll", tabindex="0", aria_label="Model summary")
