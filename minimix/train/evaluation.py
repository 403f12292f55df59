"""How well a model does on images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import functional as F
from ..autograd import Array, Tensor, no_grad
from ..data import Loader, shuffle_patches
from ..data.loader import PLAIN, Transform
from ..fuse import fuse
from ..nn import Module, evaluating
from ..parallel import ALONE, Ranks


@dataclass(frozen=True)
class Evaluation:
    """The result of a test on N images of n classes.

    loss       mean cross-entropy
    confusion  (n, n) counts: confusion[i, j] images of class i were classified as j
    mirrored   the accuracy when the logits of each image and of its mirror image are averaged;
               None unless it was asked for. The other figures are without mirroring
    """

    loss: float
    confusion: Array
    mirrored: float | None = None

    @property
    def accuracy(self) -> float:
        return int(np.trace(self.confusion)) / int(self.confusion.sum())

    @property
    def per_class(self) -> list[float | None]:
        """The accuracy on each class; None for a class without images."""
        return [
            int(row[i]) / int(row.sum()) if row.any() else None
            for i, row in enumerate(self.confusion)
        ]


def fastest(model: Module) -> Module:
    """The model in its fused form where it has one, else the model itself; the same parameters."""
    return fuse(model)


def evaluate(
    model: Module,
    images: Array,
    labels: Array,
    n_classes: int,
    *,
    transform: Transform = PLAIN,
    batch_size: int = 500,
    mirror: bool = False,
    shuffled: int = 0,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Test `model`, in evaluation mode, on images uint8 (N, H, W, C) with labels (N,).

    transform   what makes the model's input of images; by default `normalize` as for CIFAR-10
    batch_size  how many images at a time
    mirror      whether to classify each image's mirror image as well, for `Evaluation.mirrored`
    shuffled    side of the patches that change places (`minimix.data.shuffle_patches`); 0: none
    ranks       the processes that share the images among them; all get the result for all images

    Afterwards each of the model's modules is in the mode that it was in before. Errors: ValueError
    where there are no images, a label is not in 0 … n_classes − 1, or the logits are not
    (N, n_classes).
    """
    n = len(images)
    if n < ranks.size:  # too few to share: each tests all of them
        ranks = ALONE
    mine = slice(n * ranks.rank // ranks.size, n * (ranks.rank + 1) // ranks.size)
    images, labels = images[mine], labels[mine]
    confusion = np.zeros((n_classes, n_classes), np.int64)
    loss, mirrored = 0.0, 0
    with no_grad(), evaluating(model):
        for x, y in Loader(
            images, labels, batch_size, transform=transform, shuffle=False, n_classes=n_classes
        ):
            logits = model(Tensor(shuffle_patches(x, shuffled)))
            if logits.shape != (len(y), n_classes):
                raise ValueError(
                    f"evaluate: the model gave logits of shape {logits.shape} for {len(y)} images "
                    f"of {n_classes} classes"
                )
            loss += F.cross_entropy(logits, y).item() * len(y)
            np.add.at(confusion, (y, logits.array.argmax(axis=1)), 1)
            if mirror:
                other = shuffle_patches(np.ascontiguousarray(x[:, :, ::-1]), shuffled)
                both = logits + model(Tensor(other))
                mirrored += int((both.array.argmax(axis=1) == y).sum())
    loss, mirrored = ranks.sum(np.array([loss, mirrored]))
    confusion = ranks.sum(confusion)
    return Evaluation(float(loss) / n, confusion, float(mirrored) / n if mirror else None)
