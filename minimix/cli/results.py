"""How the result of a test is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import Dataset
    from ..train import Evaluation


def print_test(test: Evaluation, data: Dataset) -> None:
    """Print the accuracy on each class, on all images, and with mirrored ones where tested."""
    for name, accuracy in zip(data.class_names, test.per_class, strict=True):
        print(f"{name:>12} " + ("no images" if accuracy is None else f"{100 * accuracy:6.2f} %"))
    print(f"test accuracy {100 * test.accuracy:.2f} %")
    if test.mirrored is not None:
        print(f"with mirrored images {100 * test.mirrored:.2f} %")
