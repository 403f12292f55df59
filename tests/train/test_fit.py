"""fit: everything that the command does, from Python."""

import json
import signal

import numpy as np
import pytest
from tiny_training import CONFIG, dataset, run_to_end

import minimix as mx
from minimix import ConvMixer, nn
from minimix.data.loader import Plain
from minimix.errors import CheckpointError
from minimix.train import Config, fit, load_model, loop, recipe

PLAIN = Config(epochs=3, batch_size=20, whiten=False, padding=1, ema=0.9, ema_every=2)


class Net(nn.Module):
    """Logits from the mean color."""

    def __init__(self, seed=0):
        super().__init__()
        self.norm = nn.BatchNorm(3)
        self.head = nn.Linear(3, 4, rng=seed)

    def forward(self, x):
        return self.head(self.norm(x.mean(axis=(1, 2))))


def epochs_of(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "epoch"]


def test_it_trains_the_model_that_it_is_given(tmp_path, capsys):
    model, data = Net(), dataset()
    test = fit(model, data, PLAIN, out=tmp_path / "run", epochs=12, lr=0.05)
    assert test.accuracy > 0.8
    assert test.accuracy == epochs_of(tmp_path / "run")[-1]["test_accuracy"]
    assert not model.training
    transform = Plain(data.mean, data.std)
    again = mx.train.evaluate(model, data.test_images, data.test_labels, 4, transform=transform)
    assert (again.accuracy, again.loss) == (test.accuracy, test.loss)
    out = capsys.readouterr().out
    assert "model  Net, 22 parameters" in out
    assert out.count("epoch ") == 12
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["settings"]["epochs"] == 12
    assert about["settings"]["model"] == "python:Net"


def test_it_can_be_loaded_into_another_one(tmp_path):
    model, other = Net(), Net(seed=5)
    fit(model, dataset(), PLAIN, out=tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"this network, Net, was made in Python; make it"):
        load_model(tmp_path)
    loaded, facts = load_model(tmp_path, model=other)
    assert loaded is other
    assert facts["data"]["class_names"] == list("abcd")
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


def test_a_name_or_a_class_is_made_here_as_by_the_command(tmp_path):
    sizes = {"hidden_dim": 8, "depth": 1, "kernel_size": 3, "patch_size": 2}
    fit("convmixer", dataset(), PLAIN, out=tmp_path / "a", quiet=True, **sizes)
    fit(ConvMixer, dataset(), PLAIN, out=tmp_path / "b", quiet=True, **sizes)
    config = recipe(**sizes, **{k: getattr(PLAIN, k) for k in ("epochs", "batch_size", "padding")})
    run_to_end(
        tmp_path / "c",
        mx.train.config.changed(config, data="tiny", whiten=False, ema=0.9, ema_every=2),
    )
    for name in ("metrics.jsonl", "model.safetensors"):
        a, b, c = ((tmp_path / run / name).read_bytes() for run in "abc")
        assert a == b == c
    assert load_model(tmp_path / "a")[0].stem[0].weight.shape == (2, 2, 3, 8)


def test_data_by_name_or_path_are_found_again_from_anywhere(tmp_path, monkeypatch):
    d = dataset()
    parts = {"x_train": d.train_images, "y_train": d.train_labels}
    parts |= {"x_test": d.test_images, "y_test": d.test_labels}
    np.savez(tmp_path / "set.npz", **parts)
    monkeypatch.chdir(tmp_path)
    fit(Net(), "set.npz", PLAIN, out="run", quiet=True, epochs=1)
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["settings"]["data"] == str(tmp_path / "set.npz")


def test_it_is_stopped_and_goes_on(tmp_path, monkeypatch):
    whole, stopped = Net(), Net()
    expected = fit(whole, dataset(), PLAIN, out=tmp_path / "whole", quiet=True)
    plain_step = loop.TrainingLog.step

    def step(log, *args):
        plain_step(log, *args)
        if log.state.step == 7:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLog, "step", step)
        with pytest.raises(KeyboardInterrupt):
            fit(stopped, dataset(), PLAIN, out=tmp_path / "run", quiet=True)
    with pytest.raises(CheckpointError, match="holds a run already; continue it with resume"):
        fit(Net(), dataset(), PLAIN, out=tmp_path / "run", quiet=True)
    fresh = Net(seed=3)  # whose weights do not matter: they are in the checkpoint
    test = fit(fresh, dataset(), PLAIN, out=tmp_path / "run", resume=True, quiet=True)
    assert test.loss == expected.loss
    once_more = fit(Net(), dataset(), PLAIN, out=tmp_path / "run", resume=True, quiet=True)
    assert once_more.loss == expected.loss
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(CheckpointError, match=r"`lr` is 0.5, but this run was begun with 0.01"):
        fit(Net(), dataset(), PLAIN, out=tmp_path / "run", resume=True, quiet=True, lr=0.5)


def test_what_a_model_begins_with_is_left_to_its_maker(tmp_path):
    """Whitening would overwrite the first layer of a trained model."""
    model = ConvMixer(8, 1, 3, 2, 4, rng=0).eval()
    before = model.stem[0].weight.array.copy()
    fit(model, dataset(), out=tmp_path, quiet=True, epochs=1, lr=1e-12, padding=1, ema=0.0)
    np.testing.assert_allclose(model.stem[0].weight.array, before, atol=1e-6)
    assert abs(model.stem[2].running_mean).max() > 0.01  # it was in training mode meanwhile


@pytest.mark.parametrize(
    ("model", "settings", "error", "words"),
    [
        (nn.Linear(3, 4), {}, ValueError, r"Linear gave \(1, 8, 8, 4\) for one image; expected"),
        (nn.Linear(5, 4), {}, ValueError, r"Linear does not take images of 8×8 pixels: linear: "),
        (Net, {}, ValueError, "cannot be made again from a file"),
        (3, {}, TypeError, "`model` is a int; expected a Module, a class of Modules, or a name"),
        (int, {}, TypeError, "`model` is a type; expected a Module"),
        ("vitt", {}, ValueError, "`model` is 'vitt'"),
        (Net(), {"epoch": 3}, ValueError, "`epoch` is not a setting; did you mean `epochs`"),
        (
            Net(),
            {"depth": 3},
            ValueError,
            r"`depth` is not a setting of Net \(its settings: none\)",
        ),
        (Net(), {"lr": -1.0}, ValueError, "`lr` is -1.0; expected more than 0"),
    ],
)
def test_mistakes_leave_nothing_behind(tmp_path, model, settings, error, words):
    if model is Net:

        class Inside(Net):
            pass

        model, words = Inside, "Inside cannot be made again from a file; pass a model"
    with pytest.raises(error, match=words) as caught:
        fit(model, dataset(), PLAIN, out=tmp_path / "run", quiet=True, **settings)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_validation_images_take_the_place_of_test_images(tmp_path):
    data = dataset()
    config = mx.train.config.changed(CONFIG, early_epochs=0, validation=21, epochs=1)
    held = config.limited(data)
    assert len(held.test_labels) == 21
    shares = np.bincount(data.train_labels) * 21 / 90
    assert (abs(np.bincount(held.test_labels) - shares) < 1).all()
    together = np.concatenate([held.train_images, held.test_images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, data.train_images))
    again = mx.train.config.changed(config, seed=9).limited(data)
    np.testing.assert_array_equal(again.test_images, held.test_images)
    kept = [bytes(image) for image in held.train_images]
    assert kept == [b for b in map(bytes, data.train_images) if b in set(kept)]
    run_to_end(tmp_path, config)
    (epoch,) = epochs_of(tmp_path)
    assert np.sum(epoch["confusion"]) == 21
    assert "validation_accuracy" in epoch
    assert not [key for key in epoch if key.startswith("test")]
    _, facts = load_model(tmp_path)
    assert facts["validation_accuracy"] == epoch["validation_accuracy"]
    assert "test_accuracy" not in facts
    with pytest.raises(ValueError, match="`validation` is 90; expected fewer than the 90 train"):
        mx.train.config.changed(config, validation=90).limited(data)


def test_a_run_that_has_ended_is_not_begun_again(tmp_path):
    """Whoever removes its checkpoints keeps what was trained."""
    fit(Net(), dataset(), PLAIN, out=tmp_path, quiet=True)
    for path in tmp_path.glob("checkpoint-*"):
        path.unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match="holds a run already; choose another `out`"):
        fit(Net(), dataset(), PLAIN, out=tmp_path, quiet=True, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Parts(Net):
    """Parts whose names are those of a checkpoint's."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.model, self.average = nn.Linear(3, 3, rng=seed), nn.Linear(3, 3, rng=seed)
        self.register_buffer("updates", np.float32([1, 2, 3]))

    def forward(self, x):
        return super().forward(self.average(self.model(x)) + self.updates)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_parts_may_have_any_names(tmp_path, ema):
    model = Parts()
    fit(model, dataset(), PLAIN, out=tmp_path, quiet=True, ema=ema)
    load_model(tmp_path, model=(loaded := Parts(seed=3)))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array)
    again = fit(Parts(), dataset(), PLAIN, out=tmp_path, quiet=True, ema=ema, resume=True)
    assert again.accuracy == epochs_of(tmp_path)[-1]["test_accuracy"]
