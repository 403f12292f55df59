"""Checkpoints: arrays and facts in one file that is whole, or noticed not to be.

A safetensors file: a JSON header and plain arrays, nothing that could run. The header carries the
sha256 of the whole file, with zeros where the sum itself stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..autograd import Array
from ..errors import CheckpointError

FORMAT = 1  # of the files; a reader refuses any other
ZEROS = b"0" * 64  # as long as a sha256 in hex

# In an average's state dict: how often it was updated. No part of a model has such a name.
UPDATES = "(updates)"


class MissingError(CheckpointError):
    """There is no such file."""


class DamagedError(CheckpointError):
    """A file cannot be read, or is not what was once written."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: arrays by name, and facts.

    Names of arrays begin with the part that they belong to: "model.…", "optimizer.…" and, where
    the weights are averaged, "average.…". The file of a trained model holds its weights alone,
    by their own names.
    """

    path: Path
    arrays: dict[str, Array]
    facts: dict[str, Any]

    @property
    def weights(self) -> dict[str, Array]:
        """The model's, by the names of its state dict: the averaged ones where there are any."""
        if "step" not in self.facts:  # a trained model, whose own parts may have any names
            return self.arrays
        arrays = self.arrays.items()
        found = {k.removeprefix("average."): a for k, a in arrays if k.startswith("average.")}
        found.pop(UPDATES, None)
        return found or {k.removeprefix("model."): a for k, a in arrays if k.startswith("model.")}


def save(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write arrays by name, and facts that JSON can express, to a safetensors file.

    The same arrays and facts give the same bytes. Errors: DiskError.
    """
    from safetensors.numpy import save as pack

    header = json.dumps({**facts, "format": FORMAT, "sha256": ZEROS.decode()})
    # safetensors writes an array's memory as it lies, whatever the strides: C order it must be.
    content = pack({k: np.asarray(a, order="C") for k, a in arrays.items()}, {"minimix": header})
    digest = hashlib.sha256(content).hexdigest().encode()
    files.write(path, content.replace(ZEROS, digest, 1))


def load(path: Path) -> Checkpoint:
    """What `save` wrote.

    Errors: MissingError where there is no such file, DamagedError where it cannot be read, is not
    whole, or was not written by `save`; CheckpointError where it has another format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingError(f"there is no file {path}") from error
    except OSError as error:
        raise DamagedError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        arrays = unpack(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: it is not a whole safetensors file") from error
    try:
        facts = json.loads(metadata["minimix"])
        digest, format = facts.pop("sha256").encode(), facts["format"]
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path} was not written by minimix: it lacks its header") from error
    if hashlib.sha256(content.replace(digest, ZEROS, 1)).hexdigest().encode() != digest:
        raise DamagedError(f"{path} is damaged: its sha256 is not the one it was written with")
    if format != FORMAT:
        raise CheckpointError(
            f"{path} has format {format}, this minimix reads format {FORMAT}; "
            f"read it with minimix {facts.get('version', 'of its time')}"
        )
    return Checkpoint(path, arrays, facts)
