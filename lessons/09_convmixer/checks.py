"""Lesson 09, ConvMixer."""

from __future__ import annotations

from minimix import ConvMixer, from_torch, nn, summary, to_torch

from ..exercise import Exercise
from ..networks import OUTPUTS, tried

# ---- block


def mixing(convolution):
    """A convolution, GELU and batch norm: half a block."""
    return [convolution, nn.GELU(), nn.BatchNorm(convolution.weight.shape[-1])]


def halves(h, k, rng):
    return mixing(nn.DepthwiseConv2d(h, k, rng=rng)), mixing(nn.PointwiseConv2d(h, h, rng=rng))


def block_of(arrange):
    """A `block` from a function that arranges the layers of the two halves."""
    return lambda h, k, rng=None: arrange(*halves(h, k, rng))


def residual(*layers):
    return nn.Residual(nn.Sequential(*layers))


right_block = block_of(lambda places, channels: nn.Sequential(residual(*places), *channels))


def norm_first(half):
    convolution, gelu, norm = half
    return [convolution, norm, gelu]


def swapped(half, i, layer):
    return [layer if j == i else other for j, other in enumerate(half)]


def without(i, half):
    return [layer for j, layer in enumerate(half) if j != i]


block = Exercise(
    "09.block",
    reference=right_block,
    outputs=OUTPUTS,
    run=tried,
    cases=lambda rng: [
        ("h=4, k=3, images of 5×6", (rng.normal(size=(2, 5, 6, 4)), 4, 3)),
        ("h=3, k=5, images of 4×4", (rng.normal(size=(3, 4, 4, 3)), 3, 5)),
    ],
    mistakes={
        "the residual is missing: wrap the first half in nn.Residual": block_of(
            lambda places, channels: nn.Sequential(*places, *channels)
        ),
        "the residual goes around both halves; in the figure the arrow ends before the "
        "pointwise convolution": block_of(
            lambda places, channels: residual(*places, *channels),
        ),
        "both halves have a residual here; the pointwise one has none": block_of(
            lambda places, channels: nn.Sequential(residual(*places), residual(*channels))
        ),
        "the residual is around the pointwise half; it belongs around the depthwise one": block_of(
            lambda places, channels: nn.Sequential(*places, residual(*channels))
        ),
        "only the convolution is inside the residual; GELU and BatchNorm belong inside "
        "too": block_of(
            lambda places, channels: nn.Sequential(
                nn.Residual(places[0]), places[1], places[2], *channels
            )
        ),
        "BatchNorm comes before GELU here; the paper's order is convolution, GELU, "
        "BatchNorm": block_of(
            lambda places, channels: nn.Sequential(
                residual(*norm_first(places)), *norm_first(channels)
            )
        ),
        "these are ReLUs; a ConvMixer has GELUs": block_of(
            lambda places, channels: nn.Sequential(
                residual(*swapped(places, 1, nn.ReLU())), *swapped(channels, 1, nn.ReLU())
            )
        ),
        "one of the GELUs is a ReLU": block_of(
            lambda places, channels: nn.Sequential(
                residual(*places), *swapped(channels, 1, nn.ReLU())
            )
        ),
        "these are LayerNorms; a ConvMixer has BatchNorms": lambda h, k, rng=None: nn.Sequential(
            residual(nn.DepthwiseConv2d(h, k, rng=rng), nn.GELU(), nn.LayerNorm(h)),
            *(nn.PointwiseConv2d(h, h, rng=rng), nn.GELU(), nn.LayerNorm(h)),
        ),
        "one of the norms is a LayerNorm; both are BatchNorms": (
            lambda h, k, rng=None: nn.Sequential(
                residual(nn.DepthwiseConv2d(h, k, rng=rng), nn.GELU(), nn.BatchNorm(h)),
                *(nn.PointwiseConv2d(h, h, rng=rng), nn.GELU(), nn.LayerNorm(h)),
            )
        ),
        "one of the norms is a LayerNorm, in the first half; both are BatchNorms": (
            lambda h, k, rng=None: nn.Sequential(
                residual(nn.DepthwiseConv2d(h, k, rng=rng), nn.GELU(), nn.LayerNorm(h)),
                *(nn.PointwiseConv2d(h, h, rng=rng), nn.GELU(), nn.BatchNorm(h)),
            )
        ),
        "the halves are in the wrong order: depthwise comes first": block_of(
            lambda places, channels: nn.Sequential(residual(*channels), *places)
        ),
        "the GELU after the pointwise convolution is missing": block_of(
            lambda places, channels: nn.Sequential(residual(*places), *without(1, channels))
        ),
        "the last BatchNorm is missing": block_of(
            lambda places, channels: nn.Sequential(residual(*places), *without(2, channels))
        ),
        "rng is not passed on: give rng=rng to both convolutions": (
            lambda h, k, rng=None: right_block(h, k)
        ),
    },
)


def mixer(
    make=right_block,
    blocks=lambda make, d: [make() for _ in range(d)],
    stem=lambda patches, h: mixing(patches),
    head=lambda pool, linear: [pool, linear],
    swap=False,
):
    """A `conv_mixer` of which one step can be wrong."""

    def conv_mixer(h, d, k, p, n, rng=None):
        if swap:
            k, p = p, k
        return nn.Sequential(
            *stem(nn.Patchify(3, h, p, rng=rng), h),
            *blocks(lambda: make(h, k, rng), d),
            *head(nn.GlobalAvgPool(), nn.Linear(h, n, rng=rng)),
        )

    return conv_mixer


class Softmax(nn.Module):
    def forward(self, x):
        e = (x - x.max(axis=-1, keepdims=True)).exp()
        return e / e.sum(axis=-1, keepdims=True)


conv_mixer = Exercise(
    "09.conv_mixer",
    reference=ConvMixer,
    outputs=OUTPUTS,
    run=tried,
    cases=lambda rng: [
        ("h=4, d=3, k=3, p=2, n=5", (rng.normal(size=(2, 8, 12, 3)), 4, 3, 3, 2, 5)),
        ("h=3, d=1, k=4, p=3, n=7", (rng.normal(size=(3, 12, 12, 3)), 3, 1, 4, 3, 7)),
    ],
    mistakes={
        "all d blocks are the same block, with one set of weights: make a new one each time": mixer(
            blocks=lambda make, d: [make()] * d
        ),
        "rng is not passed on: give it to the patches, the blocks and the linear layer": (
            lambda h, d, k, p, n, rng=None: mixer()(h, d, k, p, n)
        ),
        "there is one block, not d of them": mixer(blocks=lambda make, d: [make()]),
        "one block too few: range(d) has d numbers": mixer(
            blocks=lambda make, d: [make() for _ in range(1, d)]
        ),
        "a GELU and a BatchNorm are missing after the patches": mixer(
            stem=lambda patches, h: [patches]
        ),
        "the BatchNorm after the patches is missing": mixer(
            stem=lambda patches, h: [patches, nn.GELU()]
        ),
        "the GELU after the patches is missing": mixer(
            stem=lambda patches, h: [patches, nn.BatchNorm(h)]
        ),
        "kernel size and patch size are swapped": mixer(swap=True),
        "the blocks have kernels of the size of a patch: k×k, not p×p": (
            lambda h, d, k, p, n, rng=None: mixer(make=lambda h, _, rng: right_block(h, p, rng))(
                h, d, k, p, n, rng
            )
        ),
        "the pool is missing: one row of scores per image, not one per place": mixer(
            head=lambda pool, linear: [linear]
        ),
        "no softmax at the end: the loss takes the scores as they are": mixer(
            head=lambda pool, linear: [pool, linear, Softmax()]
        ),
        "there should be no GELU or BatchNorm after the linear layer: its "
        "scores are the result": mixer(head=lambda pool, linear: [pool, linear, nn.GELU()]),
    },
)


# ---- the two counts


def counted(
    depthwise=lambda h, k: k * k * h,
    bias=True,
    norms=lambda d: 2 * d + 1,
    per_norm=2,
    patch=lambda p, c: p * p * c,
    head_bias=True,
    blocks=lambda d: d,
):
    """A `count_parameters` of which one line can be wrong."""

    def count_parameters(h, d, k, p, n, c=3):
        one = h if bias else 0
        weights = patch(p, c) * h + one + blocks(d) * (depthwise(h, k) + one + h * h + one) + h * n
        return weights + per_norm * h * norms(d) + (n if bias and head_bias else 0)

    return count_parameters


count_parameters = Exercise(
    "09.count_parameters",
    reference=lambda h, d, k, p, n, c=3: ConvMixer(h, d, k, p, n, in_channels=c).n_parameters(),
    cases=lambda rng: [
        ("ConvMixer-16/1, k=3, p=2, n=10", (16, 1, 3, 2, 10)),
        ("ConvMixer-64/4, k=5, p=4, n=10", (64, 4, 5, 4, 10)),
        ("ConvMixer-20/3, k=7, p=3, n=5, c=1", (20, 3, 7, 3, 5, 1)),
    ],
    mistakes={
        "the biases are missing: h for each convolution, n for the last layer": counted(bias=False),
        "the biases of the convolutions are missing: h for each, in the stem and twice in a "
        "block": lambda h, d, k, p, n, c=3: counted(bias=False)(h, d, k, p, n, c) + n,
        "the last layer has a bias, too: n more": counted(head_bias=False),
        "the batch norms are missing: γ and β are trained": counted(per_norm=0),
        "running mean and variance are not trained: a batch norm has 2h parameters, not "
        "4h": counted(per_norm=4),
        "a batch norm has two numbers per channel, γ and β": counted(per_norm=1),
        "there are two batch norms in a block: 2d + 1 in all": counted(norms=lambda d: d + 1),
        "the stem has a batch norm, too: 2d + 1 in all": counted(norms=lambda d: 2 * d),
        "a depthwise kernel reads one channel: k·k·h weights, not k·k·h·h": counted(
            depthwise=lambda h, k: k * k * h * h
        ),
        "a patch has p·p·c numbers, not p·p": counted(patch=lambda p, c: p * p),
        "a patch has p·p·c numbers, not p·c": counted(patch=lambda p, c: p * c),
        "c is an argument; this always counts 3 channels": counted(patch=lambda p, c: p * p * 3),
        "one block is counted; there are d": counted(blocks=lambda d: 1, norms=lambda d: 3),
    },
)


def worked(
    places=lambda size, p: (size // p) ** 2,
    stem=lambda p: 3 * p * p,
    block=lambda h, k: k * k + h,
    head=lambda h, n, places: h * n,
    stem_places=None,
):
    """A `count_multiply_adds` of which one line can be wrong."""

    def count_multiply_adds(h, d, k, p, n, size=32):
        m = places(size, p)
        first = stem_places(size, p) if stem_places else m
        return first * h * stem(p) + d * m * h * block(h, k) + head(h, n, m)

    return count_multiply_adds


def of_summary(h, d, k, p, n, size=32):
    table = summary(ConvMixer(h, d, k, p, n), (1, size, size, 3))
    return int(table.split()[-1].replace(",", ""))


count_multiply_adds = Exercise(
    "09.count_multiply_adds",
    reference=of_summary,
    cases=lambda rng: [
        ("ConvMixer-16/1, k=3, p=2, 10 classes", (16, 1, 3, 2, 10)),
        ("ConvMixer-12/4, k=5, p=4, 10 classes", (12, 4, 5, 4, 10)),
        ("ConvMixer-20/3, k=7, p=6, 5 classes, 24×24", (20, 3, 7, 6, 5, 24)),
    ],
    mistakes={
        "the size is ignored: this is always for 32×32": (
            lambda h, d, k, p, n, size=32: worked()(h, d, k, p, n)
        ),
        "biases are added, not multiplied: they are not multiply-adds": (
            lambda h, d, k, p, n, size=32: (
                worked(stem=lambda p: 3 * p * p + 1, block=lambda h, k: k * k + h + 2)(
                    h, d, k, p, n, size
                )
                + n
            )
        ),
        "the bias of the last layer is added, not multiplied": (
            lambda h, d, k, p, n, size=32: worked()(h, d, k, p, n, size) + n
        ),
        "this counts one place only; every place does the same work": worked(
            places=lambda size, p: 1
        ),
        "after the patches there are (size/p)² places, not size²": worked(
            places=lambda size, p: size * size
        ),
        "patches do not overlap: the stem works at (size/p)² places, too, not at every "
        "pixel": worked(stem_places=lambda size, p: size * size),
        "(size/p) is one side; the number of places is its square": worked(
            places=lambda size, p: size // p
        ),
        "depthwise: one output number reads k·k numbers of its own channel, not of all h": worked(
            block=lambda h, k: k * k * h + h
        ),
        "the pointwise convolution is missing: each output number reads h": worked(
            block=lambda h, k: k * k
        ),
        "the depthwise convolution is missing: each output number reads k·k": worked(
            block=lambda h, k: h
        ),
        "the stem is missing: each of its output numbers reads 3·p·p": worked(stem=lambda p: 0),
        "a patch has three channels: 3·p·p numbers": worked(stem=lambda p: p * p),
        "the last layer is missing: h·n": worked(head=lambda h, n, places: 0),
        "the last layer comes after the pool: it works once, not at every place": worked(
            head=lambda h, n, places: places * h * n
        ),
    },
)


# ---- channels_last


def translator(
    stem=lambda w: w.transpose(2, 3, 1, 0),
    depthwise=lambda w: w[:, 0].transpose(1, 2, 0),
    pointwise=lambda w: w[:, :, 0, 0].T,
    linear=lambda w: w.T,
    drop=True,
):
    """A `channels_last` of which one kind of weight can come out wrong."""

    def channels_last(state):
        result = {}
        for name, w in state.items():
            if w.ndim == 4:
                kind = (
                    stem if name == "stem.0.weight" else depthwise if ".fn." in name else pointwise
                )
                w = kind(w)
            elif w.ndim == 2:
                w = linear(w)
            if not (drop and name.endswith("num_batches_tracked")):
                result[name] = w
        return result

    return channels_last


KINDS = {
    "the names": lambda state: list(state),
    "the patches' weight": lambda state: state["stem.0.weight"],
    "the depthwise weight": lambda state: state["blocks.1.0.fn.0.weight"],
    "the pointwise weight": lambda state: state["blocks.1.1.weight"],
    "the last layer's weight": lambda state: state["head.weight"],
    "a vector": lambda state: state["blocks.0.3.running_mean"],
}


def parts(channels_last, state):
    result = channels_last(state)
    return tuple(take(result) for take in KINDS.values())


def foreign(h, k, p, n, rng):
    """A state dict of PyTorch's form, every number of it different."""
    net = ConvMixer(h, 2, k, p, n, rng=rng)
    for name, buffer in net.named_buffers():
        buffer[...] = rng.normal(size=buffer.shape) + name.endswith("var") * 5
    return to_torch(net.state_dict())


def reshaped(w):
    """The right shape, the numbers in the old order."""
    if w.ndim == 2:
        return w.reshape(w.shape[::-1])
    out, into, k, _ = w.shape
    return w.reshape(k, k, into, out)


channels_last = Exercise(
    "09.channels_last",
    reference=from_torch,
    outputs=tuple(KINDS),
    run=parts,
    cases=lambda rng: [
        ("h=6, k=3, p=2, n=5", (foreign(6, 3, 2, 5, rng),)),
        ("h=3, k=5, p=3, n=4", (foreign(3, 5, 3, 4, rng),)),
    ],
    mistakes={
        "reshape keeps the numbers in their old order; the axes have to change places: "
        "transpose": translator(
            stem=reshaped,
            depthwise=lambda w: reshaped(w)[:, :, 0],
            linear=reshaped,
        ),
        "the stem is (p, p, h, c) here: input channels come before output channels": translator(
            stem=lambda w: w.transpose(2, 3, 0, 1)
        ),
        "the stem's two axes within a patch are swapped: columns became rows": translator(
            stem=lambda w: w.T
        ),
        "the kernels' two axes within a depthwise kernel are swapped: columns "
        "became rows": translator(depthwise=lambda w: w[:, 0].T),
        "a depthwise weight has three axes here, (k, k, h): take index 0 of the axis of "
        "length 1": translator(depthwise=lambda w: w.transpose(2, 3, 1, 0)),
        "the pointwise weight is still out before in. It is square, so its shape does not show it: "
        "transpose it": translator(pointwise=lambda w: w[:, :, 0, 0]),
        "a pointwise weight has two axes here, (in, out): take index 0 of those of length "
        "1": translator(pointwise=lambda w: w.transpose(2, 3, 1, 0)),
        "the last layer's weight is still (n, h): transpose it": translator(linear=lambda w: w),
        "num_batches_tracked is still there": translator(drop=False),
    },
)

EXERCISES = [block, conv_mixer, count_parameters, count_multiply_adds, channels_last]
