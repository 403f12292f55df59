"""What is at a path: for the line that says what was found where a data set was expected."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import numpy as np

IDX = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}

MAGIC = {  # how files of well-known formats begin
    b"\x93NUMPY": "a .npy file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"MATLAB 5.0": "a MATLAB file",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x89PNG\r\n\x1a\n": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"%PDF": "a PDF file",
}

PICTURES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".avif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".jp2", ".tga"),
)
EXPECTED = (
    "the path of CIFAR-10 or CIFAR-100 (a folder or an archive, as published), of the idx files of "
    "MNIST or a set like it, of an .npz file of x_train, y_train, x_test and y_test, or of a "
    "folder that has a folder of pictures for each class"
)
MANY = 1000  # entries of a folder are looked at, no more


def describe(path: Path) -> str:
    """What is there, in a few words that follow "is": "a gzipped idx file of uint8 (60000,)"."""
    try:
        if os.path.isdir(path):
            return _folder(path)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return _file(file.read(1024), path)
        return "neither a file nor a folder" if os.path.lexists(path) else "not there"
    except OSError as error:
        return f"something that cannot be read ({error.strerror or error})"


def _file(start: bytes, path: Path) -> str:
    if not start:
        return "an empty file"
    if start[:2] == b"\x1f\x8b":
        return _gzipped(path)
    if start[:2] == b"PK":
        return _zipped(path)
    return _content(start)


def _content(start: bytes) -> str:
    """The format of a file that begins like this."""
    if start[:2] == b"\0\0" and len(start) > 4 and start[2] in IDX and 1 <= start[3] <= 4:
        shape = np.frombuffer(start[4:], ">u4", count=min(start[3], (len(start) - 4) // 4))
        return f"an idx file of {IDX[start[2]]} {tuple(shape.tolist())}, as MNIST has them"
    if start[257:262] == b"ustar":
        return f"a tar archive that begins with {start[:100].rstrip(bytes(1)).decode('latin-1')}"
    for magic, words in MAGIC.items():
        if start.startswith(magic):
            return words
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return "a single pickle"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if b"\0" not in start and sum(byte < 9 for byte in start) == 0:
        return "a text file" if start.isascii() else "a file of an unknown format"
    return "a file of an unknown format"


def _gzipped(path: Path) -> str:
    try:
        with gzip.open(path) as file:
            start = file.read(1024)
    except (OSError, EOFError, zlib.error):
        return "a damaged gzip file"
    return "a gzipped empty file" if not start else f"a gzip file of {_content(start)}"


def _zipped(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged zip archive"
    if names and all(name.endswith(".npy") for name in names):
        return f"an .npz file of {_some([name.removesuffix('.npy') for name in names])}"
    return f"a zip archive of {_some(sorted({name.split('/')[0] for name in names}))}"


def _folder(path: Path) -> str:
    with os.scandir(path) as entries:
        found = [entry for entry in islice(entries, MANY) if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in found)
    folders = sorted(entry.name for entry in found if entry.is_dir())
    if not names:
        return "an empty folder"
    if any(name.lower().endswith(PICTURES) for name in names):
        return "a folder of pictures"
    for parts in (folders, [f"{a}/{b}" for a in folders[:3] for b in _folders(path / a)]):
        if any(_has_picture(path / part) for part in parts[:20]):
            return f"a folder of class folders of pictures ({_some(parts)})"
    return f"a folder of {_some(names)}"


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in islice(entries, MANY) if entry.is_dir())


def _has_picture(path: Path) -> bool:
    with os.scandir(path) as entries:
        return any(entry.name.lower().endswith(PICTURES) for entry in islice(entries, 20))


def _some(names: list[str]) -> str:
    """The first names of a list."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
