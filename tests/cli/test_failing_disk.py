"""A disk that fails at any moment costs one line and no bits: resumed, the run ends the same."""

import builtins
import errno
import functools
import importlib
import io
import os
import shutil

import pytest

from minimix import cli, runs
from minimix.data import shapes10

TRAIN = [
    *("train", "--data=shapes10", "--preset=plain"),
    *("--hidden-dim=2", "--depth=1", "--kernel-size=1"),
    *("--patch-size=16", "--batch-size=4", "--epochs=1", "--limit-train=12", "--limit-test=4"),
    *("--threads=1", "--save-every=0", "--quiet", "--no-whiten"),
]
drawn = functools.cache(shapes10.load)
NUMBERS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)


class Disk:
    """Counts the calls that reach the disk, and lets the `at`-th fail, or all from there on."""

    def __init__(self, at=0, lasting=False):
        self.at, self.lasting = at, lasting
        self.calls = []

    def reach(self, what):
        self.calls.append(what)
        n = len(self.calls)
        if n == self.at or (self.lasting and n > self.at > 0):
            number = NUMBERS[n % len(NUMBERS)]
            raise OSError(number, os.strerror(number))

    def failing(self, name, plain):
        def call(*arguments, **keywords):
            self.reach(name)
            return plain(*arguments, **keywords)

        return call

    def open(self, file, mode="r", *arguments, **keywords):
        self.reach("open")
        return File(self, plain_open(file, mode, *arguments, **keywords))

    def attach(self, patch):
        for name in ("open", "fsync", "replace", "unlink", "mkdir", "rmdir", "listdir"):
            patch.setattr(os, name, self.failing(name, getattr(os, name)))
        patch.setattr(builtins, "open", self.open)
        patch.setattr(io, "open", self.open)


plain_open = builtins.open


class File:
    """An open file whose reading, writing and closing can fail."""

    def __init__(self, disk, file):
        self._disk, self._file = disk, file

    def __getattr__(self, name):
        found = getattr(self._file, name)
        return self._disk.failing(name, found) if name in ("read", "write", "flush") else found

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def close(self):
        self._file.close()
        self._disk.reach("close")


def results(folder):
    names = ("metrics.jsonl", "model.safetensors", "checkpoint-00000003.safetensors")
    return {name: (folder / name).read_bytes() for name in names}


def train(monkeypatch, capsys, disk, *arguments):
    with monkeypatch.context() as patch:
        disk.attach(patch)
        code = cli.main([*TRAIN[:1], *map(str, arguments)])
    return code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    """What takes long in these trainings is to draw the images, which needs no disk.

    And matplotlib is imported before disks fail: half of an import would stay with later tests.
    """
    importlib.import_module("minimix.report.explain")
    monkeypatch.setattr(shapes10, "load", drawn)


@pytest.fixture
def uninterrupted(tmp_path, monkeypatch, capsys):
    disk = Disk()
    assert train(monkeypatch, capsys, disk, *TRAIN[1:], "--out", tmp_path / "whole") == (0, "")
    assert {"open", "write", "fsync", "replace", "unlink", "mkdir", "close"} <= set(disk.calls)
    return results(tmp_path / "whole"), len(disk.calls)


def in_order(err):
    return err.startswith("minimix: ") and err.count("\n") == 1 and len(err) < 400


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_every_call_may_fail(tmp_path, monkeypatch, capsys, uninterrupted, lasting):
    expected, calls = uninterrupted
    assert calls > 70
    for at in range(1, calls + 1, 4 if lasting else 1):
        folder = tmp_path / f"run{at}"
        disk = Disk(at, lasting)
        code, err = train(monkeypatch, capsys, disk, *TRAIN[1:], "--out", folder)
        if len(disk.calls) < at:
            break
        told = f"call {at}, {disk.calls[at - 1]}: {code} {err}"
        assert (code == 1 and in_order(err)) or (code, err) == (0, ""), told
        if not (folder / "model.safetensors").exists():
            begun = list(folder.glob("checkpoint-*")) if folder.exists() else []
            again = ["--resume", folder] if begun else [*TRAIN[1:], "--out", folder]
            assert train(monkeypatch, capsys, Disk(), *again) == (0, ""), told
        assert results(folder) == expected, told
        assert not list(folder.glob(".minimix-*")) or lasting, told


def test_resuming_may_fail_too(tmp_path, monkeypatch, capsys, uninterrupted):
    """And fail again: what was resumed from is still there."""
    expected, _ = uninterrupted
    stopped, folder = tmp_path / "stopped", tmp_path / "run"
    assert train(monkeypatch, capsys, Disk(at=50), *TRAIN[1:], "--out", stopped)[0] == 1
    shutil.copytree(stopped, folder)
    failed = 0
    for at in range(1, 40):
        if (folder / "model.safetensors").exists():
            assert results(folder) == expected
            shutil.rmtree(folder)
            shutil.copytree(stopped, folder)
        code, err = train(monkeypatch, capsys, Disk(at), "--resume", folder)
        failed += code
        assert (code == 1 and in_order(err)) or (code, err) == (0, "")
    assert failed > 10
    train(monkeypatch, capsys, Disk(), "--resume", folder)
    assert results(folder) == expected


def test_reading_commands_on_a_failing_disk(tmp_path, monkeypatch, capsys, uninterrupted):
    for command in ("evaluate", "report"):
        for at in range(1, 40):
            disk = Disk(at)
            with monkeypatch.context() as patch:
                disk.attach(patch)
                code = cli.main([command, str(tmp_path / "whole")])
            err = capsys.readouterr().err
            if len(disk.calls) < at:
                break
            assert code == 0 or (code == 1 and in_order(err)), f"{command}, call {at}: {err}"
    assert results(tmp_path / "whole") == uninterrupted[0]
    assert runs.read_log(tmp_path / "whole").finished
