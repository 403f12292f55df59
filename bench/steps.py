"""Training steps and inference, minimix's and PyTorch's in turn."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

import minimix as mx
from minimix.data import Augment, Loader, shapes10

from . import jaxed, machine, nets
from .timing import Calls, interleave, quotient, ratio, say, spread

BURST = 0.1  # seconds, so that a round has several calls of those that take milliseconds


def steps(net: nets.Net | nets.Rival, rounds: int, quick: bool) -> dict[str, Any]:
    """Training and inference; JAX's of a ConvMixer besides. Quick: one form of PyTorch's."""
    sides: dict[str, Any] = {"minimix": nets.Minimix(net)}
    for form in nets.FORMS[1:2] if quick else nets.FORMS:
        sides[form] = nets.Torch(net, form)
    if isinstance(net, nets.Net) and not quick and find_spec("jax"):
        sides[jaxed.FORM] = jaxed.Jax(net)
    for form, side in sides.items():
        if form != "minimix":
            nets.check(nets.Minimix(net), side)
    training = {name: side.step for name, side in sides.items()}
    inference = {name: side.infer for name, side in sides.items()}
    row = {
        "net": str(net),
        "goals": nets.NETS[net],
        "training": _compared(training, rounds, net.batch, nets.flops(net, training=True)),
        "inference": _compared(inference, rounds, net.batch, nets.flops(net, training=False)),
    }
    say(f"{net}")
    return row


def large(net: nets.Net | nets.Rival, rounds: int, quick: bool) -> dict[str, Any]:
    """Inference alone. Quick: one form of PyTorch's."""
    sides: dict[str, Any] = {"minimix": nets.Minimix(net)}
    for form in nets.FORMS[1:2] if quick else nets.FORMS:
        sides[form] = nets.Torch(net, form)
        nets.check_inference(sides["minimix"], sides[form])
    calls = {name: side.infer for name, side in sides.items()}
    row = {
        "net": str(net),
        "goals": nets.LARGE[net],
        "inference": _compared(calls, rounds, net.batch, nets.flops(net, training=False)),
    }
    say(f"{net}, 224×224")
    return row


def _compared(calls: Calls, rounds: int, images: int, flops: float) -> dict[str, Any]:
    """Speeds, and minimix's ratio to PyTorch and share of a large matrix product's speed.

    images, flops  of a call
    """
    product = machine.Product(*machine.LARGE)
    times = interleave({"product": product, **calls}, rounds, BURST)
    ideal = [flops / product.flops * seconds for seconds in times.pop("product")]
    mine = times["minimix"]
    pair = {name: seconds for name, seconds in times.items() if name != jaxed.FORM}
    return {
        "images/s": {name: spread([images / t for t in ts]) for name, ts in times.items()},
        "ratio": ratio(pair),
        "gflops": 1e-9 * flops / spread(mine)["median"],
        "share": quotient(ideal, mine),
        "ratio at that speed": ratio({**pair, "minimix": ideal}),
    }


def data(net: nets.Net, rounds: int) -> dict[str, Any]:
    """A step on the same batch over and over, against one on batches that are being prepared."""
    model = nets.Minimix(net)
    drawn = shapes10.load()
    everything = Augment(
        crop="pad",
        flip="random",
        randaugment=(2, 12),
        jitter=0.2,
        erasing=0.25,
        mixup=0.5,
        cutmix=0.5,
        n_classes=10,
    )
    images, labels = np.tile(drawn.train_images, (8, 1, 1, 1)), np.tile(drawn.train_labels, 8)
    batches = iter(Loader(images, labels, net.batch, transform=everything))

    def fed() -> None:
        x, labels = next(batches)
        model.x, model.labels = mx.Tensor(x), labels
        model.step()

    times = interleave({"same batch": model.step, "fed": fed}, rounds, 0.5)
    say(f"the data pipeline of {net}")
    ms = {name: {k: 1e3 * v for k, v in spread(t).items()} for name, t in times.items()}
    return {"net": str(net), "ms": ms, "cost": ratio(times, mine="same batch")}
