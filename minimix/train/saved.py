"""A trained model, built again from what was saved of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..models import ConvMixer
from .checkpoint import load
from .config import Config
from .run import newest

BUNDLED = Path(__file__).parent.parent / "models" / "weights"  # what minimix comes with


def load_model(path: Path | None = None) -> tuple[ConvMixer, dict[str, Any]]:
    """The model in a run folder or a file, and the facts that were saved beside it.

    path  a file that a run wrote; a run folder, whose trained weights are taken, or where it is
          still being trained those of its newest checkpoint; None for the one in this package

    Weights are the averaged ones where there is an average. The model is in evaluation mode.
    Errors: CheckpointError where there is none, or it is damaged or of another version.
    """
    if path is None:
        bundled = sorted(BUNDLED.glob("*.safetensors"))
        if not bundled:
            raise CheckpointError("this minimix comes without a trained model; name a run")
        path = bundled[0]
    arrays, facts = _read(path)
    for prefix in ("average.", "model."):
        if prefix + "head.weight" in arrays:
            arrays = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
    arrays.pop("updates", None)  # how often the average was updated is no weight
    try:
        model = config_of(facts).model(len(facts["data"]["class_names"]))
        model.load_state_dict(arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no model that fits its settings: {error}") from error
    return model.eval(), facts


def config_of(facts: dict[str, Any]) -> Config:
    """The settings that were saved. CheckpointError where this version has others."""
    try:
        return Config(**facts["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the settings are those of minimix {facts.get('version', '(unknown)')}, "
            f"which this version does not understand: {error}"
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not path.is_dir():
        return load(path)
    if (path / "model.safetensors").exists():
        return load(path / "model.safetensors")
    found = newest(path, say=lambda line: None)
    if found is None:
        raise CheckpointError(f"{path} holds no checkpoint; expected a run folder or a file")
    _, (arrays, facts) = found
    return arrays, facts
