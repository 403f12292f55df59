"""fit: what `minimix train` does, for a model and images of your own, from Python."""

from __future__ import annotations

import inspect
import os
import platform
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import kernels
from ..data import Dataset
from ..errors import CheckpointError
from ..files import expand
from ..models import FAMILIES
from ..nn import Module
from ..parallel import world
from ..runs import hold, read_weights
from ..version import __version__
from . import loop
from .architecture import GIVEN, blaming
from .config import Config, changed, recipe
from .evaluation import Evaluation
from .interrupt import Interrupted
from .state import TrainingState


def fit(
    model: Module | type[Module] | str,
    data: Dataset | str,
    config: Config | None = None,
    *,
    out: Path | str,
    resume: bool = False,
    save_every: float = 60.0,
    quiet: bool = False,
    **settings: Any,
) -> Evaluation:
    """Train a model on images, test it after each epoch, and keep everything in a run folder.

        import minimix as mx
        from minimix.data import Dataset

        data = Dataset("mine", images, labels, test_images, test_labels, ("cat", "dog"))
        model = mx.models.ConvMixer(hidden_dim=64, depth=4, patch_size=4, n_classes=2)
        test = mx.train.fit(model, data, out="runs/mine", epochs=5, lr=0.005)
        print(test.accuracy, test.per_class)

    model     a Module from float32 images (N, H, W, C), normalized, to logits (N, n_classes), which
              is trained in place. Or a name, as after `minimix train --model`: a family such as
              "vit", or "my_net.py:Net"; or a class of a file. Then the model is made here, of its
              settings, and `minimix evaluate`, `predict` and `report` can make it again
    data      a Dataset: uint8 images (N, H, W, C) with labels (N,); or a name or path, as for
              `minimix.data.load`
    config    the settings: epochs, batch_size, lr, augmentation, … (default: the recipe of the
              model's family)
    out       the run folder. It gets logs, checkpoints and at last the trained weights
    resume    whether to go on where the run in this folder stopped: pass the same model, data and
              settings again. The end is the same, bit for bit, as if it had never stopped. Of a run
              that has ended the weights are loaded, and the test repeated
    save_every  seconds between checkpoints within an epoch; one always follows an epoch
    quiet     whether to print nothing
    settings  instead of those of `config`, by name: those of training, and of a model that is made
              here

    Returns the test after the last epoch: `accuracy`, `loss`, `per_class`, `confusion`. A model
    that was passed starts from the weights that it has; on return it has those that were tested,
    which are averaged ones unless `ema` is 0, and is in evaluation mode. `minimix.load_model(out)`
    gives a model that was made here, `minimix.load_model(out, model=…)` fills one that you make;
    `minimix report` draws the page of either.

    Ctrl-C finishes the step, saves a checkpoint and raises KeyboardInterrupt.

    Of a script that mpiexec started several times, the processes train together
    (`minimix.parallel`), with one thread each unless `threads` or OMP_NUM_THREADS say otherwise:
    mpiexec -n 4 python -m mpi4py script.py

    Of your process nothing is changed for good: signal handlers (SIGINT, SIGTERM and SIGHUP ask for
    a checkpoint meanwhile), NumPy's treatment of errors and the number of threads are put back.
    `minimix.kernels` says what compiled kernels ask of the C library's allocator.

    Errors: ValueError, before anything is trained, for settings that make no sense, or a model that
    does not take these images or gives logits of another shape; CheckpointError where the folder
    holds a run already and `resume` is False, or one of another model, data or settings;
    DivergenceError where a number is no longer finite; DiskError where the disk refuses.
    """
    ranks = world()
    say: Callable[[str], None] = print if ranks.first and not quiet else lambda line: None
    given = model if isinstance(model, Module) else None
    config = _config(_name_of(model), config, given is not None, settings)
    found = config.load(data, say=say) if isinstance(data, str) else data
    config = replace(config, data=where(data, found) if isinstance(data, str) else found.name)
    path = expand(out)
    with hold(lambda: path, say, ranks) as folder:
        if ranks.broadcast(folder.begun) and not (resume and folder.checkpoint):
            way = "continue it with resume=True, or " if folder.checkpoint else ""
            raise CheckpointError(f"{path} holds a run already; {way}choose another `out`")
        if given is not None:
            given.train()
        with blaming(config.model):
            state = TrainingState.build(config, found, folder.checkpoint, given)
            say(f"data   {found.name}, {found.source or 'from Python'}")
            say(f"model  {config.name}, {state.model.n_parameters():,} parameters")
            say(f"run    {path}, seed {config.seed}")
            folder.describe(about(state.config, f"minimix.train.fit(…, out={str(out)!r})"))
            if state.code is not None:
                folder.keep_code(state.code)
            one = ranks.size > 1 and "OMP_NUM_THREADS" not in os.environ
            try:
                with kernels.using_threads(1 if one else 0):
                    test = loop.train(
                        state, folder, save_every=save_every, quiet=quiet, ranks=ranks
                    )
            except Interrupted as stop:
                say("stopped, and saved; call fit again with resume=True to go on")
                if stop.signal == signal.SIGINT:
                    raise KeyboardInterrupt from stop
                raise
    if given is not None:
        weights = read_weights(path).weights if ranks.first else {}
        given.eval().load_state_dict(ranks.broadcast(weights))
    return test


def where(given: str, data: Dataset) -> str:
    """What a resumed run is to load: the set that was found, or the same path from anywhere."""
    if given in ("auto", "cifar10", "shapes10"):
        return data.name
    return os.path.abspath(expand(given))


def about(config: Config, command: str) -> dict[str, Any]:
    """For run.json: what someone needs to know to run it again."""
    return {
        "command": command,
        "settings": asdict(config),
        "versions": {
            "minimix": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "backend": kernels.backend_name(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _config(name: str, config: Config | None, given: bool, settings: dict[str, Any]) -> Config:
    """The settings, of the network of this name."""
    base = config or recipe(name)
    if name != base.model:
        base = replace(base, model=name, model_settings={})
    # What a model that was made elsewhere begins with is its maker's business.
    return changed(replace(base, whiten=False) if given else base, **settings)


def _name_of(model: Module | type[Module] | str) -> str:
    """What `Config.model` calls it."""
    if isinstance(model, str):
        return model
    if isinstance(model, Module):
        return GIVEN + type(model).__name__
    if not (isinstance(model, type) and issubclass(model, Module)):
        raise TypeError(
            f"`model` is a {type(model).__name__}; expected a Module, a class of Modules, or a name"
        )
    for name, family in FAMILIES.items():
        if model is family:
            return name
    try:
        file = inspect.getsourcefile(model)
    except (TypeError, OSError):
        file = None
    if file is None or not file.endswith(".py") or "." in model.__qualname__:
        raise ValueError(
            f"{model.__qualname__} cannot be made again from a file; pass a model, "
            f"{model.__name__}(…), instead of its class"
        )
    return f"{file}:{model.__name__}"
