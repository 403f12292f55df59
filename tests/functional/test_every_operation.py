"""What holds for every operation, whatever it computes: its dtype, and any memory it is given."""

import numpy as np
import pytest

from minimix import Tensor
from minimix.gradcheck.cases import CASES

OPERATIONS = [
    case
    for case in CASES
    if case.operation[0].islower() and "large" not in case.about and "±10⁴" not in case.about
]
every_operation = pytest.mark.parametrize(
    "case", OPERATIONS, ids=lambda case: f"{case.operation}, {case.about}"
)


def results(f, inputs, g=None):
    """f's result, and the gradients of its inputs when g is sent back."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    y = f(*tensors)
    g = np.cos(np.arange(y.size)).reshape(y.shape) if g is None else g
    y.backward(g)
    return [y.array, *(t.grad for t in tensors)]


@every_operation
def test_float32_stays_float32(case, backend):
    f, inputs = case.build(np.random.default_rng(0))
    doubles = results(f, inputs.values())
    singles = results(f, [x.astype(np.float32) for x in inputs.values()])
    for double, single in zip(doubles, singles, strict=True):
        assert double.dtype == np.float64
        assert single.dtype == np.float32
        scale = np.abs(double).max() + 1
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=3e-5 * scale)


def scattered(x):
    """The same numbers with gaps in memory, backwards, and not to be written into."""
    if x.ndim == 0:
        return x
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    view = wide[..., ::-2]
    view[...] = x
    view.flags.writeable = False
    return view


def transposed(x):
    """The same numbers, columns before rows."""
    return np.array(x, order="F")


@every_operation
@pytest.mark.parametrize("layout", [scattered, transposed])
def test_any_layout_in_memory_will_do(case, layout, backend):
    f, inputs = case.build(np.random.default_rng(0))
    plain = results(f, inputs.values())
    g = np.cos(np.arange(plain[0].size)).reshape(plain[0].shape)
    others = results(f, [layout(x) for x in inputs.values()], layout(g))
    for one, other in zip(plain, others, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-12)
