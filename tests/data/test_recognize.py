"""What is found where CIFAR-10 was expected is named, and nobody is told to remove it."""

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from mutate import mutations
from PIL import Image
from small_cifar10 import write_python

from minimix import data
from minimix.data.recognize import describe
from minimix.errors import DataError, MinimixError


def idx(array, code):
    """An array in the format of MNIST's files."""
    head = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def packed(kind, **contents):
    """An archive of files with these names and contents."""
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=file, mode=f"w:{kind}") as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def picture():
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


IMAGES = idx(np.zeros((7, 28, 28), np.uint8), 8)
LABELS = idx(np.zeros(7, np.int32), 12)

FILES = {
    "images": (IMAGES, "an idx file of uint8 (7, 28, 28), as MNIST has them"),
    "labels": (LABELS, "an idx file of int32 (7,), as MNIST has them"),
    "images.gz": (
        gzip.compress(IMAGES),
        "a gzip file of an idx file of uint8 (7, 28, 28), as MNIST has them",
    ),
    "mnist.npz": (
        npz(x_train=np.zeros(2), y_train=np.zeros(2), x_valid=np.zeros(2), y_valid=np.zeros(2)),
        "an .npz file of x_train, y_train, x_valid and 1 more",
    ),
    "images.npy": (npy(np.zeros(3)), "a .npy file"),
    "set.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "set.parquet": (b"PAR1" + bytes(99), "a Parquet file"),
    "set.mat": (b"MATLAB 5.0 MAT-file, of SVHN" + bytes(99), "a MATLAB file"),
    "photos.zip": (
        packed("zip", **{"cat/1.jpg": b"", "dog/2.jpg": b""}),
        "a zip archive of cat, dog",
    ),
    "photos.tar": (packed("", **{"cat/1.jpg": b""}), "a tar archive that begins with cat/1.jpg"),
    "photos.tar.gz": (
        packed("gz", **{"cat/1.jpg": b"", "dog/2.jpg": b""}),
        "a gzipped tar archive of cat/1.jpg, dog/2.jpg",
    ),
    "nothing.tar.gz": (gzip.compress(b""), "a gzipped empty file"),
    "cat.png": (picture(), "a picture (PNG)"),
    "cat.jpg": (b"\xff\xd8\xff\xe0" + bytes(99), "a picture (JPEG)"),
    "data_batch_1": (b"\x80\x02}.", "a single pickle"),
    "cifar-10-python.tar.gz": (b"<!DOCTYPE html><html>log in", "a web page"),
    "set.csv": (b"label,pixel\n3,255\n", "a text file"),
    "empty": (b"", "an empty file"),
    "noise": (bytes(range(256)), "a file of an unknown format"),
    "half.npz": (b"PK\3\4" + bytes(9), "a damaged zip archive"),
    "half.gz": (b"\x1f\x8b\x08", "a damaged gzip file"),
}


def refusal(path):
    with pytest.raises(DataError) as caught:
        data.load(str(path))
    line = str(caught.value)
    assert "\n" not in line
    assert "remove" not in line
    assert "the path of CIFAR-10 or CIFAR-100 (a folder or an archive, as published)" in line
    return line


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    content, words = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name} is {words}; expected ")


FOLDERS = {
    "pictures": (["1.JPG", "2.png"], "a folder of pictures"),
    "something": (["a/x", "b", "c", ".hidden"], "a folder of a, b, c"),
    "nothing": ([], "an empty folder"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(tmp_path, name):
    names, words = FOLDERS[name]
    folder = tmp_path / "folder"
    folder.mkdir()
    for inside in names:
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        (folder / inside).touch()
    line = refusal(folder)
    assert line.startswith(f"{folder} is {words}; expected auto, cifar10, shapes10, or the path of")


def test_what_is_no_file(tmp_path, monkeypatch):
    import os

    assert "is not there" in refusal(tmp_path / "nowhere")
    assert "`data` is empty; expected auto" in refusal("")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "is neither a file nor a folder" in refusal(tmp_path / "pipe")  # nor waited for
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert "is neither a file nor a folder" in refusal(tmp_path / "gone")
    (tmp_path / "x").mkdir()
    monkeypatch.setattr(
        os, "scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    assert "is something that cannot be read (no)" in refusal(tmp_path / "x")


@pytest.mark.parametrize("name", [name for name in FILES if name != "noise"])
def test_damaged_bytes(tmp_path, name):
    path = tmp_path / "damaged"
    for content in mutations(FILES[name][0], 60, seed=3):
        path.write_bytes(content)
        assert "\n" not in describe(path)
        with pytest.raises(DataError) as caught:
            data.load(str(path))
        assert str(caught.value).startswith(f"{path} ")
        assert "\n" not in str(caught.value)
        assert "remove" not in str(caught.value)


# ------------------------------------------------------------------ homes


def test_a_home_that_nobody_has(nowhere, monkeypatch):
    with pytest.raises(MinimixError, match="~nosuchuser/x: there is no home folder ~nosuchuser"):
        data.load("~nosuchuser/x")
    monkeypatch.setenv("MINIMIX_DATA", "~nosuchuser/x")
    with pytest.raises(DataError, match="MINIMIX_DATA is ~nosuchuser/x: there is no home folder"):
        data.load("cifar10")


@pytest.mark.parametrize("home", ["", None, "relative", "/nonexistent"])
def test_without_a_home(nowhere, monkeypatch, home):
    """The set is looked for all the same; nothing is written into a folder called ~."""
    monkeypatch.setenv("MINIMIX_OFFLINE", "1")
    monkeypatch.setattr(data.shapes10, "load", lambda: "shapes10")
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("MINIMIX_DATA", "")
    assert data.load(say=lambda line: None) == "shapes10"
    assert list((nowhere.parent / "here").iterdir()) == []
    folder = write_python(nowhere.parent / "here" / "data")
    assert data.cifar10.find().resolve() == folder
    monkeypatch.setenv("HOME", str(nowhere))
    write_python(nowhere / "mine")
    monkeypatch.setenv("MINIMIX_DATA", "~/mine")
    assert data.cifar10.find() == nowhere / "mine" / "cifar-10-batches-py"
