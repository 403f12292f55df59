"""A study from its file to its tables, stopped in every way and taken up again."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import reader

from minimix import cli
from minimix.compare import costs, estimate, running
from minimix.compare.study import read_study
from minimix.data import shapes10
from minimix.runs import in_use, read_log

posix = pytest.mark.skipif(os.name != "posix", reason="is about POSIX signals")
STUDY = """
data = "shapes10"
title = "Whether a kernel helps"
about = "Of a hundred images of noise, nobody learns anything."
seeds = 2
[settings]
hidden_dim = 4
depth = 1
patch_size = 8
batch_size = 5
epochs = 12
[models.small]
kernel_size = 1
[models."as <large> as it gets"]
kernel_size = 3
"""
COST = {"parameters": 7, "multiply_adds": 9000, "training": 1.5, "inference": 2500.0, "memory": 2e6}


@pytest.fixture
def compare(minimix, monkeypatch):
    """Run a comparison whose networks are not measured: (code, stdout, stderr)."""
    monkeypatch.setattr(costs, "measure", lambda request: COST)
    return lambda *arguments: minimix("compare", *arguments)


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(STUDY)
    return path


def trained(folder):
    """The folder of the study, trained to its end without a disturbance."""
    (folder / "s.toml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(costs, "measure", lambda request: COST)
        assert cli.main(["compare", "s.toml", "--jobs=2"]) == 0
    return folder / "studies" / "s"


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("done"))


def results(folder, seeds=2):
    """What has to be the same however often it was stopped."""
    paths = [path for seed in range(seeds) for path in folder.glob(f"runs/*/seed-{seed}/metrics*")]
    assert len(paths) == 2 * seeds
    return {(path.parent.parent.name, path.parent.name): path.read_bytes() for path in paths}


# ------------------------------------------------------------------ to its end


def test_the_tables(done):
    text = (done / "results.txt").read_text("utf-8")
    assert "Whether a kernel helps" in text
    logs = {path.parent: read_log(path.parent) for path in done.glob("runs/*/*/run.json")}
    assert len(logs) == 4
    assert all(log.finished for log in logs.values())
    both = [log.epochs[-1]["test_accuracy"] for log in logs.values() if "small" in str(log.folder)]
    mean = sum(both) / 2
    error = max(abs(both[0] - both[1]) / 2, 0.05 / 2**0.5)  # of two, and of twenty images
    assert f"{100 * mean:.2f} ± {100 * error:.2f} %" in text
    assert "cannot tell" in text

    with (done / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["small", "as <large> as it gets"]
    assert float(rows[0]["accuracy"]) == pytest.approx(mean)
    assert float(rows[0]["standard_error"]) == pytest.approx(error)
    assert [rows[0][key] for key in COST] == [str(value) for value in COST.values()]

    found = json.loads((done / "results.json").read_text("utf-8"))
    assert sorted(found["rows"][0]["accuracies"].values()) == pytest.approx(sorted(both))
    (difference,) = found["differences"]
    assert (difference["row"], difference["against"]) == ("as <large> as it gets", "small")
    other = sum(found["rows"][1]["accuracies"].values()) / 2
    assert difference["mean"] == pytest.approx(other - mean)
    assert difference["verdict"] == "cannot tell"
    assert found["n_images"] == 20


def test_the_page(done):
    page = reader.read((done / "report.html").read_text("utf-8"))
    assert page.one("h1").text == "Whether a kernel helps"
    assert [link["href"] for link in page.one("nav").all("a")] == [
        *("#results", "#differences", "#curves", "#cost", "#recipes", "#each-training")
    ]
    results, differences, recipes, each = (
        [[cell.text for cell in row if cell.tag in ("th", "td")] for row in table.all("tr")]
        for table in page.all("table")
    )
    assert [row[0] for row in results[1:]] == ["small", "as <large> as it gets"]
    for row in results[1:]:
        assert row[1] in (done / "results.txt").read_text("utf-8")
        assert row[3:8] == ["7", "9 k", "1.5", "2,500", "2 MB"]
    assert differences[1][:2] == ["as <large> as it gets", "small"]
    assert differences[1][-1] == "cannot tell"
    assert recipes == [
        ["row", "kernel_size"],
        ["small", "1"],
        ["as <large> as it gets", "3"],
    ]
    assert len(each[1]) == 3
    drawn = [element for element in page if element["role"] == "img"]
    assert len(drawn) >= 2
    for svg in drawn:
        assert "as <large> as it gets" in svg["aria-label"]
    for element in page:
        for name in ("src", "href"):
            assert element[name] is None or element[name].startswith(("#", "data:"))


def test_the_picture_stands_alone(done):
    root = ElementTree.fromstring((done / "accuracy.svg").read_bytes())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in (done / "accuracy.svg").read_text("utf-8")
    assert "as <large> as it gets" in "".join(root.itertext())


def test_what_is_done_is_not_done_again(compare, done, tmp_path, monkeypatch):
    shutil.copytree(done.parent.parent, tmp_path, dirs_exist_ok=True)
    before = results(tmp_path / "studies/s")
    monkeypatch.setattr(running, "minimix", None)  # no process can be started
    monkeypatch.setattr(costs, "measure", None)
    code, out, err = compare("s.toml")
    assert (code, err) == (0, "")
    assert "4 trainings, 4 of them done before" in out
    assert (done / "results.txt").read_text("utf-8") in out
    assert results(tmp_path / "studies/s") == before


# ------------------------------------------------------------------ stopped


def start(*options):
    command = [sys.executable, "-m", "minimix", "compare", "s.toml", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@posix
def test_stopped_in_every_way(compare, study, done, tmp_path):
    """Its trainings end with it, what they had saved is where they go on, and in the end everything
    is as if nothing had happened."""
    folder = tmp_path / "studies/s"

    def steps():
        logs = folder.glob("runs/*/*/metrics.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in logs)

    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        before = steps()
        process = start("--jobs=2", "--seeds=1")
        wait_for(lambda n=before + 12: steps() >= n)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        if number == signal.SIGKILL:
            assert process.returncode == -number
            wait_for(lambda: not any(in_use(path) for path in folder.glob("runs/*/*")))
            assert not any(
                folder.glob("runs/*/*/model.safetensors")
            )  # they did not go on to the end
            continue
        assert process.returncode == 128 + number
        assert "continue with: minimix compare s.toml --jobs=2 --seeds=1" in out
        assert (folder / "results.txt").exists()
        assert not any(in_use(path) for path in folder.glob("runs/*/*"))
    code, _, err = compare("s.toml", "--jobs=2", "--seeds=1")
    assert (code, err) == (0, "")
    assert results(folder, seeds=1) == results(done, seeds=1)


# ------------------------------------------------------------------ what does not fit


def test_a_preset_is_the_beginning_of_another_study(minimix, tmp_path):
    code, out, _ = minimix("compare", "quick", "--print")
    assert (code, tomllib.loads(out)["data"]) == (0, "shapes10")
    assert not (tmp_path / "studies").exists()


def test_a_changed_study_is_named(compare, done, tmp_path, monkeypatch):
    shutil.copytree(done.parent.parent, tmp_path, dirs_exist_ok=True)
    study = tmp_path / "s.toml"
    study.write_text(STUDY.replace("kernel_size = 3", "kernel_size = 5"))
    code, _, err = compare("s.toml")
    assert (code, err.count("\n")) == (1, 1)
    assert "as <large> as it gets: kernel_size is 5" in err
    assert "seed-0 was begun with 3; put it back, or choose another folder" in err
    study.write_text(STUDY)
    assert "epochs is 3" in compare("s.toml", "--epochs=3")[2]
    other = replace(shapes10.load(), test_labels=shapes10.load().test_labels[::-1].copy())
    monkeypatch.setattr(shapes10, "load", lambda: other)
    assert "seed-0 was trained on other images of shapes10 than those" in compare("s.toml")[2]


def test_fewer_seeds_are_no_change_and_a_plan_trains_nothing(compare, done, tmp_path):
    shutil.copytree(done.parent.parent, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "studies/s/results.txt").read_bytes()
    code, out, _ = compare("s.toml", "--seeds=1", "--dry-run")
    assert (code, "0 of 2 trainings to do" in out) == (0, True)
    assert out.count("warming up") == 2
    assert (tmp_path / "studies/s/results.txt").read_bytes() == before


NET = """\
import minimix as mx

class Net(mx.Module):
    def __init__(self, n_classes: int = 10, rng=None):
        super().__init__()
        self.head = mx.nn.Linear(3, n_classes, rng=rng)

    def forward(self, x):
        return self.head(mx.functional.relu(x).mean(axis=(1, 2)))
"""


def test_a_changed_class_is_named(compare, tmp_path, monkeypatch):
    """Otherwise a row's seeds would be of two networks, and its costs those of the first."""
    (tmp_path / "net.py").write_text(NET)
    settings = "[settings]\nmodel = 'net.py:Net'\nepochs = 1\nbatch_size = 50\nwhiten = false"
    (tmp_path / "s.toml").write_text(f"data = 'shapes10'\n{settings}")
    assert compare("s.toml")[0] == 0
    before = json.loads((tmp_path / "studies/s/costs.json").read_text())
    (tmp_path / "net.py").write_text(NET.replace("relu", "gelu"))
    code, _, err = compare("s.toml", "--seeds=2")
    assert (code, err.count("\n")) == (1, 1)
    assert f"{tmp_path / 'net.py'} has changed since studies/s/runs/default/seed-0 was" in err
    shutil.rmtree(tmp_path / "studies/s/runs")
    assert compare("s.toml")[0] == 0
    after = json.loads((tmp_path / "studies/s/costs.json").read_text())
    assert len(after) == 2 == 2 * len(before)
    (tmp_path / "net.py").write_text(NET)
    assert compare("s.toml", "--seeds=2")[0] == 1


def test_what_could_not_be_measured_is_tried_again(compare, done, tmp_path, monkeypatch):
    shutil.copytree(done.parent.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "studies/s/costs.json").unlink()
    monkeypatch.setattr(costs, "measure", lambda request: {"error": "it was ended by the system"})
    code, out, err = compare("s.toml")
    assert (code, err) == (0, "")
    assert "small could not be measured: it was ended by the system" in out
    monkeypatch.setattr(costs, "measure", lambda request: COST)
    assert "could not" not in compare("s.toml")[1]
    assert (tmp_path / "studies/s/results.csv").read_bytes() == (done / "results.csv").read_bytes()


def test_an_estimate_is_made_from_the_second_epoch(small, study, tmp_path, monkeypatch):
    """In the first one, kernels may have been compiled."""

    def read(folder):
        log = read_log(folder)
        assert (len(log.steps["speed"]), len(log.test_seconds)) == (8, 2)
        steps = (5 / log.steps["speed"]).sum()
        assert log.seconds == pytest.approx(steps + sum(log.test_seconds), abs=1e-5)
        speed = np.array([1e-3, 1, 1, 1, 50, 50, 50, 2])
        return replace(log, steps={**log.steps, "speed": speed}, test_seconds=[1000.0, 10.0])

    monkeypatch.setattr(estimate, "read_log", read)
    data = shapes10.load()
    assert (len(data.train_images), len(data.test_images)) == (100, 20)
    points = running.points_of(read_study(str(study)), tmp_path)
    found = estimate.seconds_by_row(points, data, ["--data=shapes10", "--threads=1"], print)
    steps, tests = 20 * 5 / 50, 10.0  # of an epoch
    assert list(found) == ["small", "as <large> as it gets"]
    assert list(found.values()) == pytest.approx([12 * (steps + tests)] * 2)


def test_an_estimate_knows_early_epochs_and_mirrored_tests(small, study, tmp_path, monkeypatch):
    def read(folder):
        log = read_log(folder)
        speed = np.repeat([1.0, 100.0, 50.0], 4)
        assert list(log.steps["epoch"]) == list(np.repeat([1, 2, 3], 4))
        return replace(log, steps={**log.steps, "speed": speed}, test_seconds=[9.0, 9.0, 10.0])

    monkeypatch.setattr(estimate, "read_log", read)
    study.write_text(
        STUDY.partition("[models.small]")[0].replace("epochs = 12", "epochs = 12\nearly_epochs = 5")
        + "[grid]\nmirror = [false, true]\nlr = [0.1, 0.2]"
    )
    points = running.points_of(read_study(str(study)), tmp_path)
    said = []
    options = ["--data=shapes10", "--threads=1"]
    found = estimate.seconds_by_row(points, shapes10.load(), options, said.append)
    assert len(said) == 1  # neither of the two changes how long a step takes
    steps = 20 * (5 * 5 / 100 + 7 * 5 / 50)
    expected = [steps + 12 * 10.0] * 2 + [steps + 13 * 10.0] * 2
    assert list(found.values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "jobs", "expected"),
    [([3], 4, 3), ([2, 2, 2], 2, 4), ([5, 1, 1, 1], 2, 5), ([4, 1, 1], 1, 6), ([], 3, 0)],
)
def test_when_the_last_of_several_jobs_ends(seconds, jobs, expected):
    assert running.makespan(seconds, jobs) == expected


def test_a_training_that_fails_does_not_stop_the_others(compare, tmp_path):
    (tmp_path / "s.toml").write_text(
        STUDY.replace("seeds = 2", "seeds = 1")
        .replace("kernel_size = 1", "lr = 1e30")
        .replace("epochs = 12", "epochs = 1")
    )
    code, out, err = compare("s.toml")
    assert (code, err.count("\n")) == (1, 1)
    assert "1 of 2 trainings failed" in err
    assert "small, seed 0, failed: training diverged at step" in out
    found = json.loads((tmp_path / "studies/s/results.json").read_text("utf-8"))
    assert found["rows"][0]["accuracy"] is None
    assert found["rows"][1]["accuracy"]["n"] == 1


@pytest.mark.parametrize(
    ("study", "complaint"),
    [
        ("[models.x]\npatch_size = 5", "x: patch_size is 5, which does not divide"),
        ("[settings]\nshuffle_patches = 5", "default: shuffle_patches is 5, which does not divide"),
        ("[settings]\nlimit_train = 101", "default: limit_train is 101; .* has 100 images"),
        ("[settings]\nlr = 'x'", "default: lr is 'x'; expected a value of type float"),
        ("[[", "is not TOML"),
    ],
)
def test_one_line_before_anything_is_trained(compare, tmp_path, study, complaint):
    (tmp_path / "s.toml").write_text(f'data = "shapes10"\n{study}')
    code, _, err = compare("s.toml")
    assert (code, err.count("\n")) == (1, 1)
    assert re.search(complaint, err)
    assert not (tmp_path / "studies").exists()
