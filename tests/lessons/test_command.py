"""`minimix lessons`: copying and opening."""

import copy
import json
import os

import pytest

from lessons import ROOT, command, folders
from minimix.errors import MinimixError

N = len(folders())


def test_copying_never_touches_what_is_there(tmp_path):
    folder = tmp_path / "mine"
    assert command.copy(folder) == [f"{N} notebooks copied to {folder}"]
    first, second = sorted(folder.iterdir())[:2]
    book = json.loads(first.read_text(encoding="utf-8"))
    mine = copy.deepcopy(book)
    mine["cells"][0]["source"] = ["my notes"]
    first.write_text(json.dumps(mine), encoding="utf-8")
    old = json.loads(second.read_text(encoding="utf-8"))
    old["metadata"]["minimix"]["edition"] = "an older one"
    second.write_text(json.dumps(old), encoding="utf-8")

    said = command.copy(folder)
    assert json.loads(first.read_text(encoding="utf-8")) == mine
    assert json.loads(second.read_text(encoding="utf-8")) == old
    assert said[0] == f"{N} kept as they were"
    assert f"{second.name} is of another edition" in said[1]
    new = second.with_suffix(".new.ipynb")
    assert command.edition(new) == command.edition(ROOT / second.name)

    solved = json.loads(new.read_text(encoding="utf-8"))
    solved["cells"][0]["source"] = ["my answers"]
    new.write_text(json.dumps(solved), encoding="utf-8")
    assert new.name in command.copy(folder)[1]
    assert json.loads(new.read_text(encoding="utf-8")) == solved
    new.write_text(json.dumps(old), encoding="utf-8")  # and of an older edition, in time
    for _ in range(2):
        assert f"see {second.stem}.new-2.ipynb" in command.copy(folder)[1]
    assert json.loads(new.read_text(encoding="utf-8")) == old
    assert len(list(folder.iterdir())) == N + 2


def test_where_the_lessons_cannot_be_written_one_line_says_so(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(MinimixError, match=r"file is a file; name a folder for the lessons"):
        command.main(file)
    with pytest.raises(MinimixError, match=r"cannot be written to .*: Not a directory; name anoth"):
        command.main(file / "below")


@pytest.fixture
def opened(monkeypatch):
    """The commands that would have started JupyterLab, whether it is installed or not."""
    commands = []
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(command.subprocess, "call", commands.append)
    return commands


def test_the_first_lesson_is_opened_once_then_the_folder(tmp_path, opened):
    folder = tmp_path / "mine"
    for _ in range(2):
        command.main(folder)
    command.main(folder, open_lab=False)
    assert [c[3] for c in opened] == [str(folder / "00_start_here.ipynb"), str(folder)]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no root")
def test_jupyterlab_starts_for_root_too(tmp_path, opened, monkeypatch, capsys):
    for user in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        command.main(tmp_path)
    assert ["--allow-root" in c for c in opened] == [True, False]
    assert "you are root" in capsys.readouterr().out


def test_without_jupyterlab_the_lessons_are_copied_and_a_line_says_what_to_install(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MinimixError, match="JupyterLab is not installed: pip install jupyterlab"):
        command.main(tmp_path / "mine")
    assert len(list((tmp_path / "mine").iterdir())) == N
