"""The lessons, a folder each: its text and exercises (lesson.py), and what checks them (checks.py).

Beside them stands what the lessons share: `check` says whether an exercise is solved, `show` draws,
`build` makes the notebooks, `command` is `minimix lessons`.
"""

from pathlib import Path

ROOT = Path(__file__).parent


def folders() -> list[Path]:
    """The folders of the lessons, NN_name, in their order."""
    return sorted(path.parent for path in ROOT.glob("[0-9][0-9]_*/lesson.py"))
