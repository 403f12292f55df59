"""A file imports only from floors below its own, or from its own part of the house; no circles."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lessons
import minimix

FLOORS = [  # from the ground up, each room or file; "" is minimix/__init__.py, the public face
    {"errors", "version"},
    {"files", "parallel"},
    {"kernels", "autograd"},
    {"data", "functional", "gradcheck"},
    {"nn"},
    {"models", "optim"},
    {"cost", "fuse", "interop"},
    {"runs"},
    {"train"},
    {"export", "report"},
    {"compare"},
    {""},
    {"gradcheck.cases"},
    {"cli"},
    {"__main__"},
]


def imports(name, is_package, source, modules):
    """The modules of minimix that `source`, the text of module `name`, imports anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) + is_package - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            inside = [f"{base}.{alias.name}" for alias in node.names]
            found = [one if one in modules else base for one in inside]
        else:
            continue
        yield from (one for one in found if one.split(".")[0] == "minimix")


def named(node):
    """The modules that an import statement names, as it names them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module]
    return []


def house(root):
    """Every module under `root`, as minimix.…, with the modules that it imports."""
    paths = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(("minimix", *(p for p in parts if p != "__init__")))] = path
    return {
        name: set(imports(name, path.stem == "__init__", path.read_text("utf-8"), paths)) - {name}
        for name, path in paths.items()
    }


PARTS = {part for floor in FLOORS for part in floor}


def part(module):
    """The part of the house that `module` belongs to: one that FLOORS names, the longest first."""
    names = module.split(".")[1:]
    longer = (".".join(names[:n]) for n in range(len(names), 1, -1))
    return next((name for name in longer if name in PARTS), names[0] if names else "")


def wrong(graph):
    """What breaks the rules, a line each."""
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    lines = [f"{name} has no floor" for name in sorted(graph) if part(name) not in floor]
    for name, imported in graph.items():
        here = floor.get(part(name), 0)
        lines += [
            f"{name} imports {other} from a floor that is not below its own"
            for other in sorted(imported)
            if part(other) != part(name) and floor.get(part(other), 0) >= here
        ]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        lines.append("a circle: " + " ← ".join(error.args[1]))
    return lines


def test_the_house_stands():
    graph = house(Path(minimix.__file__).parent)
    assert len(graph) > 30
    assert "minimix.kernels" in graph["minimix.functional.conv"]  # relative imports are followed
    assert wrong(graph) == []


def test_the_readme_shows_the_same_house():
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    shown = {}
    for floor, rooms in re.findall(r"^\| (\d+) \| (`.+?`) \|", readme, re.MULTILINE):
        for room in re.findall(r"`([\w./]+)`", rooms):
            if not room.startswith("minimix/"):  # those are of the reading path
                name = room.removesuffix("/").removesuffix(".py").replace("/", ".")
                shown[name.removeprefix("__init__")] = int(floor)
    known = {name: i for i, names in enumerate(FLOORS) for name in names}
    del known["__main__"]
    assert shown == known


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("nn/layers.py", "from ..models import convmixer", "minimix.nn.layers imports minimix.mod"),
        ("autograd.py", "from . import kernels", "minimix.autograd imports minimix.kernels"),
        ("kernels/a.py", "def f():\n    import minimix.autograd", "kernels.a imports minimix.aut"),
        (
            "gradcheck/check.py",
            "from .. import functional",
            "check imports minimix.functional from",
        ),
        ("gradcheck/check.py", "from . import cases", "check imports minimix.gradcheck.cases from"),
        ("optim/a.py", "from ..models.convmixer import x", "optim.a imports minimix.models.conv"),
        ("train/a.py", "from .. import cli", "minimix.train.a imports minimix.cli from a floor"),
        ("nn/a.py", "from .. import Tensor", "minimix.nn.a imports minimix from a floor"),
        ("nn/a.py", "from . import layers", "a circle"),
        ("attic.py", "", "minimix.attic has no floor"),
    ],
)
def test_what_breaks_the_rules_is_noticed(tmp_path, path, text, complaint):
    files = {
        "__init__.py": "from . import nn\nfrom .nn import layers",
        "functional/conv.py": "from .. import kernels\nfrom ..autograd import op\nimport numpy",
        "nn/layers.py": "from .. import functional as F\nfrom ..functional.conv import conv2d",
        "models/convmixer.py": "from ..nn.layers import Linear",
        **dict.fromkeys(("kernels/__init__.py", "functional/__init__.py"), ""),
        **dict.fromkeys(("nn/__init__.py", "autograd.py", "cli.py"), ""),
        **dict.fromkeys(("gradcheck/__init__.py", "gradcheck/check.py"), ""),
        "gradcheck/cases.py": "from .. import nn\nfrom .check import gradcheck",
    }

    def write():
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content, "utf-8")

    write()
    assert wrong(house(tmp_path)) == []
    files[path] = text
    if complaint == "a circle":
        files["nn/layers.py"] = "from .a import something"
    write()
    assert any(complaint in line for line in wrong(house(tmp_path)))


def test_only_the_lessons_command_knows_the_lessons():
    root = Path(minimix.__file__).parent
    guests = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in named(node)
        if name.split(".")[0] == "lessons"
    }
    assert guests == {"cli"}


def test_lessons_use_what_the_framework_makes_public():
    """Nothing whose name begins with _, and what minimix itself exports from there."""
    for path in Path(lessons.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
                continue
            if node.module.split(".")[0] != "minimix":
                continue
            for alias in node.names:
                assert not alias.name.startswith("_"), f"{path} imports {alias.name}"
                if node.module != "minimix":
                    assert alias.name not in minimix.__all__, (
                        f"{path}: from minimix import {alias.name}"
                    )
