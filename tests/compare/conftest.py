"""What the tests of comparisons share: few images, in the processes that are started too."""

import os

import pytest

from minimix import kernels
from minimix.data import shapes10

# Python runs this when it starts: what the trainings of a study see of shapes10 is as small as
# what the tests see.
FEW = """
from minimix.data import shapes10
whole = shapes10.load
shapes10.load = lambda: whole(100, 20)
"""


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    (folder / "sitecustomize.py").write_text(FEW)
    return folder, shapes10.load(100, 20)


@pytest.fixture(scope="module")  # not of the session: the tests that come after are not small
def small(few):
    """A context in which everything is small."""
    folder, data = few
    with pytest.MonkeyPatch.context() as patch, kernels.backend("numpy"):
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        patch.setenv("PYTHONPATH", path)
        patch.setenv("MINIMIX_BACKEND", "numpy")
        patch.setattr(shapes10, "load", lambda: data)
        yield


@pytest.fixture(autouse=True)
def _small(small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
