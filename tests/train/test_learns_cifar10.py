"""A minute of the real thing: the laptop's network learns CIFAR-10."""

import os
from dataclasses import replace

import pytest

from minimix import kernels
from minimix.data import cifar10, load
from minimix.train import PRESETS, Run, train

PLACE = cifar10.find(os.environ["MINIMIX_DATA"]) if os.environ.get("MINIMIX_DATA") else None


@pytest.mark.skipif(PLACE is None, reason="needs CIFAR-10 in the folder that MINIMIX_DATA names")
def test_it_learns_cifar10(tmp_path, monkeypatch):
    """Twice over 20,000 images. Chance is 10 %; a linear model stays at about 40 %."""
    monkeypatch.delenv("MINIMIX_BACKEND")
    config = replace(PRESETS["laptop"], epochs=2, limit_train=20_000, limit_test=2_000)
    with kernels.backend("numba"), Run(tmp_path) as run:
        test = train(config, load(str(PLACE)), run)
    assert test.accuracy > 0.45
