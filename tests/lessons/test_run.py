"""Every lesson runs in Jupyter: solved ones to the end, the student's up to the first stub.

Takes minutes, and so runs only when asked for: MINIMIX_TEST_NOTEBOOKS=1 pytest tests/lessons
"""

import os

import pytest

from minimix.errors import MinimixError
from minimix.learn import build

if not os.environ.get("MINIMIX_TEST_NOTEBOOKS"):
    pytest.skip("runs every notebook; set MINIMIX_TEST_NOTEBOOKS=1", allow_module_level=True)
pytest.importorskip("nbclient", reason="needs the extra minimix[lessons]")
pytest.importorskip("ipykernel", reason="needs the extra minimix[lessons]")

# Jupyter's own libraries warn about themselves.
pytestmark = pytest.mark.filterwarnings("default")
SOURCES = build.sources()
NUMBERS = [path.stem[:2] for path in SOURCES]
TEACHES_NUMBA = {"04"}


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("path", SOURCES, ids=NUMBERS)
def test_the_solved_lesson_runs(path, backend, monkeypatch):
    if backend == "numpy" and path.stem[:2] in TEACHES_NUMBA:
        pytest.skip("this lesson is about Numba")
    monkeypatch.setenv("MINIMIX_BACKEND", backend)
    book = build.execute(build.notebook(path, solved=True))
    said = [o for c in book["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    assert not [o for o in said if o.get("name") == "stderr"]
    assert "✗" not in str(said)


@pytest.mark.parametrize("path", SOURCES, ids=NUMBERS)
def test_the_student_notebook_runs_up_to_its_first_stub(path):
    book = build.notebook(path, solved=False)
    if not any("your turn: " in str(cell) for cell in book["cells"]):
        build.execute(book)
        return
    with pytest.raises(MinimixError, match="NotImplementedError: your turn: "):
        build.execute(book)
