"""The part that people come to read stays small: README names it, in order, with its lines."""

import ast
import io
import re
import tokenize
from pathlib import Path

HOUSE = Path(__file__).parents[1]
BUDGET = 3000
ROOMS = {
    "autograd.py",
    "functional/",
    "nn/",
    "models/",
    "optim/",
    "kernels/reference/",
    "gradcheck/check.py",
}
BLANK = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def code_lines(source):
    """How many lines of `source` hold code: neither blank, nor a comment, nor a docstring."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in BLANK:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            text = node.body[0]
            lines -= set(range(text.lineno, text.end_lineno + 1))
    return len(lines)


def of_room(room):
    path = HOUSE / "minimix" / room
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return sum(code_lines(file.read_text("utf-8")) for file in files)


def in_readme():
    """The rooms of README's reading path, in its order, each with the lines that it claims."""
    row = re.compile(r"^\| \d \| \[`minimix/([^`]+)`\]\([^)]+\) \|.*\| ([\d,]+) \|$", re.MULTILINE)
    found = row.findall((HOUSE / "README.md").read_text("utf-8"))
    return {room: int(lines.replace(",", "")) for room, lines in found}


def test_the_reading_path_stays_within_its_budget():
    counted = {room: of_room(room) for room in ROOMS}
    assert min(counted.values()) > 50  # they are where we think they are
    assert sum(counted.values()) <= BUDGET, counted


def test_the_readme_says_what_to_read_and_how_long_it_is():
    claimed = in_readme()
    assert set(claimed) == ROOMS
    for room, lines in claimed.items():
        assert lines == of_room(room), room
    assert f"These {sum(claimed.values()):,} lines of code" in (HOUSE / "README.md").read_text(
        "utf-8"
    )


def test_only_code_is_counted():
    source = '''"""A docstring
of two lines."""

# a comment
def f(x):  # counted
    """Another."""

    text = """not
    a docstring"""
    return (
        x, text
    )
'''
    assert code_lines(source) == 6
