"""Lesson 12, break it. An answer is a test, and is itself tested, on known suspects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minimix import AdamW, ConvMixer, Tensor, gradcheck, kernels

from .. import broken
from ..exercise import Answer, Case, Exercise

# ---- what a test says of a suspect


def innocent(suspect):
    return suspect.__doc__ == broken.RIGHT


def verdict(test, suspect):
    """ "passes" or "fails". Of the right one an error is passed on, so that the student sees it."""
    try:
        test(suspect)
    except AssertionError:
        return "fails"
    except Exception as error:
        if innocent(suspect) or isinstance(error, NotImplementedError):
            raise
        return "fails"
    return "passes"


def knows(suspect):
    """The test that is always right: it asks the suspect."""
    assert innocent(suspect)


def line_up(suspects: Mapping[str, Any]):
    """A case for each suspect, the right one first."""
    order = sorted(suspects, key=lambda letter: not innocent(suspects[letter]))
    cases: list[Case] = [(f"suspect {letter}", (suspects[letter],)) for letter in order]
    return lambda rng: cases


def exercise(
    name: str,
    suspects: Mapping[str, Any],
    mistakes: Mapping[str, Answer],
    passes: str = "a test that cannot fail is not a test",
    fails: str = "see what it says about the correct one",
) -> Exercise:
    everything = {
        f"it passes everything: {passes}": lambda suspect: None,
        f"it fails everything, even the correct one: {fails}": fails_everything,
    }
    return Exercise(
        name,
        reference=knows,
        run=verdict,
        cases=line_up(suspects),
        mistakes={**everything, **mistakes},
        mend=False,
    )


def fails_everything(suspect):
    raise AssertionError


# ---- test_depthwise


def by_formula(x, w, b):
    """The library's, which its own tests hold to loops."""
    return kernels.depthwise_conv2d.reference(x, w) + b


def depthwise_test(sizes=(2, 3), n=2, oracle=True, gradients=True, equal_weights=False):
    def test_depthwise(op):
        rng = np.random.default_rng(0)
        for k in sizes:
            x, w, b = rng.normal(size=(n, 3, 4, 2)), rng.normal(size=(k, k, 2)), rng.normal(size=2)
            w = np.ones_like(w) if equal_weights else w
            y, right = op(x, w, b).array, by_formula(x, w, b)
            assert not oracle or np.allclose(y, right)
            if gradients:
                gradcheck(op, [x, w, b], whole=False)

    return test_depthwise


test_depthwise = exercise(
    "12.test_depthwise",
    broken.depthwise,
    {
        "this asks whether backward fits forward; a wrong forward with its correct gradient "
        "passes. Compare with by_formula, too": depthwise_test(oracle=False),
        "this checks forward only; check backward with gradcheck": depthwise_test(gradients=False),
        "no even kernel is tried; only there are the two sides padded differently": depthwise_test(
            sizes=(3,)
        ),
        "a kernel of equal numbers looks the same when flipped: draw it at random": depthwise_test(
            equal_weights=True
        ),
        "with a single image a mean over the images is a sum: try two": depthwise_test(n=1),
    },
)


# ---- test_batch_norm


def batch_norm_test(
    eps=0.5, memory=True, evaluation=True, gradients=True, biased_is_fine=False, ddof=1
):
    def test_batch_norm(op):
        rng = np.random.default_rng(0)
        x, gamma, beta = rng.normal(2, 3, (2, 3, 2, 2)), np.array([1.5, -0.5]), np.array([10, 20.0])
        mean, var, rows = np.zeros(2), np.ones(2), x.reshape(-1, 2)
        options = {"running_mean": mean, "running_var": var, "eps": eps}

        def normal(mean, var):
            return gamma * (x - mean) / np.sqrt(var + eps) + beta

        y = op(x, gamma, beta, **options)
        assert np.allclose(y.array, normal(rows.mean(0), rows.var(0)))
        if memory:
            assert np.allclose(mean, 0.1 * rows.mean(0))
            near = 0.1 if biased_is_fine else 1e-5
            assert np.allclose(var, 0.9 + 0.1 * rows.var(0, ddof=ddof), rtol=near)
        y = op(x, gamma, beta, **options, training=False)
        assert not evaluation or np.allclose(y.array, normal(mean, var))
        if gradients:
            inputs = [x, gamma, beta]
            gradcheck(lambda x, gamma, beta: op(x, gamma, beta, eps=eps), inputs, whole=False)

    return test_batch_norm


test_batch_norm = exercise(
    "12.test_batch_norm",
    broken.batch_norm,
    {
        "evaluation is not tested: call it with training=False, too": batch_norm_test(
            evaluation=False
        ),
        "backward is not tested: use gradcheck": batch_norm_test(gradients=False),
        "running_mean and running_var are not tested after the call": batch_norm_test(memory=False),
        "an ε of 0.00001 is too small to be seen: make it large, eps=0.5": batch_norm_test(
            eps=1e-5
        ),
        "the biased variance is expected of running_var, and so the correct one fails: "
        "ddof=1": batch_norm_test(ddof=0),
        "running_mean is tested, but running_var is not, or not closely enough: it should be the"
        " unbiased one": batch_norm_test(biased_is_fine=True),
    },
)


# ---- test_adamw


def first_step(make, gradient, lr, decay, n=2):
    before = np.random.default_rng(0).normal(size=(n, 3))
    parameters = [Tensor(row.copy(), requires_grad=True) for row in before]
    for p in parameters:
        p.grad = np.full(3, float(gradient))
    make(parameters, lr=lr, weight_decay=decay).step()
    return before, np.array([p.array for p in parameters])


def adamw_test(gradients=(-30.0, 1e-4), lr=0.1, decay=0.2, n=2, atol=1e-4):
    def test_adamw(make):
        for gradient in gradients:
            before, after = first_step(make, gradient, lr, 0.0, n)
            assert np.allclose(after, before - lr * np.sign(gradient), atol=atol)
        if decay:
            before, after = first_step(make, 0.0, lr, decay, n)
            assert np.allclose(after, before * (1 - lr * decay))

    return test_adamw


test_adamw = exercise(
    "12.test_adamw",
    broken.adamw,
    {
        "the decay is not tested: take a step with gradient 0 and weight_decay=0.2": adamw_test(
            decay=0
        ),
        "only the decay is tested: take a step without decay, too": adamw_test(gradients=()),
        "all gradients are large: ε matters only for small ones. Try 0.0001": adamw_test(
            gradients=(-30.0,)
        ),
        "with a learning rate of 1 it makes no difference whether the decay is "
        "multiplied by it": adamw_test(lr=1.0, atol=1e-3),
        "a single parameter cannot show that steps are counted per "
        "parameter: test several": adamw_test(n=1),
    },
    fails="with ε = 10⁻⁸ the step for a gradient of 0.0001 is 0.09999, so allow atol=1e-4",
)


# ---- test_classifier


def classifier_test(n=6, alone=True, unchanged=True):
    def test_classifier(classify):
        images = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
        kept = images.copy()
        together = classify(images)
        assert not unchanged or np.array_equal(images, kept)
        again = [classify(images[i : i + 1]) for i in range(n)] if alone else [classify(images)]
        assert np.allclose(together, np.concatenate(again), atol=1e-4)

    return test_classifier


test_classifier = exercise(
    "12.test_classifier",
    broken.classifiers,
    {
        "it is not tested whether the pictures were changed: keep a copy "
        "before the first call": classifier_test(unchanged=False),
        "does every picture get its scores? Classify a number that does not fill batches of 4 or"
        " 8, and compare the shapes": classifier_test(n=8),
        "classifying the same pictures twice shows randomness; whether they affect each other "
        "shows only when each is classified alone": classifier_test(alone=False),
    },
    fails="scores may differ by rounding: allow atol=1e-4",
)


# ---- test_learning


def tiny():
    rng = np.random.default_rng(0)
    model = ConvMixer(12, 1, kernel_size=3, patch_size=2, n_classes=10, rng=1)
    x = Tensor(rng.normal(size=(16, 8, 8, 3)).astype(np.float32))
    return model, AdamW(model.parameters(), lr=0.02), x, np.arange(16) % 10


def learning_test(count, line):
    def test_learning(step):
        batch = tiny()
        losses = [step(*batch) for _ in range(count)]
        assert losses[-1] < line

    return test_learning


test_learning = exercise(
    "12.test_learning",
    broken.steps,
    {
        "the threshold is so high that a step that trains only the last layer passes: how low "
        "does the correct one get?": learning_test(60, 1.2),
        "the threshold is so high that a step with an extra softmax passes: how low does the "
        "correct one get?": learning_test(60, 1.5),
    },
    passes="that the loss fell, or is finite, is not enough. How low is it at the end?",
    fails="take sixty steps, and choose a threshold that it can reach",
)

EXERCISES = [test_depthwise, test_batch_norm, test_adamw, test_classifier, test_learning]
