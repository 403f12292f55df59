"""The differentiable operations: tensors in, tensors out; forward, mathematics, backward.

Each `op` is also reachable for plain arrays: `gelu.array(x)` returns `(y, backward)`.

Where a derivative does not exist, or what goes in is not finite, this is what comes out. A test
reads the table and holds it.

    y                              at x          y           its gradient
    -----------------------------  ------------  ----------  -------------
    relu(x)                        0             0           0
    relu(x)                        nan           nan         1
    max(x)                         [2, 2, 1]     2           [0.5, 0.5, 0]
    max(x)                         [nan, 1]      nan         [1, 0]
    sqrt(x)                        0             0           inf
    sqrt(x)                        -1            nan         nan
    sqrt(sum(x * x))               [0, 0]        0           [nan, nan]
    log(x)                         0             -inf        inf
    log(x)                         -1            nan         -1
    divide(1, x)                   0             inf         -inf
    power(x, 0)                    0             1           0
    power(x, 1)                    0             0           1
    power(x, 0.5)                  0             0           inf
    power(x, -1)                   0             inf         -inf
    power(0, x)                    0             1           0
    power(0, x)                    2             0           0
    power(0, x)                    -1            inf         -inf
    power(-2, x)                   2             4           nan
    softmax(x)                     [inf, 0]      [nan, nan]  [nan, nan]
    softmax(x)                     [-inf, -inf]  [nan, nan]  [nan, nan]
    log_softmax(x)                 [0, -inf]     [0, -inf]   [-1, 1]
    cross_entropy(x, [0])          [[0, -inf]]   0           [[0, 0]]
    cross_entropy(x, [1])          [[0, -inf]]   inf         [[1, -1]]
    layer_norm(x, [1, 1], [0, 0])  [3.3, 3.3]    [0, 0]      [0, 0]
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
