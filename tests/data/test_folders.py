"""A folder of class folders of pictures: what becomes of everything that may lie in it."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_cifar10 import write_python

from minimix import data
from minimix.data import folders, pictures
from minimix.errors import DataError, DiskError
from minimix.train.validation import held_out


def draw(path, seed=0, size=(9, 12), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def photos(nowhere):
    """Twelve pictures of cats and eight of dogs."""
    for i in range(12):
        draw(nowhere / "photos" / "cat" / f"{i}.png", i)
    for i in range(8):
        draw(nowhere / "photos" / "dog" / f"{i}.jpg", 100 + i, quality=95)
    return nowhere / "photos"


def load(path, **options):
    lines = []
    found = data.load(str(path), say=lines.append, **{"image_size": 8, **options})
    return found, lines


def cached(home):
    return home / ".cache" / "minimix" / "pictures"


def test_pictures_are_as_predict_reads_them(photos):
    found, lines = load(photos)
    assert (found.name, found.class_names, lines) == ("photos", ("cat", "dog"), [])
    assert found.train_images.shape == (18, 8, 8, 3)
    assert np.bincount(found.train_labels).tolist() == [11, 7]
    assert np.bincount(found.test_labels).tolist() == [1, 1]
    images = {}
    for part in ("train", "test"):
        labels = getattr(found, f"{part}_labels")
        for image, label in zip(getattr(found, f"{part}_images"), labels, strict=True):
            images[image.tobytes()] = label
    assert len(images) == 20
    for label, name in enumerate(("cat", "dog")):
        for path in (photos / name).iterdir():
            assert images[pictures.read(path, (8, 8)).tobytes()] == label
    both = np.array(found.train_images) / 255
    np.testing.assert_allclose(found.mean, both.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, both.std(axis=(0, 1, 2)), rtol=1e-12)


def test_the_split(photos):
    few, _ = load(photos, test_fraction=0.25)
    assert np.bincount(few.test_labels).tolist() == [3, 2]
    assert abs(np.diff(few.train_labels)).sum() > 2  # the classes are mixed
    aside = {image.tobytes() for image in few.test_images}
    draw(photos / "cat" / "another.png", 50)
    more, _ = load(photos, test_fraction=0.25)
    assert len(aside - {image.tobytes() for image in more.test_images}) <= 1


def test_a_part_to_choose_settings_by_stays_on_the_disk(nowhere):
    for name, n in (("cat", 40), ("dog", 20), ("eel", 2)):
        (nowhere / name).mkdir()
        for i in range(n):
            draw(nowhere / name / f"{i}.png", i + len(name) * n)
    whole, _ = load(nowhere, test_fraction=0.05)
    assert np.bincount(whole.train_labels).tolist() == [38, 19, 1]
    for start in (0, 20, 38):  # every stretch is a sample of the classes
        assert np.bincount(whole.train_labels[start : start + 20], minlength=3) == pytest.approx(
            [13, 7, 0], abs=1
        )
    assert set(whole.train_labels[-3:]) == {0, 1, 2}
    part = held_out(whole, 13)
    for images in (part.train_images, part.test_images):
        assert np.shares_memory(images, whole.train_images)
    together = np.concatenate([part.train_images, part.test_images])
    np.testing.assert_array_equal(together, whole.train_images)
    labels = np.concatenate([part.train_labels, part.test_labels])
    np.testing.assert_array_equal(labels, whole.train_labels)
    assert np.bincount(part.test_labels).tolist() == [8, 4, 1]

    order = np.argsort(whole.train_labels, kind="stable")  # a user's own, sorted by class
    images = np.memmap("sorted", np.uint8, "w+", shape=whole.train_images.shape)
    images[:] = whole.train_images[order]
    part = held_out(
        replace(whole, train_images=images, train_labels=np.sort(whole.train_labels)), 13
    )
    assert np.bincount(part.test_labels).tolist() == [8, 4, 1]


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Train", "VAL"), ("training", "valid")]
)
def test_folders_for_training_and_test(nowhere, train, test):
    root = nowhere / "set"
    for i in range(4):
        draw(root / train / "cat" / f"{i}.png", i)
        draw(root / train / "dog" / f"{i}.png", 10 + i)
    draw(root / test / "cat" / "5.png", 20)
    draw(root / test / "eel" / "6.png", 21)
    found, lines = load(root)
    assert found.class_names == ("cat", "dog")
    assert (len(found.train_images), len(found.test_images)) == (8, 1)
    assert lines == [
        f"{root}: left out 1 test picture of a class without training pictures: {test}/eel/6.png"
    ]


def test_what_else_lies_there(photos):
    draw(photos / "cat" / "more" / "deep" / "1.png", 30)
    (photos / "cat" / "Thumbs.db").write_bytes(b"x")
    (photos / "cat" / ".hidden.png").write_bytes(b"x")
    (photos / ".git").mkdir()
    (photos / "empty").mkdir()
    (photos / "readme.txt").write_text("x")
    (photos / "dog" / "0.png").touch()
    (photos / "dog" / "gone.png").symlink_to(photos / "nowhere.png")
    for i in range(7):
        (photos / "dog" / f"broken {i}.jpg").write_bytes(b"no picture")
    found, lines = load(photos)
    assert found.class_names == ("cat", "dog")
    assert len(found.train_images) + len(found.test_images) == 21
    expected = [
        "left out 2 hidden files or folders: .git and others",
        "left out 1 file without a picture's extension: cat/Thumbs.db",
        "1 picture in a folder inside a class folder counts as of that class: cat/more/deep/1.png",
        "left out 1 empty file: dog/0.png",
        "left out 1 link that leads to no file: dog/gone.png",
        "left out 1 class folder without pictures: empty",
        "left out 1 file outside of the class folders: readme.txt",
        "left out 7 pictures that cannot be read",
    ]
    assert {f"{photos}: {words}" for words in expected} <= set(lines)
    assert sum("it is not a picture in a format" in line for line in lines) == 5
    assert len(lines) == len(expected) + 5
    assert load(photos)[1] == lines  # from the cache too


def test_what_is_no_set_of_pictures(nowhere):
    one = nowhere / "one"
    draw(one / "cat" / "1.png")
    with pytest.raises(DataError, match="has pictures of 1 class; expected a folder of pictures"):
        load(one)
    draw(one / "dog" / "1.png")
    with pytest.raises(DataError, match="has one picture of each class; none is left to test on"):
        load(one)
    draw(one / "train" / "cat" / "1.png")
    draw(one / "train" / "dog" / "1.png")
    draw(one / "test" / "eel" / "1.png")
    with pytest.raises(DataError, match=r"test has no pictures of the classes of"):
        load(one)
    draw(nowhere / "flat" / "1.png")
    with pytest.raises(DataError, match="flat is a folder of pictures; expected auto, cifar10"):
        load(nowhere / "flat")
    for name in ("cat", "dog"):
        (nowhere / "bad" / name).mkdir(parents=True)
        for i in range(3):
            (nowhere / "bad" / name / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no picture of .*bad can be read; cannot read"):
        load(nowhere / "bad")
    assert not [path for path in cached(nowhere).iterdir() if path.suffix != ".lock"]


# ------------------------------------------------------------------ the cache


@pytest.fixture
def reads(monkeypatch):
    """The pictures that were decoded."""
    read, of = [], pictures.read
    monkeypatch.setattr(pictures, "read", lambda *a: read.append(a[0]) or of(*a))
    return read


def test_pictures_are_read_once(photos, reads):
    counts = []
    first, _ = load(photos, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(i, 20) for i in range(1, 21)]
    assert not first.train_images.flags.writeable
    second, _ = load(photos)
    assert len(reads) == 20
    assert second.fingerprint == first.fingerprint
    load(photos, image_size=(4, 6))
    assert len(reads) == 40


@pytest.mark.parametrize("change", ["added", "removed", "changed", "renamed"])
def test_a_changed_folder_is_read_again(photos, reads, change):
    first, _ = load(photos)
    one = photos / "cat" / "3.png"
    if change == "added":
        draw(photos / "cat" / "new.png", 77)
    elif change == "removed":
        one.unlink()
    elif change == "renamed":
        one.rename(photos / "dog" / "3.png")
    else:
        draw(one, 78)
    second, _ = load(photos)
    assert len(reads) > 20
    assert second.fingerprint != first.fingerprint
    assert len(list(cached(photos.parent).glob("*/"))) == 1


@pytest.mark.parametrize("damage", ["train.bin", "facts.json", "no facts", "a list"])
def test_a_damaged_cache_is_made_again(photos, reads, damage):
    fingerprint = load(photos)[0].fingerprint
    (place,) = (path for path in cached(photos.parent).iterdir() if path.is_dir())
    if damage == "no facts":
        (place / "facts.json").unlink()
    elif damage == "a list":
        (place / "facts.json").write_text("[]")
    else:
        content = (place / damage).read_bytes()
        (place / damage).write_bytes(content[:-1])
    second, _ = load(photos)
    assert len(reads) == 40
    assert second.fingerprint == fingerprint
    assert set(json.loads((place / "facts.json").read_text())) >= {"digest", "mean", "std"}


def test_a_full_disk(photos, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match=r"cannot write to .*: No space left on device"):
            load(photos)
    assert not list(cached(photos.parent).glob("*.tmp"))
    load(photos)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_while_it_reads(photos, reads):
    """Nothing half-written is ever used, and what was left is removed."""
    program = (
        "import time; from minimix import data; from minimix.data import pictures\n"
        "read = pictures.read\n"
        "pictures.read = lambda *a: (time.sleep(0.5), read(*a))[1]\n"
        f"data.load({str(photos)!r}, image_size=8)"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    while not list(cached(photos.parent).glob("*.tmp/train.bin")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    found, _ = load(photos)
    assert len(reads) == 20
    assert len(found.train_images) == 18
    assert not list(cached(photos.parent).glob("*.tmp"))


def test_a_picture_that_goes_while_they_are_read(photos, monkeypatch):
    of = folders._build
    monkeypatch.setattr(
        folders, "_build", lambda *a: ((photos / "cat" / "3.png").unlink(), of(*a))[1]
    )
    found, lines = load(photos)
    assert len(found.train_images) + len(found.test_images) == 19
    assert any("3.png: No such file" in line for line in lines)


def test_other_sets_keep_their_size(nowhere, monkeypatch):
    few = data.shapes10.load(20, 10)
    monkeypatch.setattr(data.shapes10, "load", lambda: few)
    with pytest.raises(DataError, match="images of shapes10 have 32×32 pixels; expected"):
        data.load("shapes10", image_size=64)


def test_a_published_set_beside_pictures_comes_first(photos):
    write_python(photos)
    with pytest.raises(DataError, match="data_batch_1 holds images of shape"):
        data.load(str(photos))


def test_two_at_once_read_them_once(photos, reads):
    """The second waits for the first, and takes what that one has read."""
    lines = []
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: data.load(str(photos), say=lines.append), range(2)):
            assert len(found.train_images) == 18
    assert len(reads) == 20


def test_pictures_that_changed_places_are_noticed(nowhere):
    """Of the same size and, as a program that unpacks archives may leave them, the same time."""
    for i, name in enumerate(["cat", "dog"] * 4):
        draw(nowhere / "set" / name / f"{i // 2}.bmp", i)

    def times():
        for path in (nowhere / "set").glob("*/*"):
            os.utime(path, (1e9, 1e9))

    times()
    before, _ = load(nowhere / "set")
    for i in range(4):
        one, other = (nowhere / "set" / name / f"{i}.bmp" for name in ("cat", "dog"))
        aside = one.with_suffix(".aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
    times()
    after, _ = load(nowhere / "set")
    labels = [
        dict(zip(map(bytes, one.train_images), one.train_labels, strict=True))
        for one in (before, after)
    ]
    both = labels[0].keys() & labels[1].keys()
    assert both
    assert all(labels[0][image] != labels[1][image] for image in both)


def test_what_could_not_be_read_for_a_moment_is_read_the_next_time(photos, monkeypatch):
    def short(self, *_arguments, **_options):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        plain = Image.open
        patch.setattr(Image, "open", lambda path: (short if "3.png" in str(path) else plain)(path))
        found, lines = load(photos)
    assert "3.png: Too many open files" in lines[0]
    assert len(found.train_images) + len(found.test_images) == 19
    found, lines = load(photos)
    assert (len(found.train_images) + len(found.test_images), lines) == (20, [])
