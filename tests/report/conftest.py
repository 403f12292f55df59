"""A run to report on, trained once, and copies of it to be damaged."""

import json
import shutil

import pytest

from minimix import cli, kernels
from minimix.data import shapes10

TINY = [
    *("--data=shapes10", "--preset=plain"),
    *("--hidden-dim=8", "--depth=1", "--kernel-size=3", "--patch-size=8"),
    *("--batch-size=50", "--epochs=2", "--limit-train=120", "--limit-test=50", "--quiet"),
]


@pytest.fixture(scope="session")
def few():
    return shapes10.load(150, 60)


@pytest.fixture(autouse=True)
def _small_and_in_numpy(monkeypatch, few):
    monkeypatch.setattr(shapes10, "load", lambda: few)
    with kernels.backend("numpy"):
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory, few):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    with pytest.MonkeyPatch.context() as patch, kernels.backend("numpy"):
        patch.setattr(shapes10, "load", lambda: few)
        assert cli.main(["train", *TINY, f"--out={folder}"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, which a test may change."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def lines(run):
    """The metrics of `run`, parsed; `write` puts them back."""

    class Metrics(list):
        def write(self):
            text = "".join(json.dumps(line) + "\n" for line in self)
            (run / "metrics.jsonl").write_text(text)

    return Metrics(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
