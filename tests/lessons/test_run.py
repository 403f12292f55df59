"""Every lesson runs in Jupyter: solved ones to the end, the student's up to the first stub.

Takes minutes, and so runs only when asked for: MINIMIX_TEST_NOTEBOOKS=1 pytest tests/lessons, or
with --no-skips, as in CI.
"""

import os

import pytest

from lessons import build, folders
from minimix.errors import MinimixError

pytest.importorskip("nbclient", reason="needs the extra minimix[lessons]")
pytest.importorskip("ipykernel", reason="needs the extra minimix[lessons]")

# Jupyter's own libraries warn about themselves.
pytestmark = pytest.mark.filterwarnings("default")
LESSONS = folders()
NUMBERS = [folder.name[:2] for folder in LESSONS]
TEACHES_NUMBA = {"04"}
RUNS = [
    pytest.param(lesson, backend, id=f"{lesson.name[:2]}-{backend}")
    for lesson in LESSONS
    for backend in ("numba", "numpy")
    if backend == "numba" or lesson.name[:2] not in TEACHES_NUMBA
]


@pytest.fixture(autouse=True)
def _asked_for(request):
    if not (os.environ.get("MINIMIX_TEST_NOTEBOOKS") or request.config.getoption("--no-skips")):
        pytest.skip("runs every notebook; set MINIMIX_TEST_NOTEBOOKS=1")


@pytest.mark.parametrize(("lesson", "backend"), RUNS)
def test_the_solved_lesson_runs(lesson, backend, monkeypatch):
    monkeypatch.setenv("MINIMIX_BACKEND", backend)
    book = build.notebook(lesson, solved=True)
    build.execute(book)
    said = [o for c in book["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    assert not [o for o in said if o.get("name") == "stderr"]
    assert not [o for o in said if str(o.get("data", {}).get("text/plain", "")).startswith("✗")]


@pytest.mark.parametrize("lesson", LESSONS, ids=NUMBERS)
def test_the_student_notebook_runs_up_to_its_first_stub(lesson):
    book = build.notebook(lesson, solved=False)
    if not any("your turn: " in str(cell) for cell in book["cells"]):
        build.execute(book)
        return
    with pytest.raises(MinimixError, match="NotImplementedError: your turn: "):
        build.execute(book)
