"""`minimix lessons --check`: which exercises are solved, whatever else stands in a notebook."""

import json

import pytest

from lessons import ROOT, command, folders, progress
from lessons.check import exercises
from minimix.errors import MinimixError

LESSONS = folders()
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=[f.name[:2] for f in LESSONS])


@each_lesson
def test_solutions_pass(lesson):
    found = list(progress.examine(ROOT / "solved" / f"{lesson.name}.ipynb"))
    assert [event.exercise for event in found] == [e.name for e in exercises(lesson.name[:2])]
    assert all(event.passed for event in found), found


@each_lesson
def test_stubs_are_not_written_yet(lesson):
    for event in progress.examine(ROOT / f"{lesson.name}.ipynb"):
        assert not event.passed
        assert event.text.startswith("not written yet"), event


@pytest.fixture
def notebook(tmp_path):
    """Makes a notebook of the given cells."""

    def make(*cells):
        path = tmp_path / "mine.ipynb"
        book = {"cells": [{"cell_type": "code", "source": [cell]} for cell in cells]}
        path.write_text(json.dumps(book), encoding="utf-8")
        return path

    return make


IMPORT = "from lessons.check import check"
MULTIPLY = "def multiply(x, y):\n    return x * y, lambda g: (g * y, g * x)"
TANH = "import math\ndef tanh(x):\n    y = math.tanh(x)\n    return y, lambda g: (g * (1 - y * y),)"
SOLVED = ('check("01.multiply", multiply)', 'check("01.tanh", tanh)')


@pytest.mark.parametrize(
    "cells",
    [
        [MULTIPLY, TANH.replace("import math", "from math import *").replace(
            "math.tanh(x)", "sinh(x) / cosh(x)")],
        [MULTIPLY, "ONE: int = 1", TANH.replace("1 -", "ONE -")],
        [MULTIPLY, "one = 0\none += 1", TANH.replace("1 -", "one -")],
        [f"try:\n    import torch_of_tomorrow\nexcept ImportError:\n    {MULTIPLY}".replace(
            "\n    return", "\n        return"), TANH],
        ["if True:\n    one = 1", MULTIPLY, TANH.replace("1 -", "one -")],
        ["with open('a', 'w') as file:\n    one = 1", MULTIPLY, TANH.replace("1 -", "one -")],
        ["for one in range(2):\n    pass", MULTIPLY, TANH.replace("1 -", "one -")],
        ["(one := 1)", MULTIPLY, TANH.replace("1 -", "one -")],
        ["[one := i for i in range(2)]", MULTIPLY, TANH.replace("1 -", "one -")],
        ["all = [0, 1]", "del all[0]", MULTIPLY, TANH.replace("1 -", "all[0] -")],
        ["here = %pwd\nfiles = !ls\n" + MULTIPLY, TANH],
        ["a, *rest = 0, 1", MULTIPLY, TANH.replace("1 -", "rest[0] -")],
        ["match 1:\n    case one:\n        pass", MULTIPLY, TANH.replace("1 -", "one -")],
        ["all = []", "all.append(1)", MULTIPLY, TANH.replace("1 -", "all[0] -")],
        ["all = {}", "all['one'] = 1", MULTIPLY, TANH.replace("1 -", "all['one'] -")],
        ["class All: pass", "All.one = 1", MULTIPLY, TANH.replace("1 -", "All.one -")],
        ["class All: pass", "setattr(All, 'one', 1)", MULTIPLY, TANH.replace("1 -", "All.one -")],
        ["if __name__ == '__main__':\n    one = 1", MULTIPLY, TANH.replace("1 -", "one -")],
        ["from dataclasses import dataclass\n@dataclass\nclass All:\n    one: int = 1",
         MULTIPLY, TANH.replace("1 -", "All().one -")],
        ["%matplotlib inline\n!ls\nprint?\n" + MULTIPLY, "%%time\n" + TANH],
        ["%%bash\nls | (", MULTIPLY, TANH],
        ["print('{not json')", MULTIPLY, TANH.replace("y = ", "print(x); y = ")],
        ["1 / 0", "raise SystemExit", "while True: pass", MULTIPLY, TANH],
    ],
)  # fmt: skip
def test_what_defines_is_run_as_the_notebook_would(notebook, cells):
    found = list(progress.examine(notebook(IMPORT, *cells, *SOLVED)))
    assert [(e.exercise, e.passed) for e in found] == [("01.multiply", True), ("01.tanh", True)]


def test_checks_may_stand_in_loops_and_be_named_otherwise(notebook):
    loop = "for f in (multiply, tanh):\n    report = lessons.check.check(f'01.{f.__name__}', f)"
    found = list(progress.examine(notebook("import lessons.check", MULTIPLY, TANH, loop)))
    assert [(e.exercise, e.passed) for e in found] == [("01.multiply", True), ("01.tanh", True)]


def test_an_exercise_is_solved_where_its_last_check_says_so(notebook):
    check = SOLVED[1]
    before = "def tanh(x):\n    return x"
    (found,) = progress.examine(notebook(IMPORT, before, check, TANH, check))
    assert found.passed


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["def tanh(x:\n    return x"], "SyntaxError: '(' was never closed (code cell 2, line 1)"),
        (["for x in 1, 2:\nprint(x)\ndef tanh(x): pass"], "IndentationError: expected an indente"),
        (["import torch_of_tomorrow as t", TANH.replace("1 -", "t.one -")], "'torch_of_tomorrow'"),
        (["one = 1 / 0", "tanh = lambda x: one"], "ZeroDivisionError: division"),
        (["tanh = [][0]"], "IndexError: list index out of range (code cell 2)"),
        (["def tanh(x):\n    raise NotImplementedError('your turn: tanh')"], "not written"),
        (["tanh = input('tanh? ')"], "RuntimeError: input() gets no answer"),
        (["while True:\n    if 0: tanh = 1"], "still running after 1 s; is"),
        (["def tanh(x):\n    while True:\n        pass"], "still running in line 2, in tanh"),
        (["import sys\ntanh = sys.exit()"], "SystemExit (code cell 2)"),
        ([], "NameError: name 'tanh' is not defined (code cell 3)"),
    ],
)
def test_why_an_exercise_is_not_solved_and_the_others_are(notebook, cells, said):
    path = notebook(IMPORT, *cells, MULTIPLY, *SOLVED[::-1])
    found = {e.exercise: e for e in progress.examine(path, limit=1)}
    assert found["01.multiply"].passed
    assert not found["01.tanh"].passed
    assert said in found["01.tanh"].text


def test_what_waits_or_ends_python_is_said_and_what_came_before_stands(notebook):
    clocks = "[signal.signal(clock, signal.SIG_IGN) for clock in (signal.SIGPROF, signal.SIGALRM)]"
    wait = f"import signal, time\ntanh = {clocks} and time.sleep(1000)"
    for ending, said in [
        (wait, "code cell 4 was still running after 5 s, and was stopped"),
        ("import os\ntanh = os._exit(0)", "Python ended in code cell 4"),
    ]:
        found = progress.examine(notebook(IMPORT, MULTIPLY, SOLVED[0], ending, SOLVED[1]), 0.3, 5)
        assert next(found).passed
        with pytest.raises(MinimixError, match=said):
            next(found)


def test_the_list_of_a_folder_is_printed_as_it_goes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "folders", lambda: LESSONS[:4])
    command.copy(tmp_path)
    first, second, third, fourth = sorted(tmp_path.glob("*.ipynb"))[:4]
    first.write_bytes((ROOT / "solved" / first.name).read_bytes())
    second.write_text('{"cells": [{}]}', encoding="utf-8")
    third.unlink()
    fourth.unlink()
    fourth.mkdir()
    progress.show(tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("00_start_here\n  ✓ 00.accuracy\n01_a_tape")
    assert f"01_a_tape_for_scalars\n  {second.name} is damaged: not a notebook" in said
    assert f"{third.name} is missing; `minimix lessons {tmp_path}` copies it\n" in said
    assert f"{fourth.name} cannot be read: Is a directory\n" in said
    assert "  · 01.tanh                  not checked\n" in said
    assert said.endswith("\n1 of 15 exercises solved\n")


def test_json_is_one_document_to_grade_by(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "folders", lambda: LESSONS[:2])
    (tmp_path / f"{LESSONS[0].name}.ipynb").write_bytes(
        (ROOT / "solved" / f"{LESSONS[0].name}.ipynb").read_bytes()
    )
    command.main(tmp_path, check_progress=True, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["solved"], found["total"]) == (1, 6)
    assert found["exercises"][0] == {"exercise": "00.accuracy", "passed": True, "said": ""}
    assert found["exercises"][1]["said"] == "not checked"


def test_a_folder_without_lessons_is_one_line(tmp_path):
    with pytest.raises(MinimixError, match="there is no folder"):
        command.main(tmp_path / "nowhere", check_progress=True)
    with pytest.raises(MinimixError, match="there are no lessons in"):
        command.main(tmp_path, check_progress=True)


def test_only_what_is_not_python_is_taken_for_a_magic():
    for cell in ("x = (\n    i * 7\n    % 5\n)", "ok = (\n    1\n    != 2\n)"):
        assert progress.python(cell) == cell
    assert progress.python("x = 3\n%timeit f(x)\n!ls") == "x = 3\npass\npass"
