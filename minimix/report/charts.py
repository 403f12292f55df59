"""Line charts and heat maps, drawn by matplotlib as SVG that is part of the page.

Text stays text, in the page's own font. Colors are variables of the style sheet, which has one set
for light pages and one for dark ones. The viewBox is about as wide as a phone, so that text is
readable there, and grows on wider screens.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from .markup import Html, el, figure

# matplotlib knows only fixed colors: #0000nn stands for the n-th of these variables of page.css.
VARIABLES = ("ink", "soft", "rule", "c0", "c1", "c2", "c3", "c4", "c5", "c6")
CURVE_COLORS = 7  # of them c0 to c6
MAX_POINTS = 150  # in a curve: more could not be told apart
WIDTH = 360  # of every chart, in units of its viewBox
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 204, 52, 12, 10, 42  # of line charts, and their margins
BLUE = "#0072b2"  # of heat maps, which are images: no variable reaches into them


# What matplotlib writes, as part of a page: without a head and a style sheet of its own, in the
# page's font; groups that were given a name have it as their class, others have no name.
TIDY = (
    (r"^.*?<svg.*?>|<defs>\s*<style.*?</style>\s*</defs>|</svg>\s*$", ""),
    (r'<g id="[^"]*_\d+"', "<g"),
    (r'<g id="([a-z]+)"', r'<g class="\1"'),
    (r"font(-size)?: ([\d.]+px)[^;\"]*(; font-family:[^;\"]*)?", r"font-size: \2"),
)


def variable(name: str) -> str:
    return f"#0000{VARIABLES.index(name):02}"


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


@contextmanager
def style(settings: dict[str, Any] = STYLE) -> Iterator[None]:
    """Inside, matplotlib has its defaults but for `settings`, whatever it has outside."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A browser has more letters than the font; in a picture a box stands for each missing one.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


@dataclass(frozen=True)
class Curve:
    """A line in a chart.

    x, y     float (n,), x rising; the line is interrupted where y is not finite
    color    from 0; after CURVE_COLORS they repeat, dashed
    band     the smallest and largest value behind each y, drawn pale behind the line
    markers  whether each point gets a dot
    """

    name: str
    x: Array
    y: Array
    color: int = 0
    band: tuple[Array, Array] | None = None
    markers: bool = False


def color_class(color: int) -> str:
    """The classes in the style sheet for the color of a curve."""
    return f"c{color % CURVE_COLORS}" + (" dashed" if color // CURVE_COLORS % 2 else "")


def averaged(name: str, x: Array, y: Array, color: int = 0) -> Curve:
    """A curve through the means of neighbors, with at most MAX_POINTS points."""
    size = max(1, -(-len(x) // MAX_POINTS))
    if size == 1:
        return Curve(name, x, y, color)
    starts = np.arange(0, len(x), size)
    counts = np.diff(np.append(starts, len(x)))
    band = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    mean_x, mean_y = (np.add.reduceat(values, starts) / counts for values in (x, y))
    return Curve(name, mean_x, mean_y, color, band)


# ---- line charts


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    x_name: str,
    x_end: float,
    as_percent: bool = False,
    from_zero: bool = False,
    words: str | None = None,
) -> Html | None:
    """Curves over x from 0 to `x_end`, with their values for page.js; None if there is no point.

    Titles have to be unique in a page.
    """
    drawn = [curve for curve in curves if np.isfinite(curve.y).any()]
    if not drawn:
        return None

    def draw(canvas: Figure) -> None:
        axes = axes_at(canvas, LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
        for curve in drawn:
            _draw_curve(axes, curve)
        _fit_y_axis(axes, np.concatenate([curve.y for curve in drawn]), from_zero)
        if as_percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
        axes.set_xlim(0, x_end)
        whole = x_name == "step"
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole))
        axes.set_xlabel(x_name, loc="right")
        axes.grid(axis="y")

    alternative = "; ".join(_in_words(curve, percent if as_percent else number) for curve in drawn)
    drawing = svg(draw, HEIGHT, 12, f"{title} by {x_name}", alternative)
    values = _for_the_script(drawn, x_name, x_end, as_percent)
    plot = el("div", drawing, class_="plot", data_curves=json.dumps(values, separators=(",", ":")))
    names = (el("li", c.name, class_=color_class(c.color)) for c in curves)
    legend = el("ul", *names, class_="legend") if len(curves) > 1 else None
    return figure(title, plot, words, legend)


def _draw_curve(axes: Axes, curve: Curve) -> None:
    dashed, alone = "dashed" in color_class(curve.color), np.isfinite(curve.y).sum() == 1
    style = {
        "color": variable(f"c{curve.color % CURVE_COLORS}"),
        "linestyle": "--" if dashed else "-",
        "marker": "o" if curve.markers or alone else "",  # a single point makes no line
        "markersize": min(4.0, 120 / len(curve.y)),
    }
    axes.plot(curve.x, curve.y, clip_on=False, gid="curve", **style)
    if curve.band is not None:
        pale = {"color": style["color"], "alpha": 0.14, "linewidth": 0}
        axes.fill_between(curve.x, *curve.band, gid="band", **pale)


def _fit_y_axis(axes: Axes, y: Array, from_zero: bool) -> None:
    """Let the axis hold the curves. Bands may leave it: one wild step must not flatten them."""
    y = y[np.isfinite(y)]
    low, high = min(0.0, y.min()) if from_zero else y.min(), y.max()
    margin = 0.0 if high > low else abs(low) / 10 or 1.0
    locator = MaxNLocator(5, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_locator(locator)
    axes.set_ylim(locator.view_limits(low - margin, high + margin))


def _for_the_script(
    curves: Sequence[Curve], x_name: str, x_end: float, as_percent: bool
) -> dict[str, Any]:
    """What page.js shows under the pointer, and where the axes begin and end, in percent."""
    scale, unit = (100, "\u00a0%") if as_percent else (1, "")
    horizontal, vertical = 100 / WIDTH, 100 / HEIGHT
    return {
        "inset": [TOP * vertical, RIGHT * horizontal, BOTTOM * vertical, LEFT * horizontal],
        "end": x_end,
        "name": x_name,
        "unit": unit,
        "curves": [
            {
                "name": c.name,
                "look": color_class(c.color),
                "x": [float(f"{x:.5g}") for x in c.x],
                "y": [float(f"{scale * y:.4g}") if math.isfinite(y) else None for y in c.y],
            }
            for c in curves
        ],
    }


def _in_words(curve: Curve, show: Callable[[float], str]) -> str:
    y = curve.y[np.isfinite(curve.y)]
    return (
        f"{curve.name} from {show(y[0])} to {show(y[-1])}, "
        f"minimum {show(y.min())}, maximum {show(y.max())}"
    )


# ---- heat maps


def heat_map(
    title: str, rows: Mapping[str, Sequence[float]], epochs: Sequence[float], words: str, key: str
) -> Html:
    """A row of colored cells for each name, the darker the larger, on a logarithmic scale.

    rows  name -> a number ≥ 0 for each epoch; cells of 0 or not finite stay empty
    key   makes the title unique in the page
    """
    values = np.array(list(rows.values()), float)
    usable = np.isfinite(values) & (values > 1e-30)
    low, high = (values[usable].min(), values[usable].max()) if usable.any() else (1.0, 1.0)
    names, last = [_short(name) for name in rows], [number(row[-1]) for row in values]
    left, right = (max(30, 8 + 6.2 * max(map(len, texts))) for texts in (names, last))
    width, row_height = WIDTH - left - right, 14
    height = row_height * len(rows) + 78

    def draw(canvas: Figure) -> None:
        axes = axes_at(canvas, left, 6, width, row_height * len(rows))
        shades = LinearSegmentedColormap.from_list("", [to_rgba(BLUE, 0.08), to_rgba(BLUE)])
        norm = LogNorm(low, high) if high > low else LogNorm(low / 2, low)
        cells = np.ma.masked_where(~usable, values)
        image = axes.imshow(cells, shades, norm, aspect="auto", interpolation="none")
        wanted = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(epochs[0], epochs[-1])
        marked = [i for i, epoch in enumerate(epochs) if epoch in wanted]
        axes.set_xticks(marked, [f"{epochs[i]:.0f}" for i in marked])
        axes.set_xlabel("epoch", loc="right")
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        place = {"transform": axes.get_yaxis_transform(), "va": "center"}
        for i, (name, value) in enumerate(zip(names, last, strict=True)):
            axes.text(-0.03, i, name, ha="right", **place)
            axes.text(1.03, i, value, color=variable("soft"), **place)
        if usable.any():
            scale = axes_at(canvas, left, height - 30, width, 8)
            ticks = np.geomspace(norm.vmin, norm.vmax, 3)
            canvas.colorbar(image, scale, orientation="horizontal", ticks=ticks)
            scale.set_xticks(ticks, map(number, ticks))
            scale.minorticks_off()

    ends = f"from {number(low)} to {number(high)}" if usable.any() else "all zero"
    span = f"epochs {epochs[0]:.0f} to {epochs[-1]:.0f}"
    alternative = f"{len(rows)} layers over {span}: {ends}. The table below has every number."
    return figure(title, svg(draw, height, 10, title, alternative, key), words)


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
    """What `draw` draws, as an element of the page. Inside `style` it is always the same text.

    title, words  what it shows, for readers who cannot see it
    key           together with the title makes the names inside it unique in the page
    """
    settings = {"font.size": font_size, "svg.hashsalt": f"{key} {title}"}
    with matplotlib.rc_context(settings), io.StringIO() as file:
        canvas = FigureCanvasSVG(Figure(figsize=(WIDTH / 72, height / 72)))
        draw(canvas.figure)
        canvas.print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        text = file.getvalue()
    for pattern, instead in TIDY:
        text = re.sub(pattern, instead, text, flags=re.S)
    text = re.sub(r"(?<=: )#0000(\d\d)", lambda m: f"var(--{VARIABLES[int(m[1])]})", text)
    alternative = {"role": "img", "aria_label": f"{title}: {words}"}
    inside = el("title", title), el("desc", words), Html(text)
    return el("svg", *inside, viewBox=f"0 0 {WIDTH} {height:g}", **alternative)


def axes_at(canvas: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in the units of the viewBox, from its upper left corner."""
    w, h = 72 * canvas.get_size_inches()
    return canvas.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))
