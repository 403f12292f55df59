"""Curves and strips of colour, drawn so that they suit any width, a dark page and paper.

Lines are SVG stretched to the space there is; words are HTML beside it, so that they keep their
size. Colours are names in the style sheet (c0, c1 …), which has other ones for a dark page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..autograd import Array
from .markup import Html, el, join

COLOURS = 7  # in the style sheet
MOST_POINTS = 150  # of a curve: more than these cannot be told apart


@dataclass(frozen=True)
class Curve:
    """A line to be drawn, or with `dots` a line from dot to dot.

    x, y    float (n,), x rising; where y is not finite there is a gap
    colour  from 0; when the colours have all been had they come again, dashed
    band    the least and the greatest that each y stands for, drawn pale behind it
    """

    name: str
    x: Array
    y: Array
    colour: int = 0
    band: tuple[Array, Array] | None = None
    dots: bool = False

    @property
    def look(self) -> str:
        return look(self.colour)


def look(colour: int) -> str:
    """The names in the style sheet that stand for a colour."""
    return f"c{colour % COLOURS}" + (" dashed" if colour // COLOURS % 2 else "")


def smoothed(name: str, x: Array, y: Array, colour: int = 0) -> Curve:
    """A curve through the means of neighbours, MOST_POINTS of them at most."""
    size = max(1, -(-len(x) // MOST_POINTS))
    starts = np.arange(0, len(x), size)
    if size == 1 or not len(x):
        return Curve(name, x, y, colour)
    counts = np.diff(np.append(starts, len(x)))
    band = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    means = [np.add.reduceat(values, starts) / counts for values in (x, y)]
    return Curve(name, means[0], means[1], colour, band)


# ---- numbers for people


def number(value: float) -> str:
    """Three digits that matter: 0.0123, 4.56, 789, 1,234."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def percent(value: float) -> str:
    """0.1234 -> 12.34 %, on one line"""
    return f"{100 * value:.2f}\u00a0%" if math.isfinite(value) else "–"


def alike(values: Sequence[float]) -> list[str]:
    """The numbers of an axis, with as many digits as the one that needs most: 0.5, 1.0, 1.5."""
    if max(map(abs, values)) >= 1e6:
        return [f"{value:g}" for value in values]
    plain = (f"{value:.6f}".rstrip("0") for value in values)
    digits = max(len(each.partition(".")[2]) for each in plain)
    return [f"{value:,.{digits}f}" for value in values]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers, 1, 2 or 5 × 10ⁿ apart, the first at or below `low`, the last at or above
    `high`, and no more than about `most` of them."""
    if not high > low:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * m for m in (1, 2, 5, 10, 20) if (high - low) / (size * m) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


# ---- curves


def chart(
    title: str,
    curves: Sequence[Curve],
    *,
    x_name: str,
    x_end: float,
    as_percent: bool = False,
    from_zero: bool = False,
    note: str | None = None,
) -> Html:
    """Curves over x from 0 to `x_end`, with values for the script to show under the pointer.

    Errors: ValueError where no curve has a finite point.
    """
    scale = 100.0 if as_percent else 1.0
    curves = [c for c in curves if np.isfinite(c.y).any()]
    if not curves:
        raise ValueError(f"{title}: there is nothing to draw")
    y_all = scale * np.concatenate([c.y[np.isfinite(c.y)] for c in curves])
    y_ticks = ticks(min(0.0, y_all.min()) if from_zero else y_all.min(), y_all.max())
    x_ticks = [x for x in ticks(0, x_end, 6) if x <= x_end * (1 + 1e-9)]
    unit = "\u00a0%" if as_percent else ""

    def place_x(x: Array | float) -> Array:
        return 100 * np.asarray(x) / x_end

    def place_y(y: Array | float) -> Array:
        """Of a band what does not fit is cut off: one wild step is not to flatten the curve."""
        share = (y_ticks[-1] - np.asarray(y)) / (y_ticks[-1] - y_ticks[0])
        return 100 * np.clip(share, 0, 1)

    drawn = [
        el("path", class_="rules", d="".join(f"M0 {place_y(y):.2f}H100" for y in y_ticks)),
    ]
    for curve in curves:
        if curve.band is not None:
            low, high = (place_y(scale * edge) for edge in curve.band)
            xs = place_x(curve.x)
            d = "M" + "L".join(filter(None, _points(xs, low) + _points(xs[::-1], high[::-1]))) + "Z"
            drawn.append(el("path", class_=f"band {curve.look}", d=d))
    for curve in curves:
        points = _points(place_x(curve.x), place_y(scale * curve.y))
        drawn.append(el("path", class_=f"line {curve.look}", d=_path(points)))
        if curve.dots:
            d = "".join(f"M{point}h0" for point in points if point)
            drawn.append(el("path", class_=f"dots {curve.look}", d=d))
    labels = [
        *(
            el("span", name + unit, class_="y", style=f"top:{place_y(y):.2f}%")
            for y, name in zip(y_ticks, alike(y_ticks), strict=True)
        ),
        *(
            el("span", name, class_="x", style=f"left:{place_x(x):.2f}%")
            for x, name in zip(x_ticks, alike(x_ticks), strict=True)
        ),
        el("span", x_name, class_="x-name"),
    ]
    values = {
        "end": x_end,
        "name": x_name,
        "unit": unit,
        "curves": [
            {
                "name": c.name,
                "look": c.look,
                "x": [float(f"{x:.5g}") for x in c.x],
                "y": [float(f"{y:.4g}") if math.isfinite(y) else None for y in scale * c.y],
            }
            for c in curves
        ],
    }
    show = percent if as_percent else number
    svg = el("svg", *drawn, viewBox="0 0 100 100", preserveAspectRatio="none", aria_hidden="true")
    return el(
        "figure",
        el("figcaption", el("h3", title), _legend(curves)),
        el(
            "div",
            svg,
            *labels,
            class_="plot",
            role="img",
            aria_label=f"{title} by {x_name}: " + "; ".join(_in_words(c, show) for c in curves),
            data_curves=json.dumps(values, separators=(",", ":")),
        ),
        el("p", note, class_="note") if note else None,
        class_="chart",
    )


def _points(xs: Array, ys: Array) -> list[str]:
    """ "12.50 50.00" for each point; "" for one that is not finite."""
    pairs = zip(xs, ys, strict=True)
    return [f"{x:.2f} {y:.2f}" if math.isfinite(x + y) else "" for x, y in pairs]


def _path(points: Sequence[str]) -> str:
    """A line from point to point, interrupted where there is none."""
    pieces, pen_down = [], False
    for point in points:
        if point:
            pieces.append(("L" if pen_down else "M") + point)
        pen_down = bool(point)
    return "".join(pieces)


def _legend(curves: Sequence[Curve]) -> Html | None:
    if len(curves) < 2:
        return None
    return el("ul", *(el("li", c.name, class_=c.look) for c in curves), class_="legend")


def _in_words(curve: Curve, show: Callable[[float], str]) -> str:
    y = curve.y[np.isfinite(curve.y)]
    return (
        f"{curve.name} from {show(y[0])} to {show(y[-1])}, "
        f"least {show(y.min())}, greatest {show(y.max())}"
    )


# ---- strips


def strips(title: str, rows: Mapping[str, Sequence[float]], columns: str, note: str) -> Html:
    """A row of coloured cells for each name, the stronger the larger, on a logarithmic scale.

    rows     by name, equally many numbers ≥ 0
    columns  what the cells of a row are, such as "epochs 1 to 10"
    """
    every = np.array(list(rows.values()), float)
    usable = every[np.isfinite(every) & (every > 0)]
    low, high = (np.log(usable.min()), np.log(usable.max())) if usable.size else (0.0, 1.0)

    def strength(value: float) -> float:
        """From 0.06, which can still be seen, to 1."""
        if not value > 0:
            return 0.0
        share = (min(math.log(value), high) - low) / (high - low) if high > low else 1.0
        return 0.06 + 0.94 * share

    lines = join(
        el(
            "div",
            el("span", name, class_="name"),
            el(
                "span",
                *(el("i", style=f"opacity:{strength(value):.2f}") for value in values),
                class_="cells",
            ),
            el("span", number(values[-1]), class_="value"),
        )
        for name, values in rows.items()
    )
    ends = (
        f"from {number(math.exp(low))} to {number(math.exp(high))}" if usable.size else "all zero"
    )
    label = f"{title} of {len(rows)} layers over {columns}: {ends}. The table below has each."
    return el(
        "figure",
        el("figcaption", el("h3", title)),
        el("div", lines, class_="strips", role="img", aria_label=label),
        el("p", f"{columns} from left to right; {ends}, {note}", class_="note"),
        class_="chart",
    )


def folded(summary: str, *inside: Html) -> Html:
    """Something for those who ask for it."""
    return el("details", el("summary", summary), *inside)


def table(
    head: Sequence[str], rows: Sequence[Sequence[str | Html]], caption: str | None = None
) -> Html:
    """A table; the first cell of a row names it."""
    return el(
        "div",
        el(
            "table",
            el("caption", caption) if caption else None,
            el("thead", el("tr", *(el("th", cell, scope="col") for cell in head))),
            el(
                "tbody",
                *(
                    el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:]))
                    for row in rows
                ),
            ),
        ),
        class_="scroll",
    )
