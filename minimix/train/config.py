"""The settings of a training run, the presets and recipes: what the command line offers.

Each field has its default, which is that of the preset `plain`, a line of help, and the values it
may take. `minimix train` makes an option of each: `batch_size` is `--batch-size`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from .. import data as data_sets
from ..data import Augment, Dataset
from ..data.cifar10 import MEAN, STD
from ..data.dataset import sample
from ..errors import CheckpointError
from ..models import FAMILIES
from ..nn import Linear, Module, PointwiseConv2d
from ..optim import SGD, AdamW, Muon, Optimizer, schedules
from . import architecture
from .architecture import is_own, sized
from .validation import held_out

MOST_SEED = 2**63 - 1


def setting(default: Any, help: str, *choices: str, **limits: float) -> Any:
    """A field of `Config`: its default, its help, and the choices or the range allowed."""
    return field(default=default, metadata={"help": help, "choices": choices, "limits": limits})


@dataclass(frozen=True)
class Config:
    """The settings of a run. Errors: ValueError naming the first setting that makes no sense."""

    # data
    data: str = setting(
        "auto",
        "auto, cifar10, shapes10, or a path: of CIFAR-10 or 100, of MNIST's idx files, of an .npz "
        "file, of a folder that has a folder of pictures for each class",
    )
    validation: int = setting(
        0,
        "hold out N training images, of all classes and the same for every seed, and test on "
        "these instead of the test images (0: off)",
        least=0,
    )
    limit_train: int = setting(
        0,
        "train on N images only, of all classes; another seed draws others (0: all)",
        least=0,
    )
    limit_test: int = setting(
        0, "test on N images only, of all classes and the same for every seed (0: all)", least=0
    )

    image_size: int = setting(
        0,
        "for a folder of pictures: side in pixels to which they are cropped and resized (0: 32)",
        least=0,
        most=4096,
    )
    test_fraction: float = setting(
        0.1,
        "for pictures without a test/ or val/ folder: fraction of each class to test on",
        above=0,
        below=1,
    )

    # network
    model: str = setting(
        "convmixer",
        f"{', '.join(FAMILIES)}, a name such as resnet18, or a class of yours: my_net.py:Net",
    )
    model_settings: Mapping[str, Any] = field(  # of these, each has an option of its own
        default_factory=dict,
        metadata={"help": "the network's settings, by name", "choices": (), "limits": {}},
    )
    whiten: bool = setting(
        True, "initialize the patch embedding, where there is one, to whiten the patches"
    )

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
        "adamw",
        "muon: orthogonalized momentum for the matrices inside; sgd: momentum 0.9, Nesterov's",
        "adamw",
        "muon",
        "sgd",
    )
    lr: float = setting(0.01, "peak learning rate", above=0)
    schedule: str = setting(
        "one-cycle", "learning rate schedule", "one-cycle", "cosine", "official", "constant"
    )
    peak: float = setting(
        0.25, "fraction of the steps spent warming up (one-cycle, cosine)", above=0, below=1
    )
    weight_decay: float = setting(0.005, "weight decay", least=0)
    decay: str = setting(
        "all",
        "what decays: all parameters, or only weights (no biases, norms, tokens, positions)",
        "all",
        "weights",
    )
    label_smoothing: float = setting(0.1, "label smoothing", least=0, most=1)
    clip_norm: float = setting(1.0, "clip the gradient norm to this value (0: off)", least=0)
    ema: float = setting(
        0.99, "decay of the moving average of the weights (0: off)", least=0, below=1
    )
    ema_every: int = setting(
        5, "steps between updates of that average, at most an epoch", least=1, most=1_000_000
    )
    mirror: bool = setting(False, "after the last epoch, test with mirrored images too")
    sync_batch_norm: bool = setting(
        True, "where several processes train together, batch norm looks at the images of all"
    )
    seed: int = setting(0, "random seed", least=0, most=MOST_SEED)
    threads: int = setting(
        0,
        "number of threads (0: one per core, or one for each of several processes)",
        least=0,
        most=1024,
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            check(f, getattr(self, f.name))
        family, settings = sized(self.model)
        object.__setattr__(self, "model", family)
        object.__setattr__(self, "model_settings", {**settings, **self.model_settings})
        if not is_own(family):  # whose file is not run before it is needed
            object.__setattr__(self, "model_settings", dict(self._model_settings()))
        if self.early_epochs and self.crop != "pad":
            raise ValueError(
                f"`early_epochs` is {self.early_epochs} but `crop` is {self.crop}; "
                "smaller crops are those of `crop` pad"
            )
        self.augment(n_classes=1, epoch=0)

    @property
    def name(self) -> str:
        """The network in words."""
        return architecture.described(self.model, self.model_settings)

    def complete(self) -> Config:
        """These settings, with every setting of the network and the file of an own one in full.

        Errors: MinimixError where a class of the user's cannot be had; ValueError where a setting
        is not one of the network's.
        """
        return replace(
            self, model=architecture.absolute(self.model), model_settings=self._model_settings()
        )

    def _model_settings(self) -> dict[str, Any]:
        return architecture.completed(self.model, self.model_settings)

    def build(
        self,
        n_classes: int,
        image_size: tuple[int, int],
        rng: np.random.Generator | None = None,
        *,
        in_channels: int = 3,
    ) -> Module:
        """The network before training.   Errors: as `architecture.build`."""
        return architecture.build(
            self.model,
            self.model_settings,
            n_classes=n_classes,
            image_size=image_size,
            in_channels=in_channels,
            rng=self.seed if rng is None else rng,
        )

    def optimizer_of(self, model: Module, n_classes: int) -> Optimizer:
        """The optimizer of every parameter of `model`.

        Muon orthogonalizes the weights of the linear and pointwise layers inside: not the patch
        embedding, nor the head, which is what gives n_classes numbers.
        """
        kept = set() if self.decay == "all" else _without_decay(model)
        inside: set[Any] = set()
        if self.optimizer == "muon":
            inside = {
                m.weight
                for _, m in model.named_modules()
                if isinstance(m, PointwiseConv2d)
                or (isinstance(m, Linear) and m.weight.shape[1] != n_classes)
            }
            if not inside:
                raise ValueError(
                    f"`optimizer` is muon, but {self.name} has no linear or pointwise layers "
                    "inside whose weights it could orthogonalize; choose another"
                )
        groups: list[dict[str, Any]] = [
            {"params": [], "orthogonal": True},
            {"params": []},
            {"params": [], "weight_decay": 0.0},
        ]
        for p in model.parameters():
            groups[0 if p in inside else 2 if p in kept else 1]["params"].append(p)
        groups = [group for group in groups if group["params"]]
        common: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if self.optimizer == "sgd":
            return SGD(groups, momentum=0.9, nesterov=True, **common)
        return (Muon if self.optimizer == "muon" else AdamW)(groups, **common)

    def augment(
        self,
        n_classes: int,
        epoch: int,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> Augment:
        """The transform of the training images in epoch 0, 1, …, and what it normalizes with."""
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
            mean=mean,
            std=std,
        )

    def load(self, path: str = "", **options: Any) -> Dataset:
        """The data set that is meant, or the one at `path`, whole. Options, errors: `data.load`."""
        sizes = {"image_size": self.image_size, "test_fraction": self.test_fraction}
        return data_sets.load(path or self.data, **sizes | options)

    def learning_rate(self, total: int) -> schedules.Schedule:
        """The schedule, from a step 0 … total − 1 to a learning rate."""
        if self.schedule == "one-cycle":
            return schedules.one_cycle(self.lr, total, peak_at=self.peak)
        if self.schedule == "cosine":
            return schedules.warmup_cosine(self.lr, total, warmup=self.peak * total)
        if self.schedule == "official":
            return schedules.official(self.lr, total, self.epochs)
        return schedules.constant(self.lr)

    @property
    def tested_on(self) -> str:
        """What the accuracy is of: "test" images, or "validation" images held out for it."""
        return "validation" if self.validation else "test"

    def limited(self, data: Dataset) -> Dataset:
        """The part of `data` to train on, and that to test on, which may be held out of it.

        Errors: ValueError where there are not as many images as that takes.
        """
        if self.validation:
            data = held_out(data, self.validation)
        parts: dict[str, Any] = {}
        for part, limit, seed in (
            ("train", self.limit_train, self.seed),
            ("test", self.limit_test, 0),
        ):
            images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
            if limit > len(images):
                raise ValueError(
                    f"`limit_{part}` is {limit:,}; {data.name} has {len(images):,} images there"
                )
            if 0 < limit < len(images):
                chosen = sample(labels, limit, seed)
                parts |= {f"{part}_images": images[chosen], f"{part}_labels": labels[chosen]}
        return replace(data, **parts)

    def check_data(self, data: Dataset) -> None:
        """Raise ValueError where these images cannot be augmented as the settings say."""
        _, height, width, _ = data.train_images.shape
        if self.early_epochs and self.early_size > min(height, width):
            raise ValueError(
                f"`early_size` is {self.early_size}; expected at most the {min(height, width)} "
                "pixels of an image"
            )
        for epoch in (0, self.early_epochs):
            self.augment(data.n_classes, epoch).check_size(height, width)


# All but the network's own, which go by the names that its constructor has for them.
SETTINGS = {f.name: f for f in fields(Config) if f.name != "model_settings"}


def _without_decay(model: Module) -> set[Any]:
    """The parameters that are no weights: biases, norms' factors, tokens, positions."""
    return {
        p
        for _, module in model.named_modules()
        for name, p in module._parameters.items()
        if name != "weight" or p.ndim < 2
    }


def option(name: str) -> str:
    """The setting's option on the command line: hidden_dim -> --hidden-dim"""
    return "--" + name.replace("_", "-")


KINDS: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}
KINDS["Mapping[str, Any]"] = Mapping
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


# A ConvMixer with a finer stem, found for `laptop`; the larger ones are the same, but wider.
FINER = {"depth": 5, "kernel_size": 3, "stem_dim": 64, "stem_depth": 2}

PRESETS = {
    # What `minimix train` does: a good model in seven minutes on two cores.
    "laptop": Config(
        model_settings=FINER,
        padding=2,
        epochs=11,
        optimizer="muon",
    ),
    # ConvMixer-128/8 as in the paper, which timm knows too, by AdamW.
    "plain": Config(),
    # The authors' CIFAR-10 recipe, to the letter (github.com/locuslab/convmixer-cifar10), whose
    # crop is one of the whole image.
    "official": Config(
        model_settings={"hidden_dim": 256, "patch_size": 2},
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
    # 90 % of CIFAR-10's test images in less than twenty minutes on two cores.
    "fast90": Config(
        model_settings={**FINER, "hidden_dim": 192},
        epochs=17,
        optimizer="muon",
    ),
    # The best that two cores reach in an hour and a half: wider, and with far more augmentation.
    "best": Config(
        model_settings={**FINER, "hidden_dim": 256, "stem_dim": 96, "stem_depth": 3},
        early_epochs=12,
        randaugment="2,9",
        epochs=52,
        optimizer="muon",
        weight_decay=0.02,
        mirror=True,
    ),
}

# How each family is trained unless settings are given: what differs from `plain`, which is the
# recipe of ConvMixer and of classes of your own.
TRANSFORMER = {
    # omihub777/ViT-CIFAR and MLP-Mixer-CIFAR: AdamW with batches of 128, cosine after a linear
    # warm-up, label smoothing 0.1. DeiT (arXiv:2012.12877): decay 0.05, none for biases, norms,
    # tokens and positions.
    "schedule": "cosine",
    "peak": 0.1,
    "weight_decay": 0.05,
    "decay": "weights",
    "whiten": False,
}

# Learning rates by a search of one seed: four epochs on 15,000 of CIFAR-10's training images,
# tested on 3,000 others, in % for 0.002, 0.005, 0.012: ConvMixer 66.0 69.8 69.2, ViT 43.6 39.1
# 33.0, ResMLP 40.9 49.0 54.2, MLP-Mixer 51.8 53.6 50.7.
# ResNet, for 0.002, 0.005, 0.01, 0.02: 62.7 67.6 68.3 68.6, so that ConvMixer's 0.01 will do.
RECIPES: dict[str, dict[str, Any]] = {
    "convmixer": {},
    "vit": {"lr": 0.002, **TRANSFORMER},
    "resmlp": {"lr": 0.012, **TRANSFORMER},
    "mlp_mixer": {"lr": 0.005, **TRANSFORMER},
    "resnet": {},
}


def recipe(model: str = "convmixer", preset: str | None = None, **settings: Any) -> Config:
    """The settings for training a network: its family's recipe, and what is given besides.

    model     a family, a name of `models.create`, or a class in a file, as my_net.py:Net
    preset    take the training settings of this preset instead of the family's
    settings  of training or of the network, each by its name

        recipe("vit", depth=6, epochs=20)

    Errors: ValueError for a name that is neither, or a value that makes no sense.
    """
    base = PRESETS[preset] if preset else Config()
    if model != base.model:
        begun = {} if preset else RECIPES.get(sized(model)[0], {})
        base = replace(base, model=model, model_settings={}, **begun)
    return changed(base, **settings)


def changed(config: Config, **settings: Any) -> Config:
    """`config` with some settings, of training or of its network, changed.   Errors: ValueError"""
    mine = {key: value for key, value in settings.items() if key in SETTINGS}
    rest = {key: value for key, value in settings.items() if key not in SETTINGS}
    for key in rest.keys() - architecture.settings_of(config.model).keys():
        if near := difflib.get_close_matches(key, SETTINGS, n=1, cutoff=0.75):
            raise ValueError(f"`{key}` is not a setting; did you mean `{near[0]}`?")
    return replace(config, model_settings={**config.model_settings, **rest}, **mine)


def config_of(facts: dict[str, Any]) -> Config:
    """The settings that were saved. Errors: CheckpointError where this version has others."""
    try:
        saved = facts["config"]
        inside = saved["model_settings"].items()  # JSON made lists of tuples
        sizes = {key: tuple(v) if isinstance(v, list) else v for key, v in inside}
        return Config(**{**saved, "model_settings": sizes})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the settings are those of minimix {facts.get('version', '(unknown)')}, "
            f"which this version does not understand: {error}"
        ) from error


def differences(mine: Config, other: Config) -> list[tuple[str, Any, Any]]:
    """Each setting that differs, with its two values; those of the network by their own names."""
    a, b = flat(asdict(mine)), flat(asdict(other))
    return [(key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)]


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a run keeps them, with those of its network among the others, by their names."""
    inside = settings.get("model_settings")
    rest = {key: value for key, value in settings.items() if key != "model_settings"}
    at = list(rest).index("model") + 1 if "model" in rest else 0
    own = list(inside.items()) if isinstance(inside, Mapping) else []
    return dict([*list(rest.items())[:at], *own, *list(rest.items())[at:]])
