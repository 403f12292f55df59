"""What is written down of a training, step by step: for the eye, and for the report.

`metrics.jsonl` gets what follows from the seed, `timing.jsonl` what the clock said, so that the
first is the same bytes whenever the same training is done again.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from ..autograd import Array, Tensor
from ..errors import DivergenceError
from ..nn import Module
from .evaluation import Evaluation
from .progress import Progress
from .run import Run
from .state import State, Tally


class Record:
    """Tells a run's two files and the progress bar of every step and every epoch."""

    def __init__(self, run: Run, state: State, progress: Progress) -> None:
        self.run, self.state, self.progress = run, state, progress
        self.clock = time.perf_counter()

    def step(self, epoch: int, logits: Tensor, targets: Array, loss: Tensor, norm: float) -> None:
        """A step has been taken: what came of its batch, and the gradient's norm before clipping.

        Accuracy is the share of images whose largest logit is at their largest target.
        """
        n, tally = len(targets), self.state.tally
        labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
        correct = int((logits.array.argmax(axis=1) == labels).sum())
        tally.add(n, loss.item(), correct)
        self.run.metrics.write(
            {
                "kind": "step",
                "step": self.state.step,
                "epoch": epoch + 1,
                "loss": loss.item(),
                "accuracy": correct / n,
                "lr": self.state.optimizer.lr,
                "grad_norm": norm,
            }
        )
        seconds = self._lap()
        self._time({"seconds": seconds, "images_per_s": n / seconds})
        self.progress.step(n, tally.mean_loss, tally.accuracy)

    def epoch(self, epoch: int, test: Evaluation) -> None:
        """An epoch is over and its test done. Begins a new tally."""
        if not math.isfinite(test.loss):
            raise DivergenceError(
                f"the test loss after epoch {epoch + 1} is {test.loss}, although the training loss "
                f"was finite; the last good checkpoint is {self.run.saved}; "
                "a smaller --lr or --clip-norm 1 usually helps"
            )
        tally, self.state.tally = self.state.tally, Tally()
        mirrored = {} if test.mirrored is None else {"mirrored_accuracy": test.mirrored}
        self.run.metrics.write(
            {
                "kind": "epoch",
                "step": self.state.step,
                "epoch": epoch + 1,
                "train_loss": tally.mean_loss,
                "train_accuracy": tally.accuracy,
                "test_loss": test.loss,
                "test_accuracy": test.accuracy,
                **mirrored,
                "per_class": test.per_class,
                "confusion": test.confusion.tolist(),
                **layer_norms(self.state.model),
            }
        )
        self._time({"test_seconds": self._lap()})
        self.progress.say(
            f"epoch {epoch + 1:>3}/{self.state.config.epochs}"
            f"   train loss {tally.mean_loss:.3f}, {100 * tally.accuracy:5.2f} %"
            f"   test loss {test.loss:.3f}, {100 * test.accuracy:5.2f} %"
        )

    def _lap(self) -> float:
        """Seconds since it was last asked."""
        before, self.clock = self.clock, time.perf_counter()
        return self.clock - before

    def _time(self, line: dict[str, Any]) -> None:
        rounded = {key: round(value, 6) for key, value in line.items()}
        self.run.timing.write({"step": self.state.step, **rounded})


def layer_norms(model: Module) -> dict[str, dict[str, float]]:
    """The Euclidean norms of each layer's weights, and of their gradients, by the layer's name."""
    weights: dict[str, float] = {}
    gradients: dict[str, float] = {}
    for name, module in model.named_modules():
        parameters = list(module._parameters.values())
        if parameters:
            weights[name] = _norm([p.array for p in parameters])
            gradients[name] = _norm([p.grad for p in parameters if p.grad is not None])
    return {"weight_norms": weights, "gradient_norms": gradients}


def _norm(arrays: list[Array]) -> float:
    return math.sqrt(math.fsum(float(np.vdot(a, a)) for a in arrays))
