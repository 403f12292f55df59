"""Charts and images: known numbers to known points and pixels."""

import base64
import io
import json
import math
import re

import matplotlib
import numpy as np
import pytest
import reader
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minimix.report import charts, images, markup
from minimix.report.charts import Curve, averaged, heat_map, line_chart
from minimix.report.formatting import number, percent, printable

nan = math.nan


@pytest.fixture(autouse=True)
def _style():
    with charts.style():
        yield


def chart(curves, x_end=4, x_name="epoch", title="Loss", **options):
    return reader.read(line_chart(title, curves, x_name=x_name, x_end=x_end, **options))


def points(path):
    """The lines of a path: a list of (x, y) for each."""
    return [
        [tuple(map(float, pair.split())) for pair in line.split("L")]
        for line in path["d"].replace("z", "").split("M")[1:]
    ]


def labels(figure, side):
    """The texts at a side of the axes, and where they are."""
    anchors = {"left": "end", "below": "middle", "right": "start"}
    return {
        t.text: (float(t["x"]), float(t["y"]))
        for t in figure.all("text")
        if f"text-anchor: {anchors[side]}" in t["style"]
    }


def places(figure):
    """Where numbers on the two axes are: functions of x and of y, by the labels and the grid."""
    lines = [line for path in figure.all("path") if "C" not in path["d"] for line in points(path)]
    grid = [line[0][1] for line in lines if len(line) == 2 and line[1][0] - line[0][0] > 250]
    below = [(float(n), x) for n, (x, _) in labels(figure, "below").items()]
    beside = [float(n) for n in labels(figure, "left") if n != "epoch"]

    def straight(numbers, at):
        return lambda value: (
            at[0] + (value - numbers[0]) * (at[1] - at[0]) / (numbers[1] - numbers[0])
        )

    return straight(*zip(*below, strict=True)), straight(beside, grid)


# ------------------------------------------------------------------ words and numbers


def test_text_is_escaped_and_html_is_not():
    el = markup.el
    assert el("p", "1 < 2 & '", el("b", 3), None) == "<p>1 &lt; 2 &amp; &#x27;<b>3</b></p>"
    assert el("i", class_='a"b', aria_label="<", title=None) == (
        '<i class="a&quot;b" aria-label="&lt;"></i>'
    )
    assert el("img", src="x") == '<img src="x">'
    assert markup.join("<", markup.Html("<hr>"), None) == "&lt;<hr>"


def test_numbers_have_three_significant_digits():
    shown = [number(v) for v in (0, 0.01234, 4.5678, 789.4, 12345.6, 1e-6, 2e6, -0.5)]
    assert shown == ["0", "0.0123", "4.57", "789", "12,346", "1.00e-06", "2.00e+06", "-0.500"]
    assert (number(nan), number(math.inf), percent(nan)) == ("–", "∞", "–")
    assert percent(0.12345) == "12.35\u00a0%"


def test_names_that_no_font_can_draw():
    assert printable("é <b> 日本\n\x00\ud800\u2028") == "é <b> 日本????"


# ------------------------------------------------------------------ line charts


def test_a_long_curve_goes_through_the_means_of_its_neighbors():
    x = np.arange(1.0, 451.0)  # three to a point
    y = x**2
    curve = averaged("loss", x, y, 3)
    assert len(curve.x) == 150
    assert curve.x[:2].tolist() == [2, 5]
    assert curve.y[0] == pytest.approx((1 + 4 + 9) / 3)
    assert [edge[-1] for edge in curve.band] == [448**2, 450**2]
    assert curve.color == 3
    uneven = averaged("loss", x[:301], y[:301])
    assert uneven.x[-1] == 301
    assert averaged("loss", x[:5], y[:5]).y.tolist() == [1, 4, 9, 16, 25]


def test_known_numbers_are_drawn_at_known_points():
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    figure = chart(
        [
            Curve("a", x, np.array([0.0, 1.0, nan, 2.0, 1.0]), color=1),
            Curve("b", x[:2], np.array([2.0, 0.5]), markers=True),
        ]
    )
    assert list(labels(figure, "below")) == ["0", "1", "2", "3", "4"]
    assert list(labels(figure, "left")) == ["epoch", "0.0", "0.5", "1.0", "1.5", "2.0"]
    place_x, place_y = places(figure)

    first, second = figure.all("g", "curve")
    lines = points(first.one("path"))
    expected = [[(0, 0), (1, 1)], [(3, 2), (4, 1)]]  # with a gap
    assert [len(line) for line in lines] == [2, 2]
    for line, pairs in zip(lines, expected, strict=True):
        for found, (px, py) in zip(line, pairs, strict=True):
            assert found == pytest.approx((place_x(px), place_y(py)), abs=0.01)
    assert "var(--c1)" in first.one("path")["style"]
    dots = [(float(u["x"]), float(u["y"])) for u in second.all("use")]
    assert np.allclose(dots, [(place_x(0), place_y(2)), (place_x(1), place_y(0.5))], atol=0.01)
    assert [li.text for li in figure.all("li")] == ["a", "b"]

    svg = figure.one("svg")
    words = (
        "a from 0 to 1.00, minimum 0, maximum 2.00; "
        "b from 2.00 to 0.500, minimum 0.500, maximum 2.00"
    )
    assert svg["role"] == "img"
    assert svg["aria-label"] == f"Loss by epoch: {words}"
    assert (svg.one("title").text, svg.one("desc").text) == ("Loss by epoch", words)

    values = json.loads(figure.one("div", "plot")["data-curves"])
    assert values["curves"][0]["y"] == [0, 1, None, 2, 1]
    assert values["curves"][1]["look"] == "c0"
    # where the script looks for the pointer is where the axes are
    _, _, width, height = map(float, svg["viewbox"].split())
    top, right, bottom, left = (side / 100 for side in values["inset"])
    assert left * width == pytest.approx(place_x(0), abs=0.01)
    assert (1 - right) * width == pytest.approx(place_x(4), abs=0.01)
    assert top * height == pytest.approx(place_y(2), abs=0.01)
    assert (1 - bottom) * height == pytest.approx(place_y(0), abs=0.01)


def test_fractions_are_drawn_in_percent():
    figure = chart([Curve("test", np.array([1.0, 2.0]), np.array([0.0, 1.0]))], 2, as_percent=True)
    texts = [t.text for t in figure.all("text")]
    assert texts[-6::5] == ["0 %", "100 %"]
    assert json.loads(figure.one("div", "plot")["data-curves"])["curves"][0]["y"] == [0, 100]
    assert not figure.all("ul")  # one curve needs no legend


def test_the_legend_names_curves_that_have_no_point():
    x = np.arange(3.0)
    figure = chart([Curve("a", x, np.full(3, nan)), Curve("b", x, x, color=1)])
    assert len(figure.all("g", "curve")) == 1
    assert [li.text for li in figure.all("li")] == ["a", "b"]


def test_a_wild_step_in_a_band_does_not_flatten_the_curve():
    x = np.arange(300.0)
    y = np.where(x == 150, 1e6, x % 2)
    curve = averaged("a", x, y)
    curve.y[75] = 0.5
    figure = chart([curve], 299, "step")
    assert float(list(labels(figure, "left"))[-1]) < 1
    band = figure.one("g", "band").one("path")
    assert band["clip-path"]
    assert min(y for _, y in points(band)[0]) < -1e6


def test_axes_may_begin_at_zero():
    curve = Curve("a", np.arange(2.0), np.array([5.0, 6.0]))
    assert list(labels(chart([curve], 1), "left"))[1] == "5.0"
    assert list(labels(chart([curve], 1, from_zero=True), "left"))[1] == "0"


def test_one_point_is_a_dot():
    figure = chart([Curve("a", np.ones(1), np.ones(1))], 1, "step")
    assert len(figure.one("g", "curve").all("use")) == 1
    texts = [t.text for t in figure.all("text")]
    assert texts[:2] == ["0", "1"]  # steps are whole


def test_more_curves_than_colors():
    classes = [charts.color_class(i) for i in range(15)]
    assert classes[0] == "c0"
    assert classes[7] == "c0 dashed"
    assert len(set(classes[:14])) == 14
    x = np.arange(2.0)
    figure = chart([Curve(f"{i}", x, x + i, color=i) for i in (6, 7)], 1)
    styles = [g.one("path")["style"] for g in figure.all("g", "curve")]
    assert "var(--c6)" in styles[0]
    assert "var(--c0)" in styles[1]
    assert ["dasharray" in style for style in styles] == [False, True]


def test_nothing_to_draw():
    curve = Curve("a", np.ones(1), np.full(1, nan))
    assert line_chart("Loss", [curve], x_name="step", x_end=1) is None


@settings(max_examples=20, deadline=None)
@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.booleans(), st.booleans())
def test_every_curve_fits_inside_its_axes(a, b, as_percent, from_zero):
    figure = chart(
        [Curve("a", np.array([0.0, 1.0]), np.array([a, b]))],
        1,
        as_percent=as_percent,
        from_zero=from_zero,
    )
    top, _, bottom, _ = json.loads(figure.one("div", "plot")["data-curves"])["inset"]
    height = float(figure.one("svg")["viewbox"].split()[3])
    ((first, second),) = points(figure.one("g", "curve").one("path"))
    for _, y in (first, second):
        assert top - 0.01 <= 100 * y / height <= 100 - bottom + 0.01
    assert len([t for t in figure.all("text") if "end" in t["style"]]) >= 2


# ------------------------------------------------------------------ what holds of every chart


def both(key=""):
    x = np.arange(3.0)
    return [
        line_chart(
            "Loss", [Curve("a", x, x, markers=True), Curve("b", x, -x, 9)], x_name="epoch", x_end=2
        ),
        heat_map("Norms", {"a": [1, 10], "b": [100, 0]}, [1, 2], "log.", key),
    ]


def test_the_style_sheet_has_every_color():
    for html in both():
        figure = reader.read(html)
        assert "var(--soft)" in html
        for element in figure.one("svg"):
            style = element["style"] or ""
            for name in re.findall(r"(?:fill|stroke|color): ([^;]+)", style):
                assert name == "none" or name.startswith("var(--"), style
            assert "font-family" not in style
            assert not element["fill"]
            assert not element["stroke"]
        assert not figure.all("style")


def test_no_width_in_pixels():
    for html in both():
        svg = reader.read(html).one("svg")
        assert svg["viewbox"].startswith("0 0 360 ")
        assert svg["width"] is None
        assert svg["height"] is None


def test_the_same_chart_is_the_same_text_whatever_the_readers_own_settings():
    first = both()
    others = {"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9, "axes.grid": True}
    with matplotlib.rc_context(others):
        before = dict(matplotlib.rcParams)
        with charts.style():
            assert both() == first
        assert dict(matplotlib.rcParams) == before  # and they are left alone
        assert both() != first


def test_names_inside_are_unique_in_a_page():
    together = "".join([*both("0"), both("1")[1]])
    names = re.findall(r'\sid="([^"]*)"', together)
    assert len(names) == len(set(names)) > 3


# ------------------------------------------------------------------ heat maps


def cells(figure):
    """The pixels of a heat map, one for each cell."""
    data = figure.all("image")[0]["xlink:href"].partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_heat_maps_are_logarithmic():
    figure = reader.read(heat_map("Norms", {"a": [1, 10], "b": [100, 0]}, [1, 2], "log.", "0"))
    pixels = cells(figure)
    assert pixels.shape == (2, 2, 4)
    assert (pixels[pixels[..., 3] > 0, :3] == [0, 114, 178]).all()  # blue, more or less of it
    opacity = pixels[..., 3] / 255
    assert opacity == pytest.approx(np.array([[0.08, 0.54], [1, 0]]), abs=0.01)
    assert list(labels(figure, "left")) == ["epoch", "a", "b"]
    assert list(labels(figure, "right")) == ["10.0", "0"]
    assert list(labels(figure, "below")) == ["1", "2", "1.00", "10.0", "100"]
    assert figure.one("svg")["aria-label"] == (
        "Norms: 2 layers over epochs 1 to 2: from 1.00 to 100. The table below has every number."
    )


@pytest.mark.parametrize(
    ("row", "opacity"),
    [
        ([0.0, 0.0], [0, 0]),
        ([nan, math.inf], [0, 0]),
        ([5e-324, 0.0], [0, 0]),
        ([3.0, 3.0], [255, 255]),
        ([1e30, nan], [255, 0]),
    ],
)
def test_heat_maps_of_what_cannot_be_compared(row, opacity):
    figure = reader.read(heat_map("Norms", {"a": row}, [1, 2], "", "0"))
    assert cells(figure)[0, :, 3].tolist() == opacity


def test_long_names_are_shortened_beside_a_heat_map():
    names = {
        "block 12 pointwise": "block 12 pointwise",
        "encoder.layers.11.attention.output.dense": "e.l.11.a.o.dense",
        "x" * 80: "x" * 13 + "…" + "x" * 12,
        "<b>$y_1$\n": "<b>$y_1$?",
        "日本語": "日本語",
    }
    figure = reader.read(heat_map("Norms", {name: [1.0] for name in names}, [1], "", "0"))
    assert list(labels(figure, "left"))[1:] == list(names.values())


def test_the_epochs_under_a_heat_map_are_those_of_the_run():
    def shown(columns):
        values = dict.fromkeys("ab", range(1, len(columns) + 1))
        figure = reader.read(heat_map("Norms", values, columns, "", ""))
        return [t for t in labels(figure, "below") if "." not in t]

    assert shown([1]) == ["1"]
    assert shown(range(1, 11)) == ["2", "4", "6", "8", "10"]
    assert shown(range(1, 201)) == ["50", "100", "150", "200"]
    assert shown([4, 7, 8, 9]) == ["4", "7", "8", "9"]


# ------------------------------------------------------------------ images


@pytest.mark.parametrize("channels", [3, 4])
def test_an_image_in_the_page_is_the_image(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    kind, data = images.data_uri(pixels).split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as read:
        assert read.mode == {3: "RGB", 4: "RGBA"}[channels]
        assert (np.asarray(read) == pixels).all()


def test_tiles_lie_in_rows_with_gaps_between():
    small = np.arange(1, 4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 4), np.uint8)
    sheet = images.tiles(small, columns=2, zoom=2, gap=1)
    assert sheet.shape == (9, 9, 4)
    expected = np.zeros((9, 9))
    expected[:4, :4], expected[:4, 5:], expected[5:, :4] = 1, 2, 3
    assert (sheet[..., 0] == expected).all()


def test_kernels_in_color():
    kernels = np.array([[[2.0, -1.0, 0.0]], [[0.0, 0.0, 0.0]]])
    drawn = images.signed(kernels)
    assert drawn[0, 0, 0].tolist() == [0xE6, 0x9F, 0x00, 255]  # orange: positive
    assert drawn[0, 0, 1].tolist() == [0x00, 0x72, 0xB2, 128]  # blue: negative
    assert (drawn[1, ..., 3] == 0).all()
    filters = np.array([[[[1.0, 0.0, -1.0]]], [[[0.0, 0.0, 0.0]]]])
    drawn = images.rgb(filters)
    assert drawn[:, 0, 0].tolist() == [[255, 128, 0, 255], [128, 128, 128, 255]]


def test_the_largest_come_first():
    kernels = np.array([[1.0, 0.0], [-3.0, 4.0], [2.0, 2.0]])
    assert images.largest(kernels, 2).tolist() == [[-3, 4], [2, 2]]
    assert len(images.largest(kernels, 9)) == 3
