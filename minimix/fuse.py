"""fuse(model): the same ConvMixer with adjacent layers in one operation each."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import kernels, nn
from .autograd import Array, Tensor, is_recording
from .functional import concatenate
from .functional.fused import fused_blocks, fused_embedding
from .models import ConvMixer

# Where nothing has to be kept for the way back, no more images at a time than make layers of about
# so many bytes: what one layer writes is then still in cache when the next one reads it.
CACHED = 4 << 20


def fuse(model: ConvMixer) -> FusedConvMixer:
    """A faster model with the parameters, buffers and numbers of `model`.

    model  a ConvMixer made of the layers it is made of in minimix.models: exact GELU, biases, batch
           norm. TypeError, naming the layer, where one has been replaced

    Nothing is copied: training one trains the other, and either's state_dict loads into the other.
    What comes out differs by rounding only. A layer inside is no longer called on its own, so
    `nn.observe` sees the model as a whole.
    """
    if not isinstance(model, ConvMixer):
        raise TypeError(f"fuse: model is a {type(model).__name__}; expected a ConvMixer")
    _check("stem", model.stem, nn.Patchify)
    for i in range(len(model.blocks)):
        block: Any = model.blocks[i]
        places, *channels = block
        if not isinstance(places, nn.Residual):
            raise TypeError(f"fuse: blocks.{i}.0 is {places!r}; expected a Residual")
        _check(f"blocks.{i}.0.fn", places.fn, nn.DepthwiseConv2d)
        _check(f"blocks.{i}", channels, nn.PointwiseConv2d, first=1)
    return FusedConvMixer(model)


def _check(name: str, layers: Any, convolution: type[nn.Module], first: int = 0) -> None:
    kinds: tuple[type[nn.Module], ...] = (convolution, nn.GELU, nn.BatchNorm)
    for i, (layer, kind) in enumerate(zip(layers, kinds, strict=True)):
        plain = type(layer) is kind and getattr(layer, "approximate", "none") == "none"
        if not plain or (i == 0 and layer.bias is None):
            raise TypeError(
                f"fuse: {name}.{i + first} is {layer!r}; expected a {kind.__name__} as ConvMixer "
                "has it. Use the model unfused"
            )


class FusedConvMixer(nn.Module):
    """What `fuse` makes; names in its state dict are those of the ConvMixer it was made from."""

    def __init__(self, model: ConvMixer) -> None:
        super().__init__()
        self.stem: Any = model.stem
        self.blocks: Any = model.blocks
        self.pool = model.pool
        self.head = model.head
        self.training = model.training
        self._plain = (model,)  # in a tuple, where it is no module of this one's

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as ConvMixer, and with its errors."""
        patchify, _, norm = self.stem
        p, _, c, d = patchify.weight.shape
        fits = x.ndim == 4 and x.shape[3] == c and not (x.shape[1] % p or x.shape[2] % p)
        if not fits or (is_recording() and not norm.training):
            return self._plain[0](x)  # which says what does not fit, or how to differentiate
        if norm.training:
            return self.head(self.pool(self._train(x)))
        n, h, w, _ = x.shape
        size = x.array.itemsize * (h // p) * (w // p) * d  # of one image, after a layer
        at_once = max(1, CACHED // max(1, size))
        parts = (x.array[i : i + at_once] for i in range(0, max(1, n), at_once))
        return concatenate([self.head(self.pool(self._infer(part))) for part in parts])

    def _train(self, x: Tensor) -> Tensor:
        patchify, _, norm = self.stem
        y = fused_embedding(x, *_affine(patchify, norm), norm=_settings(norm))
        parameters, norms = [], []
        for places, pointwise, _, norm2 in self.blocks:
            depthwise, _, norm1 = places.fn
            parameters += [*_affine(depthwise, norm1), *_affine(pointwise, norm2)]
            norms.append((_settings(norm1), _settings(norm2)))
        return fused_blocks(y, *parameters, norms=norms)

    def _infer(self, x: Array) -> Tensor:
        patchify, _, norm = self.stem
        p, _, c, d = patchify.weight.shape
        n, h, v = x.shape[0], x.shape[1] // p, x.shape[2] // p
        patches = x.reshape(n, h, p, v, p, c).transpose(0, 1, 3, 2, 4, 5)
        y = kernels.infer_channels(
            patches.reshape(n, h, v, p * p * c), patchify.weight.array.reshape(p * p * c, d),
            patchify.bias.array, *_scale_and_shift(norm),
        )  # fmt: skip
        for places, pointwise, _, norm2 in self.blocks:
            depthwise, _, norm1 = places.fn
            for mix, layer, norm in (
                (kernels.infer_places, depthwise, norm1),
                (kernels.infer_channels, pointwise, norm2),
            ):
                y = mix(y, layer.weight.array, layer.bias.array, *_scale_and_shift(norm))
        return Tensor(y)


def _affine(layer: Any, norm: nn.BatchNorm) -> tuple[Tensor, ...]:
    return layer.weight, layer.bias, norm.weight, norm.bias


def _settings(norm: nn.BatchNorm) -> dict[str, Any]:
    return {
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
        "momentum": norm.momentum,
        "eps": norm.eps,
    }


def _scale_and_shift(norm: nn.BatchNorm) -> tuple[Array, Array]:
    """Batch norm in evaluation as a factor and a term for each channel."""
    scale = norm.weight.array / np.sqrt(norm.running_var + norm.eps)
    scale = scale.astype(norm.weight.dtype)
    return scale, norm.bias.array - norm.running_mean * scale
