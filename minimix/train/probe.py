"""Whether a network can be trained on these images, found out before it is: by trying one of them.

One image goes through the network in evaluation mode; what the network is made of does not matter.
"""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any

import numpy as np

from .. import kernels
from ..autograd import Array, Tensor, no_grad, watch
from ..cost import multiply_adds
from ..data import Dataset, normalize
from ..errors import MinimixError
from ..nn import Module, evaluating
from .architecture import blaming
from .config import Config
from .whitening import embedding_of

PARAMETER = 16  # bytes: itself, its gradient, and AdamW's two moments
MOST_WHITENED = 1024  # values of a patch; the eigenvectors of more take minutes


class Metered(np.random.Generator):
    """A generator that gives what `np.random.Generator` gives, until too much has been drawn.

    Networks draw their weights, layer by layer, so the one that does not fit into memory ends with
    a MemoryError before it has filled it.
    """

    def __init__(self, bits: np.random.BitGenerator, most: float = np.inf) -> None:
        super().__init__(bits)  # what `spawn` makes of it has no limit
        self.left = most

    def _meter(self, size: Any) -> None:
        self.left -= float(np.prod(np.array(1 if size is None else size, float)))
        if self.left < 0:
            raise MemoryError

    def random(self, size=None, *args, **options):
        self._meter(size)
        return super().random(size, *args, **options)

    def uniform(self, low=0.0, high=1.0, size=None):
        self._meter(size)
        return super().uniform(low, high, size)

    def normal(self, loc=0.0, scale=1.0, size=None):
        self._meter(size)
        return super().normal(loc, scale, size)

    def standard_normal(self, size=None, *args, **options):
        self._meter(size)
        return super().standard_normal(size, *args, **options)


def network(config: Config, data: Dataset) -> Module:
    """The network before training, if it fits into memory, takes the images and gives logits.

    Errors: ValueError otherwise, in a line that says what to change; MinimixError where a class of
    the user's fails.
    """
    _, height, width, _ = data.train_images.shape
    p = config.model_settings.get("patch_size")  # known by its name, it can be spoken of by it
    if isinstance(p, int) and p > 0:
        if height % p or width % p:
            raise ValueError(
                f"`patch_size` is {p}, which does not divide "
                f"the {height}×{width} pixels of {data.name}'s images"
            )
        if config.early_epochs and config.early_size % p:
            raise ValueError(
                f"`early_size` is {config.early_size}; expected a multiple of `patch_size`, "
                f"which is {p}"
            )
    memory = physical_memory()
    try:
        rng = Metered(np.random.PCG64(config.seed), memory / PARAMETER or np.inf)
        model = config.build(data.n_classes, (height, width), rng, in_channels=len(data.mean))
        rng.left = np.inf  # dropout may go on drawing from it
        check(config, data, model)
    except MemoryError:
        raise ValueError(_too_large(config, memory)) from None
    return model


def check(config: Config, data: Dataset, model: Module) -> None:
    """Raise ValueError where this model cannot be trained on these images; see `network`."""
    n, height, width, _ = data.train_images.shape
    image = normalize(data.train_images[:1], data.mean, data.std)
    activations = _try(config, data, model, image, f"{height}×{width} pixels")
    smaller = config.early_size
    if config.early_epochs:
        early = image[:, :smaller, :smaller]
        _try(config, data, model, early, f"the {smaller}×{smaller} pixels of `early_size`")

    embedding = embedding_of(model) if config.whiten else None
    if embedding and (values := embedding.weight.array[..., 0].size) > MOST_WHITENED:
        raise ValueError(
            f"`patch_size` is {len(embedding.weight.array)}: a patch has {values:,} values, and "
            f"`whiten` takes at most {MOST_WHITENED:,}; choose smaller patches, or do without"
        )
    if (n % config.batch_size or min(n, config.batch_size)) == 1:
        for x in [image] + [image[:, :smaller, :smaller]] * bool(config.early_epochs):
            _try_alone(config, n, model, x)
    memory = physical_memory()
    needed = PARAMETER * model.n_parameters() + 4 * activations * min(n, config.batch_size)
    if memory and needed > memory:
        raise ValueError(_too_large(config, memory, needed))


def _too_large(config: Config, memory: float, needed: float | None = None) -> str:
    """What to say of a network that does not fit into the memory of this machine."""
    much = f"at least {needed / 1e9:,.0f}" if needed else "more than all"
    sizes = [f"`{name}`" for name in ("hidden_dim", "depth") if name in config.model_settings]
    smaller = ", ".join(sizes) or "network"
    return (
        f"this network needs {much} GB of memory, this machine has {memory / 1e9:,.0f}; "
        f"choose a smaller {smaller} or `batch_size`"
    )


def _try(config: Config, data: Dataset, model: Module, image: Array, what: str) -> int:
    """Put one image through the model.   image float32 (1, H, W, C)

    Returns how many numbers matrix products and convolutions give for it: at least those are kept
    until the backward pass.
    """
    kept = 0

    def count(name: str, arguments: tuple[Any, ...], options: dict[str, Any], y: Tensor) -> None:
        nonlocal kept
        kept += y.size if multiply_adds(name, arguments, options, y) else 0

    # In NumPy, so that nothing is compiled for it.
    with kernels.backend("numpy"), no_grad(), evaluating(model), watch(count):
        try:
            with blaming(config.model):
                logits = model(Tensor(np.ascontiguousarray(image)))
        except (MinimixError, MemoryError):
            raise
        except Exception as error:  # whatever a network of the user's may raise
            raise ValueError(f"{config.name} does not take images of {what}: {error}") from error
    shape = getattr(logits, "shape", type(logits).__name__)
    if not isinstance(logits, Tensor) or shape != (1, data.n_classes):
        raise ValueError(
            f"{config.name} gave {shape} for one image; expected logits of shape "
            f"(1, {data.n_classes}), as there are {data.n_classes} classes"
        )
    return kept


def _try_alone(config: Config, n: int, model: Module, image: Array) -> None:
    """Raise ValueError where the model cannot be trained on a batch of one image."""
    with kernels.backend("numpy"), no_grad():
        try:
            deepcopy(model).train()(Tensor(np.ascontiguousarray(image)))
        except ValueError as error:
            raise ValueError(
                f"`batch_size` is {config.batch_size}: the last batch of {n:,} images has one "
                f"image, too little for this network ({error}); choose another"
            ) from error


def physical_memory() -> int:
    """Bytes of memory in this machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
