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
from dataclasses import dataclass
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import DataError, MinimixError
from .dataset import Dataset
from .recognize import describe

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
    suffix: str

    @property
    def files(self) -> tuple[str, ...]:
        """The five training batches, then the test batch."""
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        return tuple(name + self.suffix for name in names)


PYTHON = Layout("cifar-10-batches-py", "cifar-10-python.tar.gz", "")
BINARY = Layout("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin")
LAYOUTS = (PYTHON, BINARY)
EXPECTED = (
    f"CIFAR-10: a folder that is or holds {PYTHON.folder} or {BINARY.folder}, or the archive "
    f"{PYTHON.archive} or {BINARY.archive}"
)

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
            if _layout_of(folder):
                return folder
        for layout in LAYOUTS:
            if os.path.isfile(place / layout.archive):
                return place / layout.archive
    return None


def _layout_of(folder: Path) -> Layout | None:
    """The layout that at least one file of this folder belongs to."""
    for layout in LAYOUTS:
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
    layout = _layout_of(folder)
    if layout is None:
        layout, unpacked = read_archive(folder)

    decode = _decode_pickle if layout is PYTHON else _decode_binary
    images = np.empty((6, images_per_batch, 32, 32, 3), np.uint8)
    labels = np.empty((6, images_per_batch), np.int64)
    for i, name in enumerate(layout.files):
        where = f"{folder / name}"
        content = unpacked.get(name) if unpacked else _read_file(folder / name)
        if content is None:
            raise DataError(f"{where} is missing; {_mend(folder)}")
        pixels, batch_labels = decode(content, where, images_per_batch)
        bad = np.flatnonzero((batch_labels < 0) | (batch_labels >= len(CLASS_NAMES)))
        if bad.size:
            raise DataError(
                f"{where}: image {bad[0]} has label {batch_labels[bad[0]]}; "
                f"expected 0 to {len(CLASS_NAMES) - 1}; {_mend(folder)}"
            )
        images[i] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels[i] = batch_labels
    return Dataset(
        name="cifar10",
        train_images=images[:5].reshape(-1, 32, 32, 3),
        train_labels=labels[:5].reshape(-1),
        test_images=images[5],
        test_labels=labels[5],
        class_names=CLASS_NAMES,
        source=str(path),
    )


def _mend(path: Path) -> str:
    """What to do about a damaged copy. Only what minimix itself has fetched is to be removed."""
    if any(folder in path.parents for folder in files.cache_folders()):
        return f"remove {path}, and it will be downloaded again"
    return "give the path of another copy as `data`"


def _read_file(file: Path) -> bytes | None:
    """The content of a batch file; None if there is none."""
    try:
        size = file.stat().st_size
        if size > LARGEST_BATCH:
            raise DataError(
                f"{file} is {size:,} bytes; expected at most {LARGEST_BATCH:,}; "
                f"{_mend(file.parent)}"
            )
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def read_archive(path: str | os.PathLike[str]) -> tuple[Layout, dict[str, bytes]]:
    """The layout of a published archive and the contents of its batch files, nothing else.

    Nothing is written. An archive that unpacks to more than CIFAR-10 does, or that holds a link,
    an absolute name or one with "..", is refused whole.
    """
    path = Path(path)
    try:
        with GzipFile(path) as packed:
            is_tar = packed.read(512)[257:262] == b"ustar"
    except (OSError, EOFError, zlib.error):
        is_tar = False
    if not is_tar:
        raise DataError(f"{path} is {describe(path)}; expected {EXPECTED}")
    refuse = f"{path} is not a CIFAR-10 archive"
    try:
        with GzipFile(path) as packed:
            content = packed.read(LARGEST_ARCHIVE + 1)
    except EOFError:
        raise DataError(
            f"{path} is truncated: {path.stat().st_size:,} bytes; expected about 170,000,000; "
            f"{_mend(path)}"
        ) from None
    except (zlib.error, BadGzipFile) as error:
        raise DataError(f"{path} is damaged ({error}); {_mend(path)}") from error
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
                if member.isdir() or member.size > LARGEST_BATCH:
                    continue
                unpacked = archive.extractfile(member)
                if unpacked is not None:
                    found["/".join(part for part in parts if part != ".")] = unpacked.read()
    except DataError:
        raise
    except Exception as error:  # tarfile raises nearly anything, given damaged bytes
        raise DataError(f"{path} is damaged ({error}); {_mend(path)}") from error
    for layout in LAYOUTS:
        wanted = {name: f"{layout.folder}/{name}" for name in layout.files}
        batches = {name: found[full] for name, full in wanted.items() if full in found}
        if batches:
            return layout, batches
    names = ", ".join(sorted(found)[:3]) or "nothing"
    raise DataError(f"{path} is a gzipped tar archive of {names}; expected {EXPECTED}")


def _decode_binary(content: bytes, where: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (n, 3072) and labels int64 (n,) of a binary batch."""
    if len(content) != n * (1 + PIXELS):
        raise DataError(
            f"{where} is {len(content):,} bytes; expected {n * (1 + PIXELS):,}: "
            f"truncated or damaged; {_mend(Path(where).parent)}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(n, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _decode_pickle(content: bytes, where: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (n, 3072) and labels int64 (n,) of a python batch."""
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
            f"truncated or damaged; {_mend(Path(where).parent)}"
        ) from error
    # Written by Python 2 the keys are bytes, written again by Python 3 they may be str.
    fields = batch if isinstance(batch, dict) else {}
    data, labels = (fields.get(key.encode(), fields.get(key)) for key in ("data", "labels"))
    if not isinstance(data, _Array):
        data = _Array()
    if data.shape != (n, PIXELS) or not isinstance(labels, list) or len(labels) != n:
        count = len(labels) if isinstance(labels, list) else "no"
        raise DataError(
            f"{where} holds images of shape {data.shape} and {count} labels; "
            f"expected {(n, PIXELS)} and {n}: truncated or damaged; {_mend(Path(where).parent)}"
        )
    if not all(type(label) is int and abs(label) < 2**31 for label in labels):
        mend = _mend(Path(where).parent)
        raise DataError(f"{where} holds labels that are not whole numbers; {mend}")
    return data.pixels, np.array(labels, np.int64)


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
