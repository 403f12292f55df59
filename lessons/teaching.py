"""The teachers' page, TEACHING.md: goals, times, grading, and what students get wrong.

python -m lessons.teaching      write it anew, from the lessons' texts and checks
"""

from __future__ import annotations

import re
from pathlib import Path

from . import ROOT, folders
from .check import exercises

PAGE = ROOT / "TEACHING.md"
MOST = 6  # mistakes that are listed for an exercise

HEAD = """# For teachers

A course of about thirteen hours: one lesson a week fills a term. Lessons 00 to 03, 05, 06 and 09
are a course of about four hours. Students need Python, NumPy's shapes and derivatives; no
framework. All of it runs offline on a laptop, and alike everywhere: data are drawn, random numbers
seeded.

## A lesson in class

Each lesson asks for predictions before it shows what happens. Let students write theirs down
(`guess = …`; it appears beside the result) and argue before they run the cell: that is where most
of the learning is. Exercises are short, at most ten lines, with three hints and the solution
folded away. The checker names the cause where it can (a list of typical mistakes, or the line that
one change would make right), so in class it is rarely needed to read code over a shoulder:
`arguments, expected, got = check.case()` gives the failing case to look at together.

## Grading

    minimix lessons --check --json FOLDER

runs the checks of a folder of notebooks, each in a process of its own with a time limit, and prints

    {"solved": 41, "total": 71,
     "exercises": [{"exercise": "01.multiply", "passed": true, "said": ""}, …]}

Training and pictures are left out, so a whole course takes about ten seconds. Run it where running
students' code does no harm: it is not a sandbox.

    for folder in submissions/*; do minimix lessons --check --json "$folder" > "$folder.json"; done

The solutions are in the solved notebooks and folded away in the students' ones, so grade what an
exam or a conversation shows; the checks are for practice. To give the exercises without solutions,
take out the cells that begin with `<details>`. The sources `NN_name/lesson.py` (Jupytext) mark
solutions by `### BEGIN SOLUTION` and `### END SOLUTION`, as nbgrader does, and the cell
`check("NN.name", …)` after an exercise is its test: with
`assert check("01.multiply", multiply).passed` nbgrader and Otter grade by it.

## The lessons
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for folder in folders():
        first = _first_cell(folder)
        title = re.search(r"# # (\d\d · .*)", (folder / "lesson.py").read_text(encoding="utf-8"))
        build = re.search(r"\*\*You build\*\* (.*?)\.<br>", first)
        need = re.search(r"\*\*You need\*\* (.*?)\.<br>", first)
        takes = re.search(r"\*\*It takes\*\* (.*?)\.", first)
        assert title
        assert build
        assert need
        assert takes
        parts.append(
            f"### {title[1]}\n\n**Goal:** {build[1]}.  \n**Needs:** {need[1]}.  \n"
            f"**Time:** {takes[1]}.\n"
        )
        parts.append("What students get wrong, as the checker says it:\n")
        for exercise in exercises(folder.name[:2]):
            said = " · ".join(list(exercise.mistakes)[:MOST])
            parts.append(f"- `{exercise.name[3:]}`: {said}")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _first_cell(folder: Path) -> str:
    """The opening text of a lesson, in one line."""
    text = (folder / "lesson.py").read_text(encoding="utf-8").split("\n# %%", 1)[0]
    return re.sub(r"\s*\n# ?", " ", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
