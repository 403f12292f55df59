"""The picture of what the layers see."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from minimix import ConvMixer, Tensor, no_grad
from minimix.data import normalize
from minimix.errors import MinimixError
from minimix.report import explain as explaining


@pytest.fixture
def model():
    return ConvMixer(6, 2, kernel_size=3, patch_size=4, n_classes=4, rng=0)


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)


def test_the_places_speak_for_what_the_model_says(model, image):
    places = explaining.evidence(model, image)
    assert places.shape == (4, 6, 4)
    with no_grad():
        logits = model.eval()(Tensor(normalize(image[None]))).array[0]
    assert places.mean(axis=(0, 1)) == pytest.approx(logits, rel=1e-4, abs=1e-5)
    assert places.std(axis=(0, 1)).min() > 1e-3  # not the mean itself, everywhere


def test_looking_leaves_the_model_as_it_was(model, image):
    before = {name: array.copy() for name, array in model.state_dict().items()}
    model.train()
    explaining.evidence(model, image)
    assert model.training
    for name, array in model.state_dict().items():
        assert (array == before[name]).all()


def test_a_row_a_layer(model, image):
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra plots")
    figure = explaining.explain(model, image, ["cat", "dog", "<b>", "ship"])
    top, *rows = figure.subfigs
    assert [row._suptitle.get_text().split(":")[0] for row in rows] == [
        "patch embedding",
        "depthwise convolution of block 1",
        "depthwise convolution of block 2",
    ]
    assert all(len(row.axes) == 16 for row in rows)
    assert (top.axes[0].images[0].get_array() == image).all()
    with no_grad():
        logits = model.eval()(Tensor(normalize(image[None]))).array[0]
    likeliest = ["cat", "dog", "<b>", "ship"][int(logits.argmax())]
    assert top.axes[1].get_title().startswith(likeliest + ", ")
    places = explaining.evidence(model, image)
    for axes, c in zip(top.axes[1:], np.argsort(-logits), strict=False):
        against_the_rest = places[..., c] - places.mean(axis=2)
        assert np.allclose(axes.images[0].get_array(), against_the_rest, atol=1e-6)
    # the channel that varies most comes first, with its own kernel above it
    depthwise = rows[1].axes
    kernels = model.blocks[0][0].fn[0].weight.array
    shown = depthwise[0].images[0].get_array()
    assert any((shown == kernels[..., c]).all() for c in range(6))
    spread = [axes.images[0].get_array().std() for axes in depthwise[8:14]]
    assert spread == sorted(spread, reverse=True)


def test_saving_it(image, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra plots")
    figure = explaining.explain(ConvMixer(2, 0, patch_size=4, n_classes=2), image)
    with pytest.raises(MinimixError, match=r"cannot write .*x\.doc: Format 'doc' is not supported"):
        explaining.save(figure, tmp_path / "x.doc")
    with pytest.raises(MinimixError, match="cannot write"):
        explaining.save(figure, tmp_path / "no" / "x.png")
    assert list(tmp_path.iterdir()) == []
    explaining.save(figure, tmp_path / "x")
    with Image.open(io.BytesIO((tmp_path / "x").read_bytes())) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] == 11 * 120


def test_without_matplotlib_it_says_what_is_needed(model, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MinimixError, match="--explain needs matplotlib"):
        explaining.explain(model, image)
