"""What networks cost: counted, measured in a process of their own, listed."""

import csv
import io
import itertools
import json
import sys
import time

import pytest

from minimix.compare import costs
from minimix.compare.measure import _median_time, measure
from minimix.compare.names import CIFAR, PUBLISHED, Zeros, counts, requests
from minimix.models import FAMILIES, sizes
from minimix.train.architecture import build

TINY = {
    "model": "convmixer",
    "settings": {"hidden_dim": 8, "depth": 2, "kernel_size": 3, "patch_size": 4},
    "image_size": [8, 12],
    "in_channels": 3,
    "n_classes": 5,
    "batch_size": 2,
    "threads": 1,
    "seconds": 0.0,
}


def test_a_network_is_measured():
    found = measure(TINY)
    h, d, k, p, places = 8, 2, 3, 4, 6
    assert found["parameters"] == h * (d * (k * k + h + 6) + 3 * p * p + 5 + 3) + 5
    per_place = 3 * p * p * h + d * (h * k * k + h * h)
    assert found["multiply_adds"] == places * per_place + h * 5
    assert found["training"] > 0
    assert found["inference"] > 0
    if sys.platform == "linux":
        assert 16 * found["parameters"] <= found["memory"] < 1e9


def test_why_there_are_no_figures():
    large = {**TINY, "settings": {**TINY["settings"], "hidden_dim": 200_000}}
    assert measure(large) == {"error": "too large for the memory of this machine"}


@pytest.mark.parametrize("name", [name for name in CIFAR if "128/" not in name][:4])
def test_counting_needs_no_weights(name):
    request = requests(224, None, 1)[name]
    model = build(
        request["model"], request["settings"], n_classes=10, image_size=(32, 32), in_channels=3
    )
    assert counts(request)["parameters"] == model.n_parameters()


def test_zeros_are_drawn_in_the_shape_asked_for():
    rng = Zeros()
    for draw in (rng.random, rng.uniform, rng.standard_normal):
        assert not draw(size=(2, 3)).any()
        assert draw(size=(2, 3)).shape == (2, 3)
        assert draw(size=7).shape == (7,)
    assert rng.standard_normal((2,), "f4").dtype == "float32"


def test_every_name_is_listed():
    known = requests(224, None, 2)
    assert set(known) == {*sizes(), *CIFAR}
    assert set(PUBLISHED) <= set(known)
    assert {one["model"] for one in known.values()} == set(FAMILIES)
    assert {one["batch_size"] for one in known.values()} == {4, 128}
    assert {one["batch_size"] for one in requests(32, 7, 2).values()} == {7}


def test_the_median_of_the_rounds():
    rounds = [
        {"training": 3.0, "memory": 1},
        {"training": 1.0, "memory": 2},
        {"training": 2.0, "memory": 9},
    ]
    assert costs._median(rounds) == {"training": 2.0, "memory": 2}
    assert costs._median([*rounds, {"error": "no"}]) == {"error": "no"}


# ------------------------------------------------------------------ minimix models

SOME = ["convmixer 128*", "vit 64*"]


def test_the_list(minimix):
    code, out, err = minimix("models", *SOME)
    assert (code, err) == (0, "")
    head, first, second, *_ = out.splitlines()
    assert " ".join(head.split()) == "name size parameters multiply-adds paper: images/s top-1"
    assert first.split() == ["convmixer", "128/8", "k5", "p4", "32", "170,634", "10.4", "M"]
    assert "158,090" in second
    assert "arXiv:2201.09792" in out


def test_the_paper_beside_it(minimix):
    _, out, _ = minimix("models", "convmixer_1024*", "--size=28", "--json")
    (row,) = json.loads(out)["networks"]
    assert (row["paper_top1"], row["paper_images_per_s"], row["size"]) == (76.94, None, 28)
    assert row["parameters"] == 24_383_464
    assert row["training"] is None


def test_measured(minimix, monkeypatch):
    asked = []

    def fake(request):
        asked.append(request)
        vit = {"error": "too large for the memory of this machine"}
        return vit if request["model"] == "vit" else {"training": 12.3, "inference": 4567.0}

    monkeypatch.setattr("minimix.compare.measure.measure", fake)
    code, out, _ = minimix("models", *SOME, "--measure", "--csv", "--batch-size=3", "--threads=1")
    assert code == 0
    first, second = csv.DictReader(io.StringIO(out))
    assert (first["training"], first["inference"], first["memory"]) == ("12.3", "4567.0", "")
    assert (second["training"], second["parameters"]) == ("", "158090")
    assert [(one["batch_size"], one["threads"]) for one in asked] == [(3, 1), (3, 1)]
    text = minimix("models", *SOME, "--measure")[1].splitlines()
    assert text[2].endswith("too large for the memory of this machine")
    assert "4,567" in text[1]


def test_what_does_not_fit(minimix):
    code, out, _ = minimix("models", "convmixer_768*", "--size=100")
    assert code == 0
    assert "100×100" in out
    code, _, err = minimix("models", "convmixer_786_32")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is no network 'convmixer_786_32'; the nearest are convmixer_768_32" in err


@pytest.mark.parametrize(
    ("took", "seconds", "median"),
    [([9.0, 1.0, 3.0, 2.0], 6.0, 2.0), ([9.0, 5.0], 1.0, 5.0), ([9.0, 5.0], 0.0, 5.0)],
)
def test_the_first_call_compiles_and_is_not_measured(took, seconds, median, monkeypatch):
    now = itertools.accumulate([0.0, *took])
    clock = [next(now)]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def call():
        clock[0] = next(now)

    assert _median_time(call, seconds) == median
    assert next(now, None) is None  # as many calls as that, and no more
