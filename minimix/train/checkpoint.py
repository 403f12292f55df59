"""Checkpoints: arrays and facts in one file that is whole or not there.

It is a safetensors file: a JSON header and plain arrays, nothing that could run. The header
carries the sha256 of the whole file, with zeros where the sum itself will stand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..autograd import Array
from ..errors import CheckpointError

FORMAT = 1  # of what is in the files; a reader refuses any other
ZEROS = b"0" * 64  # as long as a sha256 in hex


class DamagedError(CheckpointError):
    """A file is not what was once written."""


def save(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write arrays by name, and facts that JSON can say, to a safetensors file.

    The same arrays and facts give the same bytes. Errors: DiskError.
    """
    from safetensors.numpy import save as pack

    header = json.dumps({**facts, "format": FORMAT, "sha256": ZEROS.decode()})
    # safetensors writes the memory of an array as it lies, whatever its strides: C order it is.
    content = pack({k: np.asarray(a, order="C") for k, a in arrays.items()}, {"minimix": header})
    digest = hashlib.sha256(content).hexdigest().encode()
    files.write(path, content.replace(ZEROS, digest, 1))


def load(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """What `save` wrote.

    Errors: DamagedError where it is not whole; CheckpointError where it is missing, of another
    format, or was never written by `save`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    try:
        arrays = unpack(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: it is not a whole safetensors file") from error
    try:
        facts = json.loads(metadata["minimix"])
        written = facts["format"], facts.pop("sha256").encode()
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} was not written by minimix: it lacks its header") from error
    if written[0] != FORMAT:
        raise CheckpointError(
            f"{path} has format {written[0]}, this minimix reads format {FORMAT}; "
            f"read it with minimix {facts.get('version', 'of its time')}"
        )
    if hashlib.sha256(content.replace(written[1], ZEROS, 1)).hexdigest().encode() != written[1]:
        raise DamagedError(f"{path} is damaged: its sha256 is not the one it was written with")
    return arrays, facts
