"""How the result of a test is printed."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files

if TYPE_CHECKING:
    from ..data import Dataset
    from ..train import Evaluation


@contextmanager
def reading(quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A function to be called with how much is done and how much there is: it draws a bar."""
    bar: Any = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            from tqdm import tqdm

            silent = quiet or not sys.stderr.isatty()
            bar = tqdm(total=total, unit="", unit_scale=True, disable=silent, leave=False)
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()


def write_confusion(path: Path, confusion: Any, class_names: Sequence[str]) -> None:
    """Write counts (n, n) with the names of the classes, as CSV. Errors: DiskError."""
    with io.StringIO(newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["true class", *class_names])
        for name, row in zip(class_names, confusion.tolist(), strict=True):
            writer.writerow([name, *row])
        files.write(path, table.getvalue().encode("utf-8", "surrogateescape"))


def print_test(test: Evaluation, data: Dataset, images: str = "test") -> None:
    """Print the accuracy on each class, on all images, and with mirrored ones where tested.

    images  which ones these are: "test", or "validation"
    """
    for name, accuracy in zip(data.class_names, test.per_class, strict=True):
        print(f"{name:>12} " + ("no images" if accuracy is None else f"{100 * accuracy:6.2f} %"))
    print(f"{images} accuracy {100 * test.accuracy:.2f} %")
    if test.mirrored is not None:
        print(f"with mirrored images {100 * test.mirrored:.2f} %")
