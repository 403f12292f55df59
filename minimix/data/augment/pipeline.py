"""Everything that happens to a batch between the data set and the network, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cifar10 import MEAN, STD
from ..dataset import check_images, check_labels
from ..draws import Draws
from ..loader import Batch, normalize
from ..shuffle import check_patches, shuffle_patches
from .mixing import boxes, erase, mix, one_hot
from .operations import Retouch
from .randaugment import Step, color_jitter, rand_augment, rand_augment_timm
from .reference.geometry import pad_crop
from .reference.retouch import retouch


@dataclass(frozen=True)
class Augment:
    """A `Loader`'s transform for training; by default, crop and flip.

        augment(images, labels, indices, seed, epoch) -> (x, targets)

    images uint8 (n, H, W, C), labels and indices (n,), `first` where these are a shard of a larger
    batch, with the index that it begins with; x float32 (n, H, W, C), normalized; targets
    are the labels, or where images are mixed, distributions over the classes, float32 (n, K).

    What an image looks like is a function of seed, epoch and its index; what it is mixed with, of
    the batch it is in. Errors: ValueError naming the setting that makes no sense, alone or for
    images of this size, and for images and labels that are not of this form.
    """

    crop: str | None = "pad"  # "pad": pad, then crop; "resized": crop, then enlarge
    padding: int = 4  # for "pad": pixels on every side,
    pad_mode: str = "reflect"  # mirrored ones or "zero",
    size: int | None = None  # and height and width of the crop; None: those of the image
    scale: float = 0.75  # for "resized": smallest share of the area
    flip: str | None = "random"  # "alternating": the other way round each epoch
    randaugment: tuple[int, int] | str | None = None  # (n, magnitude), torchvision's; or "timm"
    jitter: float = 0.0  # brightness, contrast and saturation: 1 ± jitter
    erasing: float = 0.0  # probability
    erase_mode: str = "zero"  # or "noise"
    mixup: float = 0.0  # α of Beta(α, α); 0: off
    cutmix: float = 0.0
    shuffle_patches: int = 0  # side of the patches that change places, last of all; 0: off
    n_classes: int = 10
    mean: Sequence[float] = MEAN  # of the data set, by channel, on a scale from 0 to 1
    std: Sequence[float] = STD

    def __post_init__(self) -> None:
        for name, choices in (
            ("crop", ("pad", "resized", None)),
            ("pad_mode", ("reflect", "zero")),
            ("flip", ("random", "alternating", None)),
            ("erase_mode", ("zero", "noise")),
        ):
            if getattr(self, name) not in choices:
                expected = ", ".join(map(repr, choices))
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; expected one of {expected}")
        if self.size is not None and (self.size < 1 or self.crop != "pad"):
            raise ValueError(
                f"`size` is {self.size} and `crop` {self.crop!r}; expected at least 1, and 'pad'"
            )
        for name, most in (
            ("padding", math.inf),
            ("jitter", 10),
            ("erasing", 1),
            ("mixup", math.inf),
            ("cutmix", math.inf),
            ("shuffle_patches", math.inf),
        ):
            value = getattr(self, name)
            if not (0 <= value <= most and math.isfinite(value)):
                limit = "at least 0" if most == math.inf else f"0 to {most}"
                raise ValueError(f"`{name}` is {value}; expected {limit}")
        if not 0 < self.scale <= 1:
            raise ValueError(f"`scale` is {self.scale}; expected more than 0, at most 1")
        if isinstance(self.randaugment, tuple):
            n, magnitude = self.randaugment
            if not (0 <= n <= MOST_OPERATIONS and 0 <= magnitude <= 30):
                raise ValueError(
                    f"`randaugment` is {self.randaugment}; expected (n, magnitude): "
                    f"at most {MOST_OPERATIONS} operations, of a magnitude from 0 to 30"
                )
        elif self.randaugment not in ("timm", None):
            raise ValueError(
                f"`randaugment` is {self.randaugment!r}; expected (n, magnitude), 'timm' or None"
            )

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError unless images of this size can be augmented as the settings say."""
        check_patches(self.shuffle_patches, self.size or height, self.size or width)
        if self.crop != "pad":
            return
        if self.padding >= min(height, width):
            raise ValueError(
                f"`padding` is {self.padding}; expected less than the sides of an image, "
                f"{height}×{width}"
            )
        if self.size and self.size > min(height, width) + 2 * self.padding:
            raise ValueError(
                f"`size` is {self.size}, more than there is of an image of {height}×{width} with "
                f"{self.padding} pixels of padding on every side"
            )

    def __call__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        indices: np.ndarray,
        seed: int,
        epoch: int,
        first: int | None = None,
    ) -> Batch:
        mixing = bool(self.mixup or self.cutmix)
        check_images(images)
        check_labels(labels, len(images), self.n_classes if mixing else None)
        h, w = images.shape[1:3]
        self.check_size(h, w)
        draws = Draws(seed, epoch, indices)
        if self.crop == "pad":
            height, width = (self.size, self.size) if self.size else (h, w)
            top = draws.integers("crop top", h + 2 * self.padding - height + 1)
            left = draws.integers("crop left", w + 2 * self.padding - width + 1)
            images = pad_crop(images, top, left, self.padding, self.pad_mode, (height, width))
        steps = self._steps(draws, images.shape[1:3], seed, epoch)
        timm = self.randaugment == "timm"  # what comes from outside has the mean color
        fill = [round(255 * mean) if timm else 0 for mean in self.mean]
        if steps:
            operations, parameters = (np.stack(part) for part in zip(*steps, strict=True))
            images = retouch(images, operations, parameters, np.array(fill, np.uint8))

        x = normalize(images, self.mean, self.std)
        if self.erasing:
            erase(x, self.erasing, self.erase_mode, draws)
        targets = labels
        if mixing:
            # The first image's numbers stand for the batch, of which this may be a shard.
            once = Draws(seed, epoch, indices[:1] if first is None else np.array([first]))
            x, targets = mix(x, one_hot(labels, self.n_classes), self.mixup, self.cutmix, once)
        return shuffle_patches(x, self.shuffle_patches), targets

    def _steps(self, draws: Draws, shape: tuple[int, int], seed: int, epoch: int) -> list[Step]:
        """The steps for `retouch`, in order."""
        n, (h, w) = len(draws.indices), shape
        steps: list[Step] = []
        if self.crop == "resized":
            ratio = w / h, w / h  # the image's own, so that nothing is stretched
            box = boxes(draws, "crop", shape, (self.scale, 1.0), ratio, shape, shape)
            parameters = np.zeros((6, n))
            parameters[:4] = box
            steps.append((np.full(n, Retouch.ENLARGE), parameters))
        if self.flip:
            which = draws.uniform("flip") < 0.5
            if self.flip == "alternating":  # Jordan, arXiv:2404.00498
                first = Draws(seed, 0, draws.indices).uniform("flip") < 0.5
                which = first ^ (epoch % 2 == 1)
            steps.append((np.where(which, Retouch.FLIP, Retouch.NONE), np.zeros((6, n))))
        if isinstance(self.randaugment, tuple):
            steps += rand_augment(*self.randaugment, shape, draws)
        elif self.randaugment == "timm":
            steps += rand_augment_timm(shape, draws)
        if self.jitter:
            steps += color_jitter(self.jitter, draws)
        return steps


MOST_OPERATIONS = 20  # of RandAugment: more would take long, and leave nothing of an image
