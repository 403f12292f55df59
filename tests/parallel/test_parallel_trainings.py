"""Trainings in several processes: what they come to, and what becomes of them."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_training

from minimix.runs import read_weights

HERE = Path(__file__).parent
SETTINGS = (
    *("--preset=plain", "--patch-size=2", "--kernel-size=3", "--hidden-dim=8", "--depth=1"),
    *("--no-whiten", "--padding=1", "--epochs=3", "--batch-size=20", "--save-every=0"),
    "--threads=1",
)  # five steps an epoch, the last one of 10 images


@pytest.fixture
def python(mpiexec, monkeypatch):
    """python(n, script, …): started n times; without Numba, which takes longer to import."""
    room = str(HERE.parent / "train")
    monkeypatch.setenv("PYTHONPATH", room, prepend=":")
    return lambda n, script, *arguments: mpiexec(
        n, HERE / script, *arguments, MINIMIX_BACKEND="numpy"
    )


@pytest.fixture
def data(tmp_path):
    """A folder with a file of images."""
    images = tiny_training.dataset()
    parts = {
        f"{letter}_{part}": getattr(images, f"{part}_{name}")
        for letter, name in (("x", "images"), ("y", "labels"))
        for part in ("train", "test")
    }
    np.savez(tmp_path / "data.npz", **parts)
    return tmp_path


@pytest.fixture
def train(python, data):
    """train(n, WHAT, RANK, STEP, …): train in the folder "run" beside the images."""

    def start(n, what="nothing", rank="all", step=0, *, resume=False):
        out = f"--out={data / 'run'}"
        new = [f"--data={data / 'data.npz'}", *SETTINGS]
        rest = ["--resume"] if resume else new
        return python(n, "incident.py", what, rank, step, "train", out, *rest)

    return start


def losses(folder):
    """Of every step, from the log."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


DROPPED = """\
import minimix as mx

class Net(mx.Module):
    def __init__(self, n_classes: int = 10, rng=None):
        super().__init__()
        self.drop = mx.nn.Dropout(0.5, rng=rng)
        self.head = mx.nn.Linear(3, n_classes, rng=rng)

    def forward(self, x):
        return self.head(self.drop(x).mean(axis=(1, 2)))
"""


def test_each_process_drops_at_random_and_goes_on_with_it(python, data):
    """Of 20 images, three processes have 7, 7 and 6, and draw as many numbers."""
    (data / "net.py").write_text(DROPPED)
    new = [f"--data={data / 'data.npz'}", f"--model={data / 'net.py'}:Net"]
    new += ["--no-whiten", "--padding=1", "--epochs=2", "--batch-size=20", "--threads=1"]

    def start(n, what, step, *arguments):
        return python(n, "incident.py", what, 1, step, "train", *arguments)

    whole, stopped = data / "whole", data / "stopped"
    assert start(3, "nothing", 0, *new, f"--out={whole}")[0] == 0
    assert start(3, "signal", 3, *new, f"--out={stopped}")[0] == 130
    drawn = read_weights(stopped).facts["generators"]
    assert len({json.dumps(one) for one in drawn}) == 3
    assert start(3, "nothing", 0, "--resume", f"--out={stopped}")[0] == 0
    assert losses(stopped) == losses(whole)
    weights, expected = read_weights(stopped).weights, read_weights(whole).weights
    assert all(np.array_equal(weights[name], a) for name, a in expected.items())


@pytest.mark.parametrize("n", [2, 3])
def test_several_processes_give_what_one_gives(python, n):
    code, out, err = python(n, "equal.py")
    assert (code, out) == (0, "the same weights\n"), err


def test_a_training_goes_on_in_another_number_of_processes(train, tmp_path):
    folder = tmp_path / "run"
    code, out, err = train(2, "signal", 1, 7)  # one rank alone is told to stop
    assert code == 130, err
    assert out.count("stopped, and saved") == 1
    assert sorted(losses(folder)) == list(range(1, 8))
    assert read_weights(folder).facts["step"] == 7

    began = time.monotonic()
    code, _, err = train(3, "death", 2, 4, resume=True)
    assert code != 0
    assert time.monotonic() - began < 30
    assert read_weights(folder).facts["step"] in (10, 11)  # of 12; the last one saved is whole

    code, out, err = train(1, resume=True)
    assert code == 0, err
    whole = losses(folder)
    assert sorted(whole) == list(range(1, 16))
    folder.rename(tmp_path / "first")

    code, _, err = train(1)
    assert code == 0, err
    alone = losses(folder)
    np.testing.assert_allclose([whole[i] for i in alone], list(alone.values()), rtol=1e-4)


@pytest.mark.parametrize(
    ("what", "rank", "message"),
    [
        ("error", 1, "rank 1: minimix: something is wrong here"),
        ("error", "all", "minimix: something is wrong here"),
        ("weight", 1, "minimix: rank 1 has other numbers in model.stem.0.weight than rank 0"),
        ("seed", 1, "minimix: rank 1 was started with --seed 7, rank 0 with 0"),
    ],
)
def test_what_goes_wrong_is_said_once_and_ends_all(train, what, rank, message):
    code, _, err = train(2, what, rank, 3)
    assert code == 1
    assert err.startswith(message), err
    assert err.count("\n") == 1, err


STUDY = """
data = "data.npz"
title = "Two small networks"
seeds = 1
[settings]
hidden_dim = 4
depth = 1
patch_size = 4
padding = 1
batch_size = 30
epochs = 60
whiten = false
[models.small]
kernel_size = 1
[models.large]
kernel_size = 3
"""


def test_a_study_is_spread_and_goes_on(python, data, monkeypatch):
    monkeypatch.chdir(data)
    Path("study.toml").write_text(STUDY)
    code, out, err = python(2, "study.py", "stop", "study.toml")
    assert code == 130, err
    assert out.count("stopped, and saved") == 1
    assert "failed" not in out
    runs = sorted(Path("studies").glob("*/runs/*/seed-0"))
    assert [run.parent.name for run in runs] == ["large", "small"]  # one in each process
    assert not any((run / "model.safetensors").exists() for run in runs)

    code, out, err = python(2, "study.py", "go on", "study.toml")
    assert code == 0, err
    assert "2 trainings, 0 of them done before" in out
    assert all((run / "model.safetensors").exists() for run in runs)
    for run in runs:
        assert sorted(losses(run)) == list(range(1, 181))
        assert "resuming from" in run.with_name("seed-0.log").read_text("utf-8")
