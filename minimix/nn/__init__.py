"""Layers: operations with parameters, and the Module that holds them."""

from .containers import ModuleDict, ModuleList, ParameterList, Residual, Sequential
from .layers import (
    GELU,
    BatchNorm,
    Conv2d,
    DepthwiseConv2d,
    Dropout,
    GlobalAvgPool,
    Identity,
    LayerNorm,
    Linear,
    Patchify,
    PointwiseConv2d,
    ReLU,
    Sigmoid,
)
from .module import Module, Parameter, evaluating, observe

__all__ = [
    "GELU",
    "BatchNorm",
    "Conv2d",
    "DepthwiseConv2d",
    "Dropout",
    "GlobalAvgPool",
    "Identity",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterList",
    "Patchify",
    "PointwiseConv2d",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "evaluating",
    "observe",
]
