"""A trained model, rebuilt from what was saved of it."""

from __future__ import annotations

import math
import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Array, Tensor, no_grad
from ..data import normalize, shuffle_patches
from ..data.cifar10 import MEAN, STD
from ..errors import CheckpointError, MinimixError
from ..functional import softmax
from ..models import sizes
from ..nn import Linear, Module, observe
from ..runs import Checkpoint, read_weights
from .architecture import NotMadeAgainError, code_of, is_own, sha256_of
from .config import config_of
from .evaluation import fastest
from .pretrained import is_foreign, pretrained
from .probe import Metered

BUNDLED = Path(__file__).parent.parent / "models" / "weights"  # what minimix comes with


@dataclass(frozen=True)
class Trained:
    """A trained model, and what one has to know of it.

    model        in evaluation mode
    class_names  of its logits, in order
    image_size   height and width of the images that it was trained on
    mean, std    of these, by channel, on a scale from 0 to 1: what `data.normalize` takes
    settings     of the training, by name; none where others have trained it
    crop         which part of a picture is cut out, as `data.pictures.read` takes it
    """

    model: Module
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    settings: dict[str, Any]
    crop: float | None = None

    def predict(self, images: Array, *, features: bool = False) -> tuple[Array, Array]:
        """Classify images uint8 (N, H, W, C), of as many channels as `mean` has numbers.

        features  whether to return what the last linear layer is given, too

        Returns the probabilities of the classes, float32 (N, K), and the features, float32 (N, D),
        or an empty array. All images go through the model at once: give it some hundreds at a
        time. Errors: ValueError where the images do not fit the model.
        """
        x = normalize(images, self.mean, self.std)
        x = shuffle_patches(x, self.settings.get("shuffle_patches", 0))
        last = [m for _, m in self.model.named_modules() if isinstance(m, Linear)]
        head, seen = getattr(self.model, "head", last[-1] if last else None), np.zeros((0, 0))

        def note(module: Module, inputs: tuple[Any, ...], _output: Tensor) -> None:
            nonlocal seen
            if module is head:
                seen = inputs[0].array

        with no_grad(), observe(note) if features else nullcontext():
            logits = fastest(self.model)(Tensor(x))
        return softmax(logits).array, seen


def load(
    path: Path | str | None = None,
    *,
    code: Path | str | None = None,
    name: str | None = None,
    classes: Path | str | None = None,
) -> Trained:
    """The trained model in a run folder or a file; or in a weight file of timm's.

        trained = mx.load("runs/laptop-1")
        probabilities, _ = trained.predict(images)  # images uint8 (N, H, W, C)
        mx.load("convmixer_768_32.safetensors")

    path, code     as for `load_model`, whose errors this has too
    name, classes  of weights in timm's layout: see `pretrained`, whose errors this has then

    Errors: CheckpointError, in one line, where there is no such model, or it is damaged.
    """
    if path is not None and str(path) in sizes() and not os.path.lexists(path):
        raise CheckpointError(
            f"minimix comes without weights of {path}; give that name beside the file with weights"
        )
    if path is not None and (name is not None or is_foreign(Path(path))):
        model, data = pretrained(Path(path), name, Path(classes) if classes else None)
        facts: dict[str, Any] = {"data": data, "config": {}}
    else:
        if classes is not None:
            raise CheckpointError(f"{path or 'the model'} has class names; leave `classes` out")
        model, facts = load_model(path, code=code)
        data = facts["data"]
    height, width = data["image_size"]
    return Trained(
        model,
        tuple(data["class_names"]),
        (height, width),
        tuple(data["mean"]),
        tuple(data["std"]),
        facts["config"],
        data.get("crop"),
    )


def load_model(
    path: Path | str | None = None,
    *,
    model: Module | None = None,
    code: Path | str | None = None,
) -> tuple[Module, dict[str, Any]]:
    """The model in a run folder or a file, and the facts that were saved with it.

    path  a model file or a checkpoint; a run folder, of which the trained weights are taken, or
          while it is still being trained those of its newest checkpoint; None for the model that
          comes with minimix
    model  where the weights go, instead of a model made of the run's settings: for one that was
          made in Python
    code  the file that the model's class is in, where it has moved or changed since

    The weights are the averaged ones where there is an average. The model is in evaluation mode.
    The facts: "version", "config" (the settings, for `Config`) and "data", which has the data set's
    "name", "class_names", "image_size" (height, width), "mean" and "std" by channel, for
    `data.normalize`, and "sha256".

    Errors: CheckpointError where there is no model, or it is damaged or of another version.
    """
    if path is None:
        path = next(iter(sorted(BUNDLED.glob("*.safetensors"))), None)
        if path is None:
            raise CheckpointError("this minimix comes without a trained model; name a run")
    found = read_weights(Path(path))
    config = config_of(found.facts)
    if code is not None and is_own(config.model):
        config = replace(config, model=f"{code}:{config.model.rpartition(':')[2]}")
    try:
        data = found.facts["data"]
        if data["name"] in ("cifar10", "shapes10"):  # of which early runs did not say it
            data = found.facts["data"] = {"mean": [*MEAN], "std": [*STD], **data}
        mean, std = data["mean"], data["std"]
        if len(mean) != len(std) or not all(isinstance(v, float) for v in (*mean, *std)):
            raise ValueError(f"its images have the mean {mean} and the deviation {std}")
        size, texts = data["image_size"], [data["name"], data["sha256"], *data["class_names"]]
        if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
            raise ValueError(f"its images have the size {size}")
        # A network that its settings make far larger than its weights must not fill memory first.
        if model is None:
            if code is None:
                _check_code(config.model, found)
            rng = Metered(
                np.random.PCG64(config.seed), 1000 + 4 * sum(a.size for a in found.weights.values())
            )
            model = config.build(len(data["class_names"]), tuple(size), rng, in_channels=len(mean))
            rng.left = math.inf
        model.load_state_dict(found.weights)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("its data set has no name, or its classes have none")
    except (KeyError, TypeError, ValueError, AttributeError, MemoryError) as error:
        raise CheckpointError(f"{found.path} holds no model of its settings: {error}") from error
    return model.eval(), found.facts


def _check_code(name: str, found: Checkpoint) -> None:
    """Raise CheckpointError where the user's file is not what it was when the model was trained."""
    if not is_own(name):
        return
    path, _, cls = name.rpartition(":")
    try:
        code = code_of(name)
        same = code is not None and sha256_of(code) == found.facts["code"]
        problem = f"{path} has changed since {cls} was trained with it"
    except MinimixError as error:
        same, problem = False, str(error)
    if not same:
        kept = found.path.parent / "model.py"
        where = f", such as {kept}," if kept.is_file() else ""
        raise NotMadeAgainError(f"{problem}; name a file{where} with the code of then as `code`")
