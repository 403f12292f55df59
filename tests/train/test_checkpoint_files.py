"""A file is whole or not there; a run folder has one process in it."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_training
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tiny_training import STEPS, results, run_to_end

from minimix.errors import CheckpointError, DiskError
from minimix.runs import RunFolder
from minimix.runs.checkpoint import DamagedError, load, save
from minimix.train import TrainingState, load_model

SOME = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, np.int64)}


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        arrays(st.sampled_from([np.float32, np.float64, np.int64]), array_shapes(min_dims=0)),
        max_size=3,
    ),
    st.dictionaries(
        st.text().filter(lambda key: key not in ("format", "sha256")),
        st.floats().filter(lambda x: x == x),
        max_size=3,
    ),
)
def test_what_is_saved_is_loaded(tmp_path_factory, some, facts):
    path = tmp_path_factory.mktemp("some") / "x.safetensors"
    save(path, some, facts)
    found = load(path)
    loaded, loaded_facts = found.arrays, found.facts
    assert loaded.keys() == some.keys()
    for name, array in some.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert {k: v for k, v in loaded_facts.items() if k != "format"} == facts


def test_arrays_of_any_strides_are_written_in_c_order(tmp_path):
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    save(tmp_path / "x", {"t": a.T, "step": a[:, ::2], "backwards": a[::-1]}, {})
    loaded = load(tmp_path / "x").arrays
    np.testing.assert_array_equal(loaded["t"], a.T)
    np.testing.assert_array_equal(loaded["step"], a[:, ::2])
    np.testing.assert_array_equal(loaded["backwards"], a[::-1])


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "x"
    save(path, SOME, {"fact": 1})
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        with pytest.raises(CheckpointError):
            load(path)


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "x"
    save(path, SOME, {"fact": 1})
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i])
        with pytest.raises(DamagedError):
            load(path)


def test_a_pickle_is_not_even_looked_at(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"cos\nsystem\n(S'touch gotcha'\ntR.")
    with pytest.raises(DamagedError):
        load(path)


def test_a_safetensors_file_of_somebody_else(tmp_path):
    from safetensors.numpy import save_file

    save_file(SOME, tmp_path / "x")
    with pytest.raises(CheckpointError, match="not written by minimix"):
        load(tmp_path / "x")
    with pytest.raises(CheckpointError, match="there is no file"):
        load(tmp_path / "nowhere")


# ------------------------------------------------------------------ the run folder


def test_what_a_run_leaves(tmp_path):
    test = run_to_end(tmp_path, save_every=0)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        "checkpoint-00000013.safetensors",
        "checkpoint-00000014.safetensors",
        "checkpoint-00000015.safetensors",
        "model.safetensors",
    ]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert [line["step"] for line in epochs] == [5, 10, 15]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert epochs[-1]["test_accuracy"] == test.accuracy
    assert np.sum(epochs[-1]["confusion"]) == 30
    assert set(epochs[0]["weight_norms"]) == set(epochs[0]["gradient_norms"])
    assert "blocks.0.1" in epochs[0]["weight_norms"]
    losses = [line["loss"] for line in steps[:5]]
    assert np.average(losses, weights=[20] * 4 + [10]) == pytest.approx(epochs[0]["train_loss"])


def test_the_model_is_the_average_of_weights(tmp_path):
    run_to_end(tmp_path)
    model, facts = load_model(tmp_path)
    from_file, _ = load_model(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    from_checkpoint, _ = load_model(tmp_path)
    newest = load(tmp_path / "checkpoint-00000015.safetensors").arrays
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, from_file.state_dict()[name])
        np.testing.assert_array_equal(array, from_checkpoint.state_dict()[name])
        np.testing.assert_array_equal(array, newest["average." + name])
    assert (array != newest["model." + name]).any()
    assert facts["data"]["class_names"] == ["a", "b", "c", "d"]
    assert not model.training


def test_two_at_once(tmp_path):
    with RunFolder(tmp_path):
        with pytest.raises(CheckpointError, match=rf"in use by process {os.getpid()}"):
            RunFolder(tmp_path)
        program = [sys.executable, tiny_training.__file__, str(tmp_path), "60"]
        other = subprocess.run(program, capture_output=True, text=True)
        assert "is in use by process" in other.stderr
    with RunFolder(tmp_path):  # and free again
        pass


def test_the_lock_of_a_killed_process_is_none(tmp_path):
    program = [sys.executable, tiny_training.__file__, str(tmp_path), "0", "fsync", "9"]
    assert subprocess.run(program).returncode != 0
    assert (tmp_path / ".lock").read_text().strip().isdigit()
    with RunFolder(tmp_path) as run:
        assert run.checkpoint


def test_nothing_is_left_of_a_run_that_never_began(tmp_path):
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "run.json").write_text("somebody's")
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path):
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"cannot write to .*: Not a directory"):
        RunFolder(tmp_path / "file" / "run")


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    """The third checkpoint finds no room: one error, the second is whole, and training goes on."""
    run_to_end(tmp_path / "whole")
    calls = 0
    plain_replace = os.replace

    def full(*arguments):
        nonlocal calls
        calls += 1
        if calls == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain_replace(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(DiskError, match=r"cannot write .*checkpoint.*No space left"):
            run_to_end(tmp_path / "full", save_every=0)
    assert not list((tmp_path / "full").glob(".*.tmp"))
    run_to_end(tmp_path / "full")
    assert results(tmp_path / "full") == results(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_real_limit_on_the_disk(tmp_path):
    """Metrics meet the limit first, in the middle of a line."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500));"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r});"
        "from pathlib import Path; from minimix.runs.log import Log;"
        f"lines = Log(Path({str(tmp_path / 'lines')!r}))\n"
        "for step in range(1000): lines.write({'step': step})"
    )
    result = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True)
    assert "DiskError: cannot write" in result.stderr
    assert "File too large" in result.stderr
    assert (tmp_path / "lines").stat().st_size == 1500


def test_non_finite_weights_are_never_saved(tmp_path, monkeypatch):
    from minimix.errors import DivergenceError

    plain_check = TrainingState.check_finite

    def spoil_and_check(state, saved):
        if state.step == 10:
            state.model.head.weight.array[3] = np.inf
        plain_check(state, saved)

    monkeypatch.setattr(TrainingState, "check_finite", spoil_and_check)
    with pytest.raises(
        DivergenceError, match=r"after step 10: model\.head\.weight .*00005\.safetensors"
    ):
        run_to_end(tmp_path)
