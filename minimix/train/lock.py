"""One process at a time in a run folder.

The lock is the operating system's, on an open file: it ends with the process that holds it,
however that ends. What a killed process leaves behind is a file, and no lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from ..errors import CheckpointError

FAR = 1 << 30  # Windows keeps others from reading a locked byte: lock one where nothing is written


class FolderLock:
    """Held from its making to `release`. CheckpointError where another process holds it."""

    def __init__(self, folder: Path) -> None:
        self.file = open(folder / ".lock", "a+b", buffering=0)  # noqa: SIM115
        try:
            _lock(self.file)
        except BlockingIOError:
            self.file.seek(0)
            holder = self.file.read(32).decode(errors="replace").strip()
            self.file.close()
            raise CheckpointError(
                f"{folder} is in use by process {holder or '(unknown)'}; "
                "let that one end, or choose another --out"
            ) from None
        self.file.truncate(0)
        self.file.write(f"{os.getpid()}\n".encode())

    def release(self) -> None:
        self.file.close()


def _lock(file: IO[bytes]) -> None:
    """Lock an open file without waiting. BlockingIOError where it is locked already."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks: better to train than to refuse


def _lock_on_windows(file: IO[bytes]) -> None:
    try:
        import msvcrt
    except ImportError:
        return  # nobody's locks, as in a browser, where one process is all there is
    file.seek(FAR)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        raise BlockingIOError from error
