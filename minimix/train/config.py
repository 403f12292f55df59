"""Every setting of a training run, and the presets: what the command line offers.

A field's name is its option (`hidden_dim` is `--hidden-dim`), its default is that of the preset
`laptop`, and the words beside it are what `minimix train --help` says of it.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from ..data import Augment, Dataset
from ..models import ConvMixer
from ..nn import PointwiseConv2d
from ..optim import AdamW, Muon, schedules


def setting(default: Any, help: str, *choices: str, **limits: float) -> Any:
    """A field of `Config`: its default, its help, and the words or the range allowed."""
    return field(default=default, metadata={"help": help, "choices": choices, "limits": limits})


@dataclass(frozen=True)
class Config:
    """The settings of a run. Errors: ValueError naming the first option that makes no sense."""

    # what is learned from
    data: str = setting("auto", "auto, cifar10, shapes10, or a folder or archive of CIFAR-10")
    limit_train: int = setting(0, "learn from the first N images only; 0: all", least=0)
    limit_test: int = setting(0, "test on the first N images only; 0: all", least=0)

    # the network
    hidden_dim: int = setting(128, "channels all the way through", least=1)
    depth: int = setting(8, "blocks", least=0)
    kernel_size: int = setting(5, "side of the depthwise kernels, in patches", least=1)
    patch_size: int = setting(4, "side of a patch, in pixels; it must divide the image", least=1)
    whiten: bool = setting(True, "begin with a patch embedding that whitens the patches")

    # what happens to an image before it is learned from
    crop: str = setting("pad", "pad, then cut; or cut, then enlarge", "none", "pad", "resized")
    padding: int = setting(4, "pixels on every side, for --crop pad", least=0)
    early_epochs: int = setting(
        0, "epochs at first that see only a piece of every image, which takes less time", least=0
    )
    early_size: int = setting(24, "side of those pieces, in pixels; for --crop pad", least=1)
    pad_mode: str = setting("reflect", "what the padding shows", "reflect", "zero")
    scale: float = setting(0.75, "least share kept by --crop resized", above=0, most=1)
    flip: str = setting("alternating", "mirror images", "none", "random", "alternating")
    randaugment: str = setting("none", "none, timm, or OPERATIONS,MAGNITUDE such as 2,12")
    jitter: float = setting(0.0, "of brightness, contrast and saturation: 1 ± this", least=0)
    erasing: float = setting(0.0, "probability that a box is erased", least=0, most=1)
    erase_mode: str = setting("zero", "what erased boxes show", "zero", "noise")
    mixup: float = setting(0.0, "α of MixUp; 0: none", least=0)
    cutmix: float = setting(0.0, "α of CutMix; 0: none", least=0)

    # how it is learned
    epochs: int = setting(10, "times through the training images", least=1)
    batch_size: int = setting(128, "images a step", least=1)
    optimizer: str = setting(
        "adamw", "adamw; or muon, which moves the pointwise convolutions otherwise", "adamw", "muon"
    )
    lr: float = setting(0.01, "learning rate at the highest", least=0)
    schedule: str = setting(
        "one-cycle", "learning rate over time", "one-cycle", "cosine", "official", "constant"
    )
    peak: float = setting(
        0.25, "when it is highest, as a share of the steps (one-cycle, cosine)", above=0, below=1
    )
    weight_decay: float = setting(0.005, "decay of the weights", least=0)
    label_smoothing: float = setting(0.1, "share of a target given to all classes", least=0, most=1)
    clip_norm: float = setting(1.0, "greatest length of the gradient; 0: any", least=0)
    ema: float = setting(0.99, "decay of an average of the weights; 0: none", least=0, below=1)
    ema_every: int = setting(5, "steps between two updates of that average", least=1)
    mirror: bool = setting(False, "at the end, test with mirrored images as well")
    seed: int = setting(0, "what every random number follows from", least=0)
    threads: int = setting(0, "threads to compute with; 0: one a core", least=0)

    def __post_init__(self) -> None:
        for f in fields(self):
            check(f, getattr(self, f.name))
        if self.early_epochs and self.crop != "pad":
            raise ValueError(
                f"--early-epochs is {self.early_epochs} but --crop is {self.crop}; "
                "pieces are cut by --crop pad"
            )
        self.augment(n_classes=1, epoch=0)

    @property
    def name(self) -> str:
        """The network's, as the paper would write it."""
        return (
            f"ConvMixer-{self.hidden_dim}/{self.depth}, kernel {self.kernel_size}, "
            f"patch {self.patch_size}"
        )

    def model(self, n_classes: int) -> ConvMixer:
        """The network before its first step."""
        return ConvMixer(
            self.hidden_dim,
            self.depth,
            self.kernel_size,
            self.patch_size,
            n_classes,
            rng=self.seed,
        )

    def optimizer_of(self, model: ConvMixer) -> AdamW:
        """The optimiser of every parameter of `model`."""
        parameters = list(model.parameters())
        if self.optimizer == "adamw":
            return AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        layers = [m for _, m in model.named_modules() if isinstance(m, PointwiseConv2d)]
        inside = {layer.weight for layer in layers}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p in inside], "orthogonal": True},
            {"params": [p for p in parameters if p not in inside]},
        ]
        return Muon(groups, lr=self.lr, weight_decay=self.weight_decay)

    def augment(self, n_classes: int, epoch: int) -> Augment:
        """The transform of the training images in an epoch, 0 …"""
        return Augment(
            size=self.early_size if epoch < self.early_epochs else None,
            crop=None if self.crop == "none" else self.crop,
            padding=self.padding,
            pad_mode=self.pad_mode,
            scale=(self.scale, 1.0),
            flip=None if self.flip == "none" else self.flip,
            randaugment=_randaugment(self.randaugment),
            jitter=self.jitter,
            erasing=self.erasing,
            erase_mode=self.erase_mode,
            mixup=self.mixup,
            cutmix=self.cutmix,
            n_classes=n_classes,
        )

    def learning_rate(self, total: int) -> schedules.Schedule:
        """The schedule: from a step, 0 … total − 1, to a learning rate."""
        if self.schedule == "one-cycle":
            return schedules.one_cycle(self.lr, total, peak_at=self.peak)
        if self.schedule == "cosine":
            return schedules.warmup_cosine(self.lr, total, warmup=self.peak * total)
        if self.schedule == "official":
            official = schedules.official(self.lr, total, self.epochs)
            return lambda step: official(step + 1)  # the authors look it up at a step's end
        return schedules.constant(self.lr)

    def limited(self, data: Dataset) -> Dataset:
        """The part of `data` that is to be used."""
        train, test = self.limit_train or None, self.limit_test or None
        return replace(
            data,
            train_images=data.train_images[:train],
            train_labels=data.train_labels[:train],
            test_images=data.test_images[:test],
            test_labels=data.test_labels[:test],
        )

    def check_data(self, data: Dataset) -> None:
        """Raise ValueError where the network cannot take this data set's images."""
        height, width = data.train_images.shape[1:3]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"--patch-size is {self.patch_size}, which does not divide "
                f"the {height}×{width} pixels of {data.name}'s images"
            )
        if self.early_epochs and (
            self.early_size > min(height, width) or self.early_size % self.patch_size
        ):
            raise ValueError(
                f"--early-size is {self.early_size}; expected a multiple of --patch-size, which is "
                f"{self.patch_size}, and at most the {min(height, width)} pixels of an image"
            )


def option(name: str) -> str:
    """hidden_dim -> --hidden-dim"""
    return "--" + name.replace("_", "-")


def check(f: Field[Any], value: Any) -> None:
    """Raise ValueError unless `value` is one of the field's choices and within its limits."""
    choices, limits = f.metadata["choices"], f.metadata["limits"]
    if choices and value not in choices:
        raise ValueError(f"{option(f.name)} is {value!r}; expected {', '.join(choices)}")
    for limit, bound in limits.items():
        fits, words = {
            "least": (value >= bound, "at least"),
            "above": (value > bound, "more than"),
            "most": (value <= bound, "at most"),
            "below": (value < bound, "less than"),
        }[limit]
        if not (fits and math.isfinite(value)):
            raise ValueError(f"{option(f.name)} is {value}; expected {words} {bound}")


def _randaugment(text: str) -> tuple[int, int] | str | None:
    """ "2,12" -> (2, 12), as `Augment` takes it."""
    if text in ("none", "timm"):
        return None if text == "none" else text
    numbers = text.split(",")
    if len(numbers) != 2 or not all(number.strip().isdecimal() for number in numbers):
        raise ValueError(
            f"--randaugment is {text!r}; expected none, timm, or two numbers such as 2,12"
        )
    return int(numbers[0]), int(numbers[1])


PRESETS = {
    # Good in ten minutes on two cores.
    "laptop": Config(),
    # The authors' CIFAR-10 recipe, to the letter (github.com/locuslab/convmixer-cifar10), whose
    # crop is one of the whole image.
    "official": Config(
        hidden_dim=256,
        patch_size=2,
        whiten=False,
        crop="none",
        flip="random",
        randaugment="2,12",
        epochs=25,
        batch_size=512,
        lr=0.05,
        schedule="official",
        label_smoothing=0.0,
        clip_norm=0.0,
        ema=0.0,
    ),
    # The shortest way to 90 %.
    "fast90": Config(patch_size=2, early_epochs=6, epochs=16, optimizer="muon", mirror=True),
}
