"""CIFAR-10 in the two layouts in which it is published, read without trusting either.

60,000 color images of 32×32 pixels in ten classes (Krizhevsky, "Learning Multiple Layers of
Features from Tiny Images", 2009): five training batches and a test batch of 10,000 images each.

    python version   cifar-10-batches-py/data_batch_1 …    a pickle each
    binary version   cifar-10-batches-bin/data_batch_1.bin …   per image a label byte, 3072 pixels

In both an image is a red, a green and a blue plane; here it becomes (32, 32, 3).

A pickle is a program. These files need four names of NumPy's and nothing else, so the unpickler
knows four names, resolves them to the stand-ins below instead of to NumPy, and refuses every other
name before anything is called.
"""

import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import DataError, MinimixError
from .dataset import Dataset
from .recognize import EXPECTED, describe

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

# Of the training pixels scaled to [0, 1], by channel; the values that the authors' code has.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2471, 0.2435, 0.2616)

PIXELS = 3 * 32 * 32  # bytes of one image


@dataclass(frozen=True)
class Layout:
    """The names under which one version is published."""

    folder: str
    archive: str
    files: tuple[str, ...]  # those with training images, then the one with test images


BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
PYTHON = Layout("cifar-10-batches-py", "cifar-10-python.tar.gz", BATCHES)
BINARY = Layout(
    "cifar-10-batches-bin", "cifar-10-binary.tar.gz", tuple(f"{batch}.bin" for batch in BATCHES)
)
LAYOUTS = (PYTHON, BINARY)

# No batch file is larger than 31.1 MB and neither archive unpacks to more than 187 MB.
LARGEST_BATCH = 33_000_000
LARGEST_ARCHIVE = 200_000_000


# ------------------------------------------------------------------ where it is


def places() -> list[Path]:
    """Where a copy of CIFAR-10 is looked for, in order: `$MINIMIX_DATA`, then the usual folders."""
    home = files.home() or Path()
    keras = home / ".keras" / "datasets"
    usual = [
        *files.cache_folders(),
        Path("data"),  # torchvision's tutorials, from the current folder and from home
        home / "data",
        Path(),
        keras,
        keras / "cifar-10-batches-py-target",  # Keras 3
    ]
    try:
        chosen = [files.expand(named)] if (named := os.environ.get("MINIMIX_DATA")) else []
    except MinimixError as error:
        raise DataError(f"MINIMIX_DATA is {error}") from error
    return [*chosen, *(folder for folder in usual if os.path.isdir(folder))]


def find(path: str | os.PathLike[str] | None = None) -> Path | None:
    """The first copy of CIFAR-10 at `path`, or without one in the usual `places()`.

    A copy is an unpacked folder (cifar-10-batches-py or -bin), a folder that holds one, or an
    archive as published. None where there is none; whether it is whole, `read` will find out.
    """
    for place in places() if path is None else [files.expand(path)]:
        if os.path.isfile(place):
            return place
        inside = [place / layout.folder for layout in LAYOUTS]
        for folder in [place, *inside]:
            if layout_of(folder):
                return folder
        for layout in LAYOUTS:
            if os.path.isfile(place / layout.archive):
                return place / layout.archive
    return None


def layout_of(folder: Path, layouts: Sequence[Layout] = LAYOUTS) -> Layout | None:
    """The layout that at least one file of this folder belongs to."""
    for layout in layouts:
        if any(os.path.isfile(folder / name) for name in layout.files):
            return layout
    return None


# ------------------------------------------------------------------ reading it


def read(path: str | os.PathLike[str], *, images_per_batch: int = 10_000) -> Dataset:
    """The data set in an unpacked folder or an archive (of either layout).

    Errors: DataError where it is something else, or a batch is missing, truncated, damaged or holds
    a label that no class has.
    """
    folder = Path(path)
    unpacked: dict[str, bytes] = {}
    layout = layout_of(folder)
    if layout is None:
        layout, unpacked = read_archive(folder)

    decode = decode_pickle if layout is PYTHON else decode_binary
    images = np.empty((6, images_per_batch, 32, 32, 3), np.uint8)
    labels = np.empty((6, images_per_batch), np.int64)
    for i, name in enumerate(layout.files):
        where = f"{folder / name}"
        content = unpacked.get(name) if unpacked else read_file(folder / name, LARGEST_BATCH)
        if content is None:
            raise DataError(f"{where} is missing; {mend(folder)}")
        images[i], labels[i] = decode(content, where, images_per_batch)
        check_classes(labels[i], len(CLASS_NAMES), where)
    return Dataset(
        name="cifar10",
        train_images=images[:5].reshape(-1, 32, 32, 3),
        train_labels=labels[:5].reshape(-1),
        test_images=images[5],
        test_labels=labels[5],
        class_names=CLASS_NAMES,
        source=str(path),
        mean=MEAN,
        std=STD,
    )


def check_classes(labels: np.ndarray, n_classes: int, where: str) -> None:
    """Raise DataError, naming the first one, where the file `where` has labels of no class."""
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if bad.size:
        raise DataError(
            f"{where}: image {bad[0]} has label {labels[bad[0]]}; "
            f"expected 0 to {n_classes - 1}; {mend(Path(where).parent)}"
        )


def mend(path: Path) -> str:
    """What to do about a damaged copy. Only what minimix itself has fetched is to be removed."""
    if any(folder in path.parents for folder in files.cache_folders()):
        return f"remove {path}, and it will be downloaded again"
    return "give the path of another copy as `data`"


def read_file(file: Path, largest: int) -> bytes | None:
    """The content of a batch file, of at most so many bytes; None if there is none."""
    try:
        size = file.stat().st_size
        if size > largest:
            raise DataError(
                f"{file} is {size:,} bytes; expected at most {largest:,}; {mend(file.parent)}"
            )
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def read_archive(
    path: str | os.PathLike[str], layouts: Sequence[Layout] = LAYOUTS, largest: int = 0
) -> tuple[Layout, dict[str, bytes]]:
    """The layout of a published archive and the contents of its batch files, nothing else.

    layouts  those of the set that is expected
    largest  bytes of its largest file; of CIFAR-10's by default

    Nothing is written. An archive that unpacks to more than CIFAR-10 does, or that holds a link,
    an absolute name or one with "..", is refused whole.
    """
    path, largest = Path(path), largest or LARGEST_BATCH
    try:
        with GzipFile(path) as packed:
            is_tar = packed.read(512)[257:262] == b"ustar"
    except (OSError, EOFError, zlib.error):
        is_tar = False
    if not is_tar:
        raise DataError(f"{path} is {describe(path)}; expected {EXPECTED}")
    refuse = f"{path} is not a CIFAR archive"
    try:
        with GzipFile(path) as packed:
            content = packed.read(LARGEST_ARCHIVE + 1)
    except EOFError:
        raise DataError(
            f"{path} is truncated: {path.stat().st_size:,} bytes; expected about 170,000,000; "
            f"{mend(path)}"
        ) from None
    except (zlib.error, BadGzipFile) as error:
        raise DataError(f"{path} is damaged ({error}); {mend(path)}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > LARGEST_ARCHIVE:
        raise DataError(f"{refuse}: it unpacks to more than {LARGEST_ARCHIVE:,} bytes")

    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if not (member.isreg() or member.isdir()):
                    raise DataError(f"{refuse}: {member.name!r} is a link or a device")
                parts = member.name.replace("\\", "/").split("/")
                if parts[0] == "" or ".." in parts or ":" in parts[0]:
                    raise DataError(f"{refuse}: {member.name!r} points outside it")
                if member.isdir() or member.size > largest:
                    continue
                unpacked = archive.extractfile(member)
                if unpacked is not None:
                    found["/".join(part for part in parts if part != ".")] = unpacked.read()
    except DataError:
        raise
    except Exception as error:  # tarfile raises nearly anything, given damaged bytes
        raise DataError(f"{path} is damaged ({error}); {mend(path)}") from error
    for layout in layouts:
        wanted = {name: f"{layout.folder}/{name}" for name in layout.files}
        batches = {name: found[full] for name, full in wanted.items() if full in found}
        if batches:
            return layout, batches
    names = ", ".join(sorted(found)[:3]) or "nothing"
    raise DataError(f"{path} is a gzipped tar archive of {names}; expected {EXPECTED}")


def decode_binary(
    content: bytes, where: str, n: int, labels: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of a binary batch.

    labels  how many bytes stand before the pixels; the last of them is the label
    """
    if len(content) != n * (labels + PIXELS):
        raise DataError(
            f"{where} is {len(content):,} bytes; expected {n * (labels + PIXELS):,}: "
            f"truncated or damaged; {mend(Path(where).parent)}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(n, labels + PIXELS)
    return _channels_last(rows[:, labels:]), rows[:, labels - 1].astype(np.int64)


def decode_pickle(
    content: bytes, where: str, n: int, labels_key: str = "labels"
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of a python batch."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _RefusedError as refused:
        raise DataError(
            f"{where} asks to run {refused}, which no CIFAR-10 file does: "
            "refused, and nothing of it was run"
        ) from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{where} is {len(content):,} bytes; expected about {n * 3103:,}: "
            f"truncated or damaged; {mend(Path(where).parent)}"
        ) from error
    # Written by Python 2 the keys are bytes, written again by Python 3 they may be str.
    fields = batch if isinstance(batch, dict) else {}
    data, labels = (fields.get(key.encode(), fields.get(key)) for key in ("data", labels_key))
    if not isinstance(data, _Array):
        data = _Array()
    if data.shape != (n, PIXELS) or not isinstance(labels, list) or len(labels) != n:
        count = len(labels) if isinstance(labels, list) else "no"
        raise DataError(
            f"{where} holds images of shape {data.shape} and {count} labels; "
            f"expected {(n, PIXELS)} and {n}: truncated or damaged; {mend(Path(where).parent)}"
        )
    if not all(type(label) is int and abs(label) < 2**31 for label in labels):
        way = mend(Path(where).parent)
        raise DataError(f"{where} holds labels that are not whole numbers; {way}")
    return _channels_last(data.pixels), np.array(labels, np.int64)


def _channels_last(rows: np.ndarray) -> np.ndarray:
    """Each image a red, a green and a blue plane, (n, 3072) -> (n, 32, 32, 3)"""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


# ------------------------------------------------------------------ unpickling it


class _RefusedError(Exception):
    """The name, outside the allowed ones, that a pickle asked for."""


class _Dtype:
    """Stands in for numpy.dtype, of which these files need uint8 alone."""

    def __init__(self, code: Any = None, *_flags: Any):
        if code not in (b"u1", "u1"):
            raise ValueError(f"dtype {code!r}")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment mean nothing for single bytes."""


class _Array:
    """Stands in for numpy.ndarray: takes what the pickle says, and checks it."""

    shape: tuple[int, ...] = ()
    pixels: np.ndarray

    def __init__(self, *_arguments: Any):
        """`_reconstruct(ndarray, (0,), "b")` makes an empty array, to be filled below."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran_order, content = state
        if not isinstance(dtype, _Dtype) or fortran_order or not isinstance(content, bytes):
            raise ValueError("not an array of bytes in C order")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape)
        self.shape = self.pixels.shape


class _Unpickler(pickle._Unpickler):
    """pickle's own, in Python: in C a ten-byte file can claim all memory for its memo."""

    _ALLOWED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,  # saved again by NumPy 2
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def persistent_load(self, key: Any) -> Any:
        raise _RefusedError(f"persistent object {key!r}")
