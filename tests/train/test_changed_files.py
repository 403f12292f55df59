"""What was deleted, shortened or changed in a run folder is noticed when the run is resumed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from test_resume import begin_and_stop
from tiny_training import CONFIG, STEPS, results, run_to_end

from minimix import kernels
from minimix.errors import CheckpointError
from minimix.runs import RunFolder, read_weights
from minimix.runs.checkpoint import load, save
from minimix.train import load_model, loop


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with kernels.backend("numpy"):
        run_to_end(folder)
    return folder


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    begin_and_stop(tmp_path / "run", monkeypatch, step=7)
    return tmp_path / "run"


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


# ------------------------------------------------------------------ metrics.jsonl


def without(lines, *numbers):
    return b"".join(line for i, line in enumerate(lines) if i not in numbers)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: None, "is gone"),
        (lambda lines: b"", r"has 0 bytes, expected [\d,]+"),
        (lambda lines: without(lines, 7), r"has [\d,]+ bytes, expected [\d,]+"),
        (lambda lines: without(lines, 3), r"has [\d,]+ bytes, expected [\d,]+"),
        (lambda lines: without(lines)[:-1], r"has [\d,]+ bytes, expected [\d,]+"),
        (lambda lines: without(lines).replace(b"1", b"2", 1), "has been changed"),
        (lambda lines: b"\n" + without(lines), "has been changed"),
        (lambda lines: without(lines, 2) + lines[2], "has been changed"),
    ],
    ids=["gone", "empty", "last line", "a line", "last byte", "a digit", "longer", "order"],
)
def test_metrics_that_are_not_what_they_were(stopped, whole, spoil, words):
    path = stopped / "metrics.jsonl"
    good = path.read_bytes()
    spoilt = spoil(good.splitlines(keepends=True))
    path.unlink() if spoilt is None else path.write_bytes(spoilt)
    before = contents(stopped)
    with pytest.raises(CheckpointError, match=rf"metrics\.jsonl {words} .*put the file back"):
        run_to_end(stopped)
    assert contents(stopped) == before  # nothing has been touched
    path.write_bytes(good)
    run_to_end(stopped)
    assert results(stopped) == results(whole)


def test_lines_after_the_checkpoint_are_taken_back(stopped, whole):
    with open(stopped / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "step", "step": 8}\nnot even JSON\xff')
    run_to_end(stopped)
    assert results(stopped) == results(whole)


def test_training_does_not_depend_on_its_log(tmp_path, whole, monkeypatch):
    for method, gives in [("step", None), ("epoch", "")]:
        monkeypatch.setattr(loop.TrainingLog, method, lambda *_, gives=gives: gives)
    run_to_end(tmp_path)
    last = f"checkpoint-{STEPS:08d}.safetensors"
    mine, other = load(tmp_path / last), load(whole / last)
    assert mine.arrays.keys() == other.arrays.keys()
    for name, array in mine.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
    mine.facts.pop("metrics")
    other.facts.pop("metrics")
    assert mine.facts == other.facts
    assert (tmp_path / "model.safetensors").read_bytes() == results(whole)["model.safetensors"]


# ------------------------------------------------------------------ timing.jsonl, run.json


@pytest.mark.parametrize(
    ("spoil", "missing"),
    [
        (lambda lines: b"", 7),
        (lambda lines: without(lines, 2), 1),
        (lambda lines: without(lines, 2) + b"[]\n\xff\n{}\n" + lines[2][:-1], 1),
        (lambda lines: without(lines).replace(b'"seconds"', b'"hours"', 2), 2),
    ],
)
def test_missing_times_are_said_and_no_obstacle(stopped, whole, spoil, missing):
    path = stopped / "timing.jsonl"
    path.write_bytes(spoil(path.read_bytes().splitlines(keepends=True)))
    said = []
    run_to_end(stopped, say=said.append)
    (line,) = said
    assert f"timing.jsonl lacks the times of {missing} of 7 steps" in line
    assert results(stopped) == results(whole)
    assert all(json.loads(line)["step"] for line in path.read_bytes().splitlines())


def test_times_are_added_up_across_interruptions(stopped):
    with RunFolder(stopped) as run:
        run.rewind()
        lines = list(map(json.loads, (stopped / "timing.jsonl").read_bytes().splitlines()))
        assert len(lines) == 8
        taken = sum(line.get("seconds", 0) + line.get("test_seconds", 0) for line in lines)
        assert run.seconds == pytest.approx(taken)
        run.time(8, seconds=2.0, images_per_s=10.0)
        assert run.seconds == pytest.approx(taken + 2)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"settings": 3}', b"\xff", b"1"])
def test_run_json_is_written_again(stopped, content):
    about = stopped / "run.json"
    if content is not None:
        about.write_bytes(content)
    said = []
    with RunFolder(stopped, said.append) as run:
        run.describe({"settings": {"lr": 1}})
        assert json.loads(about.read_bytes()) == {"settings": {"lr": 1}}
        run.describe({"settings": {"lr": 2}})
        assert json.loads(about.read_bytes()) == {"settings": {"lr": 1}}
    (line,) = said
    assert "run.json is missing or damaged; it is written again" in line


# ------------------------------------------------------------------ model.safetensors


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * 9])
def test_a_damaged_model_is_not_the_end(tmp_path, whole, spoil):
    shutil.copytree(whole, folder := tmp_path / "run")
    model = folder / "model.safetensors"
    model.write_bytes(spoil(model.read_bytes()))
    said = []
    with RunFolder(folder, said.append) as run:
        assert not run.finished()
    (line,) = said
    assert "model.safetensors is damaged" in line
    run_to_end(folder)
    assert results(folder) == results(whole)
    with RunFolder(folder) as run:
        assert run.finished()


def test_a_model_of_another_run_is_not_the_end(tmp_path, whole):
    other = tmp_path / "other"
    run_to_end(other, replace(CONFIG, seed=1))
    shutil.copytree(whole, folder := tmp_path / "run")
    shutil.copy(other / "model.safetensors", folder)
    with RunFolder(folder) as run, pytest.raises(CheckpointError, match="is of another run; move"):
        run.finished()


def test_a_model_or_a_log_without_checkpoints_is_a_run_too(tmp_path, whole):
    shutil.copytree(whole, folder := tmp_path / "run")
    for path in folder.glob("checkpoint-*"):
        path.unlink()
    with RunFolder(folder) as run:
        assert run.checkpoint is None
        assert run.begun
    (folder / "model.safetensors").unlink()
    with RunFolder(folder) as run:
        assert run.begun
    (folder / "metrics.jsonl").write_bytes(b"")  # of one that never took a step
    with RunFolder(folder) as run:
        assert not run.begun


# ------------------------------------------------------------------ checkpoints


def test_any_changed_byte_gives_way_to_the_checkpoint_before(stopped):
    """In the header, whose words say what the file is, as in the weights."""
    path = stopped / "checkpoint-00000007.safetensors"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    length = int.from_bytes(whole[:8], "little") + 8
    for at in [*range(0, length, 7), *rng.integers(len(whole), size=50)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        said = []
        with RunFolder(stopped, said.append) as run:
            assert run.saved == stopped / "checkpoint-00000006.safetensors", at
        assert len(said) == 1


def test_checkpoints_are_counted_beyond_eight_digits(tmp_path, stopped):
    path = stopped / "checkpoint-00000007.safetensors"
    newest = path.rename(stopped / "checkpoint-100000000.safetensors")
    (stopped / "checkpoint-99999999.safetensors.bak").write_bytes(b"")
    assert read_weights(stopped).path == newest


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("metrics"),
        lambda facts: facts.pop("config"),
        lambda facts: facts.pop("tally"),
        lambda facts: facts.pop("data"),
        lambda facts: facts.update(config=[]),
        lambda facts: facts.update(tally={"hours": 1}),
        lambda facts: facts.update(data={}),
    ],
)
def test_a_checkpoint_of_another_version(stopped, change):
    path = stopped / "checkpoint-00000007.safetensors"
    found = load(path)
    change(found.facts)
    save(path, found.arrays, found.facts)
    with pytest.raises(CheckpointError):
        run_to_end(stopped)


@pytest.mark.parametrize(
    "change",
    [
        {"config": None},
        {"config": {"depth": "many"}},
        {"config": {"depth": 10**9}},
        {"data": None},
        {"data": {"class_names": 3}},
        {"data": {"class_names": ["a"], "image_size": [8, 8], "name": "x", "sha256": "y"}},
        {"data": {"class_names": list("abcd"), "image_size": [0, 8], "name": "x", "sha256": "y"}},
        {"data": {"class_names": list("abcd"), "image_size": "8", "name": "x", "sha256": "y"}},
        {"data": {"class_names": list("abcd"), "image_size": [8, 8], "name": 3, "sha256": "y"}},
    ],
)
def test_a_model_file_that_lies(tmp_path, whole, change):
    found = load(whole / "model.safetensors")
    save(tmp_path / "x", found.arrays, {**found.facts, **change})
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "x")


def test_a_checkpoint_that_vanishes_while_it_is_read(stopped, monkeypatch):
    """The process that trains has written a new one, and removed it."""
    from minimix.runs import folder as room

    plain, gone = room.checkpoint.load, []

    def load(path):
        if path.name == "checkpoint-00000007.safetensors":
            gone.append(path)
            path.unlink()
        return plain(path)

    monkeypatch.setattr(room.checkpoint, "load", load)
    assert read_weights(stopped).path.name == "checkpoint-00000006.safetensors"
    assert gone
