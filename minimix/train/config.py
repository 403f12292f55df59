"""The settings of a training run, and the presets: what the command line offers.

Each field has its default, which is that of the preset `laptop`, a line of help, and the values it
may take. `minimix train` makes an option of each: `hidden_dim` is `--hidden-dim`.
"""

from __future__ import annotations

import math
import os
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from ..data import Augment, Dataset
from ..models import ConvMixer
from ..nn import PointwiseConv2d
from ..optim import AdamW, Muon, schedules

MOST_SEED = 2**63 - 1
MOST_WHITENED = 1024  # values of a patch; the eigenvectors of more take minutes


def setting(default: Any, help: str, *choices: str, **limits: float) -> Any:
    """A field of `Config`: its default, its help, and the choices or the range allowed."""
    return field(default=default, metadata={"help": help, "choices": choices, "limits": limits})


@dataclass(frozen=True)
class Config:
    """The settings of a run. Errors: ValueError naming the first setting that makes no sense."""

    # data
    data: str = setting("auto", "auto, cifar10, shapes10, or the path of a copy of CIFAR-10")
    limit_train: int = setting(0, "train on the first N images only (0: all)", least=0)
    limit_test: int = setting(0, "test on the first N images only (0: all)", least=0)

    # network
    hidden_dim: int = setting(128, "number of channels", least=1, most=65_536)
    depth: int = setting(8, "number of blocks", least=0, most=1000)
    kernel_size: int = setting(5, "side of the depthwise kernels, in patches", least=1, most=255)
    patch_size: int = setting(
        4, "side of a patch in pixels; it must divide the image", least=1, most=1024
    )
    whiten: bool = setting(True, "initialize the patch embedding to whiten the patches")

    # augmentation
    crop: str = setting(
        "pad", "pad and crop back to size, or crop and resize", "none", "pad", "resized"
    )
    padding: int = setting(4, "for `crop` pad: pixels added on each side", least=0, most=1024)
    early_epochs: int = setting(
        0, "for `crop` pad: train the first N epochs on smaller crops, which is faster", least=0
    )
    early_size: int = setting(24, "side of those smaller crops in pixels", least=1)
    pad_mode: str = setting("reflect", "what the padding shows", "reflect", "zero")
    scale: float = setting(
        0.75, "for `crop` resized: smallest fraction of the area to keep", above=0, most=1
    )
    flip: str = setting("alternating", "flip images horizontally", "none", "random", "alternating")
    randaugment: str = setting("none", "none, timm, or OPERATIONS,MAGNITUDE such as 2,12")
    jitter: float = setting(
        0.0, "change brightness, contrast and saturation by a factor of 1 ± X", least=0, most=10
    )
    erasing: float = setting(0.0, "probability of erasing a box", least=0, most=1)
    erase_mode: str = setting("zero", "what erased boxes show", "zero", "noise")
    mixup: float = setting(0.0, "α of MixUp (0: off)", least=0, most=1000)
    cutmix: float = setting(0.0, "α of CutMix (0: off)", least=0, most=1000)
    shuffle_patches: int = setting(
        0,
        "side in pixels of patches that change places, in the same way in every image, when "
        "testing too (0: off)",
        least=0,
        most=1024,
    )

    # optimization
    epochs: int = setting(10, "passes over the training images", least=1, most=100_000)
    batch_size: int = setting(128, "images per step", least=1, most=1_000_000)
    optimizer: str = setting(
        "adamw", "muon: orthogonalized momentum for the pointwise weights", "adamw", "muon"
    )
    lr: float = setting(0.01, "peak learning rate", above=0)
    schedule: str = setting(
        "one-cycle", "learning rate schedule", "one-cycle", "cosine", "official", "constant"
    )
    peak: float = setting(
        0.25, "fraction of the steps spent warming up (one-cycle, cosine)", above=0, below=1
    )
    weight_decay: float = setting(0.005, "weight decay", least=0)
    label_smoothing: float = setting(0.1, "label smoothing", least=0, most=1)
    clip_norm: float = setting(1.0, "clip the gradient norm to this value (0: off)", least=0)
    ema: float = setting(
        0.99, "decay of the moving average of the weights (0: off)", least=0, below=1
    )
    ema_every: int = setting(5, "steps between updates of that average", least=1, most=1_000_000)
    mirror: bool = setting(False, "after the last epoch, test with mirrored images too")
    seed: int = setting(0, "random seed", least=0, most=MOST_SEED)
    threads: int = setting(0, "number of threads (0: one per core)", least=0, most=1024)

    def __post_init__(self) -> None:
        for f in fields(self):
            check(f, getattr(self, f.name))
        if self.early_epochs and self.crop != "pad":
            raise ValueError(
                f"`early_epochs` is {self.early_epochs} but `crop` is {self.crop}; "
                "smaller crops are those of `crop` pad"
            )
        self.augment(n_classes=1, epoch=0)

    @property
    def name(self) -> str:
        """The network's name, as in the paper."""
        return (
            f"ConvMixer-{self.hidden_dim}/{self.depth}, kernel {self.kernel_size}, "
            f"patch {self.patch_size}"
        )

    def model(self, n_classes: int) -> ConvMixer:
        """The network before training."""
        return ConvMixer(
            self.hidden_dim,
            self.depth,
            self.kernel_size,
            self.patch_size,
            n_classes,
            rng=self.seed,
        )

    def optimizer_of(self, model: ConvMixer) -> AdamW:
        """The optimizer of every parameter of `model`."""
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
        """The transform of the training images in epoch 0, 1, …"""
        return Augment(
            size=self.early_size if epoch < self.early_epochs else None,
            crop=None if self.crop == "none" else self.crop,
            padding=self.padding,
            pad_mode=self.pad_mode,
            scale=self.scale,
            flip=None if self.flip == "none" else self.flip,
            randaugment=_randaugment(self.randaugment),
            jitter=self.jitter,
            erasing=self.erasing,
            erase_mode=self.erase_mode,
            mixup=self.mixup,
            cutmix=self.cutmix,
            shuffle_patches=self.shuffle_patches,
            n_classes=n_classes,
        )

    def learning_rate(self, total: int) -> schedules.Schedule:
        """The schedule, from a step 0 … total − 1 to a learning rate."""
        if self.schedule == "one-cycle":
            return schedules.one_cycle(self.lr, total, peak_at=self.peak)
        if self.schedule == "cosine":
            return schedules.warmup_cosine(self.lr, total, warmup=self.peak * total)
        if self.schedule == "official":
            return schedules.official(self.lr, total, self.epochs)
        return schedules.constant(self.lr)

    def limited(self, data: Dataset) -> Dataset:
        """The part of `data` to train and test on."""
        train, test = self.limit_train or None, self.limit_test or None
        return replace(
            data,
            train_images=data.train_images[:train],
            train_labels=data.train_labels[:train],
            test_images=data.test_images[:test],
            test_labels=data.test_labels[:test],
        )

    def check_data(self, data: Dataset) -> None:
        """Raise ValueError where the network cannot be trained on these images, or not here."""
        for part, images in (("train", data.train_images), ("test", data.test_images)):
            limit = getattr(self, f"limit_{part}")
            if limit > len(images):
                raise ValueError(
                    f"`limit_{part}` is {limit:,}; {data.name} has {len(images):,} images there"
                )
        n, height, width, channels = data.train_images.shape
        p = self.patch_size
        if height % p or width % p:
            raise ValueError(
                f"`patch_size` is {p}, which does not divide "
                f"the {height}×{width} pixels of {data.name}'s images"
            )
        if self.early_epochs and (self.early_size > min(height, width) or self.early_size % p):
            raise ValueError(
                f"`early_size` is {self.early_size}; expected a multiple of `patch_size`, which is "
                f"{p}, and at most the {min(height, width)} pixels of an image"
            )
        for epoch in (0, self.early_epochs):
            self.augment(data.n_classes, epoch).check_size(height, width)
        if self.whiten and p * p * channels > MOST_WHITENED:
            raise ValueError(
                f"`patch_size` is {p}: a patch has {p * p * channels:,} values, and `whiten` takes "
                f"at most {MOST_WHITENED:,}; choose smaller patches, or do without"
            )
        last = n % self.batch_size or min(n, self.batch_size)
        if last == 1 and p in (max(height, width), self.early_epochs and self.early_size):
            raise ValueError(
                f"`batch_size` is {self.batch_size}: the last batch of {n:,} images has one image, "
                f"which is one patch, too little for batch normalization; choose another"
            )
        needed, memory = self.memory(n, height // p * (width // p), channels), physical_memory()
        if memory and needed > memory:
            raise ValueError(
                f"this network needs at least {needed / 1e9:,.0f} GB of memory, this machine has "
                f"{memory / 1e9:,.0f}; choose a smaller `hidden_dim`, `depth` or `batch_size`"
            )

    def memory(self, n: int, places: int, channels: int) -> float:
        """Bytes that training on n images of so many patches takes at least."""
        h, d, k, p = self.hidden_dim, self.depth, self.kernel_size, self.patch_size
        parameters = h * (p * p * channels + 3 + d * (k * k + h + 6))
        activations = min(n, self.batch_size) * places * h * (2 * d + 2)
        return 4.0 * (4 * parameters + activations)  # weights, gradients, AdamW's two moments


def physical_memory() -> int:
    """Bytes of memory in this machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def option(name: str) -> str:
    """The setting's option on the command line: hidden_dim -> --hidden-dim"""
    return "--" + name.replace("_", "-")


KINDS: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}
LIMITS = {"least": "at least", "above": "more than", "most": "at most", "below": "less than"}


def check(f: Field[Any], value: Any) -> None:
    """Raise ValueError unless `value` is of the field's type, a choice, and within its limits."""
    choices, limits = f.metadata["choices"], f.metadata["limits"]
    if not isinstance(value, KINDS[str(f.type)]) or (isinstance(value, bool) and f.type != "bool"):
        raise ValueError(f"`{f.name}` is {value!r}; expected a value of type {f.type}")
    if choices and value not in choices:
        raise ValueError(f"`{f.name}` is {value!r}; expected {', '.join(choices)}")
    fits = {
        "least": lambda bound: value >= bound,
        "above": lambda bound: value > bound,
        "most": lambda bound: value <= bound,
        "below": lambda bound: value < bound,
    }
    finite = not isinstance(value, float) or math.isfinite(value)
    if limits and not (finite and all(fits[limit](bound) for limit, bound in limits.items())):
        words = " and ".join(f"{LIMITS[limit]} {bound:,}" for limit, bound in limits.items())
        raise ValueError(f"`{f.name}` is {value}; expected {words}")


def _randaugment(text: str) -> tuple[int, int] | str | None:
    """ "2,12" -> (2, 12), as `Augment` takes it."""
    if text in ("none", "timm"):
        return None if text == "none" else text
    operations, comma, magnitude = text.partition(",")
    numbers = operations.strip().isdecimal() and magnitude.strip().isdecimal()
    if comma and numbers and len(text) < 40:
        return int(operations), int(magnitude)
    raise ValueError(
        f"`randaugment` is {text!r:.40}; expected none, timm, or two numbers such as 2,12"
    )


PRESETS = {
    # A good model in ten minutes on two cores.
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
    # The fastest way to 90 %.
    "fast90": Config(patch_size=2, early_epochs=6, epochs=16, optimizer="muon", mirror=True),
}
