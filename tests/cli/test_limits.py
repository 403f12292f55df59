"""Senseless values of every option are refused at once, in a line that names the limits."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import minimix as mx
from minimix.cli.parser import translated
from minimix.train.architecture import settings_of
from minimix.train.config import Config, option

NUMBERS = ["nan", "inf", "-inf", "-1", "-1e300", "1e400", "-99999999999999999999", "x", "", "²"]
TRAIN = [
    *("train", "--data=shapes10", "--preset=plain"),
    *("--hidden-dim=2", "--depth=1", "--kernel-size=1"),
    *("--patch-size=16", "--batch-size=50", "--epochs=1", "--limit-train=100", "--limit-test=20"),
]


def refused(answer, *words):
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert len(err) < 400
    assert all(word in err for word in words), err


@pytest.mark.parametrize("f", [f for f in fields(Config) if f.type in ("int", "float")])
def test_every_number_has_limits(minimix, tmp_path, f):
    for text in [*NUMBERS, "9" * 5000]:
        if f.type == "float" and text in ("9" * 5000,):
            text = "-" + text
        if text == "9" * 5000 and f.metadata["limits"].keys() == {"least"}:
            continue
        refused(minimix(*TRAIN, f"{option(f.name)}={text}"), option(f.name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["hidden_dim", "depth", "kernel_size", "patch_size"])
def test_every_size_of_a_network_has_limits(minimix, tmp_path, name):
    assert settings_of("convmixer")[name].kind is int
    for text in [*NUMBERS, "9" * 5000, "65537"]:
        refused(minimix(*TRAIN, f"{option(name)}={text}"), option(name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--depth=10000000"], ["--depth is 10000000; expected at most 1,000"]),
        (["--epochs=1000000000000000000"], ["--epochs is 1", "at most 100,000"]),
        (["--seed=9223372036854775808"], ["--seed", "at most 9,223,372,036,854,775,807"]),
        (["--threads=100000"], ["--threads is 100000; expected at least 0 and at most 1,024"]),
        (["--randaugment=99999,5"], ["--randaugment is", "at most 20 operations"]),
        (["--randaugment=2,99"], ["--randaugment", "magnitude from 0 to 30"]),
        (["--whiten", "--patch-size=32"], ["3,072 values", "--whiten takes at most 1,024"]),
        (["--patch-size=64"], ["--patch-size is 64, which does not divide the 32×32"]),
        (["--hidden-dim=65536", "--depth=1000"], ["GB of memory", "smaller --hidden-dim"]),
        (["--lr=0"], ["--lr is 0.0; expected more than 0"]),
        (["--limit-train=99999999999999999999"], ["--limit-train is 99,", "has 150 images"]),
        (["--padding=1024"], ["--padding is 1024; expected less than the sides of an image"]),
        (["--save-every=nan"], ["--save-every", "seconds from 0 up"]),
        (["--save-every=inf"], ["--save-every", "seconds from 0 up"]),
        (["--save-every=-1"], ["--save-every", "seconds from 0 up"]),
        (["--early-epochs=1", "--early-size=999999999999"], ["--early-size is 999999999999"]),
        (["--batch-size=3", "--limit-train=100", "--patch-size=32", "--no-whiten"], ["one image"]),
        (["--batch-size=1", "--patch-size=32", "--no-whiten"], ["--batch-size is 1", "one image"]),
        (["--limit-train=1", "--patch-size=32", "--no-whiten"], ["1 images has one image"]),
        (
            ["--batch-size=3", "--early-epochs=1", "--early-size=16", "--crop=pad", "--no-whiten"],
            ["the last batch of 100 images has one image"],
        ),
    ],
)
def test_what_would_take_for_ever_or_fail_late(minimix, tmp_path, arguments, words):
    refused(minimix(*TRAIN, *arguments), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--padding=31"],
        ["--seed=9223372036854775807"],
        ["--ema-every=1000000"],
        ["--batch-size=1000000"],
        ["--mixup=1000", "--cutmix=1000"],
        ["--jitter=10"],
        ["--randaugment=20,30"],
        ["--early-epochs=99999999999999999999", "--early-size=16"],
        ["--kernel-size=255"],
        ["--save-every=1e300"],
        ["--weight-decay=0", "--lr=1e-300", "--clip-norm=0", "--ema=0"],
        ["--scale=1e-300", "--crop=resized"],
        ["--batch-size=3", "--patch-size=16", "--limit-train=10"],
    ],
)
def test_what_is_allowed_works(minimix, arguments):
    code, _, err = minimix(*TRAIN, *arguments, "--quiet")
    assert (code, err) == (0, "")


def test_other_numbers(minimix):
    for text in (*NUMBERS, "0", "1.5"):
        refused(minimix("predict", "x.png", f"--top={text}"), "--top")


def test_only_the_command_line_speaks_of_options():
    """Below it a setting is `batch_size`, in the words of the library."""
    root = Path(mx.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] in ("cli", "__main__.py"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        found += [
            f"{path.name}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docs
            and any(option(f.name) in node.value for f in fields(Config))
        ]
    assert found == []


def test_settings_become_options():
    assert translated("`batch_size` is 0, `lr` too") == "--batch-size is 0, --lr too"
    assert translated("`nothing` of the\nkind, batch_size") == "`nothing` of the kind, batch_size"
