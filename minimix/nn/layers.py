"""The layers: an operation and the parameters that it needs.

Parameters are float32 until `astype` converts them. Weights and biases start uniform in ±1/√fan_in,
fan_in being the number of inputs that each output reads; `rng` is a NumPy Generator, a seed, or
None for a fresh generator. `bias=False` leaves the bias out.

Errors: a layer raises ValueError, naming itself and the argument, where it cannot be made like
that; when it is called, it raises what its operation in `minimix.functional` raises.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .. import functional as F
from ..autograd import Tensor
from ..errors import expect, whole
from .init import Seed, uniform_fan_in
from .module import Module, Parameter

__all__ = ["GELU", "AvgPool2d", "BatchNorm", "Conv2d", "DepthwiseConv2d", "Dropout"]
__all__ += ["GlobalAvgPool", "Identity", "LayerNorm", "Linear", "MaxPool2d", "Patchify"]
__all__ += ["PointwiseConv2d", "ReLU", "Sigmoid"]


class _Affine(Module):
    """A weight and a bias, drawn at random."""

    weight: Parameter
    bias: Parameter | None

    def __init__(self, shape: tuple[int, ...], fan_in: int, bias: bool, rng: Seed) -> None:
        super().__init__()
        rng = np.random.default_rng(rng)
        self.weight = Parameter(uniform_fan_in(shape, fan_in, rng))
        self.bias = Parameter(uniform_fan_in(shape[-1:], fan_in, rng)) if bias else None

    def extra_repr(self) -> str:
        return "{} → {}".format(*self.weight.shape[-2:])


class Linear(_Affine):
    """Linear map: x (…, K) -> x W + b (…, C).   weight (K, C), bias (C,)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, rng: Seed = None
    ) -> None:
        whole("Linear", in_features=in_features, out_features=out_features)
        super().__init__((in_features, out_features), in_features, bias, rng)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class PointwiseConv2d(_Affine):
    """1×1 convolution: x (N, H, W, K) -> (N, H, W, C).   weight (K, C), bias (C,)."""

    def __init__(
        self, in_channels: int, out_channels: int, bias: bool = True, rng: Seed = None
    ) -> None:
        whole("PointwiseConv2d", in_channels=in_channels, out_channels=out_channels)
        super().__init__((in_channels, out_channels), in_channels, bias, rng)

    def forward(self, x: Tensor) -> Tensor:
        return F.pointwise_conv2d(x, self.weight, self.bias)


class DepthwiseConv2d(_Affine):
    """One k×k kernel for each channel, "same" padding: x (N, H, W, C) -> (N, H, W, C).

    weight (k, k, C), bias (C,).
    """

    def __init__(
        self, channels: int, kernel_size: int, bias: bool = True, rng: Seed = None
    ) -> None:
        whole("DepthwiseConv2d", channels=channels, kernel_size=kernel_size)
        super().__init__((kernel_size, kernel_size, channels), kernel_size**2, bias, rng)

    def forward(self, x: Tensor) -> Tensor:
        return F.depthwise_conv2d(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[2]}, kernel {self.weight.shape[0]}"


class Patchify(_Affine):
    """Patch embedding: x (N, H, W, C) -> (N, H/p, W/p, D).

    weight (p, p, C, D), bias (D,); p, the patch size, must divide H and W.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch_size: int,
        bias: bool = True,
        rng: Seed = None,
    ) -> None:
        whole("Patchify", in_channels=in_channels, out_channels=out_channels)
        whole("Patchify", patch_size=patch_size)
        shape = (patch_size, patch_size, in_channels, out_channels)
        super().__init__(shape, patch_size**2 * in_channels, bias, rng)

    def forward(self, x: Tensor) -> Tensor:
        return F.patchify(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, patch {len(self.weight)}"


class Conv2d(_Affine):
    """Convolution: x (N, H, W, C) -> (N, H′, W′, D).   weight (k, k, C/groups, D), bias (D,).

    stride, padding, dilation, groups and H′, W′ as in `functional.conv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        rng: Seed = None,
    ) -> None:
        whole("Conv2d", in_channels=in_channels, out_channels=out_channels)
        whole("Conv2d", kernel_size=kernel_size, stride=stride, dilation=dilation, groups=groups)
        if in_channels % groups or out_channels % groups:
            channels = f"{in_channels} or {out_channels} channels"
            raise ValueError(f"Conv2d: {channels} do not fit into {groups} groups")
        shape = (kernel_size, kernel_size, in_channels // groups, out_channels)
        super().__init__(shape, kernel_size**2 * in_channels // groups, bias, rng)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.options: dict[str, Any] = options

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, **self.options)

    def extra_repr(self) -> str:
        k, _, c, d = self.weight.shape
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"{c * self.options['groups']} → {d}, kernel {k}{options}"


class GELU(Module):
    """Gaussian error linear unit x Φ(x), of any shape; approximate="tanh" for its approximation."""

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        self.approximate: Literal["none", "tanh"] = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return "" if self.approximate == "none" else f"approximate {self.approximate}"


class ReLU(Module):
    """Rectified linear unit max(x, 0), of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Sigmoid(Module):
    """Logistic function 1 / (1 + e⁻ˣ), of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class _Norm(Module):
    """Scale γ and shift β of each channel, and ε: what norms have in common."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        whole(type(self).__name__, channels=channels)
        expect(type(self).__name__, "0 ≤ x ≤ 1", eps=eps)
        super().__init__()
        self.eps = eps
        self.weight = Parameter(np.ones(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))

    def extra_repr(self) -> str:
        return str(self.weight.size)


class BatchNorm(_Norm):
    """Batch normalization of each channel: x (…, C) -> (…, C).   weight γ (C,), bias β (C,).

    γ starts at 1, β at 0; the buffers running_mean and running_var (C,) at 0 and 1. In training,
    the statistics are those of the batch, and the running ones move toward them by the fraction
    `momentum`; in evaluation, the running ones are used. Formulas: `functional.batch_norm`.

    momentum, eps  numbers from 0 to 1
    """

    running_mean: np.ndarray
    running_var: np.ndarray

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        expect("BatchNorm", "0 ≤ x ≤ 1", momentum=momentum)
        self.momentum = momentum
        self.register_buffer("running_mean", np.zeros(channels, np.float32))
        self.register_buffer("running_var", np.ones(channels, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        run: dict[str, Any] = {"running_mean": self.running_mean, "running_var": self.running_var}
        how: dict[str, Any] = {"momentum": self.momentum, "eps": self.eps}
        return F.batch_norm(x, self.weight, self.bias, training=self.training, **run, **how)


class LayerNorm(_Norm):
    """Layer normalization of the last axis: x (…, C) -> (…, C).   weight γ (C,), bias β (C,).

    γ starts at 1, β at 0. Formulas: `functional.layer_norm`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight, self.bias, eps=self.eps)


class Dropout(Module):
    """Sets each number to 0 with probability p, 0 ≤ p < 1, and scales the rest by 1/(1 − p).

    In training only; in evaluation x is returned as it is.
    """

    def __init__(self, p: float = 0.5, rng: Seed = None) -> None:
        expect("Dropout", "0 ≤ x < 1", p=p)
        super().__init__()
        self.p = p
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, p=self.p, rng=self.rng) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p {self.p}"


class MaxPool2d(Module):
    """Largest value of each window: x (N, H, W, C) -> (N, H′, W′, C).   `functional.max_pool2d`"""

    def __init__(self, size: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"size": size, "stride": stride, "padding": padding}

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, **self.options)


class AvgPool2d(MaxPool2d):
    """Mean of each window: x (N, H, W, C) -> (N, H′, W′, C).   `functional.avg_pool2d`"""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, **self.options)


class GlobalAvgPool(Module):
    """Mean over the pixels: x (N, H, W, C) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.global_avg_pool(x)


class Identity(Module):
    """x -> x: takes the place of a layer that is left out."""

    def forward(self, x: Any) -> Any:
        return x
