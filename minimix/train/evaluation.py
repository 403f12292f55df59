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
    """What came out.

    loss       mean cross-entropy
    confusion  (n, n) counts: [i, j] images of class i were taken for j
    mirrored   the accuracy when each image is also looked at in the mirror and the logits of both
               are averaged; None unless it was asked for. The other figures are without it
    """

    loss: float
    confusion: Array
    mirrored: float | None = None

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

    mirror  whether to look at each image in the mirror as well, for `Evaluation.mirrored`
    """
    confusion = np.zeros((n_classes, n_classes), np.int64)
    loss, mirrored = 0.0, 0
    training = model.training
    model.eval()
    with no_grad():
        for x, y in Loader(images, labels, batch_size, shuffle=False, n_classes=n_classes):
            logits = model(Tensor(x))
            loss += F.cross_entropy(logits, y).item() * len(y)
            np.add.at(confusion, (y, logits.array.argmax(axis=1)), 1)
            if mirror:
                both = logits + model(Tensor(np.ascontiguousarray(x[:, :, ::-1])))
                mirrored += int((both.array.argmax(axis=1) == y).sum())
    model.train(training)
    n = len(images)
    return Evaluation(loss / n, confusion, mirrored / n if mirror else None)
