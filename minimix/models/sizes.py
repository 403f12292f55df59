"""Models by the names that timm gives them; `sizes.toml` has the names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..nn import Module
from .convmixer import ConvMixer
from .mlp import MLPMixer, ResMLP
from .resnet import ResNet
from .vit import ViT

FAMILIES: dict[str, type[Module]] = {
    "convmixer": ConvMixer, "vit": ViT, "resmlp": ResMLP, "mlp_mixer": MLPMixer, "resnet": ResNet
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """What stands behind a name: a family of FAMILIES, and keyword arguments of its class.

    crop, mean, std  how images are prepared for weights of that name; see `sizes.toml`
    """

    family: str
    settings: dict[str, Any]
    crop: float
    mean: list[float]
    std: list[float]


@cache
def sizes() -> dict[str, Size]:
    """Every name that `create` takes, in the order of the families."""
    import tomllib

    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    defaults = table.pop("defaults")
    return {name: Size(**defaults | entry) for name, entry in table.items()}


def create(name: str, **settings: Any) -> Module:
    """A model by its name: create("deit_tiny_patch16_224", n_classes=10, rng=0).

    name      one of `sizes()`; what follows a dot (as in timm's "resnet50.a1_in1k") says which
              weights there are for it, and is left out here
    settings  keyword arguments of the family's class, instead of those of the name

    Errors: ValueError where there is no such name, with those that are spelled most like it, or
    where a setting is not in its range; TypeError where the family has no such setting.
    """
    size = size_of(name)
    return FAMILIES[size.family](**size.settings | settings)


def size_of(name: str) -> Size:
    """What stands behind a name; arguments and errors as for `create`."""
    size = sizes().get(name.partition(".")[0])
    if size is None:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(name, sizes(), 3, 0.3) or sizes())
        raise ValueError(f"create: there is no model {name!r}; the nearest names are {near}")
    return size
