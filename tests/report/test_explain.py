"""The picture of what the layers compute."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from minimix import ConvMixer, Tensor, no_grad
from minimix.data import normalize
from minimix.errors import DiskError, MinimixError
from minimix.models import FAMILIES
from minimix.report.explain import explain, save

NAMES = ["cat", "dog", "<b>", "ship"]


@pytest.fixture
def model():
    return ConvMixer(6, 2, kernel_size=3, patch_size=4, n_classes=4, rng=0)


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)


def logits_of(model, image):
    with no_grad():
        return model.eval()(Tensor(normalize(image[None]))).array[0]


def shown(axes):
    return axes.images[0].get_array()


def test_the_maps_are_the_evidence_whose_means_are_the_logits(model, image):
    top = explain(model, image, NAMES).subfigs[0]
    logits = logits_of(model, image)
    order = np.argsort(-logits)[:3]
    assert (shown(top.axes[0]) == image).all()
    shares = np.exp(logits) / np.exp(logits).sum()
    assert [axes.title.get_text() for axes in top.axes[1:]] == [
        f"{NAMES[c]}, {100 * shares[c]:.1f} %" for c in order
    ]
    for axes, c in zip(top.axes[1:], order, strict=True):
        evidence = shown(axes)
        assert evidence.shape == (4, 6)  # a number for each patch
        assert evidence.mean() == pytest.approx(logits[c] - logits.mean(), rel=1e-3, abs=1e-5)
        assert evidence.std() > 1e-3  # not the mean itself, everywhere


@pytest.mark.parametrize(
    ("family", "sizes", "rows"),
    [
        ("resnet", {"depth": 8}, 1),
        ("resmlp", {"hidden_dim": 8, "depth": 1, "patch_size": 4, "image_size": (16, 24)}, 1),
        ("mlp_mixer", {"hidden_dim": 8, "depth": 1, "patch_size": 4, "image_size": (16, 24)}, 1),
    ],
)
def test_other_networks_that_average_over_places_have_evidence_too(family, sizes, rows, image):
    model = FAMILIES[family](**sizes, n_classes=4, rng=0).eval()
    figure = explain(model, image, NAMES)
    logits = np.sort(logits_of(model, image))[::-1][:3]
    for axes, logit in zip(figure.subfigs[0].axes[1:], logits, strict=True):
        mean = logits_of(model, image).mean()
        assert shown(axes).mean() == pytest.approx(logit - mean, rel=1e-3, abs=1e-5)
    assert len(figure.subfigs) == 1 + rows


def test_a_network_with_a_class_token_has_none(image):
    model = FAMILIES["vit"](8, 1, 2, 4, 4, image_size=(16, 24), rng=0).eval()
    top, embedding = explain(model, image, NAMES).subfigs
    assert "does not judge places one by one" in top.get_suptitle()
    assert not any(axes.images for axes in top.axes[1:])
    assert all(axes.title.get_text().endswith("%") for axes in top.axes[1:])
    assert len(embedding.axes) == 16


def test_blue_is_negative_and_orange_positive(model, image):
    map_of_a_class = explain(model, image).subfigs[0].axes[1].images[0]
    low, middle, high = map_of_a_class.cmap([0.0, 0.5, 1.0])
    assert map_of_a_class.norm.vmin == -map_of_a_class.norm.vmax
    assert low[:3] == pytest.approx(to_rgb("#0072b2"))
    assert middle[:3] == pytest.approx((1, 1, 1), abs=0.01)
    assert high[:3] == pytest.approx(to_rgb("#e69f00"))


def test_it_leaves_the_model_as_it_was(model, image):
    before = {name: array.copy() for name, array in model.state_dict().items()}
    model.train()
    model.blocks[0][3].eval()  # one that is frozen
    explain(model, image)
    assert model.training
    assert not model.blocks[0][3].training
    for name, array in model.state_dict().items():
        assert (array == before[name]).all()


def test_a_row_a_layer(model, image):
    _, *rows = explain(model, image, NAMES).subfigs
    assert [row._suptitle.get_text().split(":")[0] for row in rows] == [
        "patch embedding",
        "block 1 depthwise",
        "block 2 depthwise",
    ]
    assert all(len(row.axes) == 16 for row in rows)
    # the channel that varies most comes first, with its own kernel above it
    depthwise = rows[1].axes
    kernels = model.blocks[0][0].fn[0].weight.array
    assert any((shown(depthwise[0]) == kernels[..., c]).all() for c in range(6))
    spread = [shown(axes).std() for axes in depthwise[8:14]]
    assert spread == sorted(spread, reverse=True)


def test_a_finer_stem_has_rows_and_names_of_its_own(image):
    model = ConvMixer(6, 2, 3, 4, stem_dim=5, stem_depth=2, n_classes=4, rng=0).eval()
    _, *rows = explain(model, image, NAMES).subfigs
    assert [row._suptitle.get_text() for row in rows] == [
        "patch embedding: filters above, their outputs below",
        "stem block 1 depthwise",
        "stem block 2 depthwise",
        "patch embedding 2: outputs",  # its filters are of five channels, which are no colors
        "block 1 depthwise",
        "block 2 depthwise",
    ]
    assert not any(axes.images for axes in rows[3].axes[:8])
    assert all(axes.images for axes in rows[3].axes[8:14])


def test_saving_it(image, tmp_path):
    figure = explain(ConvMixer(2, 0, patch_size=4, n_classes=2), image)
    with pytest.raises(MinimixError, match=r"cannot write .*x\.doc: Format 'doc' is not supported"):
        save(figure, tmp_path / "x.doc")
    for path in (tmp_path / "no" / "x.png", tmp_path):
        with pytest.raises(DiskError, match="cannot write"):
            save(figure, path)
    assert list(tmp_path.iterdir()) == []
    save(figure, tmp_path / "x")
    with Image.open(io.BytesIO((tmp_path / "x").read_bytes())) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] == 11 * 120


def test_the_readers_own_settings_change_nothing(model, image, tmp_path):
    save(explain(model, image), tmp_path / "first.png")
    with matplotlib.rc_context({"axes.titlelocation": "left", "savefig.facecolor": "red"}):
        save(explain(model, image), tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_format_that_needs_a_program_that_is_missing(image, tmp_path, monkeypatch):
    figure = explain(ConvMixer(2, 0, patch_size=4, n_classes=2), image)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MinimixError, match=r"cannot write .*'xelatex' not found"):
        save(figure, tmp_path / "x.pgf")
    assert list(tmp_path.iterdir()) == []


def test_class_names_are_text_and_no_formulas(image, tmp_path):
    figure = explain(ConvMixer(2, 0, patch_size=4, n_classes=2), image, ["$x^{", "a\n\x00\ud800語"])
    titles = {axes.title.get_text().rpartition(",")[0] for axes in figure.subfigs[0].axes[1:]}
    assert titles == {"$x^{", "a???語"}
    save(figure, tmp_path / "x.png")


def test_training_needs_no_matplotlib():
    code = "import sys, minimix.train, minimix.cli; print('matplotlib' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
