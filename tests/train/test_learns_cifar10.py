"""Half a minute of the real thing: the laptop's network learns CIFAR-10."""

import os
from dataclasses import replace

import pytest

from minimix import kernels
from minimix.data import cifar10, load
from minimix.fuse import fuse
from minimix.runs import RunFolder
from minimix.train import PRESETS, TrainingState, evaluate, load_model, train

PLACE = cifar10.find(os.environ["MINIMIX_DATA"]) if os.environ.get("MINIMIX_DATA") else None


needs_cifar10 = pytest.mark.skipif(
    PLACE is None, reason="needs CIFAR-10 in the folder that MINIMIX_DATA names"
)


@needs_cifar10
def test_it_learns_cifar10(tmp_path, monkeypatch):
    """Twice over 10,000 images. Chance is 10 %; a linear model stays at about 40 %."""
    monkeypatch.delenv("MINIMIX_BACKEND")
    config = replace(PRESETS["laptop"], epochs=2, limit_train=10_000, limit_test=2_000)
    with kernels.backend("numba"), RunFolder(tmp_path) as run:
        test = train(TrainingState.build(config, load(str(PLACE))), run)
    assert test.accuracy > 0.45


@needs_cifar10
def test_the_model_in_the_package_is_as_good_as_it_says():
    model, facts = load_model()
    data = load(str(PLACE))
    assert facts["data"]["class_names"] == list(data.class_names)
    with kernels.backend("numba"):
        test = evaluate(fuse(model), data.test_images, data.test_labels, data.n_classes)
    assert test.accuracy == pytest.approx(facts["test_accuracy"], abs=0.001)
    assert test.accuracy > 0.93
