"""Files: where they are kept, and how they are written.

A file is written whole or not at all (`write`), by one process at a time (`lock`), and one function
decides where compiled kernels and downloads are kept (`cache_folder`).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import DiskError, MinimixError, warn

# ------------------------------------------------------------------ where things are kept


def home() -> Path | None:
    """The user's home folder; None where the system knows of none."""
    if os.name != "posix" or os.path.isabs(os.environ.get("HOME", "")):
        named = os.path.expanduser("~")
    else:  # unset, empty or relative: not what anybody meant
        try:
            import pwd

            named = pwd.getpwuid(os.getuid()).pw_dir
        except (ImportError, KeyError):
            return None
    return Path(named) if os.path.isabs(named) else None


def expand(path: str | os.PathLike[str]) -> Path:
    """`path` with ~ and ~user replaced by home folders, as a shell would.

    A file that really has such a name is meant by it. Errors: MinimixError where there is no such
    user or home folder.
    """
    text = os.fspath(path)
    if not text.startswith("~") or os.path.lexists(text):
        return Path(text)
    first, *rest = Path(text).parts
    found = home() if first == "~" else Path(os.path.expanduser(first))
    if found is None or not found.is_absolute():
        raise MinimixError(f"{text}: there is no home folder {first}; give the path in full")
    return found.joinpath(*rest)


def cache_folder() -> Path:
    """The folder for what can be made or fetched again: compiled kernels, downloads.

    `$MINIMIX_CACHE_DIR`; or "minimix" in the user's cache folder, which is `$XDG_CACHE_HOME` or
    ~/.cache (macOS: ~/Library/Caches, Windows: %LOCALAPPDATA%). Where that cannot be written, or
    belongs to somebody else, a private folder among the temporary files, and a line that says so.

    Errors: DiskError where there is no place at all.
    """
    if chosen := _chosen_cache():
        return chosen
    user = _user_cache()
    if user and _writable(user):
        return user
    why = f"{user} cannot be written, or is not yours" if user else "there is no home folder"
    way = "set MINIMIX_CACHE_DIR to a folder that can be written"
    with disk_errors(f"there is no place for temporary files; {way}"):
        folder = _temporary_cache()
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
    if not _private(folder):
        raise DiskError(f"{why}, and {folder} is not yours alone; {way}")
    warn(f"{why}: caching in {folder} instead; {way}")
    return folder


def cache_folders() -> list[Path]:
    """The folders in which `cache_folder` may have kept something before, the best first."""
    if chosen := _chosen_cache():
        return [chosen]
    folders = [_user_cache()]
    with suppress(OSError):
        if _private(_temporary_cache()):
            folders.append(_temporary_cache())
    return [folder for folder in folders if folder]


def _chosen_cache() -> Path | None:
    chosen = os.environ.get("MINIMIX_CACHE_DIR")
    try:
        return expand(chosen) if chosen else None
    except MinimixError as error:
        warn(f"MINIMIX_CACHE_DIR is ignored: {error}")
        return None


def _user_cache() -> Path | None:
    """The place that the system's conventions give; None where there is no home folder."""
    variable, below = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    base = os.environ.get(variable, "")
    if os.path.isabs(base):  # a relative one is to be ignored, says the XDG specification
        return Path(base, "minimix")
    house = home()
    return house / below / "minimix" if house else None


def _temporary_cache() -> Path:
    import tempfile

    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir(), f"minimix{user}")


def _writable(folder: Path) -> bool:
    """Whether `folder` can be written, or made. Root leaves other users' folders alone."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return os.path.isdir(folder) and os.stat(folder).st_uid == 0
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _private(folder: Path) -> bool:
    """Whether it is a folder of this user's, in which nobody else can put anything."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    if not hasattr(os, "geteuid"):  # Windows gives every user a folder for temporary files
        return stat.S_ISDIR(found.st_mode)
    mine = found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return stat.S_ISDIR(found.st_mode) and mine


# ------------------------------------------------------------------ writing


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Make every OSError inside a DiskError that says "what: the system's reason"."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{what}: {error.strerror or error}") from error


def write(path: Path, content: bytes) -> None:
    """Make `content` the content of the file `path`, or leave that as it was.

    It is written beside its place, forced to the disk, and then renamed: whatever happens (the
    power, a kill, a full disk), `path` is the old file or the new one, never a part. Of a link, the
    file that it points to is written; a device or a pipe gets the bytes as they are.

    Errors: DiskError, in one line; nothing is left behind.
    """
    with disk_errors(f"cannot write {path}"):
        target = Path(os.path.realpath(path))
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if os.path.exists(target) and not os.path.isfile(target):
            target.write_bytes(content)
            return
        temporary = _beside(target)
        try:
            _write_through(temporary, content)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(target.parent)


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Like `write`, for a new folder of files, whose names and contents are given."""
    with disk_errors(f"cannot write {folder}"):
        temporary = _beside(folder)
        os.mkdir(temporary)
        try:
            for name, content in contents.items():
                _write_through(temporary / name, content)
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(folder.parent)


def sweep(folder: Path) -> None:
    """Remove what a killed `write` left in `folder`, to which nobody else may be writing."""
    for leftover in folder.glob(".minimix-*.tmp"):
        with suppress(OSError):
            leftover.unlink()


def _beside(path: Path) -> Path:
    return path.parent / f".minimix-{os.urandom(8).hex()}.tmp"


def _write_through(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A new name is an entry of its folder, which also has to reach the disk."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder; elsewhere one may be for writing alone
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no such thing
            raise
    finally:
        os.close(handle)


# ------------------------------------------------------------------ one process at a time


@contextmanager
def lock(path: Path, busy: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock on the file `path` in a `with` block.

    The lock is the operating system's and ends with the process, however that ends: one that was
    killed leaves a file and no lock. Where another process holds it, `busy` is called once with
    the number of that process; it may raise, otherwise the lock is waited for.

    Errors: DiskError where the file cannot be written. A file system without locks gives none.
    """
    with ExitStack() as stack:
        with disk_errors(f"cannot write {path}"):
            file = stack.enter_context(open(path, "a+b", buffering=0))
            if not _try_lock(file):
                file.seek(0)
                busy(file.read(32).decode(errors="replace").strip() or "(unknown)")
                while not _try_lock(file):
                    time.sleep(0.1)
            with suppress(OSError):  # the number is for information only
                file.truncate(0)
                file.write(f"{os.getpid()}\n".encode())
        yield


def _try_lock(file: BinaryIO) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            file.seek(1 << 30)  # nobody may read a locked byte: lock one where nothing is written
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # no locks here, as in a browser: better to go on than to refuse
        pass
    return True
