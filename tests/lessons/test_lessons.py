"""The lessons: notebooks as the sources say, checkers that find mistakes, everything runs."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lessons import ROOT, build, command, folders
from lessons.check import Exercise, check, examine, exercises
from minimix.errors import MinimixError

LESSONS = folders()
NUMBERS = [folder.name[:2] for folder in LESSONS]
EXERCISES = [e for number in NUMBERS for e in exercises(number)]
MISTAKES = [(e, message) for e in EXERCISES for message in e.mistakes]


def cells(lesson: Path, solved: bool) -> list[str]:
    book = build.notebook(lesson, solved)
    return ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]


def named(e: Exercise) -> str:
    return e.name


def short(message: str) -> str:
    return message[:30] if isinstance(message, str) else message.name


# ---- the notebooks are what their sources say


@pytest.mark.parametrize("lesson", LESSONS, ids=NUMBERS)
def test_the_student_notebook_is_built_from_its_source(lesson):
    written = (ROOT / f"{lesson.name}.ipynb").read_text(encoding="utf-8")
    assert written == build.to_json(build.notebook(lesson, solved=False)), (
        f"python -m lessons.build {lesson.name[:2]}"
    )


@pytest.mark.parametrize("lesson", LESSONS, ids=NUMBERS)
def test_the_solved_notebook_is_built_from_its_source_and_was_run(lesson):
    solved = ROOT / "solved" / f"{lesson.name}.ipynb"
    written = json.loads(solved.read_text(encoding="utf-8"))
    expected = build.notebook(lesson, solved=True)
    outputs = [c.pop("outputs") for c in written["cells"] if c["cell_type"] == "code"]
    counts = [c.pop("execution_count") for c in written["cells"] if c["cell_type"] == "code"]
    for cell in expected["cells"]:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)
    assert written == expected, f"python -m lessons.build {lesson.name[:2]} --execute"
    assert counts == list(range(1, len(counts) + 1))
    for output in (o for cell in outputs for o in cell):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output["text"]
        if png := output.get("data", {}).get("image/png"):
            assert len(png) * 3 / 4 < 60 * 1024, "a picture is larger than 60 KB"
            assert len(output["metadata"]["image/png"]["alt"]) > 20, "a picture needs its alt"


def test_no_notebook_without_a_source_and_all_of_them_are_small():
    stems = {lesson.name for lesson in LESSONS}
    assert {p.stem for p in ROOT.glob("*.ipynb")} == stems
    assert {p.stem for p in ROOT.glob("solved/*.ipynb")} == stems
    assert sum(p.stat().st_size for p in ROOT.rglob("*.ipynb")) < 6e6


@pytest.mark.parametrize("lesson", LESSONS, ids=NUMBERS)
def test_a_lesson_has_the_form_that_writing_md_asks_for(lesson):
    found = build.parse(build.source(lesson))
    number = lesson.name[:2]
    assert found[0].source.startswith(f"# {number} · ")
    for word in ("**You build**", "**You need**", "**It takes**") if number != "00" else ():
        assert word in found[0].source
    names = [e.name for e in exercises(number)]
    for i, cell in enumerate(found):
        if cell.is_exercise:
            assert found[i + 1].title == "hints"
            assert found[i + 2].source.startswith(f'check("{names.pop(0)}", ')
            for block in cell.source.split(build.BEGIN)[1:]:
                lines = [line for line in block.split(build.END)[0].splitlines() if line.strip()]
                assert len(lines) <= 10, "a solution has at most ten lines"
    assert names == [], "every exercise of the checker is in the lesson"
    if number != "00":
        assert 3 <= len(exercises(number)) <= 5
        assert any("**Predict" in cell.source for cell in found)


@pytest.mark.parametrize("lesson", LESSONS, ids=NUMBERS)
def test_the_table_of_lessons_has_it_with_its_running_time(lesson):
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    row = next((r for r in table.splitlines() if f"(solved/{lesson.name}.ipynb)" in r), None)
    assert row, f"lessons/README.md has no row for {lesson.name}"
    opening = build.parse(build.source(lesson))[0].source
    time = re.search(r"work through, (.*?) to run", opening)
    assert time
    assert row.endswith(f" {time[1]} |"), f"{lesson.name} says {time[1]}"


# ---- the checkers: the solution passes, the stub does not, nor does any mistake


@pytest.mark.parametrize("lesson", LESSONS, ids=NUMBERS)
def test_solutions_pass(lesson):
    reports = command.examine_cells(cells(lesson, solved=True))
    assert list(reports) == [e.name for e in exercises(lesson.name[:2])]
    for report in reports.values():
        assert report.passed, report


@pytest.mark.parametrize("lesson", LESSONS, ids=NUMBERS)
def test_stubs_are_not_written_yet(lesson):
    for report in command.examine_cells(cells(lesson, solved=False)).values():
        assert not report.passed
        assert report.lines[0].startswith("not written yet"), report


@pytest.mark.parametrize("exercise", EXERCISES, ids=named)
def test_the_reference_passes_and_three_mistakes_are_known(exercise):
    assert examine(exercise, exercise.reference).passed
    assert len(exercise.mistakes) >= 3


@pytest.mark.parametrize(("exercise", "message"), MISTAKES, ids=short)
def test_every_mistake_fails_with_its_own_message(exercise, message):
    report = examine(exercise, exercise.mistakes[message])
    assert not report.passed
    assert report.lines[1:] == (message,)


def nothing(*args):
    return None


def words(*args):
    return "seven"


def many(*args):
    return [1, "two", None, np.zeros((3, 1, 4)), {}]


def crash(*args):
    raise KeyError("a mistake of the student's")


def leave(*args):
    raise SystemExit


def nan(*args):
    return np.full(3, np.nan)


@pytest.mark.parametrize("answer", [nothing, words, many, crash, leave, nan, 7, None, object])
@pytest.mark.parametrize("exercise", EXERCISES, ids=named)
def test_a_checker_survives_anything(exercise, answer):
    report = examine(exercise, answer)
    assert not report.passed
    assert all(isinstance(line, str) and len(line) < 400 for line in report.lines)
    assert str(report)
    assert report._repr_html_()


# ---- what a checker says


DOUBLE = Exercise(
    "99.double",
    reference=lambda x: (2 * x, x.sum()),
    outputs=("y", "total"),
    cases=lambda rng: [("2×3 numbers", (np.arange(1, 7, dtype=np.float32).reshape(2, 3),))],
    mistakes={"halved": lambda x: (x / 2, x.sum()), "no sum": lambda x: (2 * x, x.mean())},
)


def wrong_in_place(x):
    x *= 2
    return x, x.sum() / 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: None, ("2×3 numbers: the result is None; is there a `return`?",)),
        (lambda x: 2 * x, ("2×3 numbers: should return 2 things (y, total), not an array",)),
        (lambda x: (2 * x[0], 1), ("2×3 numbers: y has shape (3,), expected (2, 3)",)),
        (lambda x: (2.0 * x.astype(float), 1), ("2×3 numbers: y is float64, expected float32",)),
        (lambda x: (-2 * x, 21), ("2×3 numbers: y at [0, 0] is -2, expected 2", "sign")),
        (lambda x: (6 * x, 21), ("2×3 numbers: y at [0, 0] is 6, expected 2", "3 times")),
        (lambda x: (x * np.nan, 21), ("2×3 numbers: y contains nan",)),
        (lambda x: (x / 2, x.mean()), ("2×3 numbers: y at", "halved", "no sum")),
        (lambda x: 1 / 0, ("2×3 numbers: ZeroDivisionError: division by zero",)),
        (wrong_in_place, ("2×3 numbers: right, but argument 1 was changed in place",)),
    ],
)  # fmt: skip
def test_a_checker_says_what_is_wrong(answer, said):
    text = str(examine(DOUBLE, answer))
    for words in said:
        assert words in text


def test_checking_what_is_no_exercise_names_those_there_are():
    with pytest.raises(ValueError, match=r"there is no exercise '01.divide'; there is 01.multiply"):
        check("01.divide", nothing)


# ---- minimix lessons


def test_copying_never_touches_what_is_there(tmp_path):
    folder = tmp_path / "mine"
    assert command.copy(folder) == [f"{len(LESSONS)} notebooks copied to {folder}"]
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
    assert said[0] == f"{len(LESSONS)} kept as they were"
    assert f"{second.name} is of another edition" in said[1]
    assert command.edition(second.with_suffix(".new.ipynb")) == command.edition(ROOT / second.name)


def test_the_first_lesson_is_opened_once_then_the_folder(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: name)  # installed or not
    monkeypatch.setattr(command.subprocess, "call", lambda command: opened.append(command[-1]))
    folder = tmp_path / "mine"
    for _ in range(2):
        command.main(folder)
    command.main(folder, open_lab=False)
    assert opened == [str(folder / "00_start_here.ipynb"), str(folder)]


def test_progress_exercise_by_exercise(tmp_path):
    command.copy(tmp_path)
    first = next(tmp_path.glob("01_*.ipynb"))
    text = first.read_text(encoding="utf-8")
    source = next(folder for folder in LESSONS if folder.name == first.stem)
    done = build.notebook(source, solved=True)
    stubs = build.notebook(source, solved=False)
    # The first exercise solved, a magic line, an endless loop that is no definition, and a cell
    # that is not Python.
    which = next(i for i, c in enumerate(stubs["cells"]) if "your turn: multiply" in str(c))
    code = next(c for c in done["cells"] if "def multiply" in str(c))
    stubs["cells"][which]["source"] = ["%time 1\n", *code["source"]]
    for extra in (["while True:\n", "    pass"], ["this is not Python"]):
        stubs["cells"].insert(1, stubs["cells"][which] | {"source": extra})
    first.write_text(build.to_json(stubs), encoding="utf-8")
    for other in set(tmp_path.glob("*.ipynb")) - {first}:
        other.unlink()
    said = command.progress(tmp_path)
    assert "✓ 01.multiply\n" in said
    assert "· 01.tanh                  not written yet: tanh\n" in said
    assert said.endswith("1 of 5 exercises solved")
    assert text != first.read_text(encoding="utf-8")


def test_progress_survives_endless_definitions_and_broken_files(tmp_path):
    book = tmp_path / "01.ipynb"
    cell = {
        "cell_type": "code",
        "source": ["x = [1 for _ in iter(int, 1)]\n", "check('01.tanh', x)"],
    }
    book.write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    with pytest.raises(MinimixError, match="still running after 2 s"):
        command.examine_notebook(book, timeout=2)
    book.write_text("no notebook", encoding="utf-8")
    with pytest.raises(MinimixError, match="could not be read as a notebook"):
        command.examine_notebook(book)
    with pytest.raises(MinimixError, match="there is no folder"):
        command.progress(tmp_path / "nowhere")
    with pytest.raises(MinimixError, match="is a file"):
        command.copy(book)
