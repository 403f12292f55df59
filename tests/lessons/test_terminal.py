"""Commands in a lesson: `terminal` runs them as the cell's own output."""

import pytest

from lessons.terminal import terminal
from minimix.errors import MinimixError
from minimix.version import __version__


def test_it_prints_the_command_and_what_it_says(capfd):
    terminal("minimix --version")
    out, err = capfd.readouterr()
    assert out == f"$ minimix --version\nminimix {__version__}\n"
    assert err == ""


def test_a_command_that_fails_says_why_and_the_folder_is_not_named(capfd, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("no pictures")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MinimixError, match="minimix train"):
        terminal("minimix train --data 'a file'")
    said = capfd.readouterr().out
    assert "a file" in said
    assert str(tmp_path) not in said
