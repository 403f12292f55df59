"""Lesson 07, GELU and batch normalization."""

from __future__ import annotations

import math

import numpy as np

from minimix import Tensor, kernels
from minimix.kernels.reference.activation import erf

from ..exercise import Exercise
from ..operations import forward_and_backward

ROOT_2, ROOT_2_PI = math.sqrt(2), math.sqrt(2 * math.pi)

# ---- gelu


def cdf(x):
    return 0.5 * (1 + erf(x / ROOT_2))


def density(x):
    return np.exp(-0.5 * x * x) / ROOT_2_PI


def gate(forward=lambda x: x * cdf(x), back=lambda g, x: g * (cdf(x) + x * density(x))):
    """A `gelu` of which the way there or back can be replaced by a wrong one."""
    return lambda x: (forward(x), lambda g: back(g, x))


def quick(x):
    s = 1 / (1 + np.exp(-1.702 * x))
    return x * s, lambda g: g * (s + 1.702 * x * s * (1 - s))


def tanh_form(x):
    return kernels.gelu_tanh.reference(x), lambda g: kernels.gelu_tanh_backward.reference(x, g)


gelu = Exercise(
    "07.gelu",
    reference=gate(),
    outputs=("y", "dx"),
    run=forward_and_backward,
    cases=lambda rng: [
        ("x=0, 1, -1, 3", (np.array([0.0, 1, -1, 3]), np.array([1.0, 1, 1, 2]))),
        ("x (4, 5)", (rng.normal(size=(4, 5)), rng.normal(size=(4, 5)))),
        (
            "x (2, 3, 2) of float32",
            tuple(rng.normal(size=(2, 2, 3, 2)).astype(np.float32)),
        ),
    ],
    mistakes={
        "dx has only the first half of the product rule: x φ(x) is missing": gate(
            back=lambda g, x: g * cdf(x)
        ),
        "dx has only the second half of the product rule: Φ(x) is missing": gate(
            back=lambda g, x: g * x * density(x)
        ),
        "φ is added without its x: the second term is x φ(x)": gate(
            back=lambda g, x: g * (cdf(x) + density(x))
        ),
        "you forgot g: the slope is right, and each is multiplied by g": gate(
            back=lambda g, x: cdf(x) + x * density(x)
        ),
        "φ is not normalized: 1/√(2π) is missing": gate(
            back=lambda g, x: g * (cdf(x) + x * np.exp(-0.5 * x * x))
        ),
        "in φ the exponent is −x²/2, not −x²": gate(
            back=lambda g, x: g * (cdf(x) + x * np.exp(-x * x) / ROOT_2_PI)
        ),
        "in φ the π is outside the square root: it is 1/√(2π)": gate(
            back=lambda g, x: g * (cdf(x) + x * np.exp(-0.5 * x * x) / (ROOT_2 * math.pi))
        ),
        "y uses erf(x); Φ has erf(x/√2)": gate(lambda x: 0.5 * x * (1 + erf(x))),
        "y is twice too large: Φ has a ½ in front": gate(lambda x: x * (1 + erf(x / ROOT_2))),
        "y is Φ(x) alone; the gate is multiplied by x": gate(cdf),
        "in φ a 2 is missing under the root: it is 1/√(2π)": gate(
            back=lambda g, x: g * (cdf(x) + x * np.exp(-0.5 * x * x) / math.sqrt(math.pi))
        ),
        "g multiplies only the first term: the whole slope is multiplied by g": gate(
            back=lambda g, x: g * cdf(x) + x * density(x)
        ),
        "in φ the exponent is negative, −x²/2": gate(
            back=lambda g, x: g * (cdf(x) + x * np.exp(0.5 * x * x) / ROOT_2_PI)
        ),
        "the slope is multiplied by x once too often": gate(
            back=lambda g, x: g * x * (cdf(x) + x * density(x))
        ),
        "this is the sigmoid form, x σ(1.702 x), right to two digits; the exact form is asked "
        "for": quick,
        "this is the tanh form, right to three digits; use the exact form": tanh_form,
    },
)


# ---- batch normalization as a graph


def on_tensors(answer, x, gamma, beta, g, eps):
    """Forward on tensors, and what the tape makes of it."""
    tensors = [Tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y = answer(*tensors, eps)
    if y is None:
        return None
    if not isinstance(y, Tensor):
        raise TypeError(f"the result is a {type(y).__name__}, expected a Tensor")
    if y.shape != x.shape:
        raise ValueError(f"the result has shape {y.shape}, expected {x.shape}")
    y.backward(g)
    return y, *(np.zeros_like(t.array) if t.grad is None else t.grad for t in tensors)


def graph(
    axes=lambda x: tuple(range(x.ndim - 1)),
    spread=lambda centered, axes, eps: ((centered * centered).mean(axis=axes) + eps).sqrt(),
    mean=lambda x, axes: x.mean(axis=axes),
    affine=lambda normal, gamma, beta: gamma * normal + beta,
):
    """A `batch_norm` of which one step can be replaced by a wrong one."""

    def batch_norm(x, gamma, beta, eps=1e-5):
        over = axes(x)
        centered = x - mean(x, over)
        return affine(centered / spread(centered, over, eps), gamma, beta)

    return batch_norm


def per_row(x, gamma, beta, eps=1e-5):
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered * centered).mean(axis=-1, keepdims=True)
    return gamma * (centered / (variance + eps).sqrt()) + beta


def constant(t):
    return Tensor(t.array)


def unbiased(centered, axes, eps):
    m = centered.size // centered.shape[-1]
    return ((centered * centered).sum(axis=axes) / (m - 1) + eps).sqrt()


def norm_case(rng, shape, eps):
    c = shape[-1]
    x, g = rng.normal(2, 3, shape), rng.normal(size=shape)
    return f"x {shape}, eps={eps}", (x, rng.normal(size=c), rng.normal(size=c), g, eps)


batch_norm = Exercise(
    "07.batch_norm",
    reference=graph(),
    outputs=("y", "x.grad", "gamma.grad", "beta.grad"),
    run=on_tensors,
    cases=lambda rng: [
        norm_case(rng, (8, 3), 1e-5),
        norm_case(rng, (2, 3, 4, 5), 0.5),
        norm_case(rng, (4, 2, 2, 3), 1e-5),
    ],
    mistakes={
        "the statistics are over the images only: take all axes but the last": graph(
            axes=lambda x: (0,)
        ),
        "each row is normalized over its channels, which is layer normalization; batch "
        "normalization takes each channel over all rows": per_row,
        "there is one mean for all channels; each channel has its own": graph(
            axes=lambda x: tuple(range(x.ndim))
        ),
        "eps belongs inside the root: √(σ² + ε)": graph(
            spread=lambda centered, axes, eps: (centered * centered).mean(axis=axes).sqrt() + eps
        ),
        "eps is missing under the root": graph(
            spread=lambda centered, axes, eps: (centered * centered).mean(axis=axes).sqrt()
        ),
        "this divides by the variance: its root is missing": graph(
            spread=lambda centered, axes, eps: (centered * centered).mean(axis=axes) + eps
        ),
        "the variance is the mean of the squares, over M, not M − 1": graph(spread=unbiased),
        "y has no gamma and no beta": graph(affine=lambda normal, gamma, beta: normal),
        "gamma and beta are swapped: gamma multiplies, beta is added": graph(
            affine=lambda normal, gamma, beta: beta * normal + gamma
        ),
        "the result is right, but the tape does not know that mean and variance depend on x: "
        "compute them from tensors, without .array": graph(
            mean=lambda x, axes: constant(x.mean(axis=axes)),
            spread=lambda centered, axes, eps: constant(
                ((centered * centered).mean(axis=axes) + eps).sqrt()
            ),
        ),
        "the tape does not know that the variance depends on x: compute it from tensors, without "
        ".array": graph(
            spread=lambda centered, axes, eps: constant(
                ((centered * centered).mean(axis=axes) + eps).sqrt()
            ),
        ),
    },
)


# ---- batch normalization in closed form


def closed(
    dx=lambda g, normal, dgamma, dbeta, m: g - dbeta / m - normal * dgamma / m,
    dgamma=lambda g, normal: (g * normal).sum(axis=0),
    dbeta=lambda g: g.sum(axis=0),
    scale=lambda gamma, rstd: gamma * rstd,
):
    """dx from the right dβ and dγ, so that each mistake stays in its own output."""

    def batch_norm_backward(g, normal, gamma, rstd):
        right = (g * normal).sum(axis=0), g.sum(axis=0)
        inner = dx(g, normal, *right, g.dtype.type(len(g)))
        return scale(gamma, rstd) * inner, dgamma(g, normal), dbeta(g)

    return batch_norm_backward


def backward_case(rng, m, c, dtype=np.float64):
    x, g = rng.normal(1, 2, (m, c)), rng.normal(0.5, 1, (m, c))
    rstd = 1 / np.sqrt(x.var(axis=0) + 1e-5)
    given = (g, (x - x.mean(axis=0)) * rstd, rng.normal(size=c), rstd)
    kind = " of float32" if dtype == np.float32 else ""
    return f"M={m}, C={c}{kind}", tuple(a.astype(dtype) for a in given)


batch_norm_backward = Exercise(
    "07.batch_norm_backward",
    reference=closed(),
    outputs=("dx", "dgamma", "dbeta"),
    cases=lambda rng: [
        backward_case(rng, 4, 1),
        backward_case(rng, 7, 3),
        backward_case(rng, 30, 5, np.float32),
    ],
    mistakes={
        "dx treats mean and variance as constants, which is right in eval mode only: two terms "
        "are missing": closed(lambda g, normal, dgamma, dbeta, m: g),
        "in dx the term for the variance is missing: x̂ dγ/M": closed(
            lambda g, normal, dgamma, dbeta, m: g - dbeta / m
        ),
        "in dx the term for the mean is missing: dβ/M": closed(
            lambda g, normal, dgamma, dbeta, m: g - normal * dgamma / m
        ),
        "in dx dβ is not divided by M": closed(
            lambda g, normal, dgamma, dbeta, m: g - dbeta - normal * dgamma / m
        ),
        "in dx dγ is not divided by M": closed(
            lambda g, normal, dgamma, dbeta, m: g - dbeta / m - normal * dgamma
        ),
        "in dx the sums are not divided by M": closed(
            lambda g, normal, dgamma, dbeta, m: g - dbeta - normal * dgamma
        ),
        "in dx the last term lacks its x̂": closed(
            lambda g, normal, dgamma, dbeta, m: g - dbeta / m - dgamma / m
        ),
        "in dx a sign is wrong: both terms are subtracted": closed(
            lambda g, normal, dgamma, dbeta, m: g - dbeta / m + normal * dgamma / m
        ),
        "in dx gamma is missing": closed(scale=lambda gamma, rstd: rstd),
        "in dx 1/√(σ²+ε) is missing": closed(scale=lambda gamma, rstd: gamma),
        "in dx rstd divides; it is 1/√(σ²+ε) already, so multiply": closed(
            scale=lambda gamma, rstd: gamma / rstd
        ),
        "dgamma and dbeta are swapped: the order is dx, dgamma, dbeta": (
            lambda g, normal, gamma, rstd: [closed()(g, normal, gamma, rstd)[i] for i in (0, 2, 1)]
        ),
        "dgamma is Σ g x̂, not Σ g": closed(dgamma=lambda g, normal: g.sum(axis=0)),
        "dgamma is a mean; the gradients of all uses of γ add up, so sum": closed(
            dgamma=lambda g, normal: (g * normal).mean(axis=0)
        ),
        "dbeta is a mean; the gradients of all uses of β add up, so sum": closed(
            dbeta=lambda g: g.mean(axis=0)
        ),
        "dbeta is not summed over the batch": closed(dbeta=lambda g: g),
        "dgamma is not summed over the batch": closed(dgamma=lambda g, normal: g * normal),
    },
)


# ---- running statistics


def moving(
    share=lambda old, new, momentum: (1 - momentum) * old + momentum * new,
    variance=lambda rows: rows.var(axis=0, ddof=1),
):
    def running_statistics(mean, var, x, momentum):
        batch = x.reshape(-1, x.shape[-1])
        return share(mean, batch.mean(axis=0), momentum), share(var, variance(batch), momentum)

    return running_statistics


def statistics_case(rng, shape, momentum, dtype=np.float64):
    c = shape[-1]
    given = rng.normal(size=c), rng.uniform(0.5, 2, c), rng.normal(2, 3, shape)
    kind = ", float32" if dtype == np.float32 else ""
    return f"x {shape}, momentum={momentum}{kind}", (*(a.astype(dtype) for a in given), momentum)


running_statistics = Exercise(
    "07.running_statistics",
    reference=moving(),
    outputs=("the running mean", "the running variance"),
    cases=lambda rng: [
        statistics_case(rng, (4, 1), 0.1),
        statistics_case(rng, (3, 2), 0.1),
        statistics_case(rng, (2, 2, 3, 3), 0.25),
        statistics_case(rng, (2, 3, 2, 4), 0.1, np.float32),
    ],
    mistakes={
        "the weights of old and new are swapped: momentum is the weight of the new batch, 1 − "
        "momentum that of the old value": moving(
            share=lambda old, new, momentum: momentum * old + (1 - momentum) * new
        ),
        "the running variance uses the variance divided by M; the unbiased one "
        "divides by M − 1": moving(variance=lambda rows: rows.var(axis=0)),
        "the correction is the wrong way round: the unbiased variance is larger, by "
        "M/(M − 1)": moving(variance=lambda rows: rows.var(axis=0) * (len(rows) - 1) / len(rows)),
        "the running variance moves toward the standard deviation: keep the square": moving(
            variance=lambda rows: rows.std(axis=0, ddof=1)
        ),
        "these are the statistics of the batch alone: the old values are missing": moving(
            share=lambda old, new, momentum: new
        ),
        "the old value was not scaled down: multiply it by (1 − momentum)": moving(
            share=lambda old, new, momentum: old + momentum * new
        ),
        "this moves away from the batch: + momentum · (batch − old)": moving(
            share=lambda old, new, momentum: old - momentum * (new - old)
        ),
    },
)

EXERCISES = [gelu, batch_norm, batch_norm_backward, running_statistics]
