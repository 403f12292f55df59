"""What is measured in fresh processes, those of `child`: memory and start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import minimix as mx
from minimix.train import PRESETS

from . import nets
from .timing import say


def _child(*arguments: str, **environment: str) -> dict[str, Any]:
    """What that process prints, and how long all of it takes."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "bench.child", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": str(mx.kernels.get_num_threads()), **environment},
    )
    whole = time.perf_counter() - begun
    return {**json.loads(done.stdout.splitlines()[-1]), "whole process": whole}


def memory(net: nets.Net | nets.Rival) -> dict[str, Any]:
    forms = ["minimix", "minimix unfused", *nets.FORMS]
    with ThreadPoolExecutor(2) as pool:  # memory does not depend on what else runs
        children = pool.map(lambda form: _child("memory", form, str(net)), forms)
        measured = dict(zip(forms, children, strict=True))
    say(f"memory of {net}")
    theirs = [measured[form]["step"] for form in nets.FORMS]
    share = measured["minimix"]["step"] / min(theirs) if theirs else None
    return {"net": str(net), "bytes": measured, "share": share}


def _twice(*arguments: str) -> dict[str, Any]:
    """The first process ever, with nothing compiled, and a later one."""
    with tempfile.TemporaryDirectory() as cache:
        return {which: _child(*arguments, MINIMIX_CACHE_DIR=cache) for which in ("first", "later")}


def start(quick: bool) -> dict[str, Any]:
    """The start of a net, and of every preset of `minimix train`. Quick: of one preset."""
    result: dict[str, Any] = {"net": _twice("start"), "presets": {}}
    for name in list(PRESETS)[:1] if quick else PRESETS:
        result["presets"][name] = _twice("preset", name)
        say(f"start of the preset {name}")
    return result
