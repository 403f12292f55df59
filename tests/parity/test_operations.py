"""Every operation, forward and backward, against PyTorch's.

The functions on PyTorch's side take what ours take, channels last, and permute inside, so that
gradients come back in our layout too.
"""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="parity needs PyTorch: python -m pip install -e '.[parity]'"
)
T = torch.nn.functional

from minimix import Tensor, nn  # noqa: E402
from minimix import functional as F  # noqa: E402

LABELS = np.array([3, 0, 4, 4, 1])
PAIRS = []  # (operation, about, ours, theirs, shapes, kind of numbers)


def pair(operation, about, ours, theirs, *shapes, numbers="normal"):
    PAIRS.append(pytest.param(ours, theirs, shapes, numbers, id=f"{operation}, {about}"))
    COVERED.add(operation)


COVERED = set()


def first(x):
    return x.permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


def conv(**options):
    def theirs(x, w, b=None):
        return last(T.conv2d(first(x), w.permute(3, 2, 0, 1), b, **options))

    return theirs


def depthwise(x, w, b=None):
    weight = w.permute(2, 0, 1)[:, None]
    return last(T.conv2d(first(x), weight, b, padding="same", groups=len(weight)))


def batch_norm(x, gamma, beta):
    return last(T.batch_norm(first(x), None, None, gamma, beta, training=True))


def evaluated(x, gamma, beta):
    mean, var = torch.tensor(MEAN, dtype=x.dtype), torch.tensor(VAR, dtype=x.dtype)
    return last(T.batch_norm(first(x), mean, var, gamma, beta, training=False))


def mask(x):
    kept = np.random.default_rng(0).random(x.shape) >= 0.3
    return x * torch.tensor(kept / 0.7, dtype=x.dtype)


MEAN, VAR = [0.5, -1.0, 2.0], [0.5, 1.0, 2.0]
BOTH = (2, 1, 3), (4, 1)

pair("add", "broadcast", F.add, torch.add, *BOTH)
pair("subtract", "broadcast", F.subtract, torch.subtract, *BOTH)
pair("multiply", "broadcast", F.multiply, torch.multiply, *BOTH)
pair("divide", "broadcast", F.divide, torch.divide, *BOTH, numbers="positive")
pair("power", "broadcast", F.power, torch.pow, *BOTH, numbers="positive")
pair("power", "whole exponent", lambda x: x**3, lambda x: x**3, (5,))
pair("negative", "", F.negative, torch.neg, (3, 4))
pair("exp", "", F.exp, torch.exp, (3, 4))
pair("log", "", F.log, torch.log, (3, 4), numbers="positive")
pair("sqrt", "", F.sqrt, torch.sqrt, (3, 4), numbers="positive")
pair("tanh", "", F.tanh, torch.tanh, (3, 4))
pair("matmul", "stacks", F.matmul, torch.matmul, (2, 1, 3, 4), (5, 4, 2))
pair("matmul", "vector and matrix", F.matmul, torch.matmul, (4,), (4, 2))
pair("matmul", "vectors", F.matmul, torch.matmul, (4,), (4,))
pair("sum", "", lambda x: x.sum(axis=(0, -1)), lambda x: x.sum((0, -1)), (2, 3, 4))
pair("mean", "", lambda x: x.mean(axis=(0, -1)), lambda x: x.mean((0, -1)), (2, 3, 4))
pair("max", "", lambda x: x.max(axis=(0, -1)), lambda x: torch.amax(x, (0, -1)), (2, 3, 4))
pair("max", "ties", lambda x: (x * 0).max(axis=1), lambda x: torch.amax(x * 0, 1), (3, 4))
pair("abs", "", abs, torch.abs, (3, 4))
pair("maximum", "", F.maximum, torch.maximum, *BOTH)
pair("minimum", "", F.minimum, torch.minimum, *BOTH)
pair("maximum", "ties", lambda x: F.maximum(x, x * 1), lambda x: torch.maximum(x, x * 1), (3, 4))
pair("clip", "", lambda x: x.clip(-0.5, 0.7), lambda x: x.clip(-0.5, 0.7), (9, 9))
pair("clip", "at a bound", lambda x: (x * 0).clip(0), lambda x: (x * 0).clip(0), (3, 4))
pair(
    "where",
    "",
    lambda x, y: F.where(np.eye(4) > 0, x, y),
    lambda x, y: torch.where(torch.eye(4) > 0, x, y),
    (1, 4),
    (4, 1),
)
pair("attention", "", F.attention, T.scaled_dot_product_attention, (2, 3, 4), (2, 5, 4), (2, 5, 3))
for subscripts, *shapes in (
    ("nhtd,nhsd->nhts", (2, 2, 3, 4), (2, 2, 5, 4)),
    ("ij,k,jk->ki", (2, 3), (4,), (3, 4)),
    ("...i,i...->...", (2, 1, 3), (3, 4)),
    ("iij->j", (3, 3, 2)),
    ("jk,ij", (3, 2), (4, 3)),
):
    pair(
        "einsum",
        subscripts,
        partial(F.einsum, subscripts),
        partial(torch.einsum, subscripts),
        *shapes,
    )
for name, theirs in (("var", torch.var), ("std", torch.std)):
    for correction in (0, 1):
        pair(
            name,
            f"correction {correction}",
            lambda x, f=name, c=correction: getattr(x, f)((0, -1), c, True),
            lambda x, f=theirs, c=correction: f(x, (0, -1), correction=c, keepdim=True),
            (2, 3, 4),
        )
pair("std", "of equal numbers", lambda x: (x * 0).std(), lambda x: (x * 0).std(), (3,))
pair("min", "", lambda x: x.min(axis=(0, -1)), lambda x: torch.amin(x, (0, -1)), (2, 3, 4))
for about, options in (
    ("", {"size": 2}),
    ("overlapping", {"size": 3, "stride": 2, "padding": 1}),
    ("with gaps", {"size": 2, "stride": 3}),
):
    torches = [options["size"], options.get("stride"), options.get("padding", 0)]
    for name, theirs in (("max_pool2d", T.max_pool2d), ("avg_pool2d", T.avg_pool2d)):
        pair(
            name,
            about,
            lambda x, f=name, o=options: getattr(F, f)(x, **o),
            lambda x, f=theirs, o=torches: last(f(first(x), *o)),
            (2, 7, 8, 5),
        )
pair(
    "max_pool2d",
    "ties",
    lambda x: F.max_pool2d(F.relu(x), size=3, stride=2, padding=1),
    lambda x: last(T.max_pool2d(first(torch.relu(x)), 3, 2, 1)),
    (2, 7, 8, 5),
)
pair("swapaxes", "", lambda x: x.swapaxes(0, -1), lambda x: x.swapaxes(0, -1), (2, 3, 4))
pair("swapaxes", "mT", lambda x: x.mT, lambda x: x.mT, (2, 3, 4))
pair("transpose", "T", lambda x: x.T, lambda x: x.T, (2, 3))
pair("flatten", "", lambda x: x.flatten(1), lambda x: x.flatten(1), (2, 3, 4))
pair("squeeze", "all", lambda x: x.squeeze(), lambda x: x.squeeze(), (1, 3, 1))
pair("squeeze", "one", lambda x: x.squeeze(-1), lambda x: x.squeeze(-1), (1, 3, 1))
pair("unsqueeze", "", lambda x: x.unsqueeze(-2), lambda x: x.unsqueeze(-2), (2, 3))
pair("broadcast_to", "", lambda x: x.expand(4, -1, 3), lambda x: x.expand(4, -1, 3), (2, 1))
pair("flip", "", lambda x: x.flip((0, -1)), lambda x: x.flip((0, -1)), (2, 3, 4))
pair(
    "stack",
    "",
    lambda x, y: F.stack([x, y], -1),
    lambda x, y: torch.stack([x, y], -1),
    *[(2, 3)] * 2,
)
pair("unbind", "", lambda x: x.unbind(1)[2], lambda x: x.unbind(1)[2], (2, 3, 4))
pair("split", "", lambda x: x.split((1, 3), -1)[1], lambda x: x.split((1, 3), -1)[1], (2, 4))
pair("split", "equal", lambda x: x.split(3, 1)[1], lambda x: x.tensor_split(3, 1)[1], (2, 6))
pair("reshape", "", lambda x: x.reshape(4, -1), lambda x: x.reshape(4, -1), (2, 3, 2))
pair("transpose", "", lambda x: x.transpose(1, 2, 0), lambda x: x.permute(1, 2, 0), (2, 3, 4))
pair("index", "slices", lambda x: x[1:, ::2, None], lambda x: x[1:, ::2, None], (3, 4))
pair("index", "twice", lambda x: x[[2, 0, 2]], lambda x: x[[2, 0, 2]], (3, 4))
pair(
    "concatenate",
    "",
    lambda x, y: F.concatenate([x, y], axis=1),
    lambda x, y: torch.cat([x, y], 1),
    (2, 3),
    (2, 2),
)
pair(
    "pad", "", lambda x: F.pad(x, width=[(1, 0), (2, 3)]), lambda x: T.pad(x, (2, 3, 1, 0)), (2, 3)
)
pair("linear", "", F.linear, lambda x, w, b: T.linear(x, w.T, b), (2, 3, 4), (4, 5), (5,))
pair(
    "pointwise_conv2d",
    "",
    F.pointwise_conv2d,
    lambda x, w, b: conv()(x, w[None, None], b),
    (2, 5, 4, 7),
    (7, 9),
    (9,),
)
for k in (1, 2, 3, 4, 5, 9):
    pair(
        "depthwise_conv2d",
        f"kernel {k}",
        F.depthwise_conv2d,
        depthwise,
        (2, 7, 8, 5),
        (k, k, 5),
        (5,),
    )
pair("depthwise_conv2d", "no bias", F.depthwise_conv2d, depthwise, (2, 7, 8, 5), (3, 3, 5))
for p in (1, 2, 4):
    pair("patchify", f"patch {p}", F.patchify, conv(stride=p), (2, 8, 12, 3), (p, p, 3, 5), (5,))
for about, options, w in (
    ("plain", {}, (3, 2, 4, 6)),
    ("stride, padding", {"stride": 2, "padding": 1}, (3, 3, 4, 6)),
    ("dilation, same", {"dilation": 2, "padding": "same"}, (3, 3, 4, 6)),
    ("even kernel, same", {"padding": "same"}, (4, 2, 4, 6)),
    ("groups", {"groups": 2, "padding": 2, "stride": 3, "dilation": 2}, (2, 3, 2, 6)),
):
    ours = partial(F.conv2d, **options)
    pair("conv2d", about, ours, conv(**options), (2, 7, 8, 4), w, (6,))
pair("gelu", "exact", F.gelu, T.gelu, (20, 30), numbers="wide")
pair(
    "gelu",
    "tanh",
    lambda x: F.gelu(x, approximate="tanh"),
    lambda x: T.gelu(x, approximate="tanh"),
    (20, 30),
    numbers="wide",
)
pair("relu", "", F.relu, torch.relu, (3, 4))
pair("sigmoid", "", F.sigmoid, torch.sigmoid, (20, 30), numbers="wide")
pair(
    "softmax",
    "",
    lambda x: F.softmax(x, axis=0),
    lambda x: torch.softmax(x, 0),
    (5, 6),
    numbers="wide",
)
pair("log_softmax", "", F.log_softmax, lambda x: torch.log_softmax(x, -1), (5, 6), numbers="wide")
pair("dropout", "", lambda x: F.dropout(x, p=0.3, rng=np.random.default_rng(0)), mask, (9, 9))
pair("batch_norm", "training", F.batch_norm, batch_norm, (2, 5, 4, 3), (3,), (3,))
pair(
    "batch_norm",
    "evaluation",
    lambda *a: F.batch_norm(
        *a, running_mean=np.array(MEAN), running_var=np.array(VAR), training=False
    ),
    evaluated,
    (2, 5, 4, 3),
    (3,),
    (3,),
)
pair(
    "layer_norm",
    "",
    F.layer_norm,
    lambda x, w, b: T.layer_norm(x, (6,), w, b),
    (2, 3, 6),
    (6,),
    (6,),
)
pair("global_avg_pool", "", F.global_avg_pool, lambda x: first(x).mean((2, 3)), (2, 5, 4, 3))
for smoothing in (0.0, 0.1):
    pair(
        "cross_entropy",
        f"labels, smoothing {smoothing}",
        lambda x, e=smoothing: F.cross_entropy(x, LABELS, label_smoothing=e),
        lambda x, e=smoothing: T.cross_entropy(x, torch.tensor(LABELS), label_smoothing=e),
        (5, 6),
        numbers="wide",
    )
    pair(
        "cross_entropy",
        f"probabilities, smoothing {smoothing}",
        lambda x, q, e=smoothing: F.cross_entropy(x, q, label_smoothing=e),
        lambda x, q, e=smoothing: T.cross_entropy(x, q, label_smoothing=e),
        (5, 6),
        (5, 6),
        numbers="positive",
    )


def draw(shape, numbers, rng):
    if numbers == "positive":
        return rng.uniform(0.5, 2.0, shape)
    return rng.standard_normal(shape) * (4 if numbers == "wide" else 1)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 2e-4)])
@pytest.mark.parametrize(("ours", "theirs", "shapes", "numbers"), PAIRS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_forward_and_backward(ours, theirs, shapes, numbers, dtype, rtol, backend, agree):
    rng = np.random.default_rng(0)
    arrays = [draw(shape, numbers, rng).astype(dtype) for shape in shapes]
    mine = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    g = rng.standard_normal(y.shape).astype(dtype)
    y.backward(g)
    z.backward(torch.tensor(g))
    agree(y.array, z, rtol, "forward")
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        agree(a.grad, b.grad, rtol, f"gradient {i}")


def test_every_operation_is_here():
    assert set(F.__all__) - COVERED == set()


# ---- running statistics


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_running_statistics(dtype, rtol, backend, agree):
    rng = np.random.default_rng(0)
    mine = nn.BatchNorm(3, momentum=0.3).astype(dtype)
    other = torch.nn.BatchNorm2d(3, momentum=0.3).to(torch.tensor(np.zeros(1, dtype)).dtype)
    for _ in range(4):
        x = rng.normal(3, 2, (2, 3, 4, 3)).astype(dtype)
        mine(Tensor(x))
        other(first(torch.tensor(x)))
    agree(mine.running_mean, other.running_mean, rtol)
    agree(mine.running_var, other.running_var, rtol)
    agree(mine.eval()(Tensor(x)).array, last(other.eval()(first(torch.tensor(x)))), 10 * rtol)
