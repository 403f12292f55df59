"""Lesson 08, AdamW."""

from __future__ import annotations

import numpy as np

from ..check import Exercise


def arrays(rng, n, shape=(3,), dtype=np.float64):
    return tuple(rng.normal(size=shape).astype(dtype) for _ in range(n))


# ---- momentum


def rolling(
    velocity=lambda u, g, lr, mu: mu * u + g, step=lambda theta, g, u, old, lr: theta - lr * u
):
    """A `momentum` of which one line can be replaced by a wrong one."""

    def momentum(theta, g, u, lr, mu):
        new = velocity(u, g, lr, mu)
        return step(theta, g, new, u, lr), new

    return momentum


momentum = Exercise(
    "08.momentum",
    reference=rolling(),
    outputs=("theta", "u"),
    cases=lambda rng: [
        ("the first step, u=0", (*arrays(rng, 2), np.zeros(3), 0.1, 0.9)),
        ("a later step", (*arrays(rng, 3), 0.1, 0.9)),
        ("mu=0.5, shape (2, 3)", (*arrays(rng, 3, (2, 3)), 0.02, 0.5)),
        ("float32", (*arrays(rng, 3, (4,), np.float32), 0.3, 0.8)),
    ],
    mistakes={
        "g is multiplied by (1 − μ), as in an average; momentum adds g itself": rolling(
            lambda u, g, lr, mu: mu * u + (1 - mu) * g
        ),
        "u contains the learning rate: η belongs in the step of theta only": rolling(
            lambda u, g, lr, mu: mu * u + lr * g, lambda theta, g, u, old, lr: theta - u
        ),
        "u is right, but theta steps along g": rolling(
            step=lambda theta, g, u, old, lr: theta - lr * g
        ),
        "u is right, but theta steps along the old u": rolling(
            step=lambda theta, g, u, old, lr: theta - lr * old
        ),
        "theta goes uphill: it is theta − η u": rolling(
            step=lambda theta, g, u, old, lr: theta + lr * u
        ),
        "the friction is missing: μ u, not u": rolling(lambda u, g, lr, mu: u + g),
        "μ belongs to the old velocity, not to the gradient": rolling(
            lambda u, g, lr, mu: u + mu * g
        ),
        "the gradient slows the ball down instead of pushing it: μ u + g, and minus in "
        "theta": rolling(lambda u, g, lr, mu: mu * u - g),
    },
)


# ---- moments


def averages(
    first=lambda g, m, b1, b2: b1 * m + (1 - b1) * g,
    second=lambda g, v, b1, b2: b2 * v + (1 - b2) * g * g,
    unbias=lambda average, beta, t: average / (1 - beta**t),
    keep=lambda plain, corrected: plain,
):
    def moments(g, m, v, beta1, beta2, t):
        m, v = first(g, m, beta1, beta2), second(g, v, beta1, beta2)
        m_hat, v_hat = unbias(m, beta1, t), unbias(v, beta2, t)
        return keep(m, m_hat), keep(v, v_hat), m_hat, v_hat

    return moments


def from_the_old(g, m, v, beta1, beta2, t):
    new_m, new_v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    return new_m, new_v, m / (1 - beta1**t), v / (1 - beta2**t)


def later(rng, t, shape=(3,), dtype=np.float64, betas=(0.9, 0.999)):
    g, m, v = arrays(rng, 3, shape, dtype)
    return g, m, v * v, *betas, t


moments = Exercise(
    "08.moments",
    reference=averages(),
    outputs=("m", "v", "m_hat", "v_hat"),
    cases=lambda rng: [
        ("t=1, from zeros", (*arrays(rng, 1), np.zeros(3), np.zeros(3), 0.9, 0.999, 1)),
        ("t=5", later(rng, 5)),
        ("t=2, beta1=0.5, beta2=0.8", later(rng, 2, (2, 3), betas=(0.5, 0.8))),
        ("t=40, float32", later(rng, 40, (4,), np.float32)),
    ],
    mistakes={
        "v averages g, not its square": averages(second=lambda g, v, b1, b2: b2 * v + (1 - b2) * g),
        "v is squared after averaging; average the squares": averages(
            second=lambda g, v, b1, b2: b2 * v + ((1 - b2) * g) ** 2
        ),
        "in m the weights are swapped: β₁ belongs to the old average": averages(
            first=lambda g, m, b1, b2: (1 - b1) * m + b1 * g
        ),
        "in v the weights are swapped: β₂ belongs to the old average": averages(
            second=lambda g, v, b1, b2: (1 - b2) * v + b2 * g * g
        ),
        "m adds g itself; it should add (1 − β₁) g": averages(
            first=lambda g, m, b1, b2: b1 * m + g
        ),
        "v adds g² itself; it should add (1 − β₂) g²": averages(
            second=lambda g, v, b1, b2: b2 * v + g * g
        ),
        "v uses β₁ instead of β₂": averages(second=lambda g, v, b1, b2: b1 * v + (1 - b1) * g * g),
        "m_hat and v_hat are not corrected: divide by 1 − βᵗ": averages(
            unbias=lambda average, beta, t: average
        ),
        "the correction divides by 1 − β at every step; the power t is missing": averages(
            unbias=lambda average, beta, t: average / (1 - beta)
        ),
        "the correction counts from 0 (1 − βᵗ⁺¹ or βᵗ⁻¹); the first step has t = 1": averages(
            unbias=lambda average, beta, t: average / (1 - beta ** (t + 1))
        ),
        "the correction multiplies; the averages are too small, so divide": averages(
            unbias=lambda average, beta, t: average * (1 - beta**t)
        ),
        "the correction divides by 1 − β t; it is a power, β**t": averages(
            unbias=lambda average, beta, t: average / (1 - beta * t)
        ),
        "m and v are returned corrected: pass the uncorrected ones on to the next step": averages(
            keep=lambda plain, corrected: corrected
        ),
        "m_hat and v_hat are computed from the old averages": from_the_old,
    },
)


# ---- adam and adamw


def stepper(
    direction=lambda g, m, m_hat: m_hat,
    scale=lambda v, v_hat, eps: np.sqrt(v_hat) + eps,
    sign=-1,
    before=lambda theta, g, lr, decay: (theta, g),
    after=lambda theta, old, lr, decay: theta,
):
    """Adam and AdamW, of which one line can be replaced by a wrong one."""

    def adamw(theta, g, m, v, t, lr, decay, beta1=0.9, beta2=0.999, eps=1e-8):
        old = theta
        theta, g = before(theta, g, lr, decay)
        m, v, m_hat, v_hat = averages()(g, m, v, beta1, beta2, t)
        theta = theta + sign * lr * direction(g, m, m_hat) / scale(v, v_hat, eps)
        return after(theta, old, lr, decay), m, v

    return adamw


def without_decay(step):
    return lambda theta, g, m, v, t, lr, *rest: step(theta, g, m, v, t, lr, 0.0, *rest)


def corrected(g, m, v, t, beta1, beta2):
    return averages()(g, m, v, beta1, beta2, t)[2:]


def keeps_corrected(theta, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    theta, *_ = without_decay(stepper())(theta, g, m, v, t, lr, beta1, beta2, eps)
    return theta, *corrected(g, m, v, t, beta1, beta2)


def adam_case(rng, t, lr, *decay, shape=(3,), dtype=np.float64, rest=(0.9, 0.999, 1e-8)):
    theta, g, m, v = arrays(rng, 4, shape, dtype)
    return theta, g, m, v * v, t, lr, *decay, *rest


adam = Exercise(
    "08.adam",
    reference=without_decay(stepper()),
    outputs=("theta", "m", "v"),
    cases=lambda rng: [
        ("t=1, from zeros", (*arrays(rng, 2), np.zeros(3), np.zeros(3), 1, 0.1, 0.9, 0.999, 1e-8)),
        ("t=7", adam_case(rng, 7, 0.01)),
        ("t=3, eps=0.5", adam_case(rng, 3, 0.1, rest=(0.8, 0.9, 0.5))),
        ("t=20, float32", adam_case(rng, 20, 0.1, shape=(2, 3), dtype=np.float32)),
    ],
    mistakes={
        "the step uses m and v uncorrected: use m_hat and v_hat": without_decay(
            stepper(lambda g, m, m_hat: m, lambda v, v_hat, eps: np.sqrt(v) + eps)
        ),
        "the direction is m, uncorrected: m_hat": without_decay(stepper(lambda g, m, m_hat: m)),
        "the scale is v, uncorrected: v_hat": without_decay(
            stepper(scale=lambda v, v_hat, eps: np.sqrt(v) + eps)
        ),
        "the direction is g itself; Adam follows its average, m_hat": without_decay(
            stepper(lambda g, m, m_hat: g)
        ),
        "the square root is missing: the size of a gradient is √v_hat": without_decay(
            stepper(scale=lambda v, v_hat, eps: v_hat + eps)
        ),
        "eps is inside the square root; it belongs outside: √v_hat + ε": without_decay(
            stepper(scale=lambda v, v_hat, eps: np.sqrt(v_hat + eps))
        ),
        "eps is missing": without_decay(stepper(scale=lambda v, v_hat, eps: np.sqrt(v_hat))),
        "theta goes uphill: minus": without_decay(stepper(sign=1)),
        "m and v are returned corrected: keep the uncorrected ones for the next "
        "step": keeps_corrected,
    },
)

shrink = stepper(before=lambda theta, g, lr, decay: ((1 - lr * decay) * theta, g))

adamw = Exercise(
    "08.adamw",
    reference=shrink,
    outputs=("theta", "m", "v"),
    cases=lambda rng: [
        (
            "t=1, from zeros",
            (*arrays(rng, 2), np.zeros(3), np.zeros(3), 1, 0.1, 0.3, 0.9, 0.999, 1e-8),
        ),
        ("t=7", adam_case(rng, 7, 0.2, 0.5)),
        ("t=3, eps=0.5", adam_case(rng, 3, 0.1, 0.2, rest=(0.8, 0.9, 0.5))),
        ("t=20, float32", adam_case(rng, 20, 0.1, 0.4, shape=(2, 3), dtype=np.float32)),
    ],
    mistakes={
        "the decay is in the gradient: that is Adam with L2; m and v "
        "should not contain it": stepper(
            before=lambda theta, g, lr, decay: (theta, g + decay * theta)
        ),
        "the decay is in the gradient, and scaled by η as well; shrink theta itself": stepper(
            before=lambda theta, g, lr, decay: (theta, g + lr * decay * theta)
        ),
        "nothing decays: this is Adam": stepper(),
        "the decay is not scaled by the learning rate: 1 − η λ": stepper(
            before=lambda theta, g, lr, decay: ((1 - decay) * theta, g)
        ),
        "theta was multiplied by η λ; multiply it by 1 − η λ": stepper(
            before=lambda theta, g, lr, decay: (lr * decay * theta, g)
        ),
        "the weights grow: 1 − η λ, not 1 + η λ": stepper(
            before=lambda theta, g, lr, decay: ((1 + lr * decay) * theta, g)
        ),
        "the decay comes after the step and shrinks the step too: decay first": stepper(
            after=lambda theta, old, lr, decay: (1 - lr * decay) * theta
        ),
    },
)

EXERCISES = [momentum, moments, adam, adamw]
