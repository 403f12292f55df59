"""The differentiable operations: tensors in, tensors out; forward, mathematics, backward.

Each `op` is also reachable for plain arrays: `gelu.array(x)` returns `(y, backward)`.
"""

from ..autograd import Tensor
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

# ---- what a tensor can be asked: x + y, x @ y, x.sum(axis=0), x[2:5], …

Tensor.__add__ = add
Tensor.__radd__ = add
Tensor.__sub__ = subtract
Tensor.__rsub__ = lambda self, other: subtract(other, self)
Tensor.__mul__ = multiply
Tensor.__rmul__ = multiply
Tensor.__truediv__ = divide
Tensor.__rtruediv__ = lambda self, other: divide(other, self)
Tensor.__pow__ = power
Tensor.__rpow__ = lambda self, other: power(other, self)
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda self, other: matmul(other, self)
Tensor.__neg__ = negative
Tensor.__getitem__ = lambda self, at: index(self, at=at)
Tensor.exp = exp
Tensor.log = log
Tensor.sqrt = sqrt
Tensor.tanh = tanh
Tensor.sum = lambda self, axis=None, keepdims=False: sum(self, axis=axis, keepdims=keepdims)
Tensor.mean = lambda self, axis=None, keepdims=False: mean(self, axis=axis, keepdims=keepdims)
Tensor.max = lambda self, axis=None, keepdims=False: max(self, axis=axis, keepdims=keepdims)


def _lengths(values):
    """reshape(2, 3) and reshape((2, 3)) mean the same, and so for transpose."""
    return values[0] if len(values) == 1 and not isinstance(values[0], int) else values


Tensor.reshape = lambda self, *shape: reshape(self, shape=_lengths(shape))
Tensor.transpose = lambda self, *axes: transpose(self, axes=_lengths(axes) if axes else None)
