"""Lesson 00, start here: how an exercise works."""

from __future__ import annotations

import numpy as np

from ..exercise import Exercise


def accuracy_by(predict=lambda logits: logits.argmax(axis=1), share=np.mean):
    return lambda logits, labels: share(predict(logits) == labels)


def largest_equals_label(logits, labels):
    return np.mean(logits.max(axis=1) == labels)


accuracy = Exercise(
    "00.accuracy",
    reference=accuracy_by(),
    cases=lambda rng: [
        (
            "two of three right",
            (np.array([[0.1, 2.0], [5.0, 1.0], [0.0, 0.5]]), np.array([1, 0, 0])),
        ),
        ("200 rows of 3 classes", (rng.normal(size=(200, 3)), rng.integers(0, 3, 200))),
        ("50 rows of 10 classes", (rng.normal(size=(50, 10)), rng.integers(0, 10, 50))),
        (
            "3 rows of 3 classes, all right",
            (np.array([[0.0, 5, 2], [1, 0, 0], [0, 0, 1]]), np.array([1, 0, 2])),
        ),
    ],
    mistakes={
        "this is the number of right answers; divide by the number of pictures, "
        "or take the mean": accuracy_by(share=np.sum),
        "this is the fraction that is wrong": accuracy_by(share=lambda right: 1 - right.mean()),
        "this is in percent; a fraction lies between 0 and 1": accuracy_by(
            share=lambda right: 100 * right.mean()
        ),
        "this compares the largest logit with the label; its *position* is "
        "what counts: argmax": largest_equals_label,
        "the largest of all numbers is found; it should be the largest of each row: "
        "axis=1": accuracy_by(lambda logits: logits.argmax()),
        "the largest of each column is found; it should be that of each row: axis=1": accuracy_by(
            lambda logits: logits.argmax(axis=0)
        ),
        "this says of each row whether it is right; the fraction is the mean of that": (
            lambda logits, labels: logits.argmax(axis=1) == labels
        ),
        "what is larger than a threshold is not what is largest: argmax of the logits "
        "themselves": accuracy_by(lambda logits: (logits > 0.5).argmax(axis=1)),
        "argmin finds the smallest logit; the network's answer is the largest": accuracy_by(
            lambda logits: logits.argmin(axis=1)
        ),
    },
)

EXERCISES = [accuracy]
