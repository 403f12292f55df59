"""The sections about the weights: how large they are, what they look like, where they are."""

from __future__ import annotations

from ..nn import DepthwiseConv2d, Patchify
from .charts import folded, number, strips, table
from .markup import Html, el, join
from .pictures import colours, data_uri, signed, strongest, tiles
from .subject import NO_WEIGHTS, Subject

KERNELS = 48  # shown of each layer


def layers(s: Subject) -> Html:
    if not s.epochs:
        return el("p", "Norms are taken at the end of an epoch; none is complete yet.")
    first, last = (f"{s.epochs[i]['epoch']:.0f}" for i in (0, -1))
    columns = f"Epochs {first} to {last}" if first != last else f"Epoch {first}"
    figures, rows = [], []
    for key, title, note in (
        ("weight_norms", "Weight norms", "logarithmic."),
        ("gradient_norms", "Gradient norms", "logarithmic; of each epoch’s last step, clipped."),
    ):
        names = list(dict.fromkeys(name for epoch in s.epochs for name in epoch[key]))
        values = {_layer(name): [epoch[key].get(name, 0.0) for epoch in s.epochs] for name in names}
        figures.append(strips(title, values, columns, note))
        rows.append(
            table(
                ("layer", *(f"{epoch['epoch']:.0f}" for epoch in s.epochs)),
                [(name, *map(number, line)) for name, line in values.items()],
                title,
            )
        )
    return join([el("div", *figures, class_="grid"), folded("The numbers, layer by layer", *rows)])


def filters(s: Subject) -> Html:
    if s.inside is None:
        return el("p", NO_WEIGHTS)
    figures = []
    for name, module in s.inside.model.named_modules():
        if isinstance(module, Patchify):
            every, what, columns = module.weight.array.transpose(3, 0, 1, 2), "patch filters", 16
            sheet = colours(strongest(every, 2 * KERNELS))  # of (D, p, p, C)
        elif isinstance(module, DepthwiseConv2d):
            every, what, columns = module.weight.array.transpose(2, 0, 1), "kernels", 12
            sheet = signed(strongest(every, KERNELS))  # of (C, k, k)
        else:
            continue
        size = every.shape[1]
        title = _layer(name)
        count = f"{len(sheet)} of {len(every)}" if len(sheet) < len(every) else f"{len(sheet)}"
        picture = tiles(sheet, columns, zoom=max(1, 24 // size), gap=4)
        figures.append(
            el(
                "figure",
                el("figcaption", el("h3", title[0].upper() + title[1:])),
                el(
                    "img",
                    src=data_uri(picture),
                    alt=f"{title}: {count} {what} of {size}×{size}, the strongest first",
                    width=picture.shape[1],
                    height=picture.shape[0],
                ),
                el("p", f"{count} {what} of {size}×{size}", class_="note"),
                class_="filters",
            )
        )
    note = (
        "The strongest first, each over its own range. Patch filters in the colours that they look "
        "for; depthwise kernels orange where positive, blue where negative."
    )
    return join([el("p", note, class_="note"), el("div", *figures, class_="sheets")])


def model_summary(s: Subject) -> Html:
    if s.inside is None:
        return el("p", NO_WEIGHTS)
    height, width = s.inside.facts["data"]["image_size"]
    summary = s.inside.model.summary((1, height, width, 3))
    return el("pre", summary, class_="scroll", tabindex="0", aria_label="Model summary")


def _layer(name: str) -> str:
    """What a ConvMixer's layer is, in words: blocks.2.0.fn.0 -> block 3 depthwise."""
    known = {"stem.0": "patch embedding", "stem.2": "patch norm", "head": "head"}
    inside = {"0.fn.0": "depthwise", "0.fn.2": "norm", "1": "pointwise", "3": "norm after"}
    parts = name.split(".", 2)
    if len(parts) == 3 and parts[0] == "blocks" and parts[1].isdecimal() and parts[2] in inside:
        return f"block {int(parts[1]) + 1} {inside[parts[2]]}"
    return known.get(name, name)
