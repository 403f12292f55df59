"""mpiexec -n N python norms.py: batch norms that look at all ranks' images, against one process.

Every rank computes the whole batch by itself, then its shard together with the others.
"""

import numpy as np

import minimix.functional as F
from minimix import Tensor, models, nn
from minimix.fuse import fuse
from minimix.parallel import shard, synchronized, world

RANKS = world()


def gradients(model, x, targets, weight=1.0):
    """Of the loss times `weight`: the loss, and every gradient by name."""
    model.zero_grad()
    x = Tensor(x, requires_grad=True)
    loss = F.cross_entropy(model(x), targets)
    loss.backward(weight)
    return loss.item() * weight, x.grad, {n: p.grad for n, p in model.named_parameters()}


def check(make, n, size, *, wrap=lambda model: model, rtol=1e-11):
    """A model that `make` makes, on n images of this size."""
    rng = np.random.default_rng(0)
    x, targets = rng.normal(1, 2, (n, size, size, 3)), rng.integers(0, 4, n)
    whole, model = make(), make()
    loss, dx, expected = gradients(wrap(whole), x, targets)

    mine, weight, copies = shard(n, RANKS.rank, RANKS.size)
    with synchronized(RANKS, copies):
        found = gradients(wrap(model), x[mine], targets[mine], weight)
    total = RANKS.sum_gradients(list(model.parameters()), [found[0]])
    close = {"rtol": rtol, "atol": rtol}
    np.testing.assert_allclose(total, [loss], **close)
    np.testing.assert_allclose(found[1] * copies, dx[mine], **close)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, expected[name], err_msg=name, **close)
    for name, a in whole.state_dict().items():  # running statistics among them
        np.testing.assert_allclose(model.state_dict()[name], a, err_msg=name, **close)
    everybody = RANKS.gather([p.grad.tobytes() for p in model.parameters()])
    assert all(one == everybody[0] for one in everybody), "ranks differ in bits"


def mixer(hidden_dim=5, depth=2, patch_size=2):
    rng = np.random.default_rng(1)
    settings = {"kernel_size": 3, "patch_size": patch_size, "n_classes": 4, "rng": rng}
    model = models.ConvMixer(hidden_dim=hidden_dim, depth=depth, **settings)
    model.astype(np.float64)
    for p in model.parameters():
        p.array = p.array + 0.1 * rng.normal(size=p.shape)
    return model


def plain():
    rng = np.random.default_rng(1)
    layers = [nn.Patchify(3, 6, 2, rng=rng), nn.BatchNorm(6), nn.ReLU(), nn.GlobalAvgPool()]
    model = nn.Sequential(*layers, nn.Linear(6, 4, rng=rng))
    model.astype(np.float64)
    return model


for n in (12, 7, 2 * RANKS.size - 1, 2):
    check(plain, n, 4)
    check(mixer, n, 4)
    check(mixer, n, 4, wrap=fuse)
check(plain, 2 * RANKS.size + 1, 2)  # one value a channel in one of the shards
check(lambda: mixer(patch_size=4), 2 * RANKS.size + 1, 4, wrap=fuse)
if RANKS.first:
    print("batch norms agree")
