"""Curves, strips and pictures: known numbers to known points and pixels."""

import io
import json
import math

import numpy as np
import pytest
import reader
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minimix.report import charts, markup, pictures
from minimix.report.charts import Curve, chart, number, percent, smoothed, strips, ticks


def test_text_is_escaped_and_html_is_not():
    el = markup.el
    assert el("p", "1 < 2 & '", el("b", 3), None) == "<p>1 &lt; 2 &amp; &#x27;<b>3</b></p>"
    assert el("i", class_='a"b', aria_label="<", title=None) == (
        '<i class="a&quot;b" aria-label="&lt;"></i>'
    )
    assert el("img", src="x") == '<img src="x">'
    assert markup.join(["<", markup.Html("<hr>"), None]) == "&lt;<hr>"


def test_numbers_have_the_digits_that_matter():
    shown = [number(v) for v in (0, 0.01234, 4.5678, 789.4, 12345.6, 1e-6, 2e12, -0.5)]
    assert shown == ["0", "0.0123", "4.57", "789", "12,346", "1.00e-06", "2.00e+12", "-0.500"]
    assert (number(math.nan), number(math.inf), percent(math.nan)) == ("–", "∞", "–")
    assert percent(0.12345) == "12.35\u00a0%"
    assert charts.alike([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert charts.alike([0, 1000.0]) == ["0", "1,000"]


def test_known_ticks():
    assert ticks(0.13, 2.31) == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(3, 3) == pytest.approx([2.6, 2.8, 3.0, 3.2, 3.4])


@given(
    st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.integers(3, 8)
)  # fmt: skip
def test_ticks_hold_what_is_between_them(a, b, most):
    low, high = sorted((a, b))
    found = ticks(low, high, most)
    assert 2 <= len(found) <= most + 2
    slack = 1e-6 * max(abs(low), abs(high), 1e-300)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert (np.diff(found) > 0).all()


def test_a_long_curve_goes_through_the_means_of_its_neighbours():
    x = np.arange(1.0, 451.0)  # three to a point
    y = x**2
    curve = smoothed("loss", x, y, 3)
    assert len(curve.x) == 150
    assert curve.x[:2].tolist() == [2, 5]
    assert curve.y[0] == pytest.approx((1 + 4 + 9) / 3)
    assert [edge[-1] for edge in curve.band] == [448**2, 450**2]
    assert curve.colour == 3
    uneven = smoothed("loss", x[:301], y[:301])
    assert uneven.x[-1] == 301
    assert smoothed("loss", x[:5], y[:5]).y.tolist() == [1, 4, 9, 16, 25]


def test_known_numbers_are_drawn_at_known_points():
    x, nan = np.array([0.0, 1.0, 2.0, 3.0, 4.0]), math.nan
    html = chart(
        "Loss",
        [
            Curve("a", x, np.array([0.0, 1.0, nan, 2.0, 1.0]), colour=1),
            Curve("b", x[:2], np.array([2.0, 0.5]), dots=True),
        ],
        x_name="epoch",
        x_end=4,
    )
    figure = reader.read(html)
    first, second = (path["d"] for path in figure.all("path", "line"))
    assert first == "M0.00 100.00L25.00 50.00M75.00 0.00L100.00 50.00"  # with a gap
    assert second == "M0.00 0.00L25.00 75.00"
    assert figure.one("path", "dots")["d"] == "M0.00 0.00h0M25.00 75.00h0"
    assert [s.text for s in figure.all("span", "y")] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    assert [s["style"] for s in figure.all("span", "y")][1] == "top:75.00%"
    assert [s.text for s in figure.all("span", "x")] == ["0", "1", "2", "3", "4"]
    assert [li.text for li in figure.all("li")] == ["a", "b"]
    plot = figure.one("div", "plot")
    assert plot["aria-label"] == (
        "Loss by epoch: a from 0 to 1.00, least 0, greatest 2.00; "
        "b from 2.00 to 0.500, least 0.500, greatest 2.00"
    )
    values = json.loads(plot["data-curves"])
    assert values["curves"][0]["y"] == [0, 1, None, 2, 1]
    assert values["curves"][1]["look"] == "c0"


def test_shares_are_drawn_in_percent():
    html = chart(
        "Accuracy",
        [Curve("test", np.array([1.0, 2.0]), np.array([0.0, 1.0]))],
        x_name="epoch",
        x_end=2,
        as_percent=True,
    )
    figure = reader.read(html)
    assert [s.text for s in figure.all("span", "y")][::5] == ["0 %", "100 %"]
    assert json.loads(figure.one("div", "plot")["data-curves"])["curves"][0]["y"] == [0, 100]
    assert not figure.all("ul")  # one curve needs no legend


def test_a_band_wider_than_the_curve_is_cut_off():
    x = np.arange(300.0)
    y = np.where(x == 150, 1e6, x % 2)
    figure = reader.read(chart("x", [smoothed("a", x, y)], x_name="step", x_end=299))
    heights = [float(p.split()[1]) for p in figure.one("path", "band")["d"][1:-1].split("L")]
    assert min(heights) == 0
    assert max(heights) == 100


def test_more_curves_than_colours():
    looks = [charts.look(i) for i in range(15)]
    assert looks[0] == "c0"
    assert looks[7] == "c0 dashed"
    assert len(set(looks[:14])) == 14


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="Loss: there is nothing to draw"):
        chart("Loss", [Curve("a", np.ones(1), np.full(1, math.nan))], x_name="step", x_end=1)


def test_strips_are_logarithmic():
    figure = reader.read(strips("Norms", {"a": [1, 10], "b": [100, 0]}, "Epochs 1 to 2", "log."))
    opacities = [float(i["style"].removeprefix("opacity:")) for i in figure.all("i")]
    assert opacities == [0.06, 0.53, 1.0, 0.0]
    assert [v.text for v in figure.all("span", "value")] == ["10.0", "0"]
    assert "from 1.00 to 100" in figure.text


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize("channels", [3, 4])
def test_png_is_what_pillow_reads(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    with Image.open(io.BytesIO(pictures.png(pixels))) as read:
        read.load()
        assert read.mode == {3: "RGB", 4: "RGBA"}[channels]
        assert (np.asarray(read) == pixels).all()
    assert pictures.data_uri(pixels).startswith("data:image/png;base64,iVBOR")


def test_tiles_lie_in_rows_with_gaps_between():
    small = np.arange(1, 4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 4), np.uint8)
    sheet = pictures.tiles(small, columns=2, zoom=2, gap=1)
    assert sheet.shape == (9, 9, 4)
    expected = np.zeros((9, 9))
    expected[:4, :4], expected[:4, 5:], expected[5:, :4] = 1, 2, 3
    assert (sheet[..., 0] == expected).all()


def test_kernels_in_colour():
    kernels = np.array([[[2.0, -1.0, 0.0]], [[0.0, 0.0, 0.0]]])
    drawn = pictures.signed(kernels)
    assert drawn[0, 0, 0].tolist() == [*pictures.POSITIVE, 255]
    assert drawn[0, 0, 1].tolist() == [*pictures.NEGATIVE, 128]
    assert (drawn[1, ..., 3] == 0).all()
    filters = np.array([[[[1.0, 0.0, -1.0]]], [[[0.0, 0.0, 0.0]]]])
    drawn = pictures.colours(filters)
    assert drawn[:, 0, 0].tolist() == [[255, 128, 0, 255], [128, 128, 128, 255]]


def test_the_strongest_come_first():
    kernels = np.array([[1.0, 0.0], [-3.0, 4.0], [2.0, 2.0]])
    assert pictures.strongest(kernels, 2).tolist() == [[-3, 4], [2, 2]]
    assert len(pictures.strongest(kernels, 9)) == 3
