"""The sections "Layers", "Filters" and "Model": norms, first weights, the layers in a table."""

from __future__ import annotations

from ..cost import summary
from ..nn import DepthwiseConv2d, Patchify
from .charts import heat_map
from .formatting import number
from .images import data_uri, largest, rgb, signed, tiles
from .markup import Html, details, el, figure, join, note, table
from .run_data import RunData

KERNELS = 48  # shown of each layer


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
        rows = {_layer(name): [epoch[key].get(name, 0.0) for epoch in run.epochs] for name in names}
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
    figures = []
    for name, module in run.model.model.named_modules():
        if isinstance(module, Patchify):
            kernels, what, columns = module.weight.array.transpose(3, 0, 1, 2), "patch filters", 16
            sheet = rgb(largest(kernels, 2 * KERNELS))  # of (D, p, p, C)
        elif isinstance(module, DepthwiseConv2d):
            kernels, what, columns = module.weight.array.transpose(2, 0, 1), "kernels", 12
            sheet = signed(largest(kernels, KERNELS))  # of (C, k, k)
        else:
            continue
        size, title = kernels.shape[1], _layer(name)
        count = f"{len(sheet)} of {len(kernels)}" if len(sheet) < len(kernels) else f"{len(sheet)}"
        words = f"{count} {what} of {size}×{size}"
        picture = tiles(sheet, columns, zoom=max(1, 24 // size), gap=4)
        height, width, _ = picture.shape
        alternative = f"{title}: {words}, largest norm first"
        image = el("img", src=data_uri(picture), alt=alternative, width=width, height=height)
        figures.append(figure(title[0].upper() + title[1:], image, words))
    words = (
        "Largest norm first; each filter is scaled to its own range. Patch filters are shown as "
        "RGB images around mid-gray, depthwise kernels in orange where positive and blue where "
        "negative."
    )
    return join(note(words), el("div", *figures, class_="sheets"))


def model_summary(run: RunData) -> Html:
    if run.model is None:
        return el("p", run.why_none)
    text = summary(run.model.model, (1, *run.model.image_shape))
    return el("pre", text, class_="scroll", tabindex="0", aria_label="Model summary")


def _layer(name: str) -> str:
    """A layer of a ConvMixer in words: blocks.2.0.fn.0 -> block 3 depthwise; others as they are."""
    known = {"stem.0": "patch embedding", "stem.2": "patch norm", "head": "head"}
    inside = {"0.fn.0": "depthwise", "0.fn.2": "norm", "1": "pointwise", "3": "norm after"}
    parts = name.split(".", 2)
    if len(parts) == 3 and parts[0] == "blocks" and parts[1].isdecimal() and parts[2] in inside:
        return f"block {int(parts[1]) + 1} {inside[parts[2]]}"
    return known.get(name, name)
