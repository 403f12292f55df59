"""Every gradient of every public operation, layer and model, in both back ends; and the table."""

import importlib
import importlib.util
import inspect

import pytest

from minimix import functional, kernels, models, nn
from minimix.cli import main
from minimix.gradcheck import Report, cases
from minimix.gradcheck.cases import CASES, Case

BACKENDS = [
    "numpy",
    pytest.param(
        "numba",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("numba") is None, reason="numba is not installed"
        ),
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}, {case.about}")
def test_gradient(case, backend):
    with kernels.backend(backend):
        report = case.check()
    assert report.ok, str(report)


# ---- nothing public is left out


def without_a_case():
    """Public operations, layers and models that no case checks."""
    public = set(functional.__all__)
    for module in (nn, models, importlib.import_module("minimix.fuse")):
        for name, thing in vars(module).items():
            if inspect.isclass(thing) and issubclass(thing, nn.Module) and name[0] != "_":
                public.add(name)
    public.remove("Module")
    return public - {case.operation for case in CASES}


def test_everything_public_has_a_case():
    assert without_a_case() == set()


def test_an_operation_without_a_case_is_noticed(monkeypatch):
    monkeypatch.setattr(functional, "__all__", [*functional.__all__, "swish"])
    monkeypatch.setattr(models, "Perceiver", type("Perceiver", (nn.Module,), {}), raising=False)
    assert without_a_case() == {"swish", "Perceiver"}


def test_every_operation_is_public():
    """What `@op` makes in a functional module is in __all__, unless its name says otherwise."""
    for part in (
        "activation",
        "arithmetic",
        "attention",
        "conv",
        "loss",
        "norm",
        "pool",
        "reduce",
        "shape",
    ):
        module = importlib.import_module(f"minimix.functional.{part}")
        things = {n: f for n, f in vars(module).items() if inspect.isfunction(f) and n[0] != "_"}
        operations = {n for n, f in things.items() if hasattr(f, "array")}
        assert operations
        assert operations <= set(functional.__all__)


def test_cases_have_names_of_their_own():
    names = [(case.operation, case.about) for case in CASES]
    assert len(set(names)) == len(names)


def test_a_case_draws_the_same_each_time():
    case = next(case for case in CASES if case.operation == "Residual")
    with kernels.backend("numpy"):
        assert case.check() == case.check()


# ---- the table


def gradcheck(*arguments):
    return main(["gradcheck", *arguments])


def fake(operation, error):
    case = Case(operation, "fake", lambda rng: None)
    object.__setattr__(case, "check", lambda: Report(operation, error, 1e-7, "x", (1,), (2,)))
    return case


def test_the_table_of_one_operation(capsys):
    assert gradcheck("sigmoid", "--backend", "numpy") == 0
    out, err = capsys.readouterr()
    head, row, _, total = out.splitlines()
    assert "numpy" in head
    assert "numba" not in head
    assert row.split()[0] == "sigmoid"
    assert float(row.split()[-2]) < 1e-7
    assert row.endswith("ok")
    assert total.startswith("1 case in")
    assert err == ""


def test_a_wrong_gradient_is_told_and_exits_with_1(capsys, monkeypatch):
    monkeypatch.setattr(cases, "CASES", (fake("exp", 1e-9), fake("log", 0.5)))
    assert gradcheck("--backend", "numpy") == 1
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if "fake  " in line}
    assert rows["exp"].endswith("1.0e-09  ok")
    assert rows["log"].endswith("5.0e-01  WRONG")
    assert "log, fake, numpy: log: gradient of 'x' at [1] from output [2]" in out
    assert "2 cases" in out
    assert "1 WRONG" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["depthwise_conv"],
            "there is no operation 'depthwise_conv'; did you mean depthwise_conv2",
        ),
        (["xyzzy"], "there is no operation 'xyzzy'; there are add, subtract, "),
        (["--backend", "cuda"], "invalid choice: 'cuda'"),
    ],
)
def test_what_there_is_not_exits_with_2_and_one_line(arguments, message, capsys):
    assert gradcheck(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minimix gradcheck: ")
    assert message in err
    assert err.count("\n") == 1


def test_without_numba(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("MINIMIX_BACKEND", "numpy")
    assert gradcheck("sigmoid", "--backend", "both") == 0
    assert "numba" not in capsys.readouterr().out
    assert gradcheck("sigmoid", "--backend", "numba") == 2
    assert "numba is not installed; give --backend numpy" in capsys.readouterr().err
