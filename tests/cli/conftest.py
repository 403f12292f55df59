"""What the tests of the command line share: a small data set, no network, and a way to run it."""

import pytest

from minimix import cli, kernels
from minimix.data import shapes10


@pytest.fixture(autouse=True)
def _small_and_in_numpy(monkeypatch, tmp_path):
    few = shapes10.load(150, 60)
    monkeypatch.setattr(shapes10, "load", lambda: few)
    monkeypatch.setenv("MINIMIX_BACKEND", "numpy")
    monkeypatch.setenv("MINIMIX_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with kernels.backend("numpy"):
        yield


@pytest.fixture
def minimix(capsys):
    """Run a command in this process: (code, stdout, stderr)."""

    def run(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
