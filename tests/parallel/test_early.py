"""Sums that begin during the backward pass: of which gradients, and what becomes of them."""

import sys
import types

import numpy as np
import pytest

import minimix as mx
from minimix.parallel import Ranks, early_sums


class Twice:
    """A communicator of two ranks that have the same numbers."""

    Get_rank, Get_size = (lambda self: 0), (lambda self: 2)

    def __init__(self):
        self.messages = []

    def Allreduce(self, _, array):
        self.messages.append(array.size)
        array *= 2

    def Iallreduce(self, _, array):
        self.Allreduce(_, array)
        return types.SimpleNamespace(Test=lambda: True, Wait=lambda: True)


@pytest.fixture
def ranks(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "mpi4py", types.SimpleNamespace(MPI=types.SimpleNamespace(IN_PLACE=None))
    )
    return Ranks(Twice())


def backward(ranks, model):
    """The gradients of one rank, and what they are after the sum."""
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype(np.float32)
    parameters = list(model.parameters())
    with early_sums(ranks) as early:
        loss = mx.functional.cross_entropy(mx.fuse(model)(mx.Tensor(x)), np.arange(4) % 2)
        loss.backward()
    alone = [None if p.grad is None else p.grad.copy() for p in parameters]
    numbers = ranks.sum_gradients(parameters, [1.5], early=early.finish())
    assert numbers == [3.0]
    return alone, [p.grad for p in parameters]


def net():
    return mx.ConvMixer(hidden_dim=4, depth=3, kernel_size=3, patch_size=2, n_classes=4, rng=0)


def test_the_gradients_of_a_block_are_sent_while_others_are_computed(ranks):
    with mx.backend("numpy"):
        alone, summed = backward(ranks, net())
    for a, b in zip(alone, summed, strict=True):
        np.testing.assert_array_equal(b, 2 * a)
    block = 3 * 3 * 4 + 4 * 4 + 6 * 4
    total = 3 * block + (2 * 2 * 3 * 4 + 3 * 4) + 4 * 4 + 4
    first, second, third, rest = ranks.communicator.messages
    assert (first, second, third) == (block, block, block)
    assert rest == total - 3 * block + 1 + 6  # a number, and whether each of 6 has a gradient


def test_a_parameter_that_is_used_elsewhere_too_waits_for_the_end(ranks):
    model = net()
    model.head.weight = model.blocks[1][1].weight  # (4, 4), as that of the head
    with mx.backend("numpy"):
        alone, summed = backward(ranks, model)
    for a, b in zip(alone, summed, strict=True):
        np.testing.assert_array_equal(b, 2 * a)
    assert len(ranks.communicator.messages) == 1


def test_a_frozen_parameter_gets_no_gradient(ranks):
    model = net()
    frozen = model.blocks[1][1].weight
    frozen.requires_grad = False
    with mx.backend("numpy"):
        alone, summed = backward(ranks, model)
    assert frozen.grad is None
    for a, b in zip(alone, summed, strict=True):
        assert b is None if a is None else np.array_equal(b, 2 * a)
