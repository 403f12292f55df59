"""Pictures of filters, of what reads what, of sizes through depth and of valleys."""

import numpy as np
import pytest

import minimix as mx
from lessons import show
from minimix.kernels import depthwise_conv2d


def test_reads_finds_the_window_of_a_convolution_by_running_it():
    found = show.reads(lambda x: depthwise_conv2d.reference(x, np.ones((4, 4, 1))), (1, 7, 8, 1))
    assert found.shape == (1, 7, 8, 1, 1, 7, 8, 1)
    expected = np.zeros((7, 8), bool)
    expected[2:6, 3:7] = True  # one before, two after
    assert (found[0, 3, 4, 0, 0, :, :, 0] == expected).all()
    corner = np.zeros((7, 8), bool)
    corner[:3, :3] = True
    assert (found[0, 0, 0, 0, 0, :, :, 0] == corner).all()


def test_reads_sees_which_channels_meet():
    matrix = show.reads(lambda x: x @ np.ones((3, 2)), (1, 3))
    assert matrix.all()
    alone = show.reads(lambda x: 2 * x - 1, (3,))
    assert (alone == np.eye(3, dtype=bool)).all()
    assert not show.reads(lambda x: 0 * np.ones(2), (3,)).any()


def test_mosaic_puts_tiles_in_rows():
    tiles = np.arange(3.0)[:, None, None, None] * np.ones((3, 2, 2, 1))
    image = show.mosaic(tiles, columns=2, gap=1, fill=9.0)[..., 0]
    assert image.tolist() == [
        [0, 0, 9, 1, 1],
        [0, 0, 9, 1, 1],
        [9, 9, 9, 9, 9],
        [2, 2, 9, 9, 9],
        [2, 2, 9, 9, 9],
    ]


@pytest.mark.parametrize("shape", [(4, 4, 3, 20), (3, 3, 5)])
def test_filters_scale_each_by_its_own_largest_weight(shape):
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape) * np.geomspace(1e-6, 1e6, shape[-1])
    picture = show.filters(w, alt="Filters.", columns=8)
    (drawn,) = picture.axes[0].images
    pixels = np.asarray(drawn.get_array())
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    tile = pixels[: shape[0], : shape[1]]  # the first one, though its weights are tiny
    assert np.ptp(tile) > 0.3


def test_through_depth_draws_a_column_a_layer():
    picture, ax = show.subplots(alt="Sizes.")
    show.through_depth(ax, [np.full(10, 1e-3), np.zeros(10), np.ones(10)], low=1e-4, high=10)
    (mesh,) = ax.collections
    columns = mesh.get_array().reshape(80, 3)
    where = 10 ** np.linspace(-4, 1, 81)
    assert where[columns[:, 0].argmax()] == pytest.approx(1e-3, rel=0.2)
    assert columns[:, 1].argmax() == 0  # what is smaller than `low` is at the bottom
    assert where[columns[:, 2].argmax()] == pytest.approx(1, rel=0.2)
    assert picture.png()


def test_valley_marks_the_minimum_and_names_the_paths():
    picture, ax = show.subplots(alt="A valley.")
    paths = {"one": [(1, 1), (0.5, 0.5)], "two": [(-1, 1), (0, 0.5)]}
    show.valley(ax, lambda x, y: (x - 1) ** 2 + 5 * y * y, paths, extent=(-2, 2, -1, 1))
    minimum, *lines = ax.lines
    assert minimum.get_xdata() == pytest.approx(1, abs=0.02)
    assert minimum.get_ydata() == pytest.approx(0, abs=0.02)
    assert [line.get_label() for line in lines] == ["one", "two"]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 2
    assert picture.png()


def test_tape_draws_arrays_that_are_used_twice():
    x = mx.Tensor(np.ones((3, 2)), requires_grad=True)
    centered = x - x.mean(axis=0)
    picture = show.tape((centered * centered).sum(), names={"x": x}, backward=True, alt="A tape.")
    words = [text.get_text() for text in picture.axes[0].texts]
    assert "x\n3×2" in words
    assert words.count("grad 3×2") >= 2
    assert picture.png()


def test_a_picture_is_html_whose_alternative_a_screen_reader_reads():
    picture, ax = show.subplots(alt='Two "bars" & a line.', guess="a <line>")
    ax.plot([0, 1])
    data, _ = picture._repr_mimebundle_()
    assert (
        'alt="Two &quot;bars&quot; &amp; a line." src="data:image/png;base64,' in data["text/html"]
    )
    assert data["text/html"].endswith("your guess:</b> a &lt;line&gt;</div>")
    assert data["text/plain"] == 'Two "bars" & a line.'
    assert "guess" not in show.subplots(alt="A.", guess=...)[0]._repr_mimebundle_()[0]["text/html"]


def test_what_a_lessons_picture_shows_is_named_in_its_cell_and_not_told():
    picture, _ = show.subplots(alt="04.2")
    assert picture.alt == show.described("04.2") != "04.2"
    assert "bars" in picture.alt


@pytest.mark.parametrize(
    ("guess", "lines"), [(..., 0), (None, 0), ("b", 0), (3, 2), ({"b": 1.5, "c": 7}, 1)]
)
def test_a_guess_is_drawn_beside_the_bars(guess, lines):
    picture = show.bars({"a": 1, "b": 2}, alt="Bars.", guess=guess)
    assert len(picture.axes[0].lines) == lines
    for line in picture.axes[0].lines:
        assert line.get_xdata()[0] == (3 if guess == 3 else 1.5)


def test_a_guess_is_printed_where_nothing_is_drawn(capsys):
    show.guessed(...)
    show.guessed("twice as fast")
    assert capsys.readouterr().out == "your guess: twice as fast\n"
