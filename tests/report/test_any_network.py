"""The page about a network of any family, of a class of the user's, or of one made in Python."""

import pytest
import reader

import minimix as mx
from minimix.models import FAMILIES
from minimix.report import report
from minimix.train import Config, fit

SMALL = {
    "vit": {"hidden_dim": 8, "depth": 1, "n_heads": 2, "patch_size": 8},
    "resmlp": {"hidden_dim": 8, "depth": 1, "patch_size": 8},
    "mlp_mixer": {"hidden_dim": 8, "depth": 1, "patch_size": 8},
    "resnet": {"depth": 8, "width": 2},
}
ONE = Config(epochs=1, limit_train=60, limit_test=20, validation=30)


def page_of(*folders):
    out = report(folders, folders[0].parent / "page.html", lambda line: None)
    return reader.read(out.read_text("utf-8"))


@pytest.mark.parametrize("family", SMALL)
def test_it_shows_any_family(tmp_path, few, family):
    fit(family, few, ONE, out=tmp_path / "run", quiet=True, **SMALL[family])
    page = page_of(tmp_path / "run")
    assert FAMILIES[family].__name__ in page.one("header").text
    words = page.id("filters").text
    assert ("Position embeddings" in words) == (family == "vit")
    assert ("16 patch filters" in words or "8 patch filters" in words) == (family != "resnet")
    assert ("2 filters of 3×3" in words) == (family == "resnet")
    assert "Settings that differ from the recipe of" in page.id("settings").text
    assert "validation accuracy" in page.one("header").text
    assert "test accuracy" not in page.text.lower()
    assert "test images" not in page.text.lower()


class Net(mx.Module):
    def __init__(self):
        super().__init__()
        self.head = mx.nn.Linear(3, 10, rng=0)

    def forward(self, x):
        return self.head(x.mean(axis=(1, 2)))


def test_of_a_network_that_is_not_at_hand_it_shows_what_was_logged(tmp_path, few):
    fit(Net(), few, ONE, out=tmp_path / "mine", quiet=True)
    fit(Net(), few, ONE, out=tmp_path / "other", quiet=True, validation=0)
    page = page_of(tmp_path / "mine")
    for section in ("filters", "model", "mistakes"):
        assert "this network, Net, was made in Python" in page.id(section).text
    assert page.id("curves").all("svg")
    both = page_of(tmp_path / "mine", tmp_path / "other")
    assert "mine (validation images)" in both.text
    assert "other (test images)" in both.text
    assert "test or validation accuracy" in both.text
