"""Damaged files: what reads them refuses in one line, or goes on to what the whole file gives.

Seeded and bounded: the same damage each time. MINIMIX_FUZZ=10 tries ten times as much.
"""

import contextlib
import os
import shutil

import pytest
from mutate import mutations
from small_cifar10 import SMALL, write_binary, write_python

from minimix import kernels
from minimix.cli import main
from minimix.data import cifar10
from minimix.errors import MinimixError

TIMES = int(os.environ.get("MINIMIX_FUZZ", "1"))
TINY = (
    "--data shapes10 --preset plain --limit-train 48 --limit-test 20 --hidden-dim 8 --depth 1 "
    "--kernel-size 3 --patch-size 8 --epochs 3 --batch-size 16 --save-every 0 --quiet"
)
SAME = ("metrics.jsonl", "model.safetensors")  # for the same seed


@pytest.fixture(autouse=True, scope="module")
def _in_numpy():
    with kernels.backend("numpy"):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", *TINY.split(), "--out", str(folder)]) == 0
    return folder


def refused(capsys):
    """What a command that has failed said: one line at the end, and no traceback."""
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("minimix"), said
    assert "Traceback" not in said
    assert "MINIMIX_DEBUG" not in said  # which is recommended where minimix itself is at fault
    return said


@pytest.mark.parametrize("write", [write_python, write_binary])
def test_batches_of_cifar10(tmp_path, write):
    folder = write(tmp_path)
    for seed, path in enumerate(sorted(p for p in folder.iterdir() if "batch" in p.name)):
        content = path.read_bytes()
        for damaged in mutations(content, 30 * TIMES, seed):
            path.write_bytes(damaged)
            with contextlib.suppress(MinimixError):
                found = cifar10.read(folder, images_per_batch=SMALL)
                assert found.train_images.shape == (5 * SMALL, 32, 32, 3)
                assert set(found.test_labels) <= set(range(10))
        path.write_bytes(content)
    assert len(cifar10.read(folder, images_per_batch=SMALL).train_labels) == 5 * SMALL


@pytest.mark.parametrize("seed", range(30 * TIMES))
def test_a_run_resumes_to_the_same_bits_or_says_why_not(tmp_path, whole, seed, capsys):
    """The last checkpoint and the model are lost, and one of the other files is damaged."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "model.safetensors").unlink()
    *older, newest = sorted(folder.glob("checkpoint-*"))
    newest.unlink()
    damaged = [*older, *sorted(folder.glob("*.json*"))]
    path = damaged[seed % len(damaged)]
    path.write_bytes(next(mutations(path.read_bytes(), 1, seed)))
    if main(["train", "--resume", str(folder), "--quiet"]):
        refused(capsys)
    else:
        for name in SAME:
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_model_evaluates_to_the_same_or_is_refused(tmp_path, whole, capsys):
    main(["evaluate", str(whole)])
    expected = capsys.readouterr().out.splitlines()[-1]
    model = tmp_path / "model.safetensors"
    for damaged in mutations((whole / model.name).read_bytes(), 10 * TIMES, seed=0):
        model.write_bytes(damaged)
        if main(["evaluate", str(model)]):
            refused(capsys)
        else:
            assert capsys.readouterr().out.splitlines()[-1] == expected


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "run.json"])
def test_a_report_is_written_or_refused(tmp_path, whole, name, capsys):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for damaged in mutations((folder / name).read_bytes(), 4 * TIMES, seed=len(name)):
        (folder / name).write_bytes(damaged)
        if main(["report", str(folder)]):
            refused(capsys)
