"""Wrong gradients, each wrong in one way somebody once got wrong. The checker must catch them all.

Most are a wrong copy of an operation: the forward is the real one and the backward is not. Some
are a wrong kernel, and some a wrong engine.
"""

import numpy as np

from minimix import autograd, kernels
from minimix import functional as F
from minimix.functional import arithmetic, loss, pool, shape
from minimix.kernels.reference import activation, depthwise, fused, norm

MUTANTS = {}  # name: (the operation whose cases must catch it, what puts it in place)


def mutant(operation, about, where=F, attribute=None):
    """The function below it takes the place of `where.attribute`, lifted to tensors."""

    def register(wrong):
        wrong.__name__ = operation
        lifted = autograd.op(wrong)
        MUTANTS[f"{operation}: {about}"] = (
            operation,
            lambda patch: patch.setattr(where, attribute or operation, lifted),
        )

    return register


def mutant_of(operation, about, where, attribute):
    """The function below it takes the place of `where.attribute` as it is."""

    def register(wrong):
        MUTANTS[f"{operation}: {about}"] = (
            operation,
            lambda patch: patch.setattr(where, attribute, wrong),
        )

    return register


# The real ones, kept here because mutants take their place.
REAL = {name: getattr(F, name).array for name in F.__all__ if hasattr(getattr(F, name), "array")}
BUFFERS = {}
CROSS_ENTROPY, CONCATENATE = loss._cross_entropy.array, shape._concatenate.array
EINSUM = arithmetic._einsum.array


# ---- choosing, spreads, pooling and attention


@mutant("abs", "the sign is missing")
def _(x):
    return np.abs(x), lambda g: g


@mutant("maximum", "the gradient goes to the smaller")
def _(x, y):
    return np.maximum(x, y), lambda g: (np.where(x < y, g, 0), np.where(x > y, g, 0))


@mutant("minimum", "both have the gradient")
def _(x, y):
    return np.minimum(x, y), lambda g: (g, g)


@mutant("clip", "it flows past the upper bound")
def _(x, *, low=None, high=None):
    y = np.clip(x, low, high)
    return y, lambda g: np.where(x < (-np.inf if low is None else low), 0, g)


@mutant("where", "x and y exchanged")
def _(condition, x, y):
    chosen = condition != 0
    return np.where(chosen, x, y), lambda g: (None, np.where(chosen, 0, g), np.where(chosen, g, 0))


@mutant("var", "the ½ of x² is taken off")
def _(x, **options):
    y, backward = REAL["var"](x, **options)
    return y, lambda g: backward(g) / 2


@mutant("var", "divided by n for n − correction")
def _(x, *, axis=None, correction=0, keepdims=False):
    y, _ = REAL["var"](x, axis=axis, correction=correction, keepdims=keepdims)
    _, backward = REAL["var"](x, axis=axis, keepdims=keepdims)
    return y, backward


@mutant("std", "y is missing")
def _(x, **options):
    _, backward = REAL["var"](x, **options)
    return REAL["std"](x, **options)[0], lambda g: backward(g / 2)


@mutant("max_pool2d", "where windows overlap the last one wins")
def _(x, *, size, stride=None, padding=0):
    y, backward = REAL["max_pool2d"](x, size=size, stride=stride, padding=padding)

    def last(g):
        dx = np.zeros_like(x)
        for place in np.ndindex(g.shape):
            one = np.zeros_like(g)
            one[place] = g[place]
            share = backward(one)
            dx[share != 0] = share[share != 0]
        return dx

    return y, last


@mutant("avg_pool2d", "size for size²")
def _(x, *, size, **options):
    y, backward = REAL["avg_pool2d"](x, size=size, **options)
    return y, lambda g: backward(g) * size


@mutant("broadcast_to", "the first of the copies has it all")
def _(x, *, shape):
    y, _ = REAL["broadcast_to"](x, shape=shape)
    return y, lambda g: g.reshape(-1, *g.shape[1:])[:1].mean(0)[:, :1] * np.ones_like(x)


@mutant("stack", "the gradients in reverse", shape, "_stack")
def _(*xs, axis):
    y = np.stack(xs, axis=axis)
    return y, lambda g: tuple(np.moveaxis(g, axis, 0)[::-1])


@mutant("flip", "not turned back")
def _(x, *, axis=None):
    return np.flip(x, axis), lambda g: g


@mutant("einsum", "the axes of dx in the order of the result", arithmetic, "_einsum")
def _(*xs, subscripts):
    y, backward = EINSUM(*xs, subscripts=subscripts)
    return y, lambda g: tuple(dx().T.reshape(dx().shape) for dx in backward(g))


def attended(q, k, v):
    """p, y, the scale, and dz for g."""
    scale = 1 / np.sqrt(q.shape[-1])
    z = np.exp(q @ k.mT * scale)
    p = z / z.sum(axis=-1, keepdims=True)
    y = p @ v
    return p, y, scale, lambda g: p * (g @ v.mT - (g * y).sum(axis=-1, keepdims=True))


@mutant("attention", "the scale is missing in dq")
def _(q, k, v):
    p, y, scale, dz = attended(q, k, v)
    return y, lambda g: (dz(g) @ k, scale * dz(g).mT @ q, p.mT @ g)


@mutant("attention", "the scale is missing in dk")
def _(q, k, v):
    p, y, scale, dz = attended(q, k, v)
    return y, lambda g: (scale * dz(g) @ k, dz(g).mT @ q, p.mT @ g)


@mutant("attention", "Σ g y is missing: as if softmax were exp")
def _(q, k, v):
    p, y, scale, _ = attended(q, k, v)

    def backward(g):
        dz = scale * p * (g @ v.mT)
        return dz @ k, dz.mT @ q, p.mT @ g

    return y, backward


@mutant("attention", "the logarithm of p for p in dv")
def _(q, k, v):
    p, y, scale, dz = attended(q, k, v)
    return y, lambda g: (scale * dz(g) @ k, scale * dz(g).mT @ q, np.log(p).mT @ g)


# ---- arithmetic


@mutant("subtract", "the sign of dy")
def _(x, y):
    return x - y, lambda g: (g, g)


@mutant("multiply", "dx and dy exchanged")
def _(x, y):
    return x * y, lambda g: (lambda: g * x, lambda: g * y)


@mutant("multiply", "the gradient it is sent is overwritten")
def _(x, y):
    def backward(g):
        dx = g * y
        g *= x
        return dx, g

    return x * y, backward


@mutant("divide", "the sign of dy")
def _(x, y):
    return x / y, lambda g: (g / y, g * x / y**2)


@mutant("divide", "y for y²")
def _(x, y):
    return x / y, lambda g: (g / y, -g * x / y)


@mutant("power", "the factor y is missing")
def _(x, y):
    return x**y, lambda g: (lambda: g * x ** (y - 1), lambda: g * x**y * np.log(x))


@mutant("power", "ln x is missing")
def _(x, y):
    return x**y, lambda g: (lambda: g * y * x ** (y - 1), lambda: g * x**y)


@mutant("exp", "y is missing")
def _(x):
    return np.exp(x), lambda g: g


@mutant("log", "g x for g / x")
def _(x):
    return np.log(x), lambda g: g * x


@mutant("sqrt", "the ½ is missing")
def _(x):
    return np.sqrt(x), lambda g: g / np.sqrt(x)


@mutant("tanh", "y is not squared")
def _(x):
    return np.tanh(x), lambda g: g * (1 - np.tanh(x))


@mutant("tanh", "x is overwritten on the way back")
def _(x):
    y = np.tanh(x)

    def backward(g):
        x[...] = 1 - y * y
        return g * x

    return y, backward


@mutant("matmul", "y is not transposed")
def _(x, y):
    back = REAL["matmul"](x, y)[1]

    def backward(g):
        dx, dy = back(g)
        return (lambda: g @ y) if x.shape == y.shape == g.shape else dx, dy

    return x @ y, backward


@mutant("matmul", "one matrix of a broadcast stack, not their sum")
def _(x, y):
    back = REAL["matmul"](x, y)[1]

    def backward(g):
        dx, dy = back(g)
        stacked = g.ndim == 3 and y.ndim == 2
        return dx, (lambda: x[0].T @ g[0]) if stacked else dy

    return x @ y, backward


# ---- reductions


@mutant("sum", "the first number gets it all")
def _(x, *, axis=None, keepdims=False):
    y, back = REAL["sum"](x, axis=axis, keepdims=keepdims)

    def backward(g):
        dx = back(g).copy()
        dx[1:] = 0
        return dx

    return y, backward


@mutant("mean", "the 1/n is missing")
def _(x, *, axis=None, keepdims=False):
    y, _ = REAL["mean"](x, axis=axis, keepdims=keepdims)
    return y, REAL["sum"](x, axis=axis, keepdims=keepdims)[1]


@mutant("max", "every number gets it")
def _(x, *, axis=None, keepdims=False):
    y, _ = REAL["max"](x, axis=axis, keepdims=keepdims)
    return y, REAL["sum"](x, axis=axis, keepdims=keepdims)[1]


@mutant("max", "the largest of all, whatever the axis")
def _(x, *, axis=None, keepdims=False):
    y, back = REAL["max"](x, axis=axis, keepdims=keepdims)
    return y, lambda g: back(g) * (x == x.max())


# ---- shape


@mutant("reshape", "columns before rows")
def _(x, *, shape):
    return x.reshape(shape), lambda g: g.reshape(x.shape, order="F")


@mutant("transpose", "the permutation itself, not its inverse")
def _(x, *, axes=None):
    y, back = REAL["transpose"](x, axes=axes)
    if axes is None:
        return y, back
    return y, lambda g: g.transpose(axes)


@mutant("index", "overwritten where added")
def _(x, *, at):
    def backward(g):
        dx = np.zeros_like(x)
        dx[at] = g
        return dx

    return np.asarray(x[at]), backward


@mutant("concatenate", "everybody gets the first part", shape, "_concatenate")
def _(*xs, axis):
    y, back = CONCATENATE(*xs, axis=axis)

    def backward(g):
        parts = back(g)
        return tuple(parts[0] if p.shape == parts[0].shape else p for p in parts)

    return y, backward


@mutant("pad", "off by one")
def _(x, *, width):
    y, _ = REAL["pad"](x, width=width)

    def backward(g):
        return np.roll(g, 1, axis=-1)[
            tuple(slice(b, b + n) for (b, _), n in zip(width, x.shape, strict=True))
        ]

    return y, backward


# ---- linear maps and convolutions


def changed(operation, dx=None, dw=None, db=None):
    """The real operation, with some of its gradients put through a function."""

    def wrong(x, w, b=None, **options):
        y, back = REAL[operation](x, w, b, **options)

        def backward(g):
            return tuple(
                share if share is None or change is None else lambda s=share, c=change: c(s(), g)
                for share, change in zip(back(g), (dx, dw, db), strict=True)
            )

        return y, backward

    return wrong


def affine_mutant(operation, about, **changes):
    mutant(operation, about)(changed(operation, **changes))


affine_mutant("linear", "the bias gets the mean", db=lambda s, g: s / (g.size // g.shape[-1]))
affine_mutant(
    "linear", "the weight gets one row less", dw=lambda s, g: s * (np.arange(len(s)) > 0)[:, None]
)
affine_mutant("pointwise_conv2d", "the bias takes one image", db=lambda s, g: g[0].sum(axis=(0, 1)))
affine_mutant("depthwise_conv2d", "the bias is not summed", db=lambda s, g: g[0, 0, 0])
affine_mutant(
    "patchify", "height and width exchanged", dx=lambda s, g: s.swapaxes(1, 2).reshape(s.shape)
)
affine_mutant("conv2d", "the padding taken off one side", dx=lambda s, g: np.roll(s, 1, axis=1))
affine_mutant("conv2d", "groups exchanged", dw=lambda s, g: np.roll(s, 2, axis=-1))
affine_mutant("conv2d", "half of the overlap", dx=lambda s, g: s / 2)


@mutant_of("depthwise_conv2d", "the kernel is not flipped", kernels, "depthwise_conv2d_dx")
def _(g, w):
    return depthwise.depthwise_conv2d_dx.reference(g, np.ascontiguousarray(w[::-1, ::-1]))


@mutant_of("depthwise_conv2d", "an even kernel pads the wrong side", kernels, "depthwise_conv2d_dx")
def _(g, w):
    return depthwise.depthwise_conv2d.reference(g, np.ascontiguousarray(w[::-1, ::-1]))


@mutant_of("depthwise_conv2d", "the image wraps round", kernels, "depthwise_conv2d_dx")
def _(g, w):
    k = len(w)
    places = np.ndindex(k, k)
    return sum(
        np.roll(g, (i - (k - 1) // 2, j - (k - 1) // 2), (1, 2)) * w[i, j] for i, j in places
    )


@mutant_of("depthwise_conv2d", "dw is off by one", kernels, "depthwise_conv2d_dw")
def _(x, g, k):
    return depthwise.depthwise_conv2d_dw.reference(np.roll(x, 1, axis=2), g, k)


@mutant_of("depthwise_conv2d", "forward pads the wrong side", kernels, "depthwise_conv2d")
def _(x, w):
    return depthwise.depthwise_conv2d_dx.reference(x, np.ascontiguousarray(w[::-1, ::-1]))


# ---- activations


@mutant_of("gelu", "without x φ(x)", kernels, "gelu_backward")
def _(x, g):
    return g * 0.5 * (1 + activation.erf(x * 0.5**0.5))


@mutant_of("gelu", "the other form's gradient", kernels, "gelu_tanh_backward")
def _(x, g):
    return activation.gelu_backward.reference(x, g)


@mutant_of("gelu", "x is kept where the next call writes", kernels, "gelu")
def _(x):
    kept = BUFFERS.setdefault(x.shape, x)
    if kept is not x and kept.flags.writeable:
        kept[...] = x
    return activation.gelu.reference(x)


@mutant("relu", "masked by g")
def _(x):
    return np.maximum(x, 0), lambda g: g * (g > 0)


@mutant("sigmoid", "1 − y is missing")
def _(x):
    y, _ = REAL["sigmoid"](x)
    return y, lambda g: g * y


@mutant("softmax", "each output by itself")
def _(x, *, axis=-1):
    y, _ = REAL["softmax"](x, axis=axis)
    return y, lambda g: g * y * (1 - y)


@mutant("softmax", "coupled along the wrong axis")
def _(x, *, axis=-1):
    y, _ = REAL["softmax"](x, axis=axis)
    return y, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True))


@mutant("log_softmax", "Σ g is missing")
def _(x, *, axis=-1):
    y, _ = REAL["log_softmax"](x, axis=axis)
    return y, lambda g: g - np.exp(y)


@mutant("dropout", "the gradient passes unmasked")
def _(x, *, p, rng):
    return REAL["dropout"](x, p=p, rng=rng)[0], lambda g: g / (1 - p)


@mutant("dropout", "the gradient is not scaled")
def _(x, *, p, rng):
    y, back = REAL["dropout"](x, p=p, rng=rng)
    return y, lambda g: back(g) * (1 - p)


# ---- normalization


def batch_norm_mutant(about):
    return mutant_of("batch_norm", about, kernels, "batch_norm_dx")


def with_sums(x, g, norm, share_g=1, share_x=1):
    """dx, with so much of what the mean and the variance pass back."""
    mean, rstd, gamma, dgamma, dbeta = norm
    return norm_dx(x, g, (mean, rstd, gamma, share_x * dgamma, share_g * dbeta))


norm_dx = norm.batch_norm_dx.reference


@batch_norm_mutant("the mean held constant")
def _(x, g, norm):
    return with_sums(x, g, norm, share_g=0)


@batch_norm_mutant("the variance held constant")
def _(x, g, norm):
    return with_sums(x, g, norm, share_x=0)


@batch_norm_mutant("both held constant")
def _(x, g, norm):
    return with_sums(x, g, norm, 0, 0)


@batch_norm_mutant("zeros, which the gradient of the sum is")
def _(x, g, norm):
    return np.zeros_like(x)


@batch_norm_mutant("dx without γ")
def _(x, g, norm):
    return norm_dx(x, g, norm) / norm[2]


@batch_norm_mutant("M − 1 for M")
def _(x, g, norm):
    m = len(x)
    return with_sums(x, g, norm, m / (m - 1), m / (m - 1))


@batch_norm_mutant("ε forgotten on the way back")
def _(x, g, norm):
    mean, _, *others = norm
    return norm_dx(x, g, (mean, 1 / x.std(axis=0), *others))


@mutant_of("batch_norm", "the sums exchanged", kernels, "batch_norm_sums")
def _(x, g, mean, rstd):
    return norm.batch_norm_sums.reference(x, g, mean, rstd)[::-1]


@mutant("batch_norm", "evaluation differentiated as training")
def _(x, gamma, beta, *, training=True, **options):
    y, back = REAL["batch_norm"](x, gamma, beta, training=training, **options)
    return y, back if training else REAL["batch_norm"](x, gamma, beta)[1]


def layer_norm_mutant(about):
    """The function below it takes (h, x̂, rstd, γ, g) and returns dx."""

    def register(dx):
        @mutant("layer_norm", about)
        def _(x, gamma, beta, *, eps=1e-5):
            y, back = REAL["layer_norm"](x, gamma, beta, eps=eps)
            centered = x - x.mean(axis=-1, keepdims=True)
            rstd = 1 / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + eps)
            return y, lambda g: (dx(gamma * g, centered * rstd, rstd, g), *back(g)[1:])

    return register


@layer_norm_mutant("mean(h x̂) is missing")
def _(h, normal, rstd, g):
    return rstd * (h - h.mean(axis=-1, keepdims=True))


@layer_norm_mutant("mean(h) is missing")
def _(h, normal, rstd, g):
    return rstd * (h - normal * (h * normal).mean(axis=-1, keepdims=True))


@layer_norm_mutant("γ is missing")
def _(h, normal, rstd, g):
    return rstd * (
        g - g.mean(axis=-1, keepdims=True) - normal * (g * normal).mean(axis=-1, keepdims=True)
    )


@mutant_of("FusedConvMixer", "moments held constant", kernels, "act_norm_backward")
def _(z, g, norm, *, relu):
    mean, rstd, gamma, dgamma, dbeta = norm
    constant = mean, rstd, gamma, 0 * dgamma, 0 * dbeta
    return fused.act_norm_backward.reference(z, g, constant, relu=relu)


@mutant_of("FusedConvMixer", "evaluation without β", kernels, "infer_convmixer")
def _(x, places, channels, affine, *stem, **how):
    without = affine * np.array([[1], [1], [0]])
    return fused.infer_convmixer.reference(x, places, channels, without, *stem, **how)


@mutant_of("FusedConvMixer", "layer norm without its shortcut", kernels, "mix_layer_norm_backward")
def _(*arguments):
    *others, x, relu = arguments
    return fused.mix_layer_norm_backward.reference(*others, 0 * x, relu)


@mutant_of("FusedConvMixer", "another norm's ε in evaluation", kernels, "infer_convmixer")
def _(x, places, channels, affine, stem, eps, **how):
    eps = None if eps is None else eps[::-1] * np.arange(1, len(eps) + 1)
    return fused.infer_convmixer.reference(x, places, channels, affine, stem, eps, **how)


# ---- pooling and loss


@mutant("global_avg_pool", "1/H for 1/(H W)", pool, "mean")
def _(x, *, axis):
    y, back = REAL["mean"](x, axis=axis)
    return y, lambda g: back(g) * x.shape[2]


def cross_entropy_mutant(about):
    return mutant("cross_entropy", about, loss, "_cross_entropy")


@cross_entropy_mutant("the 1/N is missing")
def _(logits, targets):
    y, back = CROSS_ENTROPY(logits, targets)
    return y, lambda g: back(g * len(logits))


@cross_entropy_mutant("targets taken to sum to 1")
def _(logits, targets):
    y, back = CROSS_ENTROPY(logits, targets)
    p = REAL["softmax"](logits)[0]
    return y, lambda g: (g * (p - targets) / len(logits), back(g)[1])


@cross_entropy_mutant("no gradient for the targets")
def _(logits, targets):
    y, back = CROSS_ENTROPY(logits, targets)
    return y, lambda g: (back(g)[0], np.zeros_like(targets))


@cross_entropy_mutant("label smoothing only on the way forward")
def _(logits, targets):
    y, _ = CROSS_ENTROPY(logits, targets)
    sharp = (targets == targets.max(axis=1, keepdims=True)).astype(targets.dtype)
    return y, CROSS_ENTROPY(logits, sharp)[1]


# ---- the engine


@mutant_of("add", "one of the broadcast copies, not their sum", autograd, "unbroadcast")
def _(g, shape):
    g = g[(0,) * (g.ndim - len(shape))]
    return g[tuple(slice(1) if n == 1 else slice(None) for n in shape)]


@mutant_of("multiply", "fan-out: the last gradient, not their sum", autograd.Tensor, "backward")
def _(self, gradient=None):
    waiting = {self: np.ones_like(self.array) if gradient is None else gradient}
    tape = self._tape()
    while tape:
        t = tape.pop()
        if t.node is None:
            t.grad = waiting[t].copy()
        else:
            waiting |= dict(t.node.pull(t.version, waiting[t]))


@mutant("negative", "nothing comes back")
def _(x):
    return -x, lambda g: np.zeros_like(g)


@mutant("negative", "not linear in g")
def _(x):
    return -x, lambda g: -np.abs(g)


@mutant("negative", "not a number")
def _(x):
    return -x, lambda g: np.full_like(g, np.nan)


@mutant("negative", "right to six digits")
def _(x):
    return -x, lambda g: -g * (1 + 1e-6)


# ---- right only where the gradient that arrives is contiguous


@mutant("exp", "the gradient is read in the order in which it lies in memory")
def _(x):
    y = np.exp(x)
    return y, lambda g: (g.ravel(order="K") * y.ravel()).reshape(x.shape)


@mutant("sigmoid", "a gradient that lies transposed is taken for one that does not")
def _(x):
    y, backward = REAL["sigmoid"](x)
    return y, lambda g: backward(g.T.reshape(g.shape) if g.T.flags.c_contiguous else g)


@mutant("softmax", "a repeated gradient is counted once")
def _(x, *, axis=-1):
    y, backward = REAL["softmax"](x, axis=axis)

    def once(g):
        if 0 in g.strides:
            g = np.where(np.arange(g.size).reshape(g.shape) == 0, g, 0)
        return backward(g)

    return y, once


@mutant("linear", "rows of the gradient as they lie in memory")
def _(x, w, b=None):
    y, backward = REAL["linear"](x, w, b)
    return y, lambda g: backward(np.reshape(g, g.shape, order="A").ravel("K").reshape(g.shape))


# ---- wrong where f bends within a step


@mutant("divide", "six digits where y is small")
def _(x, y):
    z = x / y
    return z, lambda g: (g / y, -g * z / y * np.where(np.abs(y) < 0.03, 1 + 1e-6, 1))


@mutant("log", "six digits where x is small")
def _(x):
    return np.log(x), lambda g: g / x * np.where(x < 0.03, 1 - 1e-6, 1)
