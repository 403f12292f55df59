"""The notebooks are made from the lessons' texts, which have the form that WRITING.md asks for."""

import importlib.util
import itertools
import json
import re
import subprocess

import pytest

from lessons import ROOT, build, folders, teaching
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
        data = output.get("data", {})
        assert "image/png" not in data, "a picture whose alternative no screen reader reads"
        if picture := re.search(r'<img .*alt="(.*?)" src="(.*?)"', data.get("text/html", "")):
            assert len(picture[2]) * 3 / 4 < 60 * 1024, "a picture is larger than 60 KB"
            assert len(picture[1]) > 20, "a picture needs its alt"
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


@each_lesson
def test_what_a_picture_shows_is_not_told_before_it_is_shown(lesson):
    """Text alternatives stand in pictures.json, each used once; predictions have a place."""
    texts = json.loads((lesson / "pictures.json").read_text(encoding="utf-8"))
    code = "\n".join(c.source for c in build.cells(lesson) if c.cell_type == "code")
    named = re.findall(r'alt="(.*?)"', code)
    assert named == [f"{lesson.name[:2]}.{i}" for i in range(1, len(texts) + 1)]
    found = build.cells(lesson)
    for cell, after in itertools.pairwise(found):
        if "**Predict" in cell.source:
            assert cell.source.splitlines()[-1].startswith(">"), "something before the guess"
            assert after.source.startswith("guess = ...")
    uses = len(re.findall(r"guess=guess|show\.guessed\(guess\)", code))
    assert uses == code.count("guess = ...")


@each_lesson
def test_files_that_a_lesson_names_exist(lesson):
    source = (lesson / "lesson.py").read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:minimix|lessons|tests|bench)/[\w/]*(?:\.py|/)", source):
        assert (lesson.parent.parent / path).exists(), f"{lesson.name} names {path}"


@each_lesson
def test_cells_are_short_and_the_last_one_keeps_what_was_built(lesson):
    code = [cell for cell in build.cells(lesson) if cell.cell_type == "code"]
    assert len([line for line in code[0].source.splitlines() if line.strip()]) <= 10
    lines = [line for cell in code for line in cell.source.splitlines()]
    assert not [line for line in lines if len(line) > 97], "wider than a cell of JupyterLab"
    assert not any("fmt: skip" in cell.source or "# noqa" in cell.source for cell in code)
    names = [e.name[3:] for e in exercises(lesson.name[:2])]
    assert code[-1].source.endswith(f'keep("{lesson.name[:2]}", {", ".join(names)})')


def test_a_cell_that_only_draws_is_folded_and_outputs_are_kept_with_their_code(tmp_path):
    (lesson,) = (folder for folder in LESSONS if folder.name.startswith("07"))
    book = build.notebook(lesson, solved=True)
    install, *folded = (c for c in book.cells if c.metadata.get("jupyter"))
    assert install.id == "07-install"
    assert folded
    assert all("show." in cell.source for cell in folded)
    path = ROOT / "solved" / f"{lesson.name}.ipynb"
    assert build.keep_outputs(book, path)
    assert any(c.outputs for c in book.cells if c.cell_type == "code")
    next(c for c in book.cells if c.cell_type == "code").source += "\n1"
    assert not build.keep_outputs(book, path)
    assert not build.keep_outputs(book, tmp_path / "missing.ipynb")


def test_the_teachers_page_follows_from_the_lessons():
    assert teaching.PAGE.read_text("utf-8") == teaching.page(), "python -m lessons.teaching"


@each_lesson
def test_a_students_notebook_is_the_solved_one_up_to_its_stubs(lesson):
    mine, solved = (
        [c for c in build.notebook(lesson, solved=done).cells if c.cell_type == "code"]
        for done in (False, True)
    )
    assert len(mine) == len(solved)
    for stub, done in zip(mine, solved, strict=True):
        if stub.source != done.source:
            assert 'raise NotImplementedError("your turn: ' in stub.source
            compile(stub.source, "stub", "exec")


@pytest.fixture
def pip(monkeypatch):
    """In place of pip: the list of what it is asked to install; minimix seems to be missing."""
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command[-1]))
    return asked


def test_the_first_cell_does_nothing_where_minimix_is_installed(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("installs"))
    exec(build.install_cell("00").source, {})


def test_the_first_cell_installs_the_checkout_around_it(pip, monkeypatch, tmp_path):
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "build.py").touch()
    monkeypatch.chdir(tmp_path / "lessons")
    exec(build.install_cell("00").source, {})
    assert pip == [str(tmp_path)]


def test_the_first_cell_says_what_to_do_where_there_is_nothing_to_install(
    pip, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "address", lambda: "")
    with pytest.raises(SystemExit, match="python -m pip install"):
        exec(build.install_cell("00").source, {})
    monkeypatch.setattr(build, "address", lambda: "https://example.org/code")
    exec(build.install_cell("00").source, {})
    assert pip == ["git+https://example.org/code"]


@pytest.mark.parametrize(
    ("address", "linked"),
    [("", False), ("https://example.org/a/b", False), ("https://github.com/a/b", True)],
)
def test_links_to_colab_and_binder_where_the_address_is_known(monkeypatch, address, linked):
    monkeypatch.setattr(build, "address", lambda: address)
    first = build.notebook(LESSONS[0], solved=False).cells[0].source
    for part in (
        f"https://colab.research.google.com/github/a/b/blob/main/lessons/{LESSONS[0].name}.ipynb",
        f"https://mybinder.org/v2/gh/a/b/main?labpath=lessons%2F{LESSONS[0].name}.ipynb",
    ):
        assert (part in first) == linked


def test_what_a_cell_prints_piece_by_piece_is_one_output():
    out, err = {"name": "stdout"}, {"name": "stderr"}
    shown = {"output_type": "execute_result", "data": {}}
    outputs = [out | {"text": "a\n"}, out | {"text": "b\n"}, err | {"text": "c\n"}, shown]
    assert build.joined([*outputs, dict(shown)]) == [
        out | {"text": "a\nb\n"},
        err | {"text": "c\n"},
        shown,
        shown,
    ]
