"""The notebooks are made from the lessons' texts, which have the form that WRITING.md asks for."""

import re

import pytest

from lessons import ROOT, build, folders
from lessons.check import exercises

jupytext = pytest.importorskip("jupytext", reason="needs the extra minimix[lessons]")
nbformat = pytest.importorskip("nbformat", reason="needs the extra minimix[lessons]")

LESSONS = folders()
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=[f.name[:2] for f in LESSONS])


@each_lesson
def test_the_student_notebook_is_built_from_its_text(lesson):
    written = (ROOT / f"{lesson.name}.ipynb").read_text(encoding="utf-8")
    expected = nbformat.writes(build.notebook(lesson, solved=False)) + "\n"
    assert written == expected, f"python -m lessons.build {lesson.name[:2]}"


@each_lesson
def test_the_solved_notebook_is_built_from_its_text_and_was_run(lesson):
    written = nbformat.read(ROOT / "solved" / f"{lesson.name}.ipynb", as_version=4)
    code = [cell for cell in written.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for output in (output for cell in code for output in cell.outputs):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output["text"]
        if png := output.get("data", {}).get("image/png"):
            assert len(png) * 3 / 4 < 60 * 1024, "a picture is larger than 60 KB"
            assert len(output["metadata"]["image/png"]["alt"]) > 20, "a picture needs its alt"
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    expected = build.notebook(lesson, solved=True)
    assert written == expected, f"python -m lessons.build {lesson.name[:2]} --execute"


def test_no_notebook_without_a_text_and_all_of_them_are_small():
    names = {lesson.name for lesson in LESSONS}
    assert {path.stem for path in ROOT.glob("*.ipynb")} == names
    assert {path.stem for path in ROOT.glob("solved/*.ipynb")} == names
    assert sum(path.stat().st_size for path in ROOT.rglob("*.ipynb")) < 6e6


@each_lesson
def test_jupytext_writes_a_text_back_as_it_is(lesson):
    """So that a lesson may be edited as a notebook."""
    text = (lesson / "lesson.py").read_text(encoding="utf-8")
    assert jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="py:percent") == text


@each_lesson
def test_a_lesson_has_the_form_that_writing_md_asks_for(lesson):
    found = build.cells(lesson)
    number = lesson.name[:2]
    assert found[0].source.startswith(f"# {number} · ")
    for word in ("**You build**", "**You need**", "**It takes**") if number != "00" else ():
        assert word in found[0].source
    names = [e.name for e in exercises(number)]
    for i, cell in enumerate(found):
        if build.is_exercise(cell):
            assert build.is_hints(found[i + 1])
            assert found[i + 2].source.startswith(f'check("{names.pop(0)}", ')
            for block in cell.source.split(build.BEGIN)[1:]:
                lines = [line for line in block.split(build.END)[0].splitlines() if line.strip()]
                assert len(lines) <= 10, "a solution has at most ten lines"
    assert names == [], "every exercise of the checker is in the lesson"
    if number != "00":
        assert 3 <= len(exercises(number)) <= 5
        assert any("**Predict" in cell.source for cell in found)


@each_lesson
def test_the_table_of_lessons_has_it_with_its_running_time(lesson):
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    row = next((r for r in table.splitlines() if f"(solved/{lesson.name}.ipynb)" in r), None)
    assert row, f"lessons/README.md has no row for {lesson.name}"
    time = re.search(r"work through, (.*?) to run", build.cells(lesson)[0].source)
    assert time
    assert row.endswith(f" {time[1]} |"), f"{lesson.name} says {time[1]}"
