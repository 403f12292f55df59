"""The differentiable operations: tensors in, tensors out; forward, mathematics, backward.

Each `op` is also reachable for plain arrays: `gelu.array(x)` returns `(y, backward)`.
"""

from ..autograd import operations
from .activation import dropout, gelu, log_softmax, relu, sigmoid, softmax
from .arithmetic import (
    add,
    divide,
    exp,
    log,
    matmul,
    multiply,
    negative,
    power,
    sqrt,
    subtract,
    tanh,
)
from .conv import conv2d, depthwise_conv2d, linear, patchify, pointwise_conv2d
from .loss import cross_entropy, global_avg_pool
from .norm import batch_norm, layer_norm
from .reduce import max, mean, sum
from .shape import concatenate, index, pad, reshape, transpose

__all__ = [
    "add",
    "batch_norm",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "depthwise_conv2d",
    "divide",
    "dropout",
    "exp",
    "gelu",
    "global_avg_pool",
    "index",
    "layer_norm",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "mean",
    "multiply",
    "negative",
    "pad",
    "patchify",
    "pointwise_conv2d",
    "power",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "sqrt",
    "subtract",
    "sum",
    "tanh",
    "transpose",
]

operations.update({name: globals()[name] for name in __all__})
