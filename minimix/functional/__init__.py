"""The differentiable operations: tensors in, tensors out; forward, mathematics, backward.

Each `op` is also reachable for plain arrays: `gelu.array(x)` returns `(y, backward)`.

Where a derivative does not exist, or what goes in is not finite, this is what comes out. A test
reads the table and holds it.

    y                              at x          y           its gradient
    -----------------------------  ------------  ----------  -------------
    relu(x)                        0             0           0
    relu(x)                        nan           nan         1
    abs(x)                         0             0           0
    abs(x)                         nan           nan         nan
    maximum(x, [1, 2])             [1, nan]      [1, nan]    [0.5, 1]
    minimum(x, [1, 2])             [1, nan]      [1, nan]    [0.5, 1]
    clip(x, low=0, high=2)         [0, 2, 3]     [0, 2, 2]   [1, 1, 0]
    clip(x, low=0, high=2)         [nan, inf]    [nan, 2]    [1, 0]
    where([1, 0], x, 5)            [nan, inf]    [nan, 5]    [1, 0]
    max(x)                         [2, 2, 1]     2           [0.5, 0.5, 0]
    max(x)                         [nan, 1]      nan         [1, 0]
    min(x)                         [2, 2, 3]     2           [0.5, 0.5, 0]
    max_pool2d(x, size=2)          [[[[1], [2]], [[2], [2]]]]  [[[[2]]]]  [[[[0], [1]], [[0], [0]]]]
    std(x)                         [2, 2]        0           [0, 0]
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

from ..autograd import numpys, operations
from . import shape
from .activation import *
from .arithmetic import *
from .attention import *
from .conv import *
from .loss import *
from .norm import *
from .pool import *
from .reduce import *
from .shape import *

# Whatever a page names in __all__ is an operation.
operations.update({name: f for name, f in globals().items() if callable(f)})
__all__ = list(operations)

# NumPy's functions that are operations of ours by another name.
numpys.update(absolute=abs, amax=max, amin=min, expand_dims=unsqueeze, ravel=flatten)
numpys.update(split=shape.split_at, unstack=unbind)
