"""The networks that `minimix models` lists: the paper's on ImageNet, and sizes for CIFAR-10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import models
from .measure import count, network


@dataclass(frozen=True)
class Published:
    """What the paper reports of a network on ImageNet.

    throughput  images/s in inference, on the authors' GPU; None where the paper has none
    top1        accuracy in percent
    """

    throughput: int | None
    top1: float


# Trockman & Kolter 2022, arXiv:2201.09792, table 1.
SOURCE = "Trockman & Kolter 2022, arXiv:2201.09792"
PUBLISHED = {
    "convmixer_1536_20": Published(134, 81.37),
    "convmixer_768_32": Published(206, 80.16),
    "convmixer_1024_20_ks9_p14": Published(None, 76.94),
    "resnet152": Published(828, 79.64),
    "deit_base_patch16_224": Published(792, 81.8),
    "resmlp_big_24_224": Published(181, 81.0),
}

# Of comparable sizes: about 0.16 and 0.6 million parameters, and what is well known.
CIFAR: dict[str, tuple[str, dict[str, Any]]] = {
    "convmixer 128/8 k5 p4": (
        "convmixer",
        {"hidden_dim": 128, "depth": 8, "kernel_size": 5, "patch_size": 4},
    ),
    "convmixer 256/8 k5 p2": (
        "convmixer",
        {"hidden_dim": 256, "depth": 8, "kernel_size": 5, "patch_size": 2},
    ),
    "vit 64/3 p4": ("vit", {"hidden_dim": 64, "depth": 3, "n_heads": 4, "patch_size": 4}),
    "vit 128/3 p4": ("vit", {"hidden_dim": 128, "depth": 3, "n_heads": 4, "patch_size": 4}),
    "resmlp 64/4 p4": ("resmlp", {"hidden_dim": 64, "depth": 4, "patch_size": 4}),
    "resmlp 128/4 p4": ("resmlp", {"hidden_dim": 128, "depth": 4, "patch_size": 4}),
    "mlp_mixer 64/4 p4": ("mlp_mixer", {"hidden_dim": 64, "depth": 4, "patch_size": 4}),
    "mlp_mixer 128/4 p4": ("mlp_mixer", {"hidden_dim": 128, "depth": 4, "patch_size": 4}),
    "resnet 14": ("resnet", {"depth": 14}),
    "resnet 20": ("resnet", {"depth": 20}),
    "resnet 56": ("resnet", {"depth": 56}),
}


def requests(size: int, batch_size: int | None, threads: int) -> dict[str, dict[str, Any]]:
    """What to ask `measure` for, by the network's name.

    size  the side of the images of the networks for ImageNet
    """
    shared = {"in_channels": 3, "threads": threads, "seconds": 0.5}
    large = {"image_size": [size, size], "n_classes": 1000, "batch_size": batch_size or 4}
    small = {"image_size": [32, 32], "n_classes": 10, "batch_size": batch_size or 128}
    return {
        **{
            name: {"model": one.family, "settings": dict(one.settings), **large, **shared}
            for name, one in models.sizes().items()
        },
        **{
            name: {"model": family, "settings": settings, **small, **shared}
            for name, (family, settings) in CIFAR.items()
        },
    }


def counts(request: Mapping[str, Any]) -> dict[str, int]:
    """ "parameters" and "multiply_adds" of one image, without any weights.

    Errors: ValueError where the network does not take images of this size.
    """
    model = network(request, Zeros())
    return {"parameters": model.n_parameters(), "multiply_adds": count(model, request)}


class Zeros(np.random.Generator):
    """A generator that draws nothing: weights of 0, which take no time and, until they are written
    to, no memory. For networks of which only the shapes matter."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size=None, dtype=np.float64, out=None):
        return np.zeros(size or (), dtype)

    def uniform(self, low=0.0, high=1.0, size=None):
        return np.zeros(size or ())

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return np.zeros(size or (), dtype)
