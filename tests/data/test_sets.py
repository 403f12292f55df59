"""CIFAR-100, idx files and .npz files: what is read, and what is said where it cannot be."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from mutate import mutations
from small_cifar10 import python2_pickle

from minimix import data
from minimix.data import cifar100, idx
from minimix.errors import DataError

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.integers(0, 256, (20, 32, 32, 3), np.uint8), RNG.integers(0, 256, (10, 32, 32, 3))
TEST = TEST.astype(np.uint8)
FINE = [RNG.integers(0, 100, 20), RNG.integers(0, 100, 10)]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    of = cifar100.read
    monkeypatch.setattr(cifar100, "read", lambda path: of(path, n_train=20, n_test=10))


def cifar100_files(kind):
    """The files of a small CIFAR-100 in one of its layouts."""
    contents = {}
    for name, images, fine in zip(("train", "test"), (TRAIN, TEST), FINE, strict=True):
        rows = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
        if kind == "binary":
            head = np.stack([np.zeros(len(fine)), fine], axis=1).astype(np.uint8)
            contents[f"{name}.bin"] = np.concatenate([head, rows], axis=1).tobytes()
        else:
            contents[name] = python2_pickle(rows, fine.tolist(), b"fine_labels")
    return contents


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize("form", ["folder", "inside", "archive", "archive inside"])
def test_cifar100(tmp_path, kind, form):
    folder = tmp_path / f"cifar-100-{kind}"
    archive = tmp_path / f"cifar-100-{kind}.tar.gz"
    if form in ("folder", "inside"):
        folder.mkdir()
        for name, content in cifar100_files(kind).items():
            (folder / name).write_bytes(content)
    else:
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in cifar100_files(kind).items():
                member = tarfile.TarInfo(f"cifar-100-{kind}/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    given = {"folder": folder, "archive": archive}.get(form, tmp_path)
    found = data.load(str(given))
    assert (found.name, found.n_classes, found.class_names[52]) == ("cifar100", 100, "oak_tree")
    np.testing.assert_array_equal(found.train_images, TRAIN)
    np.testing.assert_array_equal(found.test_images, TEST)
    np.testing.assert_array_equal(found.train_labels, FINE[0])
    np.testing.assert_array_equal(found.test_labels, FINE[1])
    np.testing.assert_allclose(found.mean, (TRAIN / 255).mean(axis=(0, 1, 2)), rtol=1e-12)


@pytest.mark.parametrize("kind", ["python", "binary"])
def test_a_damaged_cifar100(tmp_path, kind):
    contents = cifar100_files(kind)
    first, second = contents
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / second).unlink()
    with pytest.raises(DataError, match=r"test.* is missing; give the path of another copy"):
        data.load(str(tmp_path))
    (tmp_path / second).write_bytes(contents[second][:-1])
    with pytest.raises(DataError, match=r"test.* is .* bytes; expected .*truncated or damaged"):
        data.load(str(tmp_path))
    label = contents[first].replace(b"fine_labels", b"fine_lavels")
    if kind == "binary":
        label = b"\0\x64" + label[2:]
    (tmp_path / first).write_bytes(label)
    with pytest.raises(DataError, match=r"image 0 has label 100; expected 0 to 99|and no labels"):
        data.load(str(tmp_path))


# ------------------------------------------------------------------ idx files


def idx_file(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


FIRST = {"mnist": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), "fashion_mnist": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)}
NAMES = [usual for _, _, usual in idx.PARTS]


def write_idx(folder, name, packed=False):
    """A small set of idx files; its arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    labels = np.array([*FIRST.get(name, (1, 2, 3)), 9])
    arrays = [rng.integers(0, 256, (len(labels), 6, 5)), labels]
    arrays += [rng.integers(0, 256, (4, 6, 5)), np.array([3, 0, 8, 8])]
    for usual, array in zip(NAMES, arrays, strict=True):
        content = idx_file(array)
        path = folder / (usual + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(content) if packed else content)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", ["", "raw", "FashionMNIST/raw"])
def test_idx(tmp_path, packed, inside):
    arrays = write_idx(tmp_path / inside, "fashion_mnist", packed)
    first = tmp_path / inside / (NAMES[0] + ".gz" * packed)
    for given in (tmp_path, first):
        found = data.load(str(given))
        assert found.name == "fashion_mnist"
        assert found.class_names[9] == "ankle boot"
        np.testing.assert_array_equal(found.train_images[..., 0], arrays[0])
        np.testing.assert_array_equal(found.train_labels, arrays[1])
        np.testing.assert_array_equal(found.test_images[..., 0], arrays[2])
        np.testing.assert_array_equal(found.test_labels, arrays[3])


def test_idx_files_beside_folders_of_like_names_and_labels_in_a_column(tmp_path):
    arrays = write_idx(tmp_path, "mnist")
    (tmp_path / "train-images.idx3-ubyte").mkdir()
    (tmp_path / NAMES[1]).write_bytes(idx_file(arrays[1][:, None]))
    np.testing.assert_array_equal(data.load(str(tmp_path)).train_labels, arrays[1])


def test_sets_are_told_apart_by_their_labels(tmp_path):
    write_idx(tmp_path / "a", "mnist")
    assert (data.load(str(tmp_path / "a")).name, data.load(str(tmp_path / "a")).n_classes) == (
        "mnist",
        10,
    )
    write_idx(tmp_path / "kana", "")
    found = data.load(str(tmp_path / "kana"))
    assert (found.name, found.class_names) == ("kana", tuple("0123456789"))


def test_idx_files_that_cannot_be_read(tmp_path):
    def refused(words):
        with pytest.raises(DataError, match=words) as caught:
            data.load(str(tmp_path))
        assert "\n" not in str(caught.value)

    write_idx(tmp_path, "mnist")
    (tmp_path / NAMES[3]).unlink()
    refused("holds no file t10k-labels-idx1-ubyte, gzipped or not")
    (tmp_path / NAMES[3]).write_bytes(idx_file(np.array([3, 0, 8])))
    refused("idx files that do not fit together: `test_labels` are 3; expected 4")
    (tmp_path / NAMES[3]).write_bytes(idx_file(np.array([[3, 0], [8, 8], [1, 2], [3, 4]])))
    refused(r"has labels of shape \(4, 2\); expected one for each image")
    (tmp_path / NAMES[3]).write_bytes(idx_file(np.array([3, 0, 8, 8]))[:-1])
    refused(r"is damaged .*: it says \(4,\), and there are 3 bytes")
    (tmp_path / NAMES[3]).write_bytes(b"\0\0\x08\x04" + b"\xff" * 99)
    refused("is damaged or not a whole idx file of bytes")
    write_idx(tmp_path, "mnist", packed=True)
    (tmp_path / NAMES[3]).unlink()
    (tmp_path / (NAMES[3] + ".gz")).write_bytes(b"no")
    refused("is damaged or not a whole idx file of bytes")
    (tmp_path / "letters-train-images-idx3-ubyte").touch()
    refused("holds the idx files of several sets, letters-.* and train-")


def read_or_refused(path):
    """Another pixel is another set; all else is said in one line."""
    try:
        data.load(str(path))
        line = ""
    except DataError as error:
        line = str(error)
    assert "\n" not in line


def test_damaged_idx_files(tmp_path):
    write_idx(tmp_path, "mnist")
    for name in NAMES[:2]:
        good = (tmp_path / name).read_bytes()
        for content in mutations(good, 60, seed=1):
            (tmp_path / name).write_bytes(content)
            read_or_refused(tmp_path)
        (tmp_path / name).write_bytes(good)


# ------------------------------------------------------------------ .npz files

ARRAYS = {"x_train": TRAIN, "y_train": FINE[0][:, None], "x_test": TEST, "y_test": FINE[1]}
GRAY = {"x_train": TRAIN[..., 0], "x_test": TEST[..., 0]}


def test_npz(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", **ARRAYS)
    found = data.load(str(tmp_path / "mine.npz"))
    assert (found.name, found.n_classes) == ("mine", 1 + max(map(max, FINE)))
    np.testing.assert_array_equal(found.train_images, TRAIN)
    np.testing.assert_array_equal(found.train_labels, FINE[0])
    assert found.class_names[11] == "11"
    named = np.array([f"class {i}" for i in range(100)])
    np.savez(tmp_path / "mine.npz", **ARRAYS | GRAY, class_names=named)
    found = data.load(str(tmp_path / "mine.npz"))
    assert (found.train_images.shape, found.class_names[99]) == ((20, 32, 32, 1), "class 99")
    arrays = zip(data.npz.NAMES[1], ARRAYS.values(), strict=True)
    np.savez(tmp_path / "mine.npz", **dict(arrays))
    np.testing.assert_array_equal(data.load(str(tmp_path / "mine.npz")).test_images, TEST)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"x_train": TRAIN.transpose(0, 3, 1, 2)}, r"`x_train` are .*; these are \(N, C, H, W\)"),
        ({"x_test": TEST / 255}, r"`x_test` are float64 .*: pass \(255 \* images\)"),
        ({"y_test": np.eye(10)}, r"`y_test` are float64 \(10, 10\); .* y.argmax\(axis=1\)"),
        ({"y_test": FINE[1][1:]}, "`test_labels` are 9; expected 10"),
        ({"y_test": FINE[1] - 1000}, "`test_labels` go from -"),
        ({"y_test": FINE[1] + 10**9}, "labels go up to 1000000"),
        ({"x_test": TEST[:, :16]}, "`test_images` are"),
        ({"class_names": np.array(["a"])}, "`train_labels` go from"),
        ({"y_train": np.array([None] * 20)}, "is damaged, or its arrays are not of numbers"),
    ],
)
def test_npz_files_that_cannot_be_used(tmp_path, wrong, words):
    np.savez(tmp_path / "mine.npz", **ARRAYS | wrong)
    with pytest.raises(DataError, match=words) as caught:
        data.load(str(tmp_path / "mine.npz"))
    assert "\n" not in str(caught.value)


def test_damaged_npz_files(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **{name: array[:3] for name, array in ARRAYS.items()})
    for content in mutations(path.read_bytes(), 100, seed=2):
        path.write_bytes(content)
        read_or_refused(path)
