"""The machine that the figures were measured on, and the best that it can do."""

from __future__ import annotations

import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from minimix.kernels.simd.vectors import VECTOR_BYTES

from .timing import interleave

LARGE = (2048, 2048, 2048)
PRODUCTS = [(32768, 256, 256), (32768, 128, 128), LARGE]


def describe(threads: int) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in ("numpy", "numba", "llvmlite", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": threads,
        "vector bits": 8 * VECTOR_BYTES,
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "changed since": bool(_git("status", "--porcelain", "--", "minimix", "bench/*.py")),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent.parent
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class Product:
    """A matrix product (m, k) × (k, n) by NumPy's BLAS; of large squares, the peak."""

    def __init__(self, m: int, k: int, n: int) -> None:
        self.a, self.b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
        self.c = np.empty((m, n), np.float32)
        self.flops = 2.0 * m * k * n

    def __call__(self) -> None:
        np.matmul(self.a, self.b, out=self.c)


def ceilings(rounds: int, threads: int) -> dict[str, Any]:
    """The best that NumPy's BLAS does, GFLOP/s, and copying within memory, GB/s."""
    products = {}
    for m, k, n in PRODUCTS:
        product = Product(m, k, n)
        seconds = min(interleave({"blas": product}, rounds, 0.05)["blas"])
        products[f"{m}×{k}×{n}"] = 1e-9 * product.flops / seconds
    source = np.ones(2**26, np.float32)  # 256 MiB, larger than any cache
    target = np.empty_like(source)
    sources, targets = np.array_split(source, threads), np.array_split(target, threads)
    with ThreadPoolExecutor(threads) as pool:
        calls = {"copy": lambda: list(pool.map(np.copyto, targets, sources))}
        seconds = min(interleave(calls, rounds)["copy"])
    return {
        "products": products,
        "gflops": max(products.values()),
        "copy gbs": 2e-9 * source.nbytes / seconds,
    }
