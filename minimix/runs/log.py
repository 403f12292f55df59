"""Files of JSON lines that grow during training, and can be read meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .. import files
from ..errors import CheckpointError


class Log:
    """A file to which JSON objects are appended, one per line. Errors of all methods: DiskError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = 0  # bytes written
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        content = rest = json.dumps(line).encode() + b"\n"
        with files.disk_errors(f"cannot write {self.path}"):
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            while rest:  # a disk that fills up takes a part first, and refuses the next
                rest = rest[self._file.write(rest) :]
        self._hash.update(content)
        self.length += len(content)

    def sync(self) -> None:
        """Force what was written to the disk."""
        if self._file is not None:
            with files.disk_errors(f"cannot write {self.path}"):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with files.disk_errors(f"cannot write {self.path}"):
                file.close()

    def start(self, content: bytes = b"") -> None:
        """Make the file hold `content`, to which lines are appended from now on."""
        self.close()
        files.write(self.path, content)
        self._hash, self.length = hashlib.sha256(content), len(content)

    def mark(self) -> dict[str, Any]:
        """How much has been written and its sha256, for `rewind`."""
        return {"bytes": self.length, "sha256": self._hash.hexdigest()}

    def rewind(self, mark: Mapping[str, Any]) -> None:
        """Take back what was written after `mark`.

        Errors: CheckpointError where what was written before it has been changed since; the file
        stays as it is.
        """
        content = self.read()
        kept = content[: mark["bytes"]]
        if hashlib.sha256(kept).hexdigest() != mark["sha256"]:
            found = (
                "is gone"
                if not self.path.exists()
                else f"has {len(content):,} bytes, expected {mark['bytes']:,}"
                if len(content) < mark["bytes"]
                else "has been changed"
            )
            raise CheckpointError(
                f"{self.path} {found} since the last checkpoint, so the run cannot be resumed: put "
                "the file back as it was, or start another run (nothing has been touched)"
            )
        self.start(kept)

    def read(self) -> bytes:
        """What is in the file; nothing where there is none."""
        with files.disk_errors(f"cannot read {self.path}"):
            return self.path.read_bytes() if self.path.exists() else b""


def whole_lines(content: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines that are whole JSON objects, as they stand and as they read."""
    for line in content.splitlines(keepends=True):
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield line, value
