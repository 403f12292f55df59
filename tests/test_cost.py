"""What a model costs: its layers, parameters and multiply-adds, and the table of them."""

import re

import numpy as np

from minimix import ConvMixer, Module, Parameter, Tensor, nn, op, summary
from minimix import functional as F
from minimix.autograd import is_recording


class Two(Module):
    def __init__(self):
        super().__init__()
        self.second = nn.Linear(2, 3, rng=0)
        self.scale = Parameter(np.ones(3, np.float32))
        self.first = nn.BatchNorm(3)

    def forward(self, x):
        return self.first(self.second(x)) * self.scale


def test_summary_counts_and_leaves_the_model_as_it_was():
    model = Two()
    model.first.eval()
    text = summary(model, (5, 2))
    lines = text.splitlines()
    assert lines[0] == "Two, input (5, 2)"
    assert re.match(r"second +Linear\(2 → 3\) +\(5, 3\) +9 +30$", lines[4])
    assert re.match(r"first +BatchNorm\(3\) +\(5, 3\) +6 +0$", lines[5])
    assert lines[6].split("Two()")[0].strip() == ""
    assert lines[-1].split() == ["18", "30"]
    assert model.training
    assert not model.first.training
    assert model.first.running_mean.tolist() == [0, 0, 0]
    assert is_recording()


TABLE = """\
Sequential, input (2, 100)
────────────────────────────────────────────────────────────────
name  layer                   output   parameters  multiply-adds
────────────────────────────────────────────────────────────────
0     Linear(100 → 30)        (2, 30)       3,030          6,000
1     GELU(approximate tanh)  (2, 30)           0              0
2     GELU()                  (2, 30)           0              0
────────────────────────────────────────────────────────────────
                                            3,030          6,000"""


def test_the_summary_is_a_table():
    model = nn.Sequential(nn.Linear(100, 30, rng=0), nn.GELU("tanh"), nn.GELU())
    assert summary(model, (2, 100)) == TABLE


class Attention(Module):
    """Products of its own, a parameter of its own, a module called twice, two results."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 4, rng=0)
        self.inside = nn.Residual(nn.Sequential(nn.Linear(4, 4, rng=0)))
        self.inside.fn[0].weight = self.project.weight
        self.table = Parameter(np.ones((6, 4), np.float32))
        self.unused = nn.Linear(4, 2)

    def forward(self, x):  # (N, T, 4)
        q, k = self.project(x), self.project(x)
        y = (q @ k.transpose(0, 2, 1)) @ self.inside(x)
        return y, F.depthwise_conv2d(Tensor(np.ones((1, 2, 2, 4), np.float32)), np.ones((3, 3, 4)))


def test_the_summary_counts_products_wherever_they_are():
    text = summary(Attention(), (2, 6, 4))
    rows = [re.split(r"  +", line) for line in text.splitlines()[4:]]
    linear = 2 * 6 * 4 * 4
    assert [row[0] for row in rows[:4]] == ["project", "project", "inside.fn.0", ""]
    assert [row[-2:] for row in rows[:4]] == [
        ["20", f"{linear}"],
        ["0", f"{linear}"],  # the second call
        ["4", f"{linear}"],  # its weight has been counted
        ["24", f"{2 * 6 * 6 * 4 * 2 + 16 * 9}"],
    ]
    assert rows[3][1:3] == ["Attention()", "(2, 6, 4) (1, 2, 2, 4)"]
    assert rows[-1][-2:] == ["58", f"{3 * linear + 2 * 6 * 6 * 4 * 2 + 16 * 9:,}"]


def test_an_operation_of_one_s_own_is_named_as_not_counted():
    @op
    def swish(x):
        return x, lambda g: g

    class Net(Module):
        def forward(self, x):
            return swish(swish(x))

    assert summary(Net(), (2, 3)).splitlines()[-1] == "not counted: swish"


COUNTED = {
    "conv2d": (F.conv2d, (1, 4, 6, 4), (3, 3, 2, 6), {"groups": 2, "padding": 1}, 24 * 6 * 9 * 2),
    "depthwise_conv2d": (F.depthwise_conv2d, (2, 4, 6, 3), (5, 5, 3), {}, 48 * 3 * 25),
    "linear": (F.linear, (2, 3), (3, 5), {}, 2 * 3 * 5),
    "matmul": (F.matmul, (2, 4, 3), (3, 5), {}, 2 * 4 * 3 * 5),
    "patchify": (F.patchify, (2, 4, 6, 3), (2, 2, 3, 5), {}, 2 * 6 * 5 * 12),
    "pointwise_conv2d": (F.pointwise_conv2d, (2, 4, 6, 3), (3, 5), {}, 48 * 3 * 5),
}
# A sum of products must be above; what is here takes a handful of steps a number.
NO_PRODUCTS = {
    "abs", "add", "avg_pool2d", "batch_norm", "broadcast_to", "clip", "concatenate",
    "cross_entropy", "divide", "dropout", "exp", "flatten", "flip", "gelu", "global_avg_pool",
    "index", "layer_norm", "log", "log_softmax", "max", "max_pool2d", "maximum", "mean", "min",
    "minimum", "multiply", "negative", "pad", "power", "relu", "reshape", "sigmoid", "softmax",
    "split", "sqrt", "squeeze", "stack", "std", "subtract", "sum", "swapaxes", "tanh",
    "transpose", "unbind", "unsqueeze", "var", "where",
}  # fmt: skip


def test_every_operation_is_counted_or_has_no_products():
    assert set(F.__all__) == COUNTED.keys() | NO_PRODUCTS | {"attention", "einsum"}
    for operation, x, w, options, products in COUNTED.values():

        class Net(Module):
            def forward(self, x, operation=operation, w=w, options=options):
                return operation(x, np.ones(w), **options)

        assert summary(Net(), x).split()[-1] == f"{products:,}"


def test_the_products_of_attention_and_of_sums_over_letters_are_counted():
    q, k, v = (Tensor(np.ones(shape)) for shape in ((2, 3, 5, 7), (2, 3, 11, 7), (2, 3, 11, 13)))

    class Net(Module):
        def __init__(self, f):
            super().__init__()
            self.f = f

        def forward(self, x):
            return self.f()

    for f, products in (
        (lambda: F.attention(q, k, v), 6 * 5 * 11 * (7 + 13)),
        (lambda: F.einsum("...td, ...sd -> ...ts", q, k), 6 * 5 * 11 * 7),
        (lambda: F.einsum("nhtd, nhsd", q, k), 6 * 5 * 11 * 7),
        (lambda: F.einsum("ab..., b -> a...", q, np.ones(3)), 2 * 3 * 5 * 7),
        (lambda: F.einsum("ijkl -> kl", q), 0),
    ):
        assert summary(Net(f), (1,)).split()[-1] == f"{products:,}"


def test_the_summary_s_numbers():
    text = summary(ConvMixer(256, 8, 5, 2, 10, rng=0), (1, 32, 32, 3))
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["ConvMixer,", "input", "(1,", "32,", "32,", "3)"]

    def work(kind):
        return sum(int(row[-1].replace(",", "")) for row in rows if kind in " ".join(row))

    assert work("Patchify") == 786_432
    assert work("DepthwiseConv2d") == 13_107_200
    assert work("PointwiseConv2d") == 134_217_728
    assert rows[-1] == ["594,186", "148,113,920"]
    assert summary(ConvMixer(256, 8, 5, 2, 10, rng=0), (2, 32, 32, 3)).endswith("296,227,840")
