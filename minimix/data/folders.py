"""Pictures of your own: a folder that has a folder of pictures for each class.

    photos/cat/1.jpg, photos/dog/2.png, …            a fraction of each class becomes the test set
    photos/train/cat/1.jpg, photos/test/cat/2.jpg    test/ or val/ is the test set

Pictures of any size, format and mode are read as `pictures.read` reads them, once: the pixels are
kept in the cache folder, in files that are mapped into memory, so that a data set may be larger
than that. The cache is made again when a picture was added, removed or changed.

What is in a folder beside its pictures never ends a run. It is left out, counted, and said.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import DataError
from . import pictures
from .dataset import Dataset, moments
from .recognize import PICTURES

FORMAT = 3  # of the cache
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
SIDE = 32  # of the images, in pixels, unless another one is asked for
SHOWN = 5  # pictures that could not be read, of which the reason is said
MANY = 10_000  # entries that are looked at to find out whether a folder has pictures

# What is said of one thing, and of several.
HIDDEN = ("left out {} hidden file or folder", "left out {} hidden files or folders")
NO_CLASS = (
    "left out {} class folder without pictures",
    "left out {} class folders without pictures",
)
OUTSIDE = (
    "left out {} file outside of the class folders",
    "left out {} files outside of the class folders",
)
NO_PICTURE = (
    "left out {} file without a picture's extension",
    "left out {} files without a picture's extension",
)
NOWHERE = ("left out {} link that leads to no file", "left out {} links that lead to no file")
EMPTY = ("left out {} empty file", "left out {} empty files")
UNREADABLE = ("left out {} picture that cannot be read", "left out {} pictures that cannot be read")
NO_TRAINING = (
    "left out {} test picture of a class without training pictures",
    "left out {} test pictures of classes without training pictures",
)
NESTED = (
    "{} picture in a folder inside a class folder counts as of that class",
    "{} pictures in folders inside a class folder count as of that class",
)

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


def find(path: Path) -> Path | None:
    """`path`, if it is a folder with folders of pictures in it, or in its train/."""
    if not os.path.isdir(path):
        return None
    with suppress(OSError):
        train = _split(path, TRAIN)
        if any(_has_pictures(folder) for folder in _class_folders(train or path)):
            return path
    return None


def read(
    path: Path,
    size: tuple[int, int] = (SIDE, SIDE),
    test_fraction: float = 0.1,
    seed: int = 0,
    say: Say = print,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """The data set in such a folder; classes are named by their folders.

    size           height and width of the images
    test_fraction  of each class that is tested on, where there is no folder for it: at least one
                   picture of each class that has two
    seed           decides which; where pictures are added, some change sides
    say            gets a line for each thing that is left out
    progress       is called with how many pictures have been read, and how many there are

    Errors: DataError where there is nothing to learn from, DiskError where the cache cannot be
    written.
    """
    path = Path(os.path.abspath(path))
    with files.disk_errors(f"cannot read {path}"):
        found = _look(path, test_fraction, seed)
    name = hashlib.sha256(repr((str(path), size, test_fraction, seed)).encode("utf-8", "replace"))
    cache = files.cache_folder() / "pictures"
    with files.disk_errors(f"cannot write to {cache}"):
        cache.mkdir(parents=True, exist_ok=True)
    place = cache / name.hexdigest()[:20]

    def wait(holder: str) -> None:
        say(f"process {holder} is reading the pictures of {path}; waiting for it")

    with files.lock(place.with_suffix(".lock"), wait):
        facts = _cached(place, found.digest)
        if facts is None:
            facts = _build(found, size, place, progress)
        for line in found.notes() + facts["unreadable"]:
            say(line)
        parts = [_mapped(place, part, facts) for part in ("train", "test")]
    (train, train_labels), (test, test_labels) = parts
    return Dataset(
        name=path.name,
        train_images=train,
        train_labels=train_labels,
        test_images=test,
        test_labels=test_labels,
        class_names=tuple(facts["class_names"]),
        source=f"{path} ({len(train):,} + {len(test):,} pictures, resized to {size[0]}×{size[1]})",
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
    )


# ------------------------------------------------------------------ what is there


@dataclass
class Picture:
    """A picture of a class: where it is below the folder, and what tells that it was changed."""

    path: str
    class_name: str
    size: int
    modified: int
    changed: int

    def order(self, seed: int) -> bytes:
        """A place among the others that looks random, and stays when others come and go."""
        text = f"{seed} {self.path}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, digest_size=16).digest()


@dataclass
class Found:
    """What a folder holds."""

    path: Path
    class_names: list[str] = field(default_factory=list)
    train: list[Picture] = field(default_factory=list)
    test: list[Picture] = field(default_factory=list)
    noted: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # paths, by what is said

    @property
    def digest(self) -> str:
        """Changes when a picture is added, removed or changed."""
        listing: list[Any] = [FORMAT, self.class_names]
        listing += [(p.path, p.size, p.modified, p.changed) for p in (*self.train, *self.test)]
        return hashlib.sha256(repr(listing).encode("utf-8", "surrogateescape")).hexdigest()

    def note(self, words: tuple[str, str], path: str) -> None:
        self.noted.setdefault(words, []).append(path)

    def notes(self) -> list[str]:
        """A line for each kind of thing that is not what one would expect."""
        return [
            f"{self.path}: {_counted(words, len(paths))}: {printable(paths[0])}"
            + (" and others" if len(paths) > 1 else "")
            for words, paths in self.noted.items()
        ]


def _look(path: Path, test_fraction: float, seed: int) -> Found:
    """Everything in a folder, in the order in which it is kept."""
    found = Found(path)
    train, test = _split(path, TRAIN), _split(path, TEST)
    found.train = sorted(_pictures(found, train or path), key=lambda p: p.order(seed))
    found.class_names = sorted({p.class_name for p in found.train})
    if len(found.class_names) < 2:
        raise DataError(
            f"{train or path} has pictures of {len(found.class_names)} class; expected a folder of "
            "pictures for each of at least two classes"
        )
    if train and test:
        for picture in sorted(_pictures(found, test), key=lambda p: p.order(seed)):
            if picture.class_name in found.class_names:
                found.test.append(picture)
            else:
                found.note(NO_TRAINING, picture.path)
        if not found.test:
            raise DataError(f"{test} has no pictures of the classes of {train}")
        found.train = _mixed(found.train)
        return found
    waiting: dict[str, int] = {}  # how many more pictures of a class are for the test
    for name in found.class_names:
        n = sum(p.class_name == name for p in found.train)
        waiting[name] = min(n - 1, max(1, round(n * test_fraction)))
    rest: list[Picture] = []
    for picture in found.train:
        aside = waiting[picture.class_name] > 0
        waiting[picture.class_name] -= aside
        (found.test if aside else rest).append(picture)
    found.train = _mixed(rest)
    if not found.test:
        raise DataError(f"{path} has one picture of each class; none is left to test on")
    return found


def _mixed(found: list[Picture]) -> list[Picture]:
    """In an order in which every stretch has pictures of all classes, as evenly as the whole.

    So a part of them, to choose settings by, is a stretch of the file: nothing has to be copied.
    The last pictures are one of each class.
    """
    seen: dict[str, int] = {}
    total = Counter(picture.class_name for picture in found)
    share: list[float] = []
    for picture in found:
        seen[picture.class_name] = seen.get(picture.class_name, 0) + 1
        share.append(seen[picture.class_name] / total[picture.class_name])
    return [found[i] for i in sorted(range(len(found)), key=share.__getitem__)]


def _split(path: Path, names: Sequence[str]) -> Path | None:
    """The first folder in `path` that has one of these names, in any case."""
    there = {entry.name.lower(): entry.name for entry in os.scandir(path) if entry.is_dir()}
    return next((path / there[name] for name in names if name in there), None)


def _class_folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return sorted(
            path / entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".")
        )


def _has_pictures(folder: Path) -> bool:
    names = (name for _, _, names in os.walk(folder) for name in names)
    return any(name.lower().endswith(PICTURES) for name in islice(names, MANY))


def _pictures(found: Found, split: Path) -> Iterator[Picture]:
    """The pictures of the class folders in a folder; what else is there is left out and noted."""
    for entry in _entries(split):
        below = os.path.relpath(entry.path, found.path)
        if entry.name.startswith("."):
            found.note(HIDDEN, below)
        elif entry.is_dir():
            n = 0
            for picture in _of_class(found, entry.name, entry.path):
                n += 1
                yield picture
            if not n:
                found.note(NO_CLASS, below)
        else:
            found.note(OUTSIDE, below)


def _of_class(found: Found, name: str, folder: str, nested: bool = False) -> Iterator[Picture]:
    for entry in _entries(folder):
        below = os.path.relpath(entry.path, found.path)
        if entry.name.startswith("."):
            found.note(HIDDEN, below)
        elif entry.is_dir(follow_symlinks=False):
            yield from _of_class(found, name, entry.path, nested=True)
        elif not entry.name.lower().endswith(PICTURES):
            found.note(NO_PICTURE, below)
        elif not entry.is_file():
            found.note(NOWHERE, below)
        else:
            about = entry.stat()
            if not about.st_size:
                found.note(EMPTY, below)
                continue
            if nested:
                found.note(NESTED, below)
            # What is renamed, or written over with an old time of change, has a new ctime.
            yield Picture(below, name, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


# ------------------------------------------------------------------ the cache


def _cached(place: Path, digest: str) -> dict[str, Any] | None:
    """What is known of the pixels in a folder; None unless they are whole, and of this listing."""
    try:
        facts = json.loads((place / "facts.json").read_bytes())
        size = math.prod(facts["image_shape"])
        whole = all(
            (place / f"{part}.bin").stat().st_size == size * len(facts[f"{part}_labels"])
            for part in ("train", "test")
        )
        return facts if whole and facts["digest"] == digest and not facts["passing"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(place: Path, part: str, facts: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, H, W, 3), mapped from the disk, and labels (N,)."""
    labels = np.array(facts[f"{part}_labels"], np.int64)
    shape = (len(labels), *facts["image_shape"])
    with files.disk_errors(f"cannot read {place}"):
        return np.asarray(np.memmap(place / f"{part}.bin", np.uint8, "r", shape=shape)), labels


def _build(found: Found, size: tuple[int, int], place: Path, progress: Progress) -> dict[str, Any]:
    """Read all pictures into the folder `place`, all or nothing; what is known of them."""
    temporary = place.with_suffix(".tmp")  # nobody else has the lock
    shutil.rmtree(temporary, ignore_errors=True)
    names = {name: i for i, name in enumerate(found.class_names)}
    facts: dict[str, Any] = {"digest": found.digest, "image_shape": [*size, 3]}
    unreadable: list[DataError] = []
    total, done = len(found.train) + len(found.test), 0
    try:
        with files.disk_errors(f"cannot write to {place.parent}"):
            temporary.mkdir()
            for part, wanted in (("train", found.train), ("test", found.test)):
                labels: list[int] = []
                with open(temporary / f"{part}.bin", "wb") as file:
                    paths = [found.path / picture.path for picture in wanted]
                    decoded = pictures.read_all(paths, size)
                    for picture, read in zip(wanted, decoded, strict=True):
                        done += 1
                        progress(done, total)
                        if isinstance(read, DataError):
                            unreadable.append(read)
                            continue
                        file.write(read.tobytes())
                        labels.append(names[picture.class_name])
                    file.flush()
                    os.fsync(file.fileno())
                if not labels:
                    raise DataError(f"no picture of {found.path} can be read; {unreadable[0]}")
                facts[f"{part}_labels"] = labels
            train, labels = _mapped(temporary, "train", facts)[0], facts["train_labels"]
            missing = [name for name, i in names.items() if i not in set(labels)]
            if missing:
                raise DataError(f"no training picture of {missing[0]} can be read; {unreadable[0]}")
            facts["mean"], facts["std"] = moments(train)
            del train
            facts["class_names"] = found.class_names
            facts["unreadable"] = _summary(found.path, unreadable)
            facts["passing"] = any(error.__cause__ for error in unreadable)  # so read again
            (temporary / "facts.json").write_text(json.dumps(facts))
            shutil.rmtree(place, ignore_errors=True)
            os.replace(temporary, place)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return facts


def _summary(path: Path, unreadable: list[DataError]) -> list[str]:
    """A line for each of the first pictures that cannot be read, and how many there are."""
    lines = [printable(str(error)) for error in unreadable[:SHOWN]]
    if unreadable:
        lines.append(f"{path}: {_counted(UNREADABLE, len(unreadable))}")
    return lines


def _counted(words: tuple[str, str], n: int) -> str:
    return words[n != 1].format(f"{n:,}")


def printable(text: str) -> str:
    """A path may have any bytes but zero; a line of text may not."""
    return "".join(c if c.isprintable() else "�" for c in text)
