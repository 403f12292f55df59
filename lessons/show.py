"""Pictures for the lessons.

Every function returns a `Picture`: a matplotlib Figure that is displayed when it is the last line
of a notebook cell, with a text alternative (`alt`) for readers who cannot see it. The colors are
those of Okabe & Ito, which can be told apart with any color vision.

    fig, ax = show.subplots(alt="A parabola.")
    ax.plot(x, x**2)
    fig

Importing this page sets matplotlib's defaults to `STYLE`, for the notebook's own plots too;
`matplotlib.rcdefaults()` takes that back.

What a picture of a lesson shows is not said in its cell, where it would answer the prediction above
it: `alt="05.3"` is the third text in pictures.json of lesson 05. What was predicted is drawn beside
what is: `guess=guess`.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minimix import Tensor
from minimix.autograd import NO_TENSOR

from . import folders

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GRAY, PALE = "#666666", "#EEF2F5"
# Signs have the same colors everywhere, in `minimix report` too.
SIGNED = matplotlib.colors.LinearSegmentedColormap.from_list("signed", [BLUE, "white", ORANGE])

STYLE: Any = {
    "axes.prop_cycle": matplotlib.cycler(color=[BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "font.size": 10,
    "figure.facecolor": "white",
    "legend.frameon": False,
}
matplotlib.rcParams.update(STYLE)
DPI, SCREEN_DPI = 144, 96  # drawn finer than shown, so that it is sharp on a fine screen


class Picture(Figure):
    """A Figure that a notebook displays, with a text alternative and what was predicted."""

    alt: str = ""
    guess: Any = None

    def png(self) -> bytes:
        """The picture in 256 colors, which takes a third of the space."""
        from PIL import Image  # comes with matplotlib

        full, small = io.BytesIO(), io.BytesIO()
        self.savefig(full, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08)
        Image.open(full).convert("RGB").quantize(256).save(small, "png", optimize=True)
        return small.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        png = self.png()
        width = int.from_bytes(png[16:20], "big")  # where a PNG says how wide it is
        return {
            "text/html": picture_html(png, self.alt, round(width * SCREEN_DPI / DPI))
            + guess_html(self.guess),
            "text/plain": self.alt,
        }, {}


def picture_html(png: bytes, alt: str, width: int) -> str:
    """A picture as HTML: an image whose alternative a screen reader reads."""
    data = base64.b64encode(png).decode()
    return f'<img width="{width}" alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def guess_html(guess: Any) -> str:
    """A prediction, for the line below what it was about; "" where there is none."""
    if guess is None or guess is ...:
        return ""
    return f'<div style="color: {RED}"><b>your guess:</b> {html.escape(str(guess))}</div>'


def guessed(guess: Any) -> None:
    """Print a prediction beside what comes out; nothing where it is still `...`."""
    if guess is not ...:
        print(f"your guess: {guess}")


@functools.cache
def _texts(lesson: str) -> list[str]:
    (folder,) = (f for f in folders() if f.name.startswith(f"{lesson}_"))
    texts: list[str] = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    return texts


def described(alt: str) -> str:
    """A text alternative: that of a lesson's picture where it is named, as in "05.3"."""
    if match := re.fullmatch(r"(\d\d)\.(\d+)", alt):
        return _texts(match[1])[int(match[2]) - 1]
    return alt


def subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    alt: str,
    size: tuple[float, float] = (7, 3),
    guess: Any = None,
    **options: Any,
) -> tuple[Picture, Any]:
    """An empty picture and its axes, as `plt.subplots`: one Axes, or an array of them.

    alt    what can be seen, in a sentence or two; or which text of a lesson's, as in "05.3"
    size   width and height in inches; a notebook is about 9 wide
    guess  what was predicted, in any form: it stands below the picture
    """
    figure = Picture(figsize=size, layout="constrained")
    figure.alt, figure.guess = described(alt), guess
    return figure, figure.subplots(rows, columns, **options)


def image(ax: Axes, pixels: np.ndarray, title: str = "", **options: Any) -> None:
    """Draw an image (H, W), (H, W, 1) or (H, W, 3) without axes."""
    options = {"cmap": "gray", "interpolation": "nearest"} | options
    ax.imshow(pixels.squeeze() if pixels.shape[-1:] == (1,) else pixels, **options)
    ax.set_title(title, fontsize=9, loc="center")
    ax.axis("off")


def arrays(
    values: Mapping[str, Any],
    *,
    alt: str,
    title: str = "",
    joints: Sequence[str] = (),
    guess: Any = None,
) -> Picture:
    """Small arrays as tables of numbers, side by side, each with its name and shape.

    values  name -> array of at most two axes; orange is positive, blue negative
    joints  what to write between neighbors: ("×", "=")
    """
    tables = [np.atleast_2d(np.asarray(v, float)) for v in values.values()]
    rows, columns = max(len(t) for t in tables), [t.shape[1] for t in tables]
    figure, axes = subplots(
        1,
        len(tables),
        alt=alt,
        guess=guess,
        size=(0.55 * sum(columns) + 0.7 * len(tables), 0.42 * rows + 0.8),
        width_ratios=columns,
        squeeze=False,
    )
    for i, (ax, table, (name, value)) in enumerate(
        zip(axes[0], tables, values.items(), strict=True)
    ):
        strength = np.abs(table).max() or 1.0
        ax.imshow(table, cmap=SIGNED, vmin=-1.8 * strength, vmax=1.8 * strength)
        for (row, column), number in np.ndenumerate(table):
            ax.text(column, row, f"{number:.3g}", ha="center", va="center", fontsize=9)
        ax.set_xticks(np.arange(table.shape[1] + 1) - 0.5, [])
        ax.set_yticks(np.arange(len(table) + 1) - 0.5, [])
        ax.grid(color="white", linewidth=2)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(f"{name}  {np.shape(value)}", loc="center", fontsize=9)
        ax.set_anchor("N")
        if i < len(joints):
            middle = (min(len(table), len(tables[i + 1])) - 1) / 2
            ax.text(table.shape[1] + 0.1, middle, joints[i], ha="center", va="center", fontsize=14)
    figure.suptitle(title)
    return figure


# ---- the tape


def tape(
    result: Any,
    *,
    alt: str,
    names: Mapping[str, Any] | None = None,
    backward: bool = False,
    title: str = "",
    guess: Any = None,
) -> Picture:
    """The tape that leads to a result, as a graph: inputs on the left, the result on the right.

    result     a Tensor, or a student's Value with `data`, `grad`, `inputs` and `op`
    names      of values worth naming: {"x": x, "y": y}
    backward   whether to call backward on a Tensor first, which frees its tape

    The gradient is written below each value that has one.
    """
    known = {id(value): name for name, value in (names or {}).items()}
    values = _ancestors(result)
    inputs = {id(v): _inputs(v) for v in values}
    formulas = {id(v): _formula(v, known) for v in values}
    column = _columns(values)
    place = _places(values, column)
    if backward:
        for v in values:
            v.retain_grad()
        result.backward()
    xs, ys = zip(*place.values(), strict=True)
    width, height = max(xs) + 1, max(ys) - min(ys) + 1
    size = (min(1.55 * width + 0.4, 10), 0.95 * height + 0.45)
    figure, ax = subplots(alt=alt, size=size, guess=guess)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(min(ys) - 0.65, max(ys) + 0.45), title=title)
    ax.axis("off")

    boxes = {}
    for v in values:
        x, y = place[id(v)]
        look = {"fc": "white", "ec": BLACK} if inputs[id(v)] else {"fc": PALE, "ec": BLUE}
        words = formulas[id(v)]
        if v is not NO_TENSOR:  # of a plain number the tape keeps nothing
            words += f"\n{_number(_data(v))}"
        text = ax.text(x, y, words, ha="center", va="center", fontsize=9)
        text.set_bbox({"boxstyle": "round,pad=0.4", **look})
        boxes[id(v)] = text.get_bbox_patch()
        if v.grad is not None:
            words = f"grad {_number(v.grad)}"
            ax.text(x, y - 0.29, words, ha="center", va="top", color=RED, fontsize=9)
    for v in values:
        sources = inputs[id(v)]
        for i, source in enumerate(sources):
            (x, y), (a, b) = place[id(v)], place[id(source)]
            bend = 0.0
            if sum(s is source for s in sources) > 1:  # x · x: two arrows, one bent each way
                bend = 0.25 if i else -0.25
            elif x - a > 1 and abs(y - b) < 0.3:  # around whatever stands between
                bend = -0.35
            ax.annotate(
                "",
                (x, y),
                (a, b),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": GRAY,
                    "connectionstyle": f"arc3,rad={bend}",
                    "patchA": boxes[id(source)],
                    "patchB": boxes[id(v)],
                },
            )
    return figure


def _formula(v: Any, known: Mapping[int, str]) -> str:
    """ "x", or "c = a × b", or as much of that as there are names for."""
    name = known.get(id(v), "")
    if not _inputs(v):
        return name or "constant"
    symbol = _symbol(v)
    inputs = [known.get(id(s), "·") for s in _inputs(v)]
    if all(i == "·" for i in inputs):
        how = symbol
    elif len(inputs) == 2 and not symbol.isalnum():
        how = f"{inputs[0]} {symbol} {inputs[1]}"
    else:
        how = f"{symbol}({', '.join(inputs)})"
    return f"{name} = {how}" if name else how


def _inputs(v: Any) -> Sequence[Any]:
    if isinstance(v, Tensor):
        return v.node.inputs if v.node else ()
    return v.inputs


def _data(v: Any) -> Any:
    return v.array if isinstance(v, Tensor) else v.data


SYMBOLS = {
    "add": "+",
    "multiply": "×",
    "subtract": "−",
    "matmul": "@",
    "divide": "÷",
    "power": "**",
}


def _symbol(v: Any) -> str:
    op = v.node.op if isinstance(v, Tensor) and v.node else v.op
    name = op if isinstance(op, str) else getattr(op, "__name__", "?")
    return SYMBOLS.get(name, name)


def _number(value: Any) -> str:
    if np.ndim(value):
        return "×".join(map(str, np.shape(value)))
    return f"{float(value):.3g}"


def _ancestors(result: Any) -> list[Any]:
    """Everything the result depends on, inputs before what is computed from them."""
    seen, order, stack = {id(result)}, [], [(result, iter(_inputs(result)))]
    while stack:
        value, rest = stack[-1]
        for source in rest:
            if id(source) not in seen:
                seen.add(id(source))
                stack.append((source, iter(_inputs(source))))
                break
        else:
            order.append(value)
            stack.pop()
    return order


def _columns(values: list[Any]) -> dict[int, int]:
    """The column of each value: right of its rightmost input; leaves just left of their use."""
    column: dict[int, int] = {}
    for v in values:
        column[id(v)] = 1 + max((column[id(s)] for s in _inputs(v)), default=-1)
    for v in reversed(values):
        users = [column[id(u)] for u in values if any(s is v for s in _inputs(u))]
        if users and not _inputs(v):
            column[id(v)] = min(users) - 1
    return column


def _places(values: list[Any], column: dict[int, int]) -> dict[int, tuple[float, float]]:
    """Centered columns, in which each value is near the mean height of its neighbors."""
    columns: dict[int, list[Any]] = {}
    for v in values:
        columns.setdefault(column[id(v)], []).append(v)
    row = {id(v): float(i) for vs in columns.values() for i, v in enumerate(vs)}
    users: dict[int, list[Any]] = {id(v): [] for v in values}
    for v in values:
        for source in _inputs(v):
            users[id(source)].append(v)
    for sweep in range(8):
        for c in sorted(columns, reverse=sweep % 2 == 1):

            def pull(v: Any) -> float:
                near = [row[id(u)] for u in (*_inputs(v), *users[id(v)])]
                return sum(near) / len(near) if near else 0.0

            columns[c].sort(key=pull)
            middle = (len(columns[c]) - 1) / 2
            for i, v in enumerate(columns[c]):
                row[id(v)] = i - middle
    return {id(v): (float(column[id(v)]), -row[id(v)]) for v in values}


# ---- curves and bars


def bars(
    values: Mapping[str, float],
    *,
    alt: str,
    title: str = "",
    unit: str = "",
    log: bool = False,
    mark: Sequence[str] = (),
    guess: Any = None,
) -> Picture:
    """A horizontal bar per name, with its number at the end: for speeds and sizes.

    mark   names whose bars stand out
    guess  what was predicted: a number is a dashed line, a dict {name: number} a line at each of
           its bars, and anything else stands below the picture
    """
    figure, ax = subplots(alt=alt, size=(7, 0.38 * len(values) + 0.6), guess=guess)
    names, lengths = list(values), list(values.values())
    ax.barh(names, lengths, color=[RED if name in mark else BLUE for name in names], height=0.7)
    for i, length in enumerate(lengths):
        text = f"{_three_digits(length)} {unit}"
        ax.annotate(text, (length, i), (5, 0), textcoords="offset points", va="center")
    numbers = guess if isinstance(guess, Mapping) else dict.fromkeys(values, guess)
    for name, number in numbers.items():
        if name in names and isinstance(number, (int, float)):
            i = names.index(name)
            ax.plot([number, number], [i - 0.5, i + 0.5], "--", color=RED, lw=2)
    ax.invert_yaxis()
    if log:
        ax.set_xscale("log")
    ax.margins(x=0.18)
    ax.xaxis.set_visible(False)
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(title)
    return figure


def _three_digits(number: float) -> str:
    return f"{float(f'{number:.3g}'):,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def plane(
    ax: Axes,
    classify: Callable[[np.ndarray], np.ndarray] | None,
    points: np.ndarray,
    labels: np.ndarray,
) -> None:
    """The regions into which a classifier divides the plane, and the points themselves.

    classify  points (n, 2) -> numbers (n,), below 0 for class 0 and above it for class 1; or one
              score per class (n, K), the largest of which wins; None draws the points only
    """
    colors, markers = (BLUE, ORANGE, GREEN, PURPLE), "osD^"
    low, high = points.min(0) - 0.2, points.max(0) + 0.2
    x, y = np.meshgrid(*np.linspace(low, high, 60).T)
    score = classify(np.stack([x.ravel(), y.ravel()], 1)) if classify else np.empty((0, 0))
    if score.ndim == 1:
        z = score.reshape(x.shape)
        ax.contourf(x, y, np.tanh(z) * 0.99, np.linspace(-1, 1, 9), cmap=SIGNED, alpha=0.6)
        ax.contour(x, y, z, [0], colors="black", linewidths=1)
    for k in range(score.shape[1] if score.ndim == 2 else 0):
        lead = (score[:, k] - np.delete(score, k, 1).max(1)).reshape(x.shape)
        ax.contourf(x, y, lead, [0, np.inf], colors=colors[k], alpha=0.35)
        ax.contour(x, y, lead, [0], colors="black", linewidths=0.6)
    for k in np.unique(labels):
        chosen = points[labels == k]
        look = {"c": colors[k], "marker": markers[k], "edgecolors": "white", "linewidths": 0.6}
        ax.scatter(*chosen.T, s=20, **look)
    ax.set_xticks([])
    ax.set_yticks([])


# ---- networks


def network(
    layers: Sequence[str],
    *,
    alt: str,
    skip: tuple[int, int] | None = None,
    repeat: tuple[int, int, str] | None = None,
    shapes: Mapping[int, str] | None = None,
) -> Picture:
    """Layers from left to right, each a box with its name.

    skip    (first, last): an arrow around these layers, to where their input is added
    repeat  (first, last, words): a dashed frame around these layers, with words below
    shapes  layer -> the shape of its output, written above the arrow that leaves it
    """
    figure, ax = subplots(alt=alt, size=(0.72 * len(layers) + 0.6, 2.9))
    ax.set(xlim=(-0.85, len(layers) - 0.15), ylim=(-1.6, 1.4))
    ax.axis("off")
    kinds = (("GELU", "#FBE5B5"), ("BatchNorm", "#C9E9DE"), ("pool", "#E3E3E3"))
    for i, name in enumerate(layers):
        color = next((c for kind, c in kinds if kind in name), "#CFE5F5")
        box = matplotlib.patches.FancyBboxPatch(
            (i - 0.2, -0.95), 0.4, 1.9, boxstyle="round,pad=0.03", fc=color, ec=GRAY
        )
        ax.add_patch(box)
        ax.text(i, 0, name, rotation=90, ha="center", va="center", fontsize=9)
    for i in range(len(layers) + 1):
        ax.annotate("", (i - 0.23, 0), (i - 0.77, 0), arrowprops={"arrowstyle": "->"})
    for i, words in (shapes or {}).items():
        ax.text(i + 0.5, 1.05, words, ha="center", va="bottom", fontsize=8, color=BLUE)
        ax.plot([i + 0.5, i + 0.5], [0.05, 1.02], color=BLUE, linewidth=0.7)
    if skip:
        start, end = skip[0] - 0.5, skip[1] + 0.5
        ax.plot([start, start, end], [0, -1.12, -1.12], color=RED)
        ax.annotate("", (end, -0.1), (end, -1.12), arrowprops={"arrowstyle": "->", "color": RED})
        ax.text(end, 0, "+", ha="center", va="center", color=RED).set_bbox(
            {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": RED}
        )
    if repeat:
        first, last, words = repeat
        corner, size = (first - 0.62, -1.28), (last - first + 1.24, 2.3)
        frame = matplotlib.patches.Rectangle(corner, *size, fill=False, ec=GRAY, ls="--")
        ax.add_patch(frame)
        ax.text((first + last) / 2, -1.36, words, ha="center", va="top", fontsize=9)
    return figure


# ---- filters, and what reads what


def mosaic(tiles: np.ndarray, columns: int, gap: int = 1, fill: Any = 1.0) -> np.ndarray:
    """Little images side by side in one.   (n, h, w, C) -> (H, W, C), `gap` pixels between them"""
    n, h, w, c = tiles.shape
    rows = -(-n // columns)
    canvas = np.empty((rows * (h + gap) - gap, columns * (w + gap) - gap, c))
    canvas[:] = fill
    for i, tile in enumerate(tiles):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        canvas[top : top + h, left : left + w] = tile
    return canvas


def filters(
    w: np.ndarray, *, alt: str, columns: int = 16, title: str = "", guess: Any = None
) -> Picture:
    """Filters as little pictures, each as strong as its largest weight.

    w  (p, p, 3, D): in color, gray is 0; or (k, k, D): orange is positive, blue negative
    """
    w = w / np.abs(w).max(axis=tuple(range(w.ndim - 1)))
    if w.ndim == 4:
        tiles, fill = 0.5 + 0.5 * np.moveaxis(w, -1, 0), (1.0, 1.0, 1.0)
    else:
        tiles = SIGNED(0.5 + 0.5 * np.moveaxis(w, -1, 0))[..., :3]
        fill = (0.75, 0.75, 0.75)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = 0.5 * columns + 0.1, 0.5 * rows + (0.4 if title else 0.1)
    figure, ax = subplots(alt=alt, size=size, guess=guess)
    image(ax, mosaic(tiles, columns, fill=fill), title)
    return figure


class _Trace:
    """Stands for a number of which nothing is known but the inputs that it was computed from."""

    def __init__(self, sources: frozenset[int]) -> None:
        self.sources = sources

    def _with(self, other: Any) -> _Trace:
        return _Trace(self.sources | getattr(other, "sources", frozenset()))

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _with


def reads(f: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Which inputs each output of f reads, found by running f on an array that records it.

    f      made of + − × ÷ and of moving numbers about, so that it works on an array of any objects
    shape  of its input

    Booleans of shape (*output, *input).
    """
    x = np.empty(shape, object)
    x.reshape(-1)[:] = [_Trace(frozenset([i])) for i in range(x.size)]
    y = np.asarray(f(x))
    found = np.zeros((y.size, x.size), bool)
    for row, value in zip(found, y.flat, strict=True):
        row[list(getattr(value, "sources", ()))] = True
    return found.reshape(*y.shape, *shape)


# ---- through depth, and down a valley


def through_depth(
    ax: Axes, layers: Sequence[np.ndarray], low: float = 1e-8, high: float = 1e2
) -> None:
    """How large the numbers of each layer are: a histogram per column, darker is more.

    layers  one array per layer, the first on the left; sizes from `low` to `high`, on a log axis
    """
    edges = np.linspace(np.log10(low), np.log10(high), 81)
    columns = []
    for layer in layers:
        sizes = np.log10(np.clip(np.abs(np.asarray(layer, float)), low, high))
        counts, _ = np.histogram(sizes, edges)
        columns.append(counts / counts.max())
    fade = matplotlib.colors.LinearSegmentedColormap.from_list("", ["white", SKY, BLUE])
    ax.pcolormesh(np.arange(len(layers) + 1) + 0.5, 10**edges, np.array(columns).T, cmap=fade)
    ax.set_yscale("log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("layer")


def valley(
    ax: Axes,
    f: Callable[[np.ndarray, np.ndarray], np.ndarray],
    paths: Mapping[str, np.ndarray],
    *,
    extent: tuple[float, float, float, float],
) -> None:
    """The contours of f(x, y), its minimum as a cross, and paths down to it.

    paths   name -> points (steps, 2), each with its own color and marker
    extent  left, right, bottom, top
    """
    x, y = np.meshgrid(np.linspace(*extent[:2], 200), np.linspace(*extent[2:], 200))
    height = np.sqrt(f(x, y) - f(x, y).min())  # its contours are evenly spaced on a parabola
    ax.contourf(x, y, height, 9, cmap="Greys", alpha=0.4)
    at = np.unravel_index(height.argmin(), height.shape)
    ax.plot(x[at], y[at], "x", color=BLACK, markersize=8)
    colors = (BLUE, RED, GREEN, PURPLE)
    for (name, path), color, marker in zip(paths.items(), colors, "os^D", strict=False):
        look: Any = {"marker": marker, "markersize": 3.5, "lw": 1.3, "color": color}
        ax.plot(*np.asarray(path).T, label=name, **look)
    ax.set(xlim=extent[:2], ylim=extent[2:])
