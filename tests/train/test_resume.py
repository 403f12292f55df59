"""A training that is interrupted, however and whenever, ends as if it never had been."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_training
from tiny_training import CONFIG, STEPS, results, run_to_end

from minimix import kernels
from minimix.errors import CheckpointError
from minimix.runs import RunFolder
from minimix.runs.checkpoint import load, save
from minimix.train import loop
from minimix.train.config import changed
from minimix.train.interrupt import Interrupted


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with kernels.backend("numpy"):  # fixtures of a module begin before those of a test
        run_to_end(folder)
    return results(folder)


class Stop(Exception):
    """Stands for whatever ends a process in the middle."""


def begin_and_stop(folder, monkeypatch, step, config=CONFIG):
    """Train with a checkpoint after each step, and end right after the one of `step`."""

    def restless_save(run, at, arrays, facts):
        plain_save(run, at, arrays, facts)
        if at == step:
            raise Stop

    plain_save = RunFolder.save
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", restless_save)
        with pytest.raises(Stop):
            run_to_end(folder, config, save_every=0)


# ------------------------------------------------------------------ bit for bit


def test_the_same_seed_gives_the_same_bytes(tmp_path, uninterrupted):
    run_to_end(tmp_path, save_every=0)
    assert results(tmp_path) == uninterrupted


@pytest.mark.parametrize("step", [0, 1, 5, 7, 14, STEPS])
def test_stopped_after_any_step(tmp_path, monkeypatch, uninterrupted, step):
    begin_and_stop(tmp_path, monkeypatch, step)
    assert not (tmp_path / "model.safetensors").exists()
    run_to_end(tmp_path)
    assert results(tmp_path) == uninterrupted


def test_muon_is_stopped_and_goes_on_too(tmp_path, monkeypatch):
    config = replace(CONFIG, optimizer="muon")
    begin, whole = tmp_path / "stopped", tmp_path / "whole"
    run_to_end(whole, config)
    begin_and_stop(begin, monkeypatch, step=7, config=config)
    run_to_end(begin, config)
    assert results(begin) == results(whole)


def test_the_compiled_kernels_give_the_same_bytes_too(tmp_path, monkeypatch):
    pytest.importorskip("numba", reason="needs Numba")
    begin, whole = tmp_path / "stopped", tmp_path / "whole"
    with kernels.backend("numba"):
        run_to_end(whole)
        begin_and_stop(begin, monkeypatch, step=7)
        run_to_end(begin)
    assert results(begin) == results(whole)


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(tmp_path, uninterrupted, seed):
    rng = np.random.default_rng(seed)
    deaths = [("any", 4000), ("write", 12), ("fsync", 12), ("replace", 6), ("unlink", 4)]
    killed = 0
    for i in rng.integers(len(deaths), size=6):
        function, most = deaths[i]
        program = [sys.executable, tiny_training.__file__, tmp_path, "0"]
        died = subprocess.run([*program, function, str(rng.integers(1, most))], timeout=60)
        killed += died.returncode != 0
    assert killed >= 4
    run_to_end(tmp_path)
    assert results(tmp_path) == uninterrupted
    assert not list(tmp_path.glob(".*.tmp"))


def forget(folder: Path, change) -> None:
    """Let `change` spoil the newest checkpoint, and write it again as if nothing were wrong."""
    path = max(folder.glob("checkpoint-*"))
    found = load(path)
    change(found.arrays, found.facts)
    save(path, found.arrays, found.facts)


def zero(start):
    def change(arrays, facts):
        for name in arrays:
            if name.startswith(start):
                arrays[name] = np.zeros_like(arrays[name])

    return change


def average_begins_anew(arrays, facts):
    for name in list(arrays):
        if name.startswith("model."):
            arrays[name.replace("model.", "average.", 1)] = arrays[name]


def one_step_more(arrays, facts):
    arrays["optimizer.steps"] += 1


def another_order(arrays, facts):
    facts["config"]["seed"] = 1


def no_tally(arrays, facts):
    facts["tally"] = {"images": 0, "loss": 0.0, "correct": 0}


@pytest.mark.parametrize(
    "change",
    [
        zero("optimizer.0.m"),
        zero("optimizer.3.v"),
        zero("model.stem.2.running_mean"),
        zero("average.(updates)"),
        average_begins_anew,
        one_step_more,
        another_order,
        no_tally,
    ],
)
def test_every_piece_of_state_matters(tmp_path, monkeypatch, uninterrupted, change):
    """The comparison above can fail: leave out one thing, and the end is another."""
    begin_and_stop(tmp_path, monkeypatch, step=7)
    forget(tmp_path, change)
    run_to_end(tmp_path, replace(CONFIG, seed=1) if change is another_order else CONFIG)
    assert results(tmp_path) != uninterrupted


def test_a_line_cut_short_is_written_again(tmp_path, monkeypatch, uninterrupted):
    begin_and_stop(tmp_path, monkeypatch, step=7)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "step", "step": 8, "epoch": 2, "lo')
    run_to_end(tmp_path)
    assert results(tmp_path) == uninterrupted


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path, monkeypatch, uninterrupted, damage
):
    begin_and_stop(tmp_path, monkeypatch, step=7)
    path = tmp_path / "checkpoint-00000007.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    shortened = {"flipped": len(content), "truncated": len(content) // 2, "empty": 0}[damage]
    path.write_bytes(content[:shortened])

    said = []
    with RunFolder(tmp_path) as run:
        assert run.saved == tmp_path / "checkpoint-00000006.safetensors"
    run_to_end(tmp_path, say=said.append)
    assert len(said) == 1
    assert "checkpoint-00000007.safetensors is damaged" in said[0]
    assert not path.exists()  # nor does it count as one of the last three
    assert results(tmp_path) == uninterrupted


def test_where_all_are_damaged_nothing_is_touched(tmp_path, monkeypatch):
    begin_and_stop(tmp_path, monkeypatch, step=7)
    for path in tmp_path.glob("checkpoint-*"):
        path.write_bytes(b"nothing")
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.name != ".lock"}
    with pytest.raises(CheckpointError, match="no undamaged checkpoint"):
        RunFolder(tmp_path, say=lambda line: None)
    assert before == {p: p.read_bytes() for p in tmp_path.iterdir() if p.name != ".lock"}


# ------------------------------------------------------------------ other settings, other data


@pytest.mark.parametrize(("setting", "value"), [("lr", 0.5), ("seed", 3), ("epochs", 9)])
def test_a_run_keeps_its_settings(tmp_path, monkeypatch, setting, value):
    begin_and_stop(tmp_path, monkeypatch, step=3)
    with pytest.raises(CheckpointError, match=rf"{value}.* begun with {getattr(CONFIG, setting)}"):
        run_to_end(tmp_path, replace(CONFIG, **{setting: value}))


def test_a_run_keeps_its_network(tmp_path, monkeypatch):
    begin_and_stop(tmp_path, monkeypatch, step=3)
    with pytest.raises(CheckpointError, match=r"`hidden_dim` is 16, but .* begun with 8"):
        run_to_end(tmp_path, changed(CONFIG, hidden_dim=16))


def test_other_data_are_noticed_and_the_checkpoint_is_kept(tmp_path, monkeypatch, uninterrupted):
    begin_and_stop(tmp_path, monkeypatch, step=3)
    with pytest.raises(CheckpointError, match=r"data set tiny .* begun with tiny"):
        run_to_end(tmp_path, data=tiny_training.dataset(seed=1))
    run_to_end(tmp_path)
    assert results(tmp_path) == uninterrupted


def test_a_checkpoint_of_another_format(tmp_path, monkeypatch):
    begin_and_stop(tmp_path, monkeypatch, step=3)
    monkeypatch.setattr("minimix.runs.checkpoint.FORMAT", 2)
    with pytest.raises(CheckpointError, match="format 1, this minimix reads format 2"):
        run_to_end(tmp_path)


def test_a_checkpoint_of_another_network(tmp_path, monkeypatch):
    begin_and_stop(tmp_path, monkeypatch, step=3)
    forget(tmp_path, lambda arrays, facts: arrays.pop("model.head.bias"))
    with pytest.raises(CheckpointError, match=r"another model: .*head\.bias"):
        run_to_end(tmp_path)


# ------------------------------------------------------------------ signals


def signaled(monkeypatch, step, times, number=signal.SIGINT):
    """Let the signal come during this step."""
    plain_step = loop.TrainingLog.step

    def interrupted_step(log, *args):
        plain_step(log, *args)
        if log.state.step == step:
            for _ in range(times):
                signal.raise_signal(number)

    monkeypatch.setattr(loop.TrainingLog, "step", interrupted_step)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [3, 5, STEPS])
def test_a_signal_finishes_the_step_and_saves(
    tmp_path, monkeypatch, uninterrupted, capfd, number, step
):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        signaled(patch, step, times=1, number=number)
        with pytest.raises(Interrupted) as stop:
            run_to_end(tmp_path)
    assert stop.value.signal == number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert "finishing this step" in capfd.readouterr().err
    assert (tmp_path / f"checkpoint-{step:08d}.safetensors").exists()
    run_to_end(tmp_path)
    assert results(tmp_path) == uninterrupted


def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    signaled(monkeypatch, step=3, times=2)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(tmp_path)
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000000.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="waits for a signal as POSIX systems send it")
def test_ctrl_c_on_the_command_line(tmp_path):
    """As a user does it: 130, one line that says how to go on, and that command works."""
    command = [sys.executable, "-c", "import sys; from minimix.cli import main; sys.exit(main())"]
    small = ["--hidden-dim=8", "--depth=1", "--patch-size=8", "--limit-train=2000", "--epochs=500"]
    process = subprocess.Popen(
        [*command, "train", "--data=shapes10", "--preset=plain", *small, "--out", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"minimix train --resume {tmp_path}" in out.splitlines()[-1]
