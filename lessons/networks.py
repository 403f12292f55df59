"""How a checker compares networks that a student builds."""

from __future__ import annotations

import numpy as np

from minimix import Tensor, nn, no_grad
from minimix.nn.module import observe


def tried(build, x, *args):
    """How many of its layers have parameters, what a network makes of x, and what the rng does."""
    nets = [build(*args, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    drawn = [np.concatenate([p.array.ravel() for p in net.parameters()]) for net in nets]
    again, other = (np.array_equal(drawn[0], weights) for weights in drawn[1:])
    net = nets[0].astype(np.float64)
    rng = np.random.default_rng(1)
    for p in net.parameters():
        p.array = rng.normal(size=p.shape)
    ran: list[nn.Module] = []
    with no_grad(), observe(lambda layer, inputs, output: ran.append(layer)):
        in_training = net.train()(Tensor(x)).array
    with no_grad():
        in_evaluation = net.eval()(Tensor(x)).array
    effect = "always the same weights" if other else "weights that follow from it"
    effect = effect if again else "other weights each time"
    return sum(hasattr(layer, "weight") for layer in ran), in_training, in_evaluation, effect


OUTPUTS = (
    "the number of layers with weights",
    "the result in training",
    "the result in evaluation",
    "the effect of rng",
)
