"""A training that takes a second, in this process or in one of its own that dies at a given moment.

python tiny_training.py FOLDER SAVE_EVERY [FUNCTION N]

dies, with no chance to tidy up, right before the N-th call of a C function of that name, such as
write, fsync or replace; "any" counts the calls of all.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minimix.data import Dataset
from minimix.runs import RunFolder
from minimix.train import Config, Evaluation, TrainingState, train

CONFIG = Config(
    model_settings={"hidden_dim": 8, "depth": 1, "kernel_size": 3, "patch_size": 2},
    whiten=False,
    early_epochs=1,
    early_size=4,
    padding=1,
    flip="random",
    epochs=3,
    batch_size=20,
    ema=0.9,
    ema_every=2,
    mixup=0.2,
)
STEPS = 15  # five an epoch


def dataset(seed: int = 0) -> Dataset:
    """Images of noise around a brightness that tells the class: 90 to learn from, 30 to test."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 120)
    noise = rng.integers(0, 60, (120, 8, 8, 3))
    images = (noise + 60 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)
    return Dataset("tiny", images[:90], labels[:90], images[90:], labels[90:], ("a", "b", "c", "d"))


def run_to_end(
    folder: Path,
    config: Config = CONFIG,
    save_every: float = 60.0,
    data: Dataset | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Begin, or resume, the training in this folder."""
    with RunFolder(folder, say) as run:
        state = TrainingState.build(config, data or dataset(), run.checkpoint)
        return train(state, run, save_every=save_every, quiet=True)


def results(folder: Path) -> dict[str, bytes]:
    """What has to be the same whenever the same training is done: its files, less the clock's."""
    names = ["metrics.jsonl", "model.safetensors", f"checkpoint-{STEPS:08d}.safetensors"]
    return {name: (folder / name).read_bytes() for name in names}


def die_at(function: str, n: int) -> None:
    """Arrange for death at the n-th call of a C function of this name."""
    calls = 0

    def count(_frame: object, event: str, called: object) -> None:
        nonlocal calls
        if event == "c_call" and function in ("any", called.__name__):  # type: ignore[attr-defined]
            calls += 1
            if calls == n:
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    sys.setprofile(count)


if __name__ == "__main__":
    folder, save_every, *death = sys.argv[1:]
    if death:
        die_at(death[0], int(death[1]))
    run_to_end(Path(folder), save_every=float(save_every))
