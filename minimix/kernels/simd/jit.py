"""How kernels are compiled: lazily, once per user, and never from stale or damaged files.

Numba's own cache writes beside the source (which may be read-only), does not notice changes in
other files, and trips over a truncated file. Ours keeps one file per function and signature, in a
folder whose name is a hash of everything the machine code depends on, and each file begins with a
checksum of the rest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba

from ... import files
from ...errors import DiskError, warn
from .parts import Helper
from .private import CompileResult, NullCache, dumps

# Products and sums may be fused, for speed. Nothing else of IEEE arithmetic is given up: NaN and
# infinity must come through to the loss, where divergence is noticed.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

DIGEST = 32  # bytes of SHA-256


def _fingerprint() -> str:
    """A hash of the sources, the compilers and the machine."""
    features = llvmlite.binding.get_host_cpu_features()
    settings = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_"))
    versions = (numba.__version__, llvmlite.__version__, sys.version, platform.platform())
    key = hashlib.sha256(repr((versions, settings, sorted(features.items()))).encode())
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        key.update(source.read_bytes())
    return key.hexdigest()[:16]


def _folder() -> Path | None:
    """Where compiled code is kept; None where there is no place for it."""
    try:
        return files.cache_folder() / f"kernels-{_fingerprint()}"
    except DiskError as error:
        warn(f"compiled kernels are not kept: {error}")
        return None


FOLDER = _folder()


@functools.cache
def _text(path: str) -> str:
    """A hash of a source file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class _Cache(NullCache):
    """Compiled code of one function in `FOLDER`, a file for each signature."""

    _writable = True

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def _file(self, folder: Path, signature: Any) -> Path:
        cells = tuple(c.cell_contents for c in self._function.__closure__ or ())
        # Kernels live outside this package too, in modules that FOLDER does not stand for.
        text = _text(self._function.__code__.co_filename)
        where = self._function.__module__, text
        key = hashlib.sha256(repr((where, signature, cells)).encode()).hexdigest()[:12]
        return folder / f"{self._function.__name__.strip('_')}-{key}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        if FOLDER is None:
            return None
        with contextlib.suppress(Exception):  # missing or damaged: compile it again
            found = self._file(FOLDER, sig).read_bytes()
            if hashlib.sha256(found[DIGEST:]).digest() == found[:DIGEST]:
                payload = pickle.loads(found[DIGEST:])
                return CompileResult._rebuild(target_context, *payload)
        warn(f"compiling kernels (once; kept in {FOLDER})")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if FOLDER is None or not _Cache._writable:
            return
        payload = dumps(data._reduce())
        try:
            with files.disk_errors(f"cannot write {FOLDER}"):
                FOLDER.mkdir(parents=True, exist_ok=True)
            files.write(self._file(FOLDER, sig), hashlib.sha256(payload).digest() + payload)
        except DiskError as error:
            _Cache._writable = False
            warn(
                f"cannot keep compiled kernels ({error}); they are compiled again in every "
                "process. Set MINIMIX_CACHE_DIR to a folder that can be written"
            )


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile `function` at its first call with each signature, or take it from the cache."""
    # Without the wrapper that C would call: it would contain a second copy of a small kernel.
    how = OPTIONS | options | {"no_cfunc_wrapper": True}
    dispatcher = numba.njit(**how)(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


def helper(function: Callable[..., Any], **options: Any) -> Any:
    """A function that only kernels call; it is compiled, and kept, as part of them."""
    return Helper(function, targetoptions={"nopython": True} | OPTIONS | options)
