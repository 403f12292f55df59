"""What the README's test command skips, as it installs no more than it needs, runs in .ci/run."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# What such a file says of what it needs; NumPy's tests skip the compiled kernels without numba.
NEEDS = re.compile(
    r'importorskip\(\s*"(?!numba|resource)(\w+)"|(skip.*MINIMIX_DATA|reason="needs CIFAR-10)'
    r"|(needs Chromium|MPIEXEC is None)"
)
FILES = sorted(
    path
    for path in TESTS.rglob("*.py")
    if path != Path(__file__) and NEEDS.search(path.read_text("utf-8"))
)


def test_such_files_are_found():
    assert len(FILES) > 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_needs_more_runs_in_ci(path):
    run = (TESTS.parent / ".ci" / "run").read_text("utf-8")
    named = [TESTS.parent / name for name in re.findall(r"tests/[\w/]+(?:\.py)?", run)]
    assert path in named or path.parent in named
