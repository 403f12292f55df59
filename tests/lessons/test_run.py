"""Every lesson runs to its end: solved, in Jupyter, and cell by cell in the NumPy back end.

(The student's notebook is the same up to its first stub, which test_build.py and test_progress.py
hold it to.) Trainings are shortened: what takes long in them is doing the same again.

Takes minutes, and so runs only when asked for: MINIMIX_TEST_NOTEBOOKS=1 pytest tests/lessons, or
with --no-skips, as in CI.
"""

import ast
import linecache
import os

import pytest

from lessons import build, folders
from minimix import kernels

pytest.importorskip("nbclient", reason="needs the extra minimix[lessons]")
pytest.importorskip("ipykernel", reason="needs the extra minimix[lessons]")

# Jupyter's own libraries warn about themselves.
pytestmark = pytest.mark.filterwarnings("default")
LESSONS = {folder.name[:2]: folder for folder in folders()}
TEACHES_NUMBA = {"04"}
SHORTER = {
    "00": {"n_test=300": "n_test=60"},
    "08": {"steps=60": "steps=10"},
    "09": {"in range(30)": "in range(3)", "ax.text(29,": "ax.text(2,"},
    "10": {
        "(48, 500, 64) if COMPILED else (16, 60, 32)": "(48, 40, 64) if COMPILED else (16, 10, 16)",
        "((images[:500], labels[:500]), (test_images, test_labels))": (
            "((images[:50], labels[:50]), (test_images[:50], test_labels[:50]))"
        ),
    },
    "11": {
        "(32, 300, (0, 1, 2, 3)) if COMPILED else (8, 10, (0, 1))": (
            "(32, 20, (0, 1)) if COMPILED else (8, 4, (0, 1))"
        ),
        "model.eval()(mx.Tensor(x_test))": "model.eval()(mx.Tensor(x_test[:100]))",
        "== test_labels)": "== test_labels[:100])",
    },
    "12": {"steps=40": "steps=4"},
    "13": {"(16, 16, 200) if": "(16, 16, 20) if"},
    "14": {"steps, losses = 200": "steps, losses = 20"},
    "15": {"--epochs 20": "--epochs 2"},
}


def solved(number):
    """The solved notebook of a lesson, with fewer steps of training."""
    book = build.notebook(LESSONS[number], solved=True)
    for long, short in SHORTER.get(number, {}).items():
        (cell,) = (c for c in book.cells if long in c.source)
        cell.source = cell.source.replace(long, short)
    return book


@pytest.fixture(autouse=True)
def _asked_for(request):
    if not (os.environ.get("MINIMIX_TEST_NOTEBOOKS") or request.config.getoption("--no-skips")):
        pytest.skip("runs every notebook; set MINIMIX_TEST_NOTEBOOKS=1")


@pytest.fixture
def _no_window(monkeypatch, tmp_path):
    """What is drawn in this process is not shown, and nothing of it is left."""
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    yield
    plt.close("all")


def run_cells(book):
    """Run the code cells of a notebook in this process; yields what each of them ends with."""
    names = {"__name__": "__main__"}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            lines = cell["source"].splitlines(keepends=True)
            linecache.cache[cell["id"]] = len(lines), None, lines, cell["id"]  # as Jupyter does
            *statements, last = ast.parse(cell["source"]).body
            if not isinstance(last, ast.Expr):
                statements, last = [*statements, last], None
            exec(compile(ast.Module(statements, []), cell["id"], "exec"), names)
            if last is not None:
                yield repr(eval(compile(ast.Expression(last.value), cell["id"], "eval"), names))


@pytest.mark.parametrize("number", LESSONS)
def test_the_solved_lesson_runs_in_jupyter(number, monkeypatch):
    monkeypatch.setenv("MINIMIX_BACKEND", "numba")
    book = solved(number)
    build.execute(book)
    said = [o for c in book["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    assert not [o for o in said if o.get("name") == "stderr"]
    assert not [o for o in said if str(o.get("data", {}).get("text/plain", "")).startswith("✗")]


@pytest.mark.parametrize("number", sorted(LESSONS.keys() - TEACHES_NUMBA))
@pytest.mark.usefixtures("_no_window")
def test_the_solved_lesson_runs_without_numba(number, capsys):
    with kernels.backend("numpy"):
        said = list(run_cells(solved(number)))
    assert not [one for one in said if one.startswith("✗")]
    assert not capsys.readouterr().err
