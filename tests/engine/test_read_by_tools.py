"""What editors, type checkers and help() see of tensors and operations."""

import inspect
import subprocess
import sys

import pytest

import minimix
from minimix import Tensor
from minimix import functional as F

SNIPPET = """
import numpy as np
import minimix as mx
from minimix import Parameter, Tensor
from minimix import functional as F

x = Tensor(np.ones((1, 2, 2, 1)))
y: Tensor = F.gelu(x, approximate="tanh")
y = F.gelu(np.ones(3)) + F.gelu(1.5) + F.linear(x, np.ones((1, 1)), b=Parameter([1.0]))
y = F.gelu(x, aproximate="tanh")  # wrong
y = F.gelu(x, approximate="tan")  # wrong
y = F.gelu(x, x)  # wrong
y = F.conv2d(x, x, stride=2, dilaton=2)  # wrong
y = F.add(x)  # wrong
number: int = F.exp(x)  # wrong
y = x.sum(axes=0)  # wrong
y = (2 * x - 1 / x).max(axis=(0, 1)).reshape(-1)
y -= 1
y = x.flaten()  # wrong
p = Parameter([1.0])
p *= 2
array: np.ndarray = F.gelu.array(np.ones(3))[0]


@mx.op
def scaled(x, *, by: float):
    return x * by, lambda g: g * by


y = scaled(x, by=2.0)
y = scaled(x, bye=2.0)  # wrong


@mx.no_grad()
def plain(x: Tensor) -> Tensor:
    return x


number = plain(x)  # wrong
with mx.no_grad():
    y = plain(x)
"""


def test_a_type_checker_notices_a_wrong_name(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed: python -m pip install -e '.[dev]'")
    path = tmp_path / "snippet.py"
    path.write_text(SNIPPET, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent",
         "--ignore-missing-imports", "--hide-error-context", "--no-color-output", str(path)],
        capture_output=True, text=True, encoding="utf-8", check=False,
        cwd=tmp_path,  # where minimix is found as installed, also by `pip install -e`
    )  # fmt: skip
    assert done.stderr == ""
    complaints = {
        int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line
    }
    lines = SNIPPET.splitlines()
    wrong = {i for i, line in enumerate(lines, start=1) if line.endswith("# wrong")}
    assert complaints == wrong, done.stdout


def test_operators_and_methods_have_names_signatures_and_words():
    assert str(inspect.signature(Tensor.sum)) == (
        "(self, axis: 'Axis' = None, keepdims: 'bool' = False) -> 'Tensor'"
    )
    assert "def __add__" in inspect.getsource(minimix.autograd)
    for name, method in vars(Tensor).items():
        if inspect.isfunction(method):
            assert method.__name__ == name
            assert method.__module__ == "minimix.autograd"
            assert name.startswith("_") or method.__doc__


@pytest.mark.parametrize("name", F.__all__)
def test_operations_keep_their_names_signatures_and_words(name):
    operation = getattr(F, name)
    assert operation.__name__ == name
    assert operation.__doc__
    assert inspect.isfunction(operation)
    parameters = list(inspect.signature(operation).parameters.values())
    assert parameters
    if hasattr(operation, "array"):  # what is no array has a name when it is given
        assert [p.name for p in parameters] == list(inspect.signature(operation.array).parameters)
        assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)
