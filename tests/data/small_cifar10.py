"""A small CIFAR-10 in both published layouts."""

import struct
from pathlib import Path

import numpy as np

from minimix.data import cifar10

SMALL = 20  # images in a batch


def python2_pickle(data, labels, key=b"labels"):
    """A batch in the opcodes that Python 2 wrote: strings as bytes, the array by its parts."""

    def text(s):
        return b"U" + bytes([len(s)]) + s

    def number(i):
        return b"M" + struct.pack("<H", i)

    no_stride = b"J\xff\xff\xff\xff"  # −1, twice in a dtype's state
    array = b"".join(
        (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01" + number(len(data)) + number(data.shape[1]) + b"\x86",
            b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R",
            b"(K\x03U\x01|NNN" + no_stride + no_stride + b"K\x00tb",
            b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb",
        )
    )
    items = text(b"batch_label") + text(b"a batch") + text(key) + b"]("
    items += b"".join(map(number, labels)) + b"e" + text(b"data") + array
    return b"\x80\x02}(" + items + b"u."


def batches():
    """Data uint8 (20, 3072) and labels of the five training batches and the test batch."""
    rng = np.random.default_rng(0)
    return [
        (rng.integers(0, 256, (SMALL, 3072), np.uint8), rng.integers(0, 10, SMALL))
        for _ in range(6)
    ]


def write_python(parent: Path) -> Path:
    folder = parent / cifar10.PYTHON.folder
    folder.mkdir(parents=True)
    for name, (data, labels) in zip(cifar10.PYTHON.files, batches(), strict=True):
        (folder / name).write_bytes(python2_pickle(data, labels))
    (folder / "readme.html").write_text("not a batch")
    return folder


def write_binary(parent: Path) -> Path:
    folder = parent / cifar10.BINARY.folder
    folder.mkdir(parents=True)
    for name, (data, labels) in zip(cifar10.BINARY.files, batches(), strict=True):
        rows = np.concatenate([labels[:, None].astype(np.uint8), data], axis=1)
        (folder / name).write_bytes(rows.tobytes())
    return folder
