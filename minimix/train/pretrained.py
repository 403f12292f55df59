"""Weights that others have trained, in timm's layout: the model, its classes, its pictures."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..autograd import Array
from ..errors import CheckpointError
from ..interop import load_weights, read_header, read_safetensors
from ..nn import Module

SIDE = 224  # of the images that all these models were trained on


def is_foreign(path: Path) -> bool:
    """Whether this is a safetensors file that minimix did not write, its layout being another's."""
    header = read_header(path)
    return bool(header) and "minimix" not in header.get("__metadata__", {})


def pretrained(
    path: Path, name: str | None = None, classes: Path | None = None
) -> tuple[Module, dict[str, Any]]:
    """The model whose weights are in a .safetensors file in timm's layout, and facts about it.

    name     what `models.create` calls it; None: what the file, or its folder, is called says it,
             as in "convmixer_768_32.in1k.safetensors" or "resnet18.a1_in1k/model.safetensors"
    classes  a text file with the name of each class on a line of its own; None: the file of the
             same name ending in .txt, if there is one; else classes are called "0", "1", …

    The model is in evaluation mode. Facts are those of `load_model`'s "data", and "crop", the side
    of the center crop as a fraction of the resized picture's short side.

    Errors: CheckpointError where the model is not known, or the weights or classes do not fit it;
    ValueError where there is no model of that name.
    """
    known = name or name_of(path)
    if known is None:
        raise CheckpointError(
            f"{path} holds weights, but neither it nor its folder has the name of their model; "
            "give that name beside the weights"
        )
    state = read_safetensors(path)
    n_classes = _n_classes(state)
    model = models.create(known, n_classes=n_classes, rng=_Blank())
    load_weights(model, path, state)
    size = models.size_of(known)
    if classes is None and path.with_suffix(".txt").is_file():
        classes = path.with_suffix(".txt")
    return model.eval(), {
        "name": known,
        "class_names": _class_names(classes, n_classes),
        "image_size": [SIDE, SIDE],
        "mean": size.mean,
        "std": size.std,
        "crop": size.crop,
    }


def name_of(path: Path) -> str | None:
    """The longest name of a model that stands in the file's name, or else in a folder's above."""
    for part in reversed(Path(os.path.abspath(path)).parts[-4:]):  # a download cache is that deep
        found = [n for n in models.sizes() if re.search(rf"(?<![a-z0-9]){n}(?![a-z0-9])", part)]
        if found:
            return max(found, key=len)
    return None


def _n_classes(state: Mapping[str, Array]) -> int:
    """How many rows the last linear map has, in whatever code the weights are from."""
    heads = r"(.*\.)?(head|fc|linear|\d+)\.weight"
    rows = [len(a) for key, a in state.items() if a.ndim == 2 and re.fullmatch(heads, key)]
    return rows[-1] if rows else 1000


def _class_names(path: Path | None, n: int) -> list[str]:
    if path is None:
        return [str(i) for i in range(n)]
    try:
        names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise CheckpointError(f"cannot read {path}: {reason}") from error
    if len(names) != n:
        raise CheckpointError(f"{path} names {len(names):,} classes; the model has {n:,}")
    count = Counter(names)  # a crane is a bird, and a machine
    return [f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(names)]


class _Blank(np.random.Generator):
    """Gives zeros, in no time: to make a model whose weights are loaded anyway."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low=0.0, high=1.0, size=None):
        return np.zeros(size, np.float32)

    def random(self, size=None, dtype=np.float64, out=None):
        return np.zeros(size, dtype)

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return np.zeros(size, dtype)
