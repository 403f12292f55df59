"""Lesson 08, AdamW."""

from __future__ import annotations

import numpy as np

from ..exercise import Exercise, edited
from ..operations import drawn

# ---- right answers; each mistake below is an edit of one of them


def momentum(theta, g, u, lr, mu):
    u = mu * u + g
    return theta - lr * u, u


def moments(g, m, v, beta1, beta2, t):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return m, v, m / (1 - beta1**t), v / (1 - beta2**t)


def adam(theta, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m, v, m_hat, v_hat = moments(g, m, v, beta1, beta2, t)
    return theta - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def adamw(theta, g, m, v, t, lr, decay, beta1=0.9, beta2=0.999, eps=1e-8):
    theta = (1 - lr * decay) * theta
    return adam(theta, g, m, v, t, lr, beta1, beta2, eps)


# ---- cases


def averages(rng, t, shape=(3,), dtype=np.float64, betas=(0.9, 0.999)):
    g, m, v = drawn(rng, shape, shape, shape, dtype=dtype)
    return g, m, v * v, *betas, t


def step(rng, t, lr, *decay, shape=(3,), dtype=np.float64, rest=(0.9, 0.999, 1e-8)):
    theta, g, m, v = drawn(rng, *[shape] * 4, dtype=dtype)
    return theta, g, m, v * v, t, lr, *decay, *rest


def first_step(rng, *settings):
    """theta and g at random, m and v still 0."""
    return *drawn(rng, (3,), (3,)), np.zeros(3), np.zeros(3), 1, *settings


EXERCISES = [
    Exercise(
        "08.momentum",
        reference=momentum,
        outputs=("theta", "u"),
        cases=lambda rng: [
            ("the first step, u=0", (*drawn(rng, (3,), (3,)), np.zeros(3), 0.1, 0.9)),
            ("a later step", (*drawn(rng, (3,), (3,), (3,)), 0.1, 0.9)),
            ("mu=0.5, shape (2, 3)", (*drawn(rng, (2, 3), (2, 3), (2, 3)), 0.02, 0.5)),
            ("float32", (*drawn(rng, (4,), (4,), (4,), dtype=np.float32), 0.3, 0.8)),
        ],
        mistakes=edited(
            momentum,
            {
                "g is multiplied by (1 − μ), as in an average; momentum adds g itself": (
                    *("+ g", "+ (1 - mu) * g"),
                ),
                "u contains the learning rate: η belongs in the step of theta only": (
                    *("+ g", "+ lr * g", "theta - lr * u", "theta - u"),
                ),
                "this is the other convention, u = μ u − η g and θ + u (CS231n); here u adds up "
                "gradients, and η and the minus are in the step of theta": (
                    *("+ g", "- lr * g", "theta - lr * u", "theta + u"),
                ),
                "this is Nesterov's step: plain momentum steps along u": (
                    *("lr * u", "lr * (g + mu * u)"),
                ),
                "u is right, but theta steps along g": ("lr * u", "lr * g"),
                "u is right, but theta steps along the old u": (
                    *("u = mu * u + g", "new = mu * u + g", "lr * u, u", "lr * u, new"),
                ),
                "theta goes uphill: it is theta − η u": ("theta - lr", "theta + lr"),
                "the friction is missing: μ u, not u": ("mu * u", "u"),
                "μ belongs to the old velocity, not to the gradient": ("mu * u + g", "u + mu * g"),
                "the gradient slows the ball down instead of pushing it: μ u + g, and minus in "
                "theta": ("+ g", "- g"),
            },
        ),
    ),
    Exercise(
        "08.moments",
        reference=moments,
        outputs=("m", "v", "m_hat", "v_hat"),
        cases=lambda rng: [
            ("t=1, from zeros", (*drawn(rng, (3,)), np.zeros(3), np.zeros(3), 0.9, 0.999, 1)),
            ("t=5", averages(rng, 5)),
            ("t=2, beta1=0.5, beta2=0.8", averages(rng, 2, (2, 3), betas=(0.5, 0.8))),
            ("t=40, float32", averages(rng, 40, (4,), np.float32)),
        ],
        mistakes=edited(
            moments,
            {
                "v averages g, not its square": ("g * g", "g"),
                "v averages the absolute value of g, not its square": ("g * g", "abs(g)"),
                "v is squared after averaging; average the squares": (
                    *("(1 - beta2) * g * g", "((1 - beta2) * g) ** 2"),
                ),
                "in m the weights are swapped: β₁ belongs to the old average": (
                    *("beta1 * m + (1 - beta1) * g", "(1 - beta1) * m + beta1 * g"),
                ),
                "in v the weights are swapped: β₂ belongs to the old average": (
                    *("beta2 * v + (1 - beta2) * g", "(1 - beta2) * v + beta2 * g"),
                ),
                "m adds g itself; it should add (1 − β₁) g": ("(1 - beta1) * g", "g"),
                "v adds g² itself; it should add (1 − β₂) g²": ("(1 - beta2) * g * g", "g * g"),
                "v uses β₁ instead of β₂": (
                    *("beta2 * v + (1 - beta2)", "beta1 * v + (1 - beta1)"),
                ),
                "m_hat and v_hat are not corrected: divide by 1 − βᵗ": (
                    *(" / (1 - beta1**t)", "", " / (1 - beta2**t)", ""),
                ),
                "the correction divides by 1 − β at every step; the power t is missing": (
                    *("beta1**t", "beta1", "beta2**t", "beta2"),
                ),
                "both corrections use β₁: v is divided by 1 − β₂ᵗ": ("beta2**t", "beta1**t"),
                "the correction counts from 0, with t + 1: the first step has t = 1 already": (
                    *("beta1**t", "beta1 ** (t + 1)", "beta2**t", "beta2 ** (t + 1)"),
                ),
                "the correction counts from 0, with t − 1: the first step has t = 1 already": (
                    *("beta1**t", "beta1 ** (t - 1)", "beta2**t", "beta2 ** (t - 1)"),
                ),
                "the correction multiplies; the averages are too small, so divide": (
                    *("m / (1", "m * (1", "v / (1", "v * (1"),
                ),
                "the correction divides by 1 − β t; it is a power, β**t": (
                    *("beta1**t", "beta1 * t", "beta2**t", "beta2 * t"),
                ),
                "m and v are returned corrected: pass the uncorrected ones on to the next step": (
                    *("return m, v,", "return m / (1 - beta1**t), v / (1 - beta2**t),"),
                ),
                "m_hat and v_hat are computed from the old averages": (
                    *("    m =", "    old_m, old_v = m, v\n    m ="),
                    *("m / (1", "old_m / (1", "v / (1", "old_v / (1"),
                ),
                "the order is m, v, m_hat, v_hat": (
                    *("m, v, m / (1 - beta1**t), v", "m, m / (1 - beta1**t), v, v"),
                ),
            },
        ),
    ),
    Exercise(
        "08.adam",
        reference=adam,
        outputs=("theta", "m", "v"),
        cases=lambda rng: [
            ("t=1, from zeros", first_step(rng, 0.1, 0.9, 0.999, 1e-8)),
            ("t=7", step(rng, 7, 0.01)),
            ("t=3, eps=0.5", step(rng, 3, 0.1, rest=(0.8, 0.9, 0.5))),
            ("t=20, float32", step(rng, 20, 0.1, shape=(2, 3), dtype=np.float32)),
        ],
        mistakes=edited(
            adam,
            {
                "the step uses m and v uncorrected: use m_hat and v_hat": (
                    *("lr * m_hat", "lr * m", "sqrt(v_hat)", "sqrt(v)"),
                ),
                "the direction is m, uncorrected: m_hat": ("lr * m_hat", "lr * m"),
                "the scale is v, uncorrected: v_hat": ("sqrt(v_hat)", "sqrt(v)"),
                "the direction is g itself; Adam follows its average, m_hat": (
                    *("lr * m_hat", "lr * g"),
                ),
                "the square root is missing: the size of a gradient is √v_hat": (
                    *("np.sqrt(v_hat)", "v_hat"),
                ),
                "eps is inside the square root; it belongs outside: √v_hat + ε": (
                    *("(np.sqrt(v_hat) + eps)", "np.sqrt(v_hat + eps)"),
                ),
                "eps is missing": (" + eps", ""),
                "eps is added to the step, not to the root: parentheses are missing, "
                "/ (√v_hat + ε)": ("(np.sqrt(v_hat) + eps)", "np.sqrt(v_hat) + eps"),
                "beta1 and beta2 are ignored: pass them on to moments": (
                    *("beta1, beta2, t)\n", "0.9, 0.999, t)\n"),
                ),
                "the order that moments returns is m, v, m_hat, v_hat": (
                    *("m, v, m_hat, v_hat =", "m, m_hat, v, v_hat ="),
                ),
                "theta goes uphill: minus": ("theta - lr", "theta + lr"),
                "m and v are returned corrected: keep the uncorrected ones for the next step": (
                    *("+ eps), m, v", "+ eps), m_hat, v_hat"),
                ),
            },
        ),
    ),
    Exercise(
        "08.adamw",
        reference=adamw,
        outputs=("theta", "m", "v"),
        cases=lambda rng: [
            ("t=1, from zeros", first_step(rng, 0.1, 0.3, 0.9, 0.999, 1e-8)),
            ("t=7", step(rng, 7, 0.2, 0.5)),
            ("t=3, eps=0.5", step(rng, 3, 0.1, 0.2, rest=(0.8, 0.9, 0.5))),
            ("t=20, float32", step(rng, 20, 0.1, 0.4, shape=(2, 3), dtype=np.float32)),
        ],
        mistakes=edited(
            adamw,
            {
                "the decay is in the gradient: that is Adam with L2; m and v should not contain "
                "it": ("theta = (1 - lr * decay) * theta", "g = g + decay * theta"),
                "the decay is in the gradient, and scaled by η as well; shrink theta itself": (
                    *("theta = (1 - lr * decay) * theta", "g = g + lr * decay * theta"),
                ),
                "beta1, beta2 and eps are ignored: pass them on to adam": (
                    *("t, lr, beta1, beta2, eps)", "t, lr)"),
                ),
                "nothing decays: this is Adam": ("(1 - lr * decay) * theta", "theta"),
                "the decay is not scaled by the learning rate: 1 − η λ": ("lr * decay", "decay"),
                "theta was multiplied by η λ; multiply it by 1 − η λ": ("(1 - lr", "(lr"),
                "the weights grow: 1 − η λ, not 1 + η λ": ("1 - lr", "1 + lr"),
                "the decay comes after the step and shrinks the step too: decay first": (
                    *("theta = (1 - lr * decay) * theta\n    return", "theta, m, v ="),
                    *("beta2, eps)", "beta2, eps)\n    return (1 - lr * decay) * theta, m, v"),
                ),
            },
        ),
    ),
]
