"""Weights that others have trained: found by their names, prepared for as timm does, or refused."""

import json

import numpy as np
import pytest
from PIL import Image

from minimix import Tensor, load, models, no_grad, save_weights
from minimix import functional as F
from minimix.data import pictures
from minimix.models.sizes import Size

TINY = {"hidden_dim": 4, "depth": 1, "kernel_size": 3, "patch_size": 7, "activation": "relu"}
MEAN, STD = [0.5, 0.25, 0.125], [0.25, 0.5, 0.75]
NAME = "convmixer_768_32"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(models.sizes(), NAME, Size("convmixer", TINY, 0.96, MEAN, STD))


@pytest.fixture
def model():
    model = models.create(NAME, n_classes=6, rng=3)
    rng = np.random.default_rng(0)
    for name, array in model.state_dict().items():
        array[...] = (
            rng.uniform(0.5, 1.5, array.shape) if "var" in name else rng.normal(size=array.shape)
        )
    return model.eval()


@pytest.fixture
def weights(model, tmp_path):
    path = tmp_path / f"{NAME}.in1k.safetensors"
    save_weights(model, path)
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(1).integers(0, 256, (30, 41, 3), np.uint8)
    Image.fromarray(pixels).resize((410, 300), Image.Resampling.BICUBIC).save(path)
    return path


def expected(model, photo):
    """By hand: 300×410 pixels, the short side to ⌊224/0.96⌋ = 233, and the middle 224×224."""
    picture = Image.open(photo).resize((318, 233), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, float)[4:228, 47:271] / 255
    with no_grad():
        x = ((pixels - MEAN) / STD).astype(np.float32)
        return F.softmax(model(Tensor(x[None]))).array[0]


def line(photo, probabilities, names, top=3):
    best = np.argsort(-probabilities)[:top]
    return f"{photo}: " + ", ".join(f"{names[i]} {100 * probabilities[i]:.1f} %" for i in best)


def test_weights_by_their_file_s_name(minimix, model, weights, photo):
    code, out, err = minimix("predict", "--model", weights, photo)
    assert (code, err) == (0, "")
    assert out == line(photo, expected(model, photo), "012345") + "\n"


def test_class_names(minimix, model, weights, photo):
    names = ["ape", "bee", "cat", "dog", "eel", "fly"]
    weights.with_suffix(".txt").write_text("\n".join(names) + "\n\n")
    code, out, _ = minimix("predict", "--model", weights, photo, "--top", 6)
    assert (code, out) == (0, line(photo, expected(model, photo), names, 6) + "\n")
    others = weights.with_name("others.txt")
    others.write_text("\n".join(names[::-1]))
    code, out, _ = minimix("predict", "--model", weights, photo, "--classes", others)
    assert (code, out) == (0, line(photo, expected(model, photo), names[::-1]) + "\n")
    others.write_text("ape\nbee\ncrane\ndog\ncrane\nfly")  # ImageNet's lists have such
    table = weights.with_name("table.json")
    code, _, _ = minimix("predict", "--model", weights, photo, "--classes", others, "--json", table)
    (row,) = json.loads(table.read_text())
    known = ["ape", "bee", "crane (2)", "dog", "crane (4)", "fly"]
    assert code == 0
    assert list(row["probabilities"]) == known
    assert list(row["probabilities"].values()) == pytest.approx(expected(model, photo), abs=1e-5)
    others.write_text("ape\nbee")
    code, _, err = minimix("predict", "--model", weights, photo, "--classes", others)
    assert (code, err) == (1, f"minimix: {others} names 2 classes; the model has 6\n")


def test_weights_by_their_folder_s_name_or_by_a_name_given(minimix, model, weights, photo):
    folder = weights.with_name(f"models--timm--{NAME}.in1k") / "snapshots" / "3f2a"
    folder.mkdir(parents=True)
    inside = weights.rename(folder / "model.safetensors")
    good = line(photo, expected(model, photo), "012345") + "\n"
    assert minimix("predict", "--model", inside, photo)[:2] == (0, good)
    other = inside.rename(photo.with_name("w.safetensors"))
    assert minimix("predict", "--model", NAME, "--weights", other, photo)[:2] == (0, good)
    code, _, err = minimix("predict", "--model", other, photo)
    assert code == 1
    assert "neither it nor its folder has the name of their model; give that name beside" in err
    code, _, err = minimix("predict", "--model", "convmixer_768", "--weights", other, photo)
    assert code == 2
    assert (
        "--model: there is no model 'convmixer_768'; the nearest names are convmixer_768_32" in err
    )


def test_from_python(model, weights, photo):
    trained = load(weights)
    assert trained.class_names == tuple("012345")
    assert (trained.image_size, trained.crop) == ((224, 224), 0.96)
    pixels = pictures.read(photo, trained.image_size, trained.crop)
    assert pixels.shape == (224, 224, 3)
    probabilities, _ = trained.predict(pixels[None])
    np.testing.assert_allclose(probabilities[0], expected(model, photo), rtol=1e-4, atol=1e-7)


def test_many_in_a_table(minimix, model, weights, photo):
    code, _, err = minimix("predict", "--model", weights, photo, photo, "--csv", "t.csv")
    assert (code, err) == (0, "")
    rows = photo.with_name("t.csv").read_text().splitlines()
    assert rows[0] == "file,class,probability,0,1,2,3,4,5"
    numbers = [float(x) for x in rows[2].split(",")[3:]]
    np.testing.assert_allclose(numbers, expected(model, photo), atol=5e-6)


@pytest.mark.parametrize("size", [(224, 224), (100, 60)])
@pytest.mark.parametrize("shape", [(300, 410), (410, 300), (50, 50), (3, 700)])
def test_crops_of_any_shape(size, shape, tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", shape[::-1], "red").save(path)
    pixels = pictures.read(path, size, 0.875)
    assert pixels.shape == (*size, 3)
    assert (pixels == [255, 0, 0]).all()  # nothing from outside


def test_what_is_refused(minimix, weights, photo, tmp_path):
    def refused(*arguments):
        code, out, err = minimix("predict", photo, *arguments)
        assert (code in (1, 2), out, err.count("\n")) == (True, "", 1)
        return err

    assert "--weights needs the name of their model" in refused("--weights", weights)
    assert "minimix comes without weights of resnet50; give that name beside the file" in refused(
        "--model", "resnet50"
    )
    assert "no.safetensors: No such file" in refused(
        "--model", "resnet50", "--weights", "no.safetensors"
    )
    wrong = refused("--model", "resnet18", "--weights", weights)
    assert "does not fit: 'blocks.0.0.fn.0.bias' of shape (4,) is not part of this ResNet" in wrong
    assert "has class names; leave" in refused("--classes", photo)
    assert "it is not text in UTF-8" in refused("--model", weights, "--classes", photo)
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert "is not a whole safetensors file: it ends before 'stem." in refused("--model", weights)
    weights.write_bytes(b"nonsense")
    assert "is damaged: it is not a whole safetensors file" in refused("--model", weights)
