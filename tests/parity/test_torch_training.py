"""Whole trainings against PyTorch's: the same weights in, twenty steps, the same weights out."""

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="parity needs PyTorch: python -m pip install -e '.[parity]'"
)

from torch_convmixer import ChannelNorm, authors, images  # noqa: E402

import minimix as mx  # noqa: E402
from minimix import from_torch  # noqa: E402

torch.set_num_threads(1)  # their threads and ours would wait for each other
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

STEPS = 20
SHAPE = 8, 2, 5, 2, 6  # h, d, k, p, n
NORMS = {"batch": torch.nn.BatchNorm2d, "layer": ChannelNorm}


def batches(n=6, size=16):
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        yield rng.standard_normal((12, size, size, 3)), rng.integers(0, n, 12)


def twins(shape=SHAPE, norm="batch"):
    torch.manual_seed(0)
    theirs = authors(*shape, torch.nn.GELU, NORMS[norm])
    ours = mx.ConvMixer(*shape, norm=norm, rng=1).astype(np.float64)
    ours.load_state_dict(from_torch(theirs.state_dict(), ours))
    return ours, theirs


def steps(ours, theirs, our_optimizer, their_optimizer, agree, *, max_norm=None, rates=None):
    clipped = 0
    for i, (x, labels) in enumerate(batches()):
        if rates:
            our_optimizer.lr = rates(i)
            for group in their_optimizer.param_groups:
                group["lr"] = rates(i)
        our_optimizer.zero_grad()
        their_optimizer.zero_grad()
        loss = mx.functional.cross_entropy(ours(mx.Tensor(x)), labels, label_smoothing=0.1)
        other = torch.nn.functional.cross_entropy(
            theirs(images(x)), torch.tensor(labels), label_smoothing=0.1
        )
        agree(loss.array, other, 1e-10, f"loss of step {i}")
        loss.backward()
        other.backward()
        if max_norm:
            norm = mx.optim.clip_grad_norm(ours.parameters(), max_norm)
            their_norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
            assert norm == pytest.approx(their_norm.item(), rel=1e-9)
            clipped += norm > max_norm
        our_optimizer.step()
        their_optimizer.step()
    assert clipped > 5 or not max_norm


def agree_on_everything(ours, theirs, agree):
    """Weights and running statistics after the steps, and what the models then say."""
    mine, other = ours.state_dict(), from_torch(theirs.state_dict(), ours)
    assert list(mine) == list(other)
    for name, array in mine.items():
        agree(array, other[name], 1e-8, name)
    x = next(batches())[0]
    agree(ours.eval()(mx.Tensor(x)).array, theirs.eval()(images(x)), 1e-8, "evaluation")


@pytest.mark.parametrize("kernel_size", [5, 4])
def test_twenty_steps_of_adamw(kernel_size, backend, agree):
    ours, theirs = twins((8, 2, kernel_size, 2, 6))
    before = {name: array.copy() for name, array in ours.state_dict().items()}
    settings = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-7, "weight_decay": 0.05}
    steps(
        ours,
        theirs,
        mx.AdamW(ours.parameters(), **settings),
        torch.optim.AdamW(theirs.parameters(), **settings),
        agree,
    )
    agree_on_everything(ours, theirs, agree)
    moved = [np.abs(array - before[n]).max() for n, array in ours.state_dict().items()]
    assert min(moved) > 1e-3  # every weight and statistic was compared after a real training


def test_twenty_steps_as_the_authors_train(backend, agree):
    """Their schedule, clipping, and a group without decay."""
    ours, theirs = twins()

    def groups(model):
        parameters = list(model.parameters())
        return [
            {"params": [p for p in parameters if len(p.shape) > 1]},
            {"params": [p for p in parameters if len(p.shape) == 1], "weight_decay": 0.0},
        ]

    steps(
        ours,
        theirs,
        mx.AdamW(groups(ours), lr=0.01, weight_decay=0.05),
        torch.optim.AdamW(groups(theirs), lr=0.01, weight_decay=0.05),
        agree,
        max_norm=0.3,
        rates=mx.optim.schedules.official(0.02, STEPS),
    )
    agree_on_everything(ours, theirs, agree)


@pytest.mark.parametrize("nesterov", [True, False])
def test_twenty_steps_of_sgd(nesterov, backend, agree):
    ours, theirs = twins()
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
    steps(
        ours,
        theirs,
        mx.SGD(ours.parameters(), **settings),
        torch.optim.SGD(theirs.parameters(), **settings),
        agree,
    )
    agree_on_everything(ours, theirs, agree)


@pytest.mark.parametrize("norm", NORMS)
def test_twenty_steps_of_the_fused_model(norm, backend, agree):
    ours, theirs = twins(norm=norm)
    fused = mx.fuse(ours)
    steps(
        fused,
        theirs,
        mx.AdamW(fused.parameters(), lr=0.01),
        torch.optim.AdamW(theirs.parameters(), lr=0.01),
        agree,
    )
    agree_on_everything(ours, theirs, agree)


def test_a_parameter_that_joins_later(backend, agree):
    """PyTorch counts steps by parameter, and so do we."""
    settings = {"lr": 0.1, "weight_decay": 0.1}
    ours = [mx.Parameter(np.ones(3)) for _ in range(2)]
    theirs = [torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    our_optimizer, their_optimizer = (
        mx.AdamW(ours, **settings),
        torch.optim.AdamW(theirs, **settings),
    )
    for step, g in enumerate(np.random.default_rng(0).standard_normal((STEPS, 3))):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad, b.grad = (g, torch.tensor(g)) if i == 0 or step > 5 else (None, None)
        our_optimizer.step()
        their_optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        agree(a.array, b, 1e-10)


def test_cosine_schedule():
    schedule = mx.optim.schedules.warmup_cosine(0.3, total=STEPS, final=0.01)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, eta_min=0.01)
    for step in range(STEPS + 1):
        assert schedule(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()
