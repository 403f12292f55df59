"""The whole way of a batch from the data set to the network, step after step."""

from dataclasses import dataclass

import numpy as np

from minimix.data.augment.mixing import boxes, erase, mix, soften
from minimix.data.augment.operations import Retouch
from minimix.data.augment.randaugment import (
    TIMM_FILL,
    Step,
    color_jitter,
    rand_augment,
    rand_augment_timm,
)
from minimix.data.augment.reference.geometry import pad_crop
from minimix.data.augment.reference.retouch import retouch
from minimix.data.draws import Draws
from minimix.data.loader import Batch, check_images, normalize


@dataclass(frozen=True)
class Augment:
    """A `Loader`'s transform for training; by default, crop and flip.

        augment(images, labels, indices, seed, epoch) -> (x, targets)

    images uint8 (n, H, W, 3), labels and indices (n,); x float32 (n, H, W, 3), normalised; targets
    are the labels, or where mixing or label smoothing needs it float32 (n, n_classes).

    What an image looks like is a function of seed, epoch and its index; what it is mixed with, of
    the batch it is in. Errors: ValueError naming the setting that makes no sense, a `size` that the
    padded image does not have, or images and labels that are not of this form.
    """

    crop: str | None = "pad"  # "pad": pad, then cut; "resized": cut, then enlarge
    padding: int = 4  # for "pad": pixels on every side,
    pad_mode: str = "reflect"  # mirrored ones or "zero",
    size: int | None = None  # and how high and wide a piece is cut out; None: like the image
    scale: tuple[float, float] = (0.75, 1.0)  # for "resized": share of the area,
    ratio: tuple[float, float] = (1.0, 1.0)  # width / height
    flip: str | None = "random"  # "alternating": from its first state to the other each epoch
    randaugment: tuple[int, int] | str | None = None  # (n, magnitude), torchvision's; or "timm"
    jitter: float = 0.0  # brightness, contrast and saturation: 1 ± jitter
    erasing: float = 0.0  # probability
    erase_mode: str = "zero"  # or "noise"
    mixup: float = 0.0  # α of Beta(α, α), 0 for none
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    n_classes: int = 10

    def __post_init__(self) -> None:
        for name, choices in (
            ("crop", ("pad", "resized", None)),
            ("pad_mode", ("reflect", "zero")),
            ("flip", ("random", "alternating", None)),
            ("erase_mode", ("zero", "noise")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if self.size is not None and (self.size < 1 or self.crop != "pad"):
            raise ValueError(
                f"size must be at least 1, and goes with crop 'pad'; got {self.size} and "
                f"{self.crop!r}"
            )
        for name in ("padding", "jitter", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("erasing", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be 0 < low <= high <= 1, got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be 0 < low <= high, got {self.ratio}")
        if isinstance(self.randaugment, tuple):
            n, magnitude = self.randaugment
            if n < 0 or not 0 <= magnitude <= 30:
                raise ValueError(
                    "randaugment must be (n, magnitude), n at least 0, magnitude from 0 to 30, "
                    f"got {self.randaugment}"
                )
        elif self.randaugment not in ("timm", None):
            raise ValueError(
                f"randaugment must be (n, magnitude), 'timm' or None, got {self.randaugment!r}"
            )

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray, seed: int, epoch: int
    ) -> Batch:
        check_images(images, labels)  # compiled code takes what it gets
        draws = Draws(seed, epoch, indices)
        h, w = images.shape[1:3]
        if self.crop == "pad":
            height, width = (self.size, self.size) if self.size else (h, w)
            if max(height - h, width - w) > 2 * self.padding:
                raise ValueError(
                    f"size is {self.size}, more than there is of an image of {h}×{w} with "
                    f"{self.padding} pixels of padding on every side"
                )
            top = draws.integers("crop top", h + 2 * self.padding - height + 1)
            left = draws.integers("crop left", w + 2 * self.padding - width + 1)
            images = pad_crop(images, top, left, self.padding, self.pad_mode, (height, width))
        steps = self._steps(draws, images.shape[1:3], seed, epoch)
        fill = TIMM_FILL if self.randaugment == "timm" else (0, 0, 0)
        if steps:
            operations, parameters = (np.stack(part) for part in zip(*steps, strict=True))
            images = retouch(images, operations, parameters, np.array(fill, np.uint8))

        x = normalize(images)
        if self.erasing:
            erase(x, self.erasing, self.erase_mode, draws)
        if not (self.mixup or self.cutmix or self.label_smoothing):
            return x, labels
        targets = soften(labels, self.n_classes, self.label_smoothing)
        if self.mixup or self.cutmix:
            x, targets = mix(x, targets, self.mixup, self.cutmix, draws)
        return x, targets

    def _steps(self, draws: Draws, shape: tuple[int, int], seed: int, epoch: int) -> list[Step]:
        """What `retouch` is to do, in order."""
        n, (h, w) = len(draws.indices), shape
        steps: list[Step] = []
        if self.crop == "resized":
            widest = min(h, round(w / self.ratio[0])), min(w, round(h * self.ratio[1]))
            box = boxes(draws, "crop", shape, self.scale, self.ratio, shape, widest)
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
