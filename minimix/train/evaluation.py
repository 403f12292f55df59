"""How good a model is on images that it has not learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import functional as F
from ..autograd import Array, Tensor, no_grad
from ..data import Loader
from ..nn import Module


@dataclass(frozen=True)
class Evaluation:
    """What came out: mean cross-entropy, and confusion[i, j], images of class i taken for j."""

    loss: float
    confusion: Array

    @property
    def accuracy(self) -> float:
        return int(np.trace(self.confusion)) / int(self.confusion.sum())

    @property
    def per_class(self) -> list[float | None]:
        """The accuracy of each class; None for one without images."""
        return [
            int(row[i]) / int(row.sum()) if row.any() else None
            for i, row in enumerate(self.confusion)
        ]


def evaluate(
    model: Module,
    images: Array,
    labels: Array,
    n_classes: int,
    *,
    batch_size: int = 500,
    mirror: bool = False,
) -> Evaluation:
    """Test `model`, in evaluation mode, on images uint8 (N, H, W, 3) with labels (N,).

    mirror  whether each image is also looked at in the mirror, and the logits of both averaged
    """
    confusion = np.zeros((n_classes, n_classes), np.int64)
    loss = 0.0
    training = model.training
    model.eval()
    with no_grad():
        for x, y in Loader(images, labels, batch_size, shuffle=False, n_classes=n_classes):
            logits = model(Tensor(x))
            if mirror:
                logits = (logits + model(Tensor(np.ascontiguousarray(x[:, :, ::-1])))) / 2
            loss += F.cross_entropy(logits, y).item() * len(y)
            np.add.at(confusion, (y, logits.array.argmax(axis=1)), 1)
    model.train(training)
    return Evaluation(loss / len(images), confusion)
