"""mymix/: what a student has written, as a package that can be imported."""

import linecache
import subprocess
import sys

import numpy as np
import pytest

from lessons import keep

LESSON = """
import itertools
import math
import numpy as np
from lessons import show

HALF = np.float32(0.5)
TABLE = {2: 12.71, 3: 4.3}
serials = itertools.count()

class Value:
    def __init__(self, data):
        self.data, self.serial = data, next(serials)

def helper(x):
    return helper(x - 1) if x > 3 else math.tanh(x) * float(HALF + HALF)

def tanh(x):
    Value(x), TABLE[2]
    t = helper(x) if x <= 3 else math.tanh(x)
    return t, lambda g: (g * (1 - t * t),)

def multiply(x, y):
    return x * y, lambda g: (g * y, g * x)

def wrong(x):
    return x, lambda g: (g,)
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """The names of a notebook that runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    file = "<a notebook>"
    linecache.cache[file] = len(LESSON), None, LESSON.splitlines(True), file
    names = {"__name__": "__main__"}
    exec(compile(LESSON, file, "exec"), names)
    return names


def test_what_is_kept_can_be_imported_with_all_it_needs(notebook, capsys):
    keep.keep("01", notebook["tanh"], notebook["multiply"])
    assert capsys.readouterr().out == "mymix/a_tape_for_scalars.py: tanh, multiply\n"
    program = (
        "from mymix.a_tape_for_scalars import Value, multiply, tanh; "
        "assert Value(1).serial == 0; print(tanh(0.5)[1](1.0), multiply(2, 3)[0])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout.startswith("(0.786447"), said.stderr
    text = (keep.PACKAGE / "a_tape_for_scalars.py").read_text("utf-8")
    assert "lessons" not in text  # only what is needed
    mine = keep.mine("01.tanh")
    assert mine.__module__ == "mymix.a_tape_for_scalars"
    assert mine(0.5)[1](1.0)[0] == pytest.approx(1 - np.tanh(0.5) ** 2)
    assert capsys.readouterr().out == ""


def test_what_is_wrong_is_not_kept_and_ours_stands_in(notebook, capsys):
    notebook["wrong"].__name__ = "tanh"
    keep.keep("01", notebook["wrong"], notebook["multiply"])
    assert capsys.readouterr().out == "nothing is kept yet: 01.tanh is wrong\n"
    assert not keep.PACKAGE.exists()
    ours = keep.mine("01.tanh")
    assert ours(0.0)[0] == 0
    assert "01.tanh is not in mymix yet: this is ours" in capsys.readouterr().out
    keep.keep("01", notebook["tanh"])
    path = keep.PACKAGE / "a_tape_for_scalars.py"
    path.write_text(path.read_text("utf-8").replace("1 - t * t", "1 - t"), encoding="utf-8")
    keep.mine("01.tanh")
    assert "01.tanh is not right in" in capsys.readouterr().out


def test_no_such_exercise_names_those_there_are():
    with pytest.raises(ValueError, match=r"no exercise '01.sine'; there is 01.multiply"):
        keep.mine("01.sine")


def test_a_name_of_its_own_is_not_looked_for_in_the_notebook():
    code = """
def chosen(table):
    return {op: twice(op) for op, (value, _) in table.items() if value > LIMIT}
"""
    assert list(keep._names(code)) == ["twice", "LIMIT"]
