"""Pictures in, tables out: training on folders, predicting many, matrices and features."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import minimix as mx
from minimix.cli import predict
from minimix.data import pictures, shapes10
from minimix.errors import DataError

TINY = [
    *("train", "--preset=plain"),
    *("--hidden-dim=8", "--depth=1", "--kernel-size=3", "--patch-size=8"),
    *("--batch-size=50", "--epochs=1", "--quiet"),
]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Shapes as PNG files in class folders, six of each of ten classes."""
    monkeypatch.setenv("MINIMIX_CACHE_DIR", str(tmp_path / "cache"))
    data = shapes10.load()
    for i in range(60):
        folder = tmp_path / "photos" / data.class_names[data.train_labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.train_images[i]).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def trained(minimix, photos, tmp_path):
    code, _, err = minimix(*TINY, "--data", photos, "--image-size=16", "--out=run")
    assert (code, err) == (0, "")
    return tmp_path / "run"


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_a_folder_is_trained_on_and_tested_again(minimix, photos, trained):
    code, out, err = minimix("evaluate", trained, "--csv=confusion.csv")
    assert (code, err) == (0, "")
    assert f"data   photos, {photos} (50 + 10 pictures, resized to 16×16)" in out
    accuracy = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"]
    assert f"test accuracy {100 * accuracy:.2f} %" in out
    head, *table = rows("confusion.csv")
    names = sorted(shapes10.CLASS_NAMES)
    assert (head, [row[0] for row in table]) == (["true class", *names], names)
    counts = np.array([row[1:] for row in table], int)
    np.testing.assert_array_equal(counts.sum(axis=1), 1)
    assert np.trace(counts) / 10 == accuracy
    code, out, _ = minimix("train", "--resume", trained)
    assert (code, "has been trained to the end" in out) == (0, True)


def test_what_predict_and_others_need_is_kept_with_the_weights(trained, photos):
    found = mx.load(trained)
    data = mx.data.load(str(photos), image_size=16)
    assert found.class_names == tuple(sorted(shapes10.CLASS_NAMES))
    assert (found.image_size, found.mean, found.std) == ((16, 16), data.mean, data.std)
    assert found.settings["epochs"] == 1
    images = data.test_images[:3]
    probabilities, features = found.predict(images, features=True)
    logits = found.model(mx.Tensor(mx.data.normalize(images, data.mean, data.std)))
    expected = mx.functional.softmax(logits).array
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    head = found.model.head
    again = features @ head.weight.array + head.bias.array
    np.testing.assert_allclose(again, logits.array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("many", [3, 1000])
def test_tables(minimix, trained, photos, tmp_path, monkeypatch, many):
    """In batches or one by one, the same; what cannot be read is left out, and said."""
    monkeypatch.setattr(predict, "MANY", many)
    (photos / "disc" / "broken.png").write_bytes(b"no picture")
    (photos / "disc" / "note.txt").write_text("no picture")
    code, out, err = minimix(
        *("predict", photos, photos / "disc" / "0.png", "--model", trained),
        *("--csv=a.csv", "--json=a.json", "--features=a.npz"),
    )
    assert code == 1
    assert err.startswith(f"minimix: cannot read {photos / 'disc' / 'broken.png'}: it is not")
    assert len(err.splitlines()) == 1
    assert out.splitlines() == [f"61 pictures: a.{kind}" for kind in ("csv", "json", "npz")]
    head, *table = rows("a.csv")
    names = sorted(shapes10.CLASS_NAMES)
    assert head == ["file", "class", "probability", *names]
    assert [row[0] for row in table][:-1] == sorted(
        str(p) for p in photos.glob("*/*.png") if p.name != "broken.png"
    )
    numbers = np.array([row[3:] for row in table], float)
    paths = [row[0] for row in table]
    images = np.stack([pictures.read(path, (16, 16)) for path in paths])
    found = mx.load(trained)
    expected, features = found.predict(images, features=True)
    np.testing.assert_allclose(numbers, expected, atol=2e-6)
    assert [row[1] for row in table] == [names[i] for i in expected.argmax(axis=1)]
    written = json.loads((tmp_path / "a.json").read_text())
    assert [row["file"] for row in written] == paths
    assert list(written[5]["probabilities"]) == names
    np.testing.assert_allclose(list(written[5]["probabilities"].values()), expected[5], atol=2e-6)
    with np.load("a.npz") as kept:
        assert kept["files"].tolist() == paths
        np.testing.assert_allclose(kept["features"], features, rtol=1e-5, atol=1e-6)


def test_many_pictures_are_printed_too(minimix, trained, photos):
    code, out, err = minimix("predict", photos, "--model", trained, "--top=1")
    assert (code, err, len(out.splitlines())) == (0, "", 60)
    assert out.splitlines()[0].startswith(f"{photos / 'bars'}")


def test_predict_refuses_folders_without_pictures(minimix, trained, tmp_path):
    (tmp_path / "none").mkdir()
    assert minimix("predict", "none", "--model", trained) == (
        1,
        "",
        "minimix: none has no pictures\n",
    )
    code, _, err = minimix("predict", "none", "--explain=x.png", "--model", trained)
    assert (code, "--explain takes one image" in err) == (2, True)


def test_a_set_of_the_same_classes_is_tested_by_name(minimix, trained, tmp_path):
    """Classes in another order, and fewer of them; others are refused."""
    data = shapes10.load()
    names, few = np.array(shapes10.CLASS_NAMES), data.test_labels < 4
    small = data.test_images[:, ::2, ::2]
    arrays = {"x_train": small, "y_train": data.test_labels, "class_names": names}
    arrays |= {"x_test": small[few], "y_test": data.test_labels[few]}
    np.savez(tmp_path / "set.npz", **arrays)
    code, out, err = minimix("evaluate", trained, "--data=set.npz", "--csv=c.csv")
    assert (code, err) == (0, "")
    _, *table = rows("c.csv")
    counts = {row[0]: sum(map(int, row[1:])) for row in table}
    assert list(counts) == sorted(names)
    of = mx.load(trained)
    probabilities, _ = of.predict(small[few])
    right = np.array(of.class_names)[probabilities.argmax(axis=1)] == names[data.test_labels[few]]
    assert f"test accuracy {100 * right.mean():.2f} %" in out
    np.savez(tmp_path / "set.npz", **arrays | {"class_names": np.array([*names[:-1], "blob"])})
    code, _, err = minimix("evaluate", trained, "--data=set.npz")
    assert (code, f"{trained} has no class 'blob', as set has" in err) == (1, True)
    code, _, err = minimix("evaluate", trained, "--data=shapes10")
    assert (code, "the images of shapes10 have 32×32 pixels" in err) == (1, True)


def test_gray_images(minimix, tmp_path, photos):
    """A model of one channel, from training to prediction."""
    data = shapes10.load()
    gray = {"x_train": data.train_images[..., 0], "x_test": data.test_images[..., 0]}
    np.savez("g.npz", y_train=data.train_labels, y_test=data.test_labels, **gray)
    code, out, err = minimix(*TINY, "--data=g.npz", "--randaugment=timm", "--out=g")
    assert (code, err) == (0, "")
    assert minimix("evaluate", "g")[1].splitlines()[-1] == out.splitlines()[-2]
    one = photos / "disc" / "0.png"
    code, said, err = minimix("predict", one, "--model=g", "--explain=e.png")
    assert (code, err) == (0, "")
    luma = np.asarray(Image.open(one).convert("L"))[None, ..., None]
    found = mx.load("g")
    likely = found.predict(luma)[0][0]
    best = int(likely.argmax())
    assert f"{found.class_names[best]} {100 * likely[best]:.1f} %" in said
    assert minimix("report", "g", "--out=g.html")[0] == 0


OWN = """
import minimix as mx


class Net(mx.Module):
    def __init__(self, width: int = 4, n_classes=10, rng=0):
        super().__init__()
        self.stem = mx.nn.Patchify(3, width, 16, rng=rng)
        self.last = mx.nn.Linear(width, n_classes, rng=rng)

    def forward(self, x):
        return self.last(mx.functional.relu(self.stem(x)).mean(axis=(1, 2)))
"""


def test_a_class_of_your_own(minimix, photos, tmp_path):
    """Its pictures are predicted and its features are what its last layer is given."""
    (tmp_path / "net.py").write_text(OWN)
    run = ("--data=shapes10", "--model=net.py:Net", "--epochs=1", "--quiet", "--out=own")
    assert minimix("train", *run)[0] == 0
    (tmp_path / "net.py").rename(tmp_path / "moved.py")
    tables = ("--features=a.npz", "--csv=a.csv", "--code=moved.py")
    code, _, err = minimix("predict", photos, "--model=own", *tables)
    assert (code, err) == (0, "")
    found = mx.load("own", code="moved.py")
    with np.load("a.npz") as kept:
        features = kept["features"]
    logits = features @ found.model.last.weight.array + found.model.last.bias.array
    numbers = np.array([row[3:] for row in rows("a.csv")[1:]], float)
    np.testing.assert_allclose(mx.functional.softmax(logits).array, numbers, atol=2e-6)


def test_pictures_for_a_model_of_other_channels():
    rgb = np.array([[[[100, 50, 200]]]], np.uint8)
    assert pictures.with_channels(rgb, 3).tolist() == rgb.tolist()
    assert pictures.with_channels(rgb, 1).tolist() == [[[[82]]]]
    with pytest.raises(DataError, match="one or three channels; the model takes 4"):
        pictures.with_channels(rgb, 4)
