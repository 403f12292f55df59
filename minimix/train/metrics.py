"""What is logged during training, step by step, for the progress bar and the report.

Nothing here changes what is trained or saved.
"""

from __future__ import annotations

import time

from ..nn import Module
from ..optim import norm
from ..runs import RunFolder
from .evaluation import Evaluation
from .progress import Progress
from .state import TrainingState


class TrainingLog:
    """Writes every step and every epoch to the run folder, and tells the progress bar."""

    def __init__(self, run: RunFolder, state: TrainingState, progress: Progress) -> None:
        self.run, self.state, self.progress = run, state, progress
        self.clock = time.perf_counter()

    def step(self, epoch: int, images: int, loss: float, correct: int, norm: float) -> None:
        """A step has been taken.

        images, loss, correct  of its batch: how many, the mean loss, how many classified correctly
        norm                   of the gradient, before clipping
        """
        self.run.metrics.write(
            {
                "kind": "step",
                "step": self.state.step,
                "epoch": epoch + 1,
                "loss": loss,
                "accuracy": correct / images,
                "lr": self.state.optimizer.lr,
                "grad_norm": norm,
            }
        )
        seconds = self._lap()
        self.run.time(self.state.step, seconds=seconds, images_per_s=images / seconds)
        tally = self.state.tally
        self.progress.step(images, tally.mean_loss, tally.accuracy)

    def epoch(self, epoch: int, test: Evaluation) -> str:
        """An epoch is over and its test done. Returns a line about it."""
        tally, tested_on = self.state.tally, self.state.config.tested_on
        mirrored = {} if test.mirrored is None else {"mirrored_accuracy": test.mirrored}
        self.run.metrics.write(
            {
                "kind": "epoch",
                "step": self.state.step,
                "epoch": epoch + 1,
                "train_loss": tally.mean_loss,
                "train_accuracy": tally.accuracy,
                f"{tested_on}_loss": test.loss,
                f"{tested_on}_accuracy": test.accuracy,
                **mirrored,
                "per_class": test.per_class,
                "confusion": test.confusion.tolist(),
                **layer_norms(self.state.model),
            }
        )
        self.run.time(self.state.step, test_seconds=self._lap())
        return (
            f"epoch {epoch + 1:>3}/{self.state.config.epochs}"
            f"   train loss {tally.mean_loss:.3f}, {100 * tally.accuracy:5.2f} %"
            f"   {tested_on} loss {test.loss:.3f}, {100 * test.accuracy:5.2f} %"
        )

    def _lap(self) -> float:
        """Seconds since it was last asked."""
        before, self.clock = self.clock, time.perf_counter()
        return self.clock - before


def layer_norms(model: Module) -> dict[str, dict[str, float]]:
    """The Euclidean norms of each layer's weights, and of their gradients, by the layer's name."""
    weights: dict[str, float] = {}
    gradients: dict[str, float] = {}
    for name, module in model.named_modules():
        parameters = list(module._parameters.values())
        if parameters:
            weights[name] = norm([p.array for p in parameters])
            gradients[name] = norm([p.grad for p in parameters if p.grad is not None])
    return {"weight_norms": weights, "gradient_norms": gradients}
