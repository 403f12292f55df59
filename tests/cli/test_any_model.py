"""Networks of other families, and of the user's own, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

VIT = ["--model=vit", "--hidden-dim=8", "--depth=1", "--n-heads=2", "--patch-size=8"]
SHORT = ["--data=shapes10", "--limit-train=60", "--limit-test=20", "--epochs=2", "--batch-size=30"]

NET = """\
import minimix as mx

class Net(mx.Module):
    def __init__(
        self, width: int = 4, command: str = "", kinds: tuple[int, ...] = (1, 2), n_classes=10
    ):
        super().__init__()
        self.first = mx.nn.Linear(3, width)
        self.head = mx.nn.Linear(width, n_classes)

    def forward(self, x):
        return self.head(mx.functional.relu(self.first(x)).mean(axis=(1, 2)))
"""


def test_a_transformer_goes_all_the_way(minimix, tmp_path):
    from PIL import Image

    code, out, err = minimix("train", *SHORT, *VIT)
    assert (code, err) == (0, "")
    (run,) = Path("runs").iterdir()
    assert run.name == "vit-1"
    title = "model  ViT, hidden dim 8, depth 1, n heads 2, patch size 8, "
    assert any(line.startswith(title) for line in out.splitlines())
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert (settings["model"], settings["model_settings"]["n_heads"]) == ("vit", 2)
    assert settings["lr"] == 0.002  # of the family's recipe
    result = out.splitlines()[-2]
    (run / "model.safetensors").unlink()
    max(run.glob("checkpoint-*")).unlink()
    for arguments in ([], ["--n-heads=2"], ["--model=vit"]):
        code, out, err = minimix("train", "--resume", run, *arguments)
        assert (code, err) == (0, "")
    code, out, err = minimix("evaluate", run)
    assert (code, err) == (0, "")
    assert title in out
    assert result in out
    pixels = np.random.default_rng(0).integers(0, 256, (47, 91, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    code, out, err = minimix("predict", tmp_path / "picture.png", "--model", run)
    assert (code, err) == (0, "")
    for arguments, words in [
        (["--n-heads=4"], "--n-heads is 4, but this run was begun with 2"),
        (["--model=resnet"], "--model is resnet, but this run was begun with vit"),
        (["--model=deit_tiny_patch16_224"], "--hidden-dim is 192, but this run was begun with 8"),
        (["--kernel-size=3"], "unknown option --kernel-size=3 (the network vit has --hidden-dim, "),
    ]:
        (run / "model.safetensors").unlink(missing_ok=True)
        code, _, err = minimix("train", "--resume", run, *arguments)
        assert code in (1, 2)
        assert len(err.splitlines()) == 1
        assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model=vitt"], "--model is 'vitt'; did you mean vit? There are convmixer, vit"),
        (["--model=resnet18x"], "--model is 'resnet18x'; did you mean resnet"),
        (["--model", "vit", "--kernel-size=3"], "unknown option --kernel-size=3 (the network vit"),
        (["--model=vit", "--n-heads=3"], "64 features do not divide into 3 heads"),
        (["--model=vit", "--depth=0"], "--depth is 0; expected a whole number of at least 1"),
        (["--model=vit", "--patch-size=5"], "--patch-size is 5, which does not divide the 32×32"),
        (["--model=vit", "--pool=max"], "--pool is 'max'; expected token, average, distilled"),
        (["--model=vit", "--hidden-dim=65536", "--depth=99"], "GB of memory, this machine has"),
        (["--model=vit", "--early-epochs=1", "--early-size=16"], "the 16×16 pixels of --early-s"),
        (["--model=resnet", "--depth=5"], "--depth is 5; it can be"),
        (["--model=resnet", "--optimizer=muon"], "--optimizer is muon, but ResNet"),
        (["--model=resnet", "--validation=60000"], "--validation is 60,000; expected fewer than"),
        (["--model=my_net.py:Net", "--width=x"], "--width: expected a whole number, not 'x'"),
        (["--model=my_net.py:Net", "--width=0"], "my_net.py, line 8: ValueError: Linear: out_fe"),
        (["--model=my_net.py:Nett"], "my_net.py has no class Nett; did you mean Net?"),
        (["--model=my_net.py"], "name a class of my_net.py as well, as my_net.py:Net"),
        (["--model=no_net.py:Net"], "no_net.py: No such file or directory"),
        (["--model"], "--model: expected one argument"),
    ],
)
def test_mistakes(minimix, tmp_path, arguments, words):
    (tmp_path / "my_net.py").write_text(NET)
    code, _, err = minimix("train", *SHORT, *arguments)
    assert code in (1, 2)
    assert len(err.splitlines()) == 1
    assert words in err
    assert [p.name for p in tmp_path.iterdir()] == ["my_net.py"]


def test_each_network_has_a_page_of_help(minimix, tmp_path):
    (tmp_path / "my_net.py").write_text(NET)
    for model, words in [
        ("vit", "--n-heads N heads of the attention; they divide hidden_dim (4)"),
        ("resnet18", "(18)"),
        ("my_net.py:Net", "--kinds N,… (1,2)"),
        ("convmixer", "(128; official, best: 256; fast90: 192)"),
    ]:
        code, out, _ = minimix("train", "--model", model, "--help")
        assert code == 0
        assert words in " ".join(out.split())


def test_a_network_of_ones_own(minimix, tmp_path):
    (tmp_path / "my_net.py").write_text(NET)
    code, out, err = minimix(
        "train",
        *SHORT,
        "--model=my_net.py:Net",
        "--width=5",
        "--kinds=3,4",
        "--validation=40",
        "--command=x",
    )
    assert (code, err) == (0, "")
    (run,) = Path("runs").iterdir()
    assert run.name == "Net-1"
    assert (run / "model.py").read_text() == NET
    assert "model  Net (my_net.py), width 5, command x, kinds 3-4, 80 parameters" in out
    assert "validation accuracy" in out.splitlines()[-2]
    assert "test accuracy" not in out
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["model"] == f"{tmp_path}/my_net.py:Net"
    assert settings["model_settings"] == {"width": 5, "command": "x", "kinds": [3, 4]}
    result = out.splitlines()[-2]
    (tmp_path / "my_net.py").write_text(NET.replace("relu", "gelu"))
    code, _, err = minimix("evaluate", run)
    assert code == 1
    kept = f"such as {run / 'model.py'}, with the code of then as --code"
    assert f"my_net.py has changed since Net was trained with it; name a file, {kept}" in err
    code, out, err = minimix("evaluate", run, "--code", run / "model.py")
    assert (code, err) == (0, "")
    assert result in out


def test_an_error_of_ones_own_during_training_names_its_line(minimix, tmp_path):
    spoilt = NET.replace("        return", "        if self.training: x.nothing\n        return")
    (tmp_path / "my_net.py").write_text(spoilt)
    code, _, err = minimix("train", *SHORT, "--model=my_net.py:Net")
    assert code == 1
    assert err.splitlines()[-1].endswith(
        "my_net.py, line 12: AttributeError: 'Tensor' object has no attribute 'nothing'"
    )
