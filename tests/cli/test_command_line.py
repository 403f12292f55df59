"""What a user types and what comes back: one line and the right code for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minimix import cli
from minimix.data import Dataset, shapes10
from minimix.train import recipe

SMALL = [
    *("--preset=plain", "--hidden-dim=8", "--depth=1", "--kernel-size=3", "--patch-size=8"),
    *("--batch-size=50", "--epochs=2", "--limit-train=120", "--limit-test=50"),
]


@pytest.fixture
def trained(minimix, tmp_path):
    code, _, err = minimix("train", "--data=shapes10", *SMALL, "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    return tmp_path / "run"


# ------------------------------------------------------------------ train


def test_train_prints_what_matters(minimix, tmp_path):
    code, out, err = minimix("train", "--data=shapes10", *SMALL)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert sum(line.startswith("epoch ") for line in lines) == 2
    epochs = [json.loads(line) for line in open_lines(tmp_path / "runs/plain-1/metrics.jsonl")]
    accuracy = epochs[-1]["test_accuracy"]
    assert f"test accuracy {100 * accuracy:.2f} %" in lines
    for name in shapes10.CLASS_NAMES:
        assert any(line.split()[:1] == [name] for line in lines)
    assert lines[-1] == f"checkpoint {Path('runs/plain-1/model.safetensors')}"


def open_lines(path):
    return path.read_text().splitlines()


def test_without_a_preset_a_convmixer_is_that_of_laptop(minimix, tmp_path):
    sizes = ["--hidden-dim=4", "--stem-dim=2", "--patch-size=8", "--epochs=1"]
    assert minimix("train", "--data=shapes10", *sizes, *SMALL[-2:])[0] == 0
    settings = json.loads((tmp_path / "runs/laptop-1/run.json").read_text())["settings"]
    laptop = recipe(preset="laptop")
    assert settings["optimizer"] == laptop.optimizer != recipe().optimizer
    assert settings["model_settings"] == {
        **laptop.model_settings, "hidden_dim": 4, "stem_dim": 2, "patch_size": 8
    }  # fmt: skip


def test_runs_are_numbered(minimix, tmp_path):
    for _ in range(2):
        minimix("train", "--data=shapes10", *SMALL, "--epochs=1", "--preset=fast90")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["fast90-1", "fast90-2"]


def test_options_override_the_preset(minimix, tmp_path):
    preset = ["--preset", "official"]
    minimix("train", "--data=shapes10", *SMALL, *preset, "--lr=0.02", "--out=r")
    about = json.loads((tmp_path / "r" / "run.json").read_text())
    settings = about["settings"]
    assert settings["lr"] == 0.02
    assert settings["model"] == "convmixer"
    assert settings["model_settings"]["hidden_dim"] == 8
    assert settings["model_settings"]["patch_size"] == 8
    assert settings["schedule"] == "official"
    assert settings["randaugment"] == "2,12"
    assert settings["data"] == "shapes10"


def test_quiet_prints_the_result_alone(minimix):
    code, out, _ = minimix("train", "--data=shapes10", *SMALL, "--quiet")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 12
    assert lines[10].startswith("test accuracy ")


def test_mirrored_evaluation_is_reported_beside_the_other(minimix):
    _, out, _ = minimix("train", "--data=shapes10", *SMALL, "--mirror")
    assert sum(line.startswith("test accuracy ") for line in out.splitlines()) == 1
    (line,) = (line for line in out.splitlines() if line.startswith("with mirrored images "))
    (metrics,) = Path().glob("runs/*/metrics.jsonl")
    *earlier, last = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert line == f"with mirrored images {100 * last['mirrored_accuracy']:.2f} %"
    assert not any("mirrored_accuracy" in line for line in earlier)


def test_without_a_network_it_says_so_and_draws(minimix, monkeypatch, tmp_path):
    monkeypatch.setattr("minimix.data.cifar10.find", lambda path=None: None)
    code, out, _ = minimix("train", *SMALL)
    assert code == 0
    assert "shapes10" in out.splitlines()[0]
    code, out, err = minimix("train", *SMALL, "--data=cifar10")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["plain-1"]


def test_resume(minimix, trained):
    (trained / "model.safetensors").unlink()
    (trained / "checkpoint-00000006.safetensors").unlink()
    before = open_lines(trained / "metrics.jsonl")
    for way in (["--resume", trained], ["--resume", "--out", trained]):
        code, out, err = minimix("train", *way)
        assert (code, err) == (0, "")
    assert "has been trained to the end" in out
    assert open_lines(trained / "metrics.jsonl") == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--hiden-dim", "3"], 2, "unknown option --hiden-dim; did you mean --hidden-dim?"),
        (["--epochs", "many"], 2, "--epochs: expected a whole number, not 'many'"),
        (["--epochs", "0"], 2, "--epochs is 0; expected at least 1"),
        (["--lr", "-1"], 2, "--lr is -1.0; expected more than 0"),
        (["--lr", "nan"], 2, "--lr is nan"),
        (["--lr"], 2, "--lr: expected one argument"),
        (["--preset", "fast"], 2, "'laptop', 'plain', 'official', 'fast90', 'best'"),
        (["--crop", "round"], 2, "'none', 'pad', 'resized'"),
        (["--randaugment", "4"], 2, "--randaugment is '4'"),
        (["--early-epochs=1", "--early-size=20"], 2, "--early-size is 20; expected a multiple of"),
        (["--early-epochs=1", "--crop=none"], 2, "--early-epochs is 1 but --crop is none"),
        (["--patch-size", "5"], 2, "--patch-size is 5, which does not divide the 32×32 pixels"),
        (["--data", "nowhere"], 1, "nowhere"),
        (["extra"], 2, "unexpected argument 'extra'"),
        (["--resume"], 2, "--resume RUN"),
        (["--resume", "nowhere"], 1, "no run folder nowhere"),
        (["--save-every", "x"], 2, "--save-every: expected a number, not 'x'"),
    ],
)
def test_mistakes(minimix, tmp_path, arguments, code, words):
    got, _, err = minimix("train", "--data=shapes10", *SMALL[1:], *arguments)
    assert got == code
    assert len(err.splitlines()) == 1
    assert words in err
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_there_or_cannot_be_written(minimix, trained, tmp_path):
    before = {p: p.read_bytes() for p in trained.iterdir()}
    code, _, err = minimix("train", "--data=shapes10", "--out", trained)
    assert code == 1
    assert "holds a run already; continue it with minimix train --resume" in err
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "model.safetensors").write_bytes(before[trained / "model.safetensors"])
    code, _, err = minimix("train", "--data=shapes10", "--out", tmp_path / "bare")
    assert (code, "bare holds a run already; choose another --out\n" in err) == (1, True)
    code, _, err = minimix("train", "--resume", tmp_path / "bare")
    assert (code, "bare holds no checkpoint; choose another --out\n" in err) == (1, True)
    (tmp_path / "file").write_text("")
    code, _, err = minimix("train", "--data=shapes10", "--out", tmp_path / "file" / "run")
    assert code == 1
    assert "cannot write to" in err
    assert {p: p.read_bytes() for p in trained.iterdir() if p.name != ".lock"} == {
        p: content for p, content in before.items() if p.name != ".lock"
    }


def test_divergence_and_a_full_disk_end_with_one_line(minimix, monkeypatch):
    code, _, err = minimix("train", "--data=shapes10", *SMALL, "--lr=1e30", "--out=a")
    assert code == 1
    assert err.startswith("minimix: ")
    assert "not finite" in err
    assert len(err.splitlines()) == 1

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = minimix("train", "--data=shapes10", *SMALL, "--out=b")
    assert code == 1
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1
    assert not Path("b").exists()


# ------------------------------------------------------------------ evaluate, predict


def test_evaluate_says_what_training_said(minimix, trained):
    _, again, _ = minimix("train", "--data=shapes10", *SMALL, "--out=again", "--quiet")
    for model in (trained, trained / "model.safetensors", "again"):
        code, out, err = minimix("evaluate", model, "--mirror")
        assert (code, err) == (0, "")
        data, title, *lines = out.splitlines()
        assert data == "data   shapes10, drawn by minimix (seed 0)"
        assert title.startswith("model  ConvMixer, hidden dim 8, depth 1, kernel size 3, patch")
        assert lines[:11] == again.splitlines()[:11]
        assert lines[11].startswith("with mirrored images ")


def test_evaluate_on_another_data_set_that_has_fewer_images(minimix, trained, tmp_path):
    """Than the --limit-train and --limit-test of the training."""
    few = shapes10.load()
    parts = {
        f"{letter}_{part}": getattr(few, f"{part}_{name}")[:9]
        for letter, name in (("x", "images"), ("y", "labels"))
        for part in ("train", "test")
    }
    np.savez(tmp_path / "few.npz", **parts, class_names=few.class_names)
    code, out, err = minimix("evaluate", trained, "--data", tmp_path / "few.npz", "--csv=c.csv")
    assert (code, err) == (0, "")
    assert "\nnote   not the data set of its training: it may have learned some of these" in out
    counts = [row.split(",")[1:] for row in (tmp_path / "c.csv").read_text().splitlines()[1:]]
    assert np.array(counts, int).sum() == 9
    held_out = ["--validation=20", "--limit-test=0", "--out=held"]
    assert minimix("train", "--data=shapes10", *SMALL, *held_out)[0] == 0
    code, _, err = minimix("evaluate", "held", "--data", tmp_path / "few.npz")
    assert (code, err.count("\n")) == (1, 1)
    assert "validation is 20" in err
    assert "bug" not in err


def test_evaluate_refuses(minimix, trained, tmp_path, monkeypatch):
    few = shapes10.load()
    other = Dataset(
        *("cifar10", few.train_images, few.train_labels, few.test_images, few.test_labels),
        tuple("abcdefghij"),
    )
    monkeypatch.setattr("minimix.data.load", lambda *_, **__: other)
    code, _, err = minimix("evaluate", trained, "--data=cifar10")
    assert code == 1
    assert f"{trained} has no class 'a', as cifar10 has" in err
    code, _, err = minimix("evaluate", tmp_path / "nowhere")
    assert (code, len(err.splitlines())) == (1, 1)
    (tmp_path / "empty").mkdir()
    code, _, err = minimix("evaluate", tmp_path / "empty")
    assert code == 1
    assert "holds no checkpoint" in err


@pytest.fixture
def picture(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (47, 91, 3), np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def test_predict_any_size(minimix, trained, picture):
    code, out, err = minimix("predict", picture, picture, "--model", trained)
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == second
    assert first.startswith(f"{picture}: ")
    top = first.removeprefix(f"{picture}: ").split(", ")
    assert len(top) == 3
    percents = [float(part.split()[1]) for part in top]
    assert percents == sorted(percents, reverse=True)
    assert all(part.split()[0] in shapes10.CLASS_NAMES for part in top)


def test_predict_with_the_model_that_minimix_comes_with(minimix, picture):
    from minimix.train.trained import BUNDLED

    (weights,) = BUNDLED.glob("*.safetensors")
    assert weights.stat().st_size <= 1_500_000
    code, out, err = minimix("predict", picture)
    assert (code, err) == (0, "")
    assert len(out.split(", ")) == 3
    assert any(name in out for name in ("bird", "cat", "frog", "ship", "truck", "airplane"))


def test_what_the_library_says_of_settings_is_said_of_options(minimix, tmp_path, monkeypatch):
    """In lines on the way as well as in the last one."""
    for name in ("MINIMIX_CACHE_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("MINIMIX_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    code, out, err = minimix("train", "--out", tmp_path / "run", "--limit-train", "20000")
    assert code == 2
    assert "give its path as --data; using the built-in shapes10 set instead" in out
    assert "--limit-train is 20,000; shapes10 has 150 images there" in err


def test_one_bad_picture_does_not_end_the_rest(minimix, trained, picture, tmp_path):
    broken, empty = tmp_path / "broken.png", tmp_path / "empty.jpg"
    broken.write_bytes(picture.read_bytes()[:2000])
    empty.touch()
    code, out, err = minimix("predict", broken, picture, empty, picture, "--model", trained)
    assert code == 1
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(picture)] * 2
    first, second = err.splitlines()
    assert first.startswith(f"minimix: cannot read {broken}: it is damaged (")
    assert second.startswith(f"minimix: cannot read {empty}: it is not a picture in a format that")


def test_predict_refuses(minimix, trained, picture, tmp_path):
    for arguments, code, words in [
        (["nowhere.png"], 1, "cannot read nowhere.png"),
        ([trained / "run.json"], 1, "not a picture"),
        ([picture, "--top", "0"], 2, "--top: expected at least 1, not 0"),
        ([picture, picture, "--explain", "x.png"], 2, "--explain takes one image"),
        ([], 2, "IMAGE"),
    ]:
        got, _, err = minimix("predict", *arguments, "--model", trained)
        assert got == code
        assert words in err
        assert len(err.splitlines()) == 1


def test_explain(minimix, trained, picture, tmp_path):
    from PIL import Image

    code, _, err = minimix("predict", picture, "--model", trained, "--explain", tmp_path / "e.png")
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "e.png") as image:
        assert image.size[0] > 500


# ------------------------------------------------------------------ all of it


def test_alone_it_helps(minimix):
    code, out, _ = minimix()
    assert code == 0
    for command in ("train", "evaluate", "predict", "report", "gradcheck", "lessons"):
        assert command in out
        code, help, _ = minimix(command, "--help")
        assert code == 0
        assert help.startswith(f"usage: minimix {command}")


def test_wrong_commands(minimix, monkeypatch):
    code, _, err = minimix("trian")
    assert (code, len(err.splitlines())) == (2, 1)
    code, _, err = minimix("--speed")
    assert (code, len(err.splitlines())) == (2, 1)
    monkeypatch.setenv("MINIMIX_BACKEND", "fortran")
    program = [sys.executable, "-m", "minimix", "train"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 2
    assert "MINIMIX_BACKEND is 'fortran'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_version(minimix):
    from minimix import __version__

    assert minimix("--version") == (0, f"minimix {__version__}\n", "")


def test_debug_shows_where_it_came_from(monkeypatch):
    from minimix.errors import CheckpointError

    monkeypatch.setenv("MINIMIX_DEBUG", "1")
    with pytest.raises(CheckpointError):
        cli.main(["evaluate", "nowhere"])


def test_a_reader_that_leaves_early():
    program = "import sys; from minimix.cli import main; sys.exit(main(['train', '--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_starting_imports_nothing_heavy():
    program = (
        "import sys; from minimix.cli import main; main([]);"
        "heavy = {'numba', 'tqdm', 'safetensors', 'PIL', 'matplotlib', 'ssl', 'asyncio'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_m_minimix_is_minimix():
    done = subprocess.run(
        [sys.executable, "-m", "minimix", "gradcheck", "--help"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: minimix gradcheck")
