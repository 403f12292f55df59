"""What the tests of the data share."""

import pytest


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty home, cache and current folder; the home."""
    home = tmp_path / "home"
    here = tmp_path / "here"
    home.mkdir()
    here.mkdir()
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    for name in ("DATA", "CACHE_DIR", "OFFLINE", "CIFAR10_URL"):
        monkeypatch.delenv(f"MINIMIX_{name}", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(here)
    return home
