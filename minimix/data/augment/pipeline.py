"""The whole way of a batch from the data set to the network, in the order of the steps."""

from dataclasses import dataclass

import numpy as np

from minimix.data.augment.geometry import flip, pad_crop
from minimix.data.draws import Draws
from minimix.data.loader import Batch, normalize


@dataclass(frozen=True)
class Augment:
    """A `Loader`'s transform for training.

    images uint8 (n, H, W, 3), labels (n,), indices (n,), seed, epoch
        -> float32 (n, H, W, 3), normalised, and the targets: labels (n,), or where mixing or
           label smoothing asks for it a distribution over classes, float32 (n, n_classes)

    What an image looks like depends on seed, epoch and its index alone; what it is mixed with, on
    the batch it is in.
    """

    crop: str | None = "pad"  # "pad": pad, then cut; "resized": cut, then enlarge
    padding: int = 4  # pixels on each side, for "pad"
    pad_mode: str = "reflect"  # or "zero"
    flip: str | None = "random"  # "alternating": every image in every other epoch

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray, seed: int, epoch: int
    ) -> Batch:
        draws = Draws(seed, epoch, indices)
        if self.crop == "pad":
            top = draws.integers("crop top", 2 * self.padding + 1)
            left = draws.integers("crop left", 2 * self.padding + 1)
            images = pad_crop(images, top, left, self.padding, self.pad_mode)
        if self.flip == "random":
            images = flip(images, draws.uniform("flip") < 0.5)
        return normalize(images), labels
