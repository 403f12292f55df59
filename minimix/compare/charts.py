"""Charts about the rows of a study: their accuracies beside one another, and against their cost."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib.resources import files

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from ..report.charts import WIDTH, axes_at, style, svg, variable
from ..report.formatting import printable
from ..report.markup import Html, el, figure
from .results import Results, RowResult, accuracy_text, large, seconds_text

MARKERS, SIGNS = "os^Dv", "●■▲◆▼"  # of the levels of the last factor
LONGEST = 30  # letters of a name beside a chart


def accuracies(results: Results) -> Html | None:
    """The accuracy of every row, as a figure of the page; None where there is none yet."""
    drawing = _accuracies(results)
    if drawing is None:
        return None
    several, levels = _levels(results)
    legend = None
    if several:
        items = (el("li", name, class_=f"c{i % 7}") for i, name in enumerate(levels))
        legend = el("ul", *items, class_="legend")
    note = "Large dots: mean, with ± one standard error. Pale dots: each seed."
    return figure(f"{results.tested_on.capitalize()} accuracy", drawing, note, legend)


def picture(results: Results) -> str | None:
    """The same as an SVG file of its own, in the colors of a light page."""
    with style():
        drawing = _accuracies(results)
    if drawing is None:
        return None
    several, levels = _levels(results)
    css = files("minimix.report").joinpath("page.css").read_text("utf-8")
    light = dict(re.findall(r"--(\w+): (#\w+)", css[: css.index("@media")]))
    width, height = map(float, re.findall(r"[\d.]+", drawing[drawing.index("viewBox") :])[2:4])
    top = 24 if several else 0
    keys, x = [], 12.0
    for i, name in enumerate(levels if several else ()):
        keys.append(el("circle", cx=x, cy=14, r=4, fill=light[f"c{i % 7}"]))
        keys.append(el("text", name, x=x + 9, y=18))
        x += 24 + 6.2 * len(name)
    text = el(
        "svg",
        el("style", Html("text { font-family: sans-serif; fill: #1d2329; font-size: 11px }")),
        el("rect", width=f"{width:g}", height=f"{height + top:g}", fill="#fff"),
        *keys,
        el("g", Html(drawing), transform=f"translate(0 {top})"),
        xmlns="http://www.w3.org/2000/svg",
        xmlns__xlink="http://www.w3.org/1999/xlink",
        viewBox=f"0 0 {width:g} {height + top:g}",
        width=f"{2 * width:g}",
    )
    text = Html(text.replace("xmlns--xlink", "xmlns:xlink"))
    inner = f'<svg viewBox="0 0 {width:g} {height:g}"'
    sized = f'<svg width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    text = Html(text.replace(inner, sized, 1))
    return re.sub(r"var\(--(\w+)\)", lambda m: light[m[1]], text) + "\n"


def _levels(results: Results) -> tuple[bool, list[str]]:
    """Whether the levels of the last factor are told apart by color, and those levels."""
    factors = list(results.study.factors.values())
    return (True, list(factors[-1])) if len(factors) > 1 else (False, [""])


def _accuracies(results: Results) -> Html | None:
    """A line for each level of the first factors; on it a dot for each level of the last."""
    tested = [one for one in results.rows if one.accuracy]
    if not tested:
        return None
    several, levels = _levels(results)
    names = list(dict.fromkeys(_line(one, several) for one in results.rows))
    shown = [_short(name) for name in names]
    left, right, row = 14 + 6.3 * max(map(len, shown)), 20, 24
    height = row * len(names) + 46
    step = min(0.2, 0.6 / len(levels))  # between the levels on a line

    def draw(canvas: Figure) -> None:
        axes = axes_at(canvas, left, 6, WIDTH - left - right, row * len(names))
        for one in tested:
            level = _level(one, levels, several)
            y = names.index(_line(one, several)) + step * (level - (len(levels) - 1) / 2)
            color = variable(f"c{level % 7}")
            found = one.accuracy
            assert found
            each = list(one.accuracies.values())
            axes.plot(each, [y] * len(each), "o", color=color, alpha=0.3, markersize=4)
            error = None if math.isnan(found.error) else found.error
            axes.errorbar(found.mean, y, xerr=error, fmt="o", color=color, markersize=6, capsize=3)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), shown, color=variable("ink"))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
        axes.set_xlabel(f"{results.tested_on} accuracy", loc="right")
        axes.grid(axis="x")

    words = "; ".join(f"{one.row.name} {accuracy_text(one.accuracy)}" for one in tested)
    title = f"{results.tested_on.capitalize()} accuracy"
    return svg(draw, height, 11, title, words)


def _line(one: RowResult, several: bool) -> str:
    return ", ".join(one.row.levels[:-1]) if several else one.row.name


def _level(one: RowResult, levels: Sequence[str], several: bool) -> int:
    return levels.index(one.row.levels[-1]) if several else 0


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def against(results: Results, title: str, x_name: str, values: Sequence[float]) -> Html | None:
    """Accuracy against something that rows cost, on a logarithmic axis; None where it is the same
    for all of them.

    values  for each row; NaN where it is not known
    """
    known = [
        (one, x)
        for one, x in zip(results.rows, values, strict=True)
        if one.accuracy and math.isfinite(x) and x > 0
    ]
    if len({x for _, x in known}) < 2:
        return None
    show = seconds_text if x_name == "time" else large
    several, levels = _levels(results)
    names = list(dict.fromkeys(_line(one, several) for one in results.rows))

    def draw(canvas: Figure) -> None:
        axes = axes_at(canvas, 52, 10, WIDTH - 66, 190)
        for one, x in known:
            found = one.accuracy
            assert found
            color = names.index(_line(one, several))
            marker = MARKERS[_level(one, levels, several) % len(MARKERS)]
            look = {"color": variable(f"c{color % 7}"), "marker": marker}
            error = None if math.isnan(found.error) else found.error
            axes.errorbar(x, found.mean, yerr=error, linestyle="", capsize=3, **look)
        axes.set_xscale("log")
        low, high = min(x for _, x in known), max(x for _, x in known)
        axes.set_xlim(low / 1.3, high * 1.3)
        fine = high / low < 30
        axes.xaxis.set_major_locator(LogLocator(10, [1, 1.5, 2, 3, 5, 7] if fine else [1, 2, 5]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: show(x)))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
        axes.set_xlabel(x_name, loc="right")
        axes.grid(axis="y")

    words = "; ".join(
        f"{one.row.name} {show(x)}, {accuracy_text(one.accuracy)}" for one, x in known
    )
    items = (el("li", name, class_=f"c{i % 7}") for i, name in enumerate(names))
    shapes = ", ".join(f"{sign} {level}" for sign, level in zip(SIGNS, levels, strict=False))
    legend = el("ul", *items, class_="legend")
    return figure(title, svg(draw, 244, 11, title, words), shapes if several else None, legend)
