"""A run on shuffled images: everything that looks at images later shuffles them too."""

import re

import pytest
from PIL import Image

import minimix as mx
from minimix.data import normalize, shapes10, shuffle_patches
from minimix.report import run_data
from minimix.report.mistakes import worst_mistakes
from minimix.train import load_model

SMALL = [
    *("train", "--data=shapes10", "--preset=plain"),
    *("--hidden-dim=8", "--depth=1", "--kernel-size=3"),
    *("--patch-size=8", "--batch-size=50", "--epochs=1", "--limit-train=120", "--limit-test=50"),
]


def test_what_is_tested_and_predicted_later_is_shuffled_too(minimix, monkeypatch):
    code, out, _ = minimix(*SMALL, "--shuffle-patches=8", "--out=r")
    assert code == 0
    accuracy = float(re.search(r"test accuracy (\S+) %", out)[1])
    assert f"test accuracy {accuracy:.2f} %" in minimix("evaluate", "r")[1]

    model, facts = load_model("r")
    assert facts["config"]["shuffle_patches"] == 8
    data = shapes10.load()
    image = data.test_images[0]
    Image.fromarray(image).save("a.png")
    said = minimix("predict", "a.png", "--model=r", "--top=10")[1]
    logits = model(mx.Tensor(normalize(shuffle_patches(image[None], 8), data.mean, data.std)))
    for name, p in zip(data.class_names, mx.functional.softmax(logits).array[0], strict=True):
        assert f"{name} {100 * p:.1f} %" in said

    mistakes = []
    monkeypatch.setattr(
        run_data,
        "worst_mistakes",
        lambda *a, **k: mistakes.extend(worst_mistakes(*a, **k, count=50)) or mistakes,
    )
    assert minimix("report", "r")[0] == 0
    assert 100 * (1 - len(mistakes) / 50) == pytest.approx(accuracy)


def test_what_does_not_divide_the_image_is_refused_first(minimix, tmp_path):
    code, _, err = minimix(*SMALL, "--shuffle-patches=5", "--out=s")
    assert (code, err.count("\n")) == (2, 1)
    assert "--shuffle-patches is 5, which does not divide an image of 32×32 pixels" in err
    assert not (tmp_path / "s").exists()
