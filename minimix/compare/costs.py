"""What the networks of a study cost: each distinct one measured once, and kept in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..data import Dataset
from ..train.architecture import code_of
from .measure import measure
from .study import Study

COSTS = "costs.json"
ROUNDS = 3


def measure_costs(
    study: Study, data: Dataset, out: Path, threads: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """What each row's network costs (`measure.cost`), by the row's name.

    The networks take turns, so that a moment in which the machine is busy does not hit one alone;
    of the rounds the medians count. Those measured before, on as many threads, are not again.
    Of one that cannot be measured it says why; the next time it is tried again.
    """
    requests = {row.name: _request(row.config(), data, threads) for row in study.rows}
    keys = {name: _key(request) for name, request in requests.items()}
    known = _read(out / COSTS)
    missing = {keys[name]: request for name, request in requests.items() if keys[name] not in known}
    if missing:
        say(f"measuring {len(missing)} networks, {threads} threads each")
        rounds = [{key: measure(one) for key, one in missing.items()} for _ in range(ROUNDS)]
        known |= {key: _median([each[key] for each in rounds]) for key in missing}
        for name, key in keys.items():
            if "error" in known[key]:
                say(f"{name} could not be measured: {known[key]['error']}")
        kept = {key: one for key, one in known.items() if "error" not in one}
        files.write(out / COSTS, f"{json.dumps(kept, indent=1)}\n".encode())
    return {name: known[key] for name, key in keys.items()}


def _request(config: Any, data: Dataset, threads: int) -> dict[str, Any]:
    full = config.complete()
    return {
        "model": full.model,
        "settings": dict(full.model_settings),
        "image_size": [int(side) for side in data.train_images.shape[1:3]],
        "in_channels": int(data.train_images.shape[3]),
        "n_classes": data.n_classes,
        "batch_size": full.batch_size,
        "threads": threads,
        "seconds": 1.0,
    }


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """What was kept; nothing where there is no file, or none that is whole."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: one for key, one in content.items() if isinstance(one, dict)}


def _key(request: Mapping[str, Any]) -> str:
    code = code_of(request["model"])  # of the user's own
    return hashlib.sha256(json.dumps([request, code], sort_keys=True).encode()).hexdigest()[:16]


def _median(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each figure's median over the rounds; "error" where one of them failed."""
    for one in rounds:
        if "error" in one:
            return dict(one)
    return {key: sorted(one[key] for one in rounds)[len(rounds) // 2] for key in rounds[0]}
