"""The loop learns, stops where it should, and its parts do what they say."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from tiny_training import CONFIG, dataset, run_to_end

from minimix import ConvMixer, Tensor, kernels, op
from minimix.data import normalize
from minimix.errors import DivergenceError
from minimix.nn import Module
from minimix.optim import AdamW
from minimix.runs import read_weights
from minimix.train import PRESETS, Config, TrainingState, evaluate
from minimix.train.averaging import WeightAverage
from minimix.train.divergence import first_not_finite
from minimix.train.whitening import whiten, whitening_filters


def test_it_learns(tmp_path):
    config = replace(CONFIG, epochs=12, mixup=0.0, ema=0.0)
    test = run_to_end(tmp_path, config)
    assert test.accuracy > 0.9
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert epochs[-1]["train_accuracy"] > 0.8


TWO_EPOCHS = replace(CONFIG, epochs=2, early_epochs=0)


def metrics_of(folder, config):
    run_to_end(folder, config)
    return (folder / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def plain_metrics(tmp_path_factory):
    with kernels.backend("numpy"):
        return metrics_of(tmp_path_factory.mktemp("plain"), TWO_EPOCHS)


def test_the_same_settings_make_none(tmp_path, plain_metrics):
    assert metrics_of(tmp_path, TWO_EPOCHS) == plain_metrics


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"lr": 0.02},
        {"optimizer": "muon"},
        {"early_epochs": 1},
        {"weight_decay": 0.5},
        {"weight_decay": 0.5, "decay": "weights"},
        {"clip_norm": 0.01},
        {"label_smoothing": 0.3},
        {"whiten": True},
        {"flip": "alternating"},
        {"crop": "resized"},
        {"randaugment": "2,12"},
        {"randaugment": "timm"},
        {"jitter": 0.5},
        {"erasing": 1.0},
        {"cutmix": 1.0},
        {"schedule": "official"},
        {"peak": 0.5},
        {"ema_every": 1},
    ],
)
def test_every_setting_makes_a_difference(tmp_path, plain_metrics, change):
    assert metrics_of(tmp_path, replace(TWO_EPOCHS, **change)) != plain_metrics


def test_the_average_has_learned_something_after_an_epoch_however_short(tmp_path):
    config = replace(TWO_EPOCHS, ema_every=1_000_000)
    assert metrics_of(tmp_path, config) == metrics_of(tmp_path / "5", replace(config, ema_every=5))
    initial = TrainingState.build(config, dataset()).arrays()
    for name, trained in read_weights(tmp_path).weights.items():
        assert not np.array_equal(trained, initial[f"model.{name}"]), name


# ------------------------------------------------------------------ settings


def test_the_official_schedule_is_looked_up_at_the_end_of_each_step():
    """The authors' np.interp over epochs, after each of 98 steps."""
    rate = PRESETS["official"].learning_rate(25 * 98)
    for epoch, i in [(0, 0), (0, 97), (9, 97), (15, 3), (24, 97)]:
        t = epoch + (i + 1) / 98
        assert rate(epoch * 98 + i) == pytest.approx(
            np.interp(t, [0, 10, 20, 25], [0, 0.05, 0.05 / 20, 0])
        )


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_peak_is_where_the_rate_is_highest(schedule):
    rate = Config(schedule=schedule, peak=0.3, lr=0.5).learning_rate(1000)
    rates = [rate(step) for step in range(1000)]
    assert np.argmax(rates) == pytest.approx(300, abs=1)
    assert max(rates) == pytest.approx(0.5, rel=0.01)


def test_senseless_settings_are_named():
    for f in fields(Config):
        limits = f.metadata["limits"]
        for limit, bound in limits.items():
            wrong = bound + 1 if limit == "most" else bound if limit in "above below" else bound - 1
            words = rf"`{f.name}` is {wrong}; expected .*{bound:,}"
            with pytest.raises(ValueError, match=words):
                Config(**{f.name: wrong})
        if limits and f.type == "float":
            with pytest.raises(ValueError, match="nan"):
                Config(**{f.name: math.nan})
        if f.metadata["choices"]:
            with pytest.raises(ValueError, match=f.metadata["choices"][0]):
                Config(**{f.name: "nonsense"})
        for value in (None, [3], "3" if f.type != "str" else 3, True if f.type != "bool" else 1):
            with pytest.raises(ValueError, match=f"`{f.name}` is .*; expected a value of type"):
                Config(**{f.name: value})
    with pytest.raises(ValueError, match=r"`depth` is 2.5; expected a value of type int"):
        Config(model_settings={"depth": 2.5})
    for text in ("3", "2,12,4", "two,three", "2,-1", "2,", "", "9" * 5000 + ",5"):
        with pytest.raises(ValueError, match=r"`randaugment` is .*; expected none, timm, or two"):
            Config(randaugment=text)
    for text in ("2,31", "99999,5"):
        with pytest.raises(ValueError, match=r"`randaugment` is .*at most 20 operations"):
            Config(randaugment=text)


# ------------------------------------------------------------------ divergence


@op
def infinite_gradient(x):
    return x + 0, lambda g: g * np.float32(np.inf)


class Spoil(Module):
    """The identity with an infinite gradient, or infinite itself."""

    def __init__(self, gradient):
        super().__init__()
        self.gradient = gradient

    def forward(self, x):
        return infinite_gradient(x) if self.gradient else x * np.inf


def spoilt_model(place, gradient=False):
    model = ConvMixer(4, 2, 3, 2, 4, rng=0)
    setattr(model.blocks[1], place, Spoil(gradient))
    return model


@pytest.fixture
def batch():
    d = dataset()
    return normalize(d.train_images[:10]), d.train_labels[:10]


@pytest.mark.filterwarnings("ignore:.*encountered")
def test_the_layer_that_went_first_is_named(batch):
    x, y = batch
    assert first_not_finite(spoilt_model("2"), x, y) == "the output of blocks.1.2 (Spoil)"
    assert (
        first_not_finite(spoilt_model("2", gradient=True), x, y)
        == "the gradient at the output of blocks.1.1 (PointwiseConv2d)"
    )
    bad = x.copy()
    bad[3, 1, 2, 0] = np.nan
    assert first_not_finite(ConvMixer(4, 2, 3, 2, 4, rng=0), bad, y) == "the input"
    model = ConvMixer(4, 2, 3, 2, 4, rng=0)
    model.blocks[0][1].bias.array[2] = np.nan
    assert first_not_finite(model, x, y) == "the parameter blocks.0.1.bias"


def test_divergence_stops_with_step_layer_checkpoint_and_advice(tmp_path, monkeypatch):
    plain_step = AdamW.step

    def spoiling_step(optimizer):
        plain_step(optimizer)
        if optimizer.steps == 7:
            optimizer.parameters()[0].array[...] = (
                1e38  # finite, but what it is multiplied by is not
            )

    monkeypatch.setattr(AdamW, "step", spoiling_step)
    with pytest.raises(DivergenceError) as error:
        run_to_end(tmp_path, replace(CONFIG, clip_norm=0.0))
    message = str(error.value)
    assert "step 8" in message
    assert "stem.0 (Patchify)" in message
    assert "checkpoint-00000005.safetensors" in message
    assert "a smaller `lr` (it is 0.01), or `clip_norm` 1," in message
    assert "\n" not in message


def test_a_learning_rate_out_of_all_proportion(tmp_path):
    with pytest.raises(DivergenceError, match="not finite"):
        run_to_end(tmp_path, replace(CONFIG, lr=1e30, epochs=5))


# ------------------------------------------------------------------ evaluation


class Constant(Module):
    """Answers with the logits that it was given, batch after batch."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.at = 0

    def forward(self, x):
        self.at += len(x.array)
        return Tensor(self.logits[self.at - len(x.array) : self.at])


def test_evaluation_counts_by_hand():
    images = np.zeros((5, 2, 2, 3), np.uint8)
    labels = np.array([0, 0, 1, 1, 1])
    logits = np.float32([[9, 0, 0], [0, 9, 0], [0, 9, 0], [0, 9, 0], [0, 0, 9]])
    result = evaluate(Constant(logits), images, labels, 3, batch_size=2)
    np.testing.assert_array_equal(result.confusion, [[1, 1, 0], [0, 2, 1], [0, 0, 0]])
    assert result.accuracy == 3 / 5
    assert result.per_class == [1 / 2, 2 / 3, None]
    right, wrong = np.log1p(2 * np.exp(-9)), 9 + np.log1p(2 * np.exp(-9))
    assert result.loss == pytest.approx((3 * right + 2 * wrong) / 5, rel=1e-5)


def test_evaluation_changes_nothing():
    d = dataset()
    model = ConvMixer(4, 1, 3, 2, 4, rng=0).train()
    before = {k: v.copy() for k, v in model.state_dict().items()}
    evaluate(model, d.test_images, d.test_labels, 4)
    assert model.training
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_mirrored_evaluation_does_not_mind_a_mirror():
    d = dataset()
    model = ConvMixer(4, 1, 3, 2, 4, rng=0)
    flipped = np.ascontiguousarray(d.test_images[:, :, ::-1])
    a = evaluate(model, d.test_images, d.test_labels, 4, mirror=True)
    b = evaluate(model, flipped, d.test_labels, 4, mirror=True)
    plain = evaluate(model, d.test_images, d.test_labels, 4)
    assert a.mirrored == b.mirrored
    assert a.mirrored is not None
    assert (a.loss, a.accuracy) == (plain.loss, plain.accuracy)
    assert plain.mirrored is None


def test_mirrored_evaluation_averages_logits():
    """One image is surely right as it is, and weakly wrong in the mirror; another the reverse."""

    class Scripted(Module):
        def forward(self, x):
            bright = x.array[:, 0, 0, 0] > x.array[:, 0, -1, 0]  # the left side is the brighter
            right, left = np.float32([0, 3]), np.float32([1, 0])
            return Tensor(np.where(bright[:, None], left, right))

    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, :, 3] = 255  # as it is class 1 by 3; in the mirror class 0 by 1: together class 1
    images[1, :, 0] = 255  # the same, the other way round
    result = evaluate(Scripted(), images, np.array([1, 1]), 2, mirror=True)
    assert result.accuracy == 0.5
    assert result.mirrored == 1.0


# ------------------------------------------------------------------ average, whitening


def test_the_average_is_the_formula():
    model = ConvMixer(2, 1, 1, 2, 2, rng=0)
    average = WeightAverage(model, decay=0.3)
    expected = model.head.weight.array.copy()
    for t in range(9):
        model.head.weight.array[...] += t
        average.update()
        d = min(0.3, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * model.head.weight.array
    np.testing.assert_allclose(average.mean["head.weight"], expected, rtol=1e-6)


def test_the_average_is_applied_and_taken_off_again():
    model = ConvMixer(2, 1, 1, 2, 2, rng=0)
    average = WeightAverage(model, decay=0.5)
    model.head.bias.array[...] = 100
    with average.applied():
        assert (model.head.bias.array < 100).all()
    assert (model.head.bias.array == 100).all()
    with pytest.raises(ValueError, match="decay is 1"):
        WeightAverage(model, decay=1)


@pytest.mark.parametrize("patch", [2, 4])
def test_whitened_patches_are_white(patch):
    d = 3 * patch**2
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((500, 16, 16, 3)).cumsum(1).cumsum(2).astype(np.float32)
    filters = whitening_filters(smooth, patch, 3 * d, rng)
    patches = smooth.reshape(500, 16 // patch, patch, 16 // patch, patch, 3)
    patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(-1, d)
    out = patches.astype(np.float64) @ filters.reshape(d, 3 * d)
    np.testing.assert_allclose(np.cov(out[:, :d], rowvar=False), np.eye(d), atol=0.02)
    np.testing.assert_allclose(out[:, d : 2 * d], -out[:, :d], rtol=0, atol=1e-13)  # a BLAS's sums
    assert 0.5 < out[:, 2 * d :].std() < 2


@pytest.mark.parametrize(("side", "seen"), [(8, 30), (128, 7)])
def test_whitening_looks_at_no_more_than_it_says(side, seen):
    images = np.random.default_rng(0).integers(0, 256, (40, side, side, 3), np.uint8)
    a, b = (ConvMixer(30, 1, 3, 2, 4, rng=0) for _ in range(2))
    whiten(a, images, seed=0, most=30)
    whiten(b, images[:seen], seed=0, most=1000)
    np.testing.assert_array_equal(a.stem[0].weight.array, b.stem[0].weight.array)
    assert not a.stem[0].bias.array.any()
