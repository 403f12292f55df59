"""Line charts and heat maps, drawn by matplotlib as SVG that is part of the page.

Text stays text, in the page's own font. Colours are variables of the style sheet, which has one set
for light pages and one for dark ones. The viewBox is about as wide as a phone, so that text is
readable there, and grows on wider screens.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..autograd import Array
from .formatting import number, percent, printable
from .markup import Html, el

# matplotlib knows only fixed colours: #0000nn stands for the n-th of these variables of page.css.
VARIABLES = ("ink", "soft", "rule", "c0", "c1", "c2", "c3", "c4", "c5", "c6")
CURVE_COLOURS = 7  # of them c0 to c6
MAX_POINTS = 150  # in a curve: more could not be told apart
WIDTH = 360  # of a chart, in units of its viewBox
BLUE = "#0072b2"  # of heat maps, which are images: no variable reaches into them


def variable(name: str) -> str:
    return f"#0000{VARIABLES.index(name):02x}"


STYLE: dict[str, Any] = {
    "figure.dpi": 72,  # one unit is a point
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": variable("rule"),
    "axes.labelcolor": variable("soft"),
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.autolimit_mode": "round_numbers",
    "grid.color": variable("rule"),
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
    "xtick.labelcolor": variable("soft"),
    "ytick.labelcolor": variable("soft"),
    "lines.linewidth": 1.6,
    "path.simplify": False,
    "svg.fonttype": "none",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Curve:
    """A line in a chart.

    x, y     float (n,), x rising; the line is interrupted where y is not finite
    colour   from 0; after CURVE_COLOURS they repeat, dashed
    band     the smallest and largest value behind each y, drawn pale behind the line
    markers  whether each point gets a dot
    """

    name: str
    x: Array
    y: Array
    colour: int = 0
    band: tuple[Array, Array] | None = None
    markers: bool = False


def colour_class(colour: int) -> str:
    """The classes in the style sheet for the colour of a curve."""
    return f"c{colour % CURVE_COLOURS}" + (" dashed" if colour // CURVE_COLOURS % 2 else "")


def averaged(name: str, x: Array, y: Array, colour: int = 0) -> Curve:
    """A curve through the means of neighbours, with at most MAX_POINTS points."""
    size = max(1, -(-len(x) // MAX_POINTS))
    if size == 1:
        return Curve(name, x, y, colour)
    starts = np.arange(0, len(x), size)
    counts = np.diff(np.append(starts, len(x)))
    band = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    mean_x, mean_y = (np.add.reduceat(values, starts) / counts for values in (x, y))
    return Curve(name, mean_x, mean_y, colour, band)


# ---- line charts


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    x_name: str,
    x_end: float,
    as_percent: bool = False,
    from_zero: bool = False,
    note: str | None = None,
) -> Html:
    """Curves over x from 0 to `x_end`, and their values for the script that shows them.

    Titles have to be unique in a page. Errors: ValueError if no curve has a finite point.
    """
    legend = _legend(curves)
    curves = [c for c in curves if np.isfinite(c.y).any()]
    if not curves:
        raise ValueError(f"{title}: there is nothing to draw")
    height = 204
    left, right, top, bottom = 52, 12, 10, 42
    box = {"left": left, "top": top, "width": WIDTH - left - right, "height": height - top - bottom}

    def draw(figure: Figure) -> None:
        axes = _axes(figure, **box)
        _draw_curves(axes, curves, from_zero)
        axes.set_xlim(0, x_end)
        whole = x_name == "step"
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole))
        axes.set_xlabel(x_name, loc="right")
        axes.grid(axis="y")
        if as_percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))

    show = percent if as_percent else number
    words = "; ".join(_in_words(c, show) for c in curves)
    scale, unit = (100, "\u00a0%") if as_percent else (1, "")
    values = {
        "box": {
            side: round(100 * size / (WIDTH if side in ("left", "width") else height), 3)
            for side, size in box.items()
        },
        "end": x_end,
        "name": x_name,
        "unit": unit,
        "curves": [
            {
                "name": c.name,
                "look": colour_class(c.colour),
                "x": [float(f"{x:.5g}") for x in c.x],
                "y": [float(f"{scale * y:.4g}") if math.isfinite(y) else None for y in c.y],
            }
            for c in curves
        ],
    }
    drawn = svg(draw, height, 12, f"{title} by {x_name}", words)
    return el(
        "figure",
        el("figcaption", el("h3", title), legend),
        el("div", drawn, class_="plot", data_curves=json.dumps(values, separators=(",", ":"))),
        el("p", note, class_="note") if note else None,
        class_="chart",
    )


def _draw_curves(axes: Axes, curves: Sequence[Curve], from_zero: bool) -> None:
    for c in curves:
        colour = variable(f"c{c.colour % CURVE_COLOURS}")
        if c.band is not None:
            axes.fill_between(c.x, *c.band, color=colour, alpha=0.14, linewidth=0, gid="band")
        alone = np.isfinite(c.y).sum() == 1  # one point makes no line
        axes.plot(
            c.x,
            c.y,
            color=colour,
            linestyle="--" if "dashed" in colour_class(c.colour) else "-",
            marker="o" if c.markers or alone else "",
            markersize=min(4.0, 120 / len(c.y)),
            clip_on=False,
            gid="curve",
        )
    # The axis is for the curves: a single wild step in a band must not flatten them.
    low, high = _limits(np.concatenate([c.y for c in curves]), from_zero)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_ylim(axes.yaxis.get_major_locator().view_limits(low, high))


def _limits(y: Array, from_zero: bool) -> tuple[float, float]:
    y = y[np.isfinite(y)]
    low, high = min(0.0, y.min()) if from_zero else y.min(), y.max()
    margin = 0.0 if high > low else abs(low) / 10 or 1.0
    return low - margin, high + margin


def _legend(curves: Sequence[Curve]) -> Html | None:
    if len(curves) < 2:
        return None
    names = (el("li", c.name, class_=colour_class(c.colour)) for c in curves)
    return el("ul", *names, class_="legend")


def _in_words(curve: Curve, show: Callable[[float], str]) -> str:
    y = curve.y[np.isfinite(curve.y)]
    return (
        f"{curve.name} from {show(y[0])} to {show(y[-1])}, "
        f"minimum {show(y.min())}, maximum {show(y.max())}"
    )


# ---- heat maps


def heat_map(
    title: str, rows: Mapping[str, Sequence[float]], columns: Sequence[float], note: str, key: str
) -> Html:
    """A row of coloured cells for each name, the darker the larger, on a logarithmic scale.

    rows     name -> a number ≥ 0 for each column; cells of 0 or not finite stay empty
    columns  epochs
    key      makes the title unique in the page
    """
    values = np.array(list(rows.values()), float)
    names, last = [_short(name) for name in rows], [number(row[-1]) for row in values]
    usable = np.isfinite(values) & (values > 1e-30)
    low, high = (values[usable].min(), values[usable].max()) if usable.any() else (1.0, 1.0)
    step, top, bottom = 14, 6, 72  # of a row; above and below all of them
    left, right = (max(30, 8 + 6.2 * max(map(len, texts))) for texts in (names, last))
    height = top + step * len(rows) + bottom

    def draw(figure: Figure) -> None:
        axes = _axes(figure, left, top, WIDTH - left - right, step * len(rows))
        shades = LinearSegmentedColormap.from_list("", [to_rgba(BLUE, 0.08), to_rgba(BLUE)])
        norm = LogNorm(low, high) if high > low else LogNorm(low / 2, low)
        cells = np.ma.masked_where(~usable, values)
        image = axes.imshow(cells, shades, norm, aspect="auto", interpolation="none")
        round_numbers = MaxNLocator(5, steps=[1, 2, 5, 10], integer=True)
        wanted = round_numbers.tick_values(columns[0], columns[-1])
        marked = [i for i, column in enumerate(columns) if column in wanted]
        axes.set_xticks(marked, [f"{columns[i]:.0f}" for i in marked])
        axes.set_xlabel("epoch", loc="right")
        axes.set_yticks(range(len(names)), names, color=variable("ink"))
        axes.spines[:].set_visible(False)
        beside = axes.secondary_yaxis("right")
        beside.set_yticks(range(len(last)), last)
        beside.tick_params(right=False)
        beside.spines[:].set_visible(False)
        if not usable.any():
            return
        scale = _axes(figure, left, height - 30, WIDTH - left - right, 8)
        ticks = np.geomspace(norm.vmin, norm.vmax, 3)
        figure.colorbar(image, scale, orientation="horizontal", ticks=ticks)
        scale.set_xticks(ticks, map(number, ticks))
        scale.minorticks_off()

    ends = f"from {number(low)} to {number(high)}" if usable.any() else "all zero"
    span = f"epochs {columns[0]:.0f} to {columns[-1]:.0f}"
    words = f"{len(rows)} layers over {span}: {ends}. The table below has every number."
    return el(
        "figure",
        el("figcaption", el("h3", title)),
        svg(draw, height, 10, title, words, key),
        el("p", note, class_="note"),
        class_="chart",
    )


def _short(name: str, length: int = 26) -> str:
    """A name that fits beside a row: encoder.layers.3.attention.output -> e.l.3.a.output"""
    name = printable(name)
    if len(name) > length:
        *outer, last = name.split(".")
        name = ".".join([*(part if part.isdecimal() else part[:1] for part in outer), last])
    return name if len(name) <= length else f"{name[: length // 2]}…{name[-length // 2 + 1 :]}"


# ---- SVG


def svg(
    draw: Callable[[Figure], None],
    height: float,
    font_size: float,
    title: str,
    words: str,
    key: str = "",
) -> Html:
    """What `draw` draws, as an element of the page. The same drawing gives the same text.

    title, words  what it shows, for readers who cannot see it
    key           together with the title makes the names inside it unique in the page
    """
    style = STYLE | {"font.size": font_size, "svg.hashsalt": f"{key} {title}"}
    with matplotlib.rc_context(), warnings.catch_warnings(), io.StringIO() as file:
        # The browser has more letters than the font that matplotlib measures with.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()  # whatever the reader's own settings are
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        canvas.print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        text = file.getvalue()
    inside = (
        text[text.index(">", text.index("<svg")) + 1 :].removesuffix("\n").removesuffix("</svg>")
    )
    inside = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", inside, flags=re.S)
    # Groups that were given a name keep it as their class; the others are only counted.
    inside = re.sub(r'<g id="[^"]*_\d+"', "<g", inside)
    inside = re.sub(r'<g id="([a-z]+)"', r'<g class="\1"', inside)
    inside = re.sub(
        r"font(?:-size)?: ([\d.]+px)[^;\"]*(?:; font-family:[^;\"]*)?", r"font-size: \1", inside
    )
    inside = re.sub(
        r"#0000([0-9a-f]{2})\b", lambda found: f"var(--{VARIABLES[int(found[1], 16)]})", inside
    )
    return el(
        "svg",
        el("title", title),
        el("desc", words),
        Html(inside),
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_label=f"{title}: {words}",
    )


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in the units of the viewBox, from its upper left corner."""
    whole_width, whole_height = 72 * figure.get_size_inches()
    y = whole_height - top - height
    return figure.add_axes(
        (left / whole_width, y / whole_height, width / whole_width, height / whole_height)
    )
