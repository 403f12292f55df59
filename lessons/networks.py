"""How a checker compares networks that a student builds."""

from __future__ import annotations

import numpy as np

from minimix import Tensor, nn, no_grad
from minimix.nn.module import observe


def tried(build, x, *args):
    """How many of its layers have parameters, and what a network makes of x both ways."""
    net = build(*args, rng=np.random.default_rng(0)).astype(np.float64)
    rng = np.random.default_rng(1)
    for p in net.parameters():
        p.array = rng.normal(size=p.shape)
    ran: list[nn.Module] = []
    with no_grad(), observe(lambda layer, inputs, output: ran.append(layer)):
        in_training = net.train()(Tensor(x)).array
    with no_grad():
        in_evaluation = net.eval()(Tensor(x)).array
    return sum(hasattr(layer, "weight") for layer in ran), in_training, in_evaluation


OUTPUTS = (
    "the number of layers with weights",
    "the result in training",
    "the result in evaluation",
)
