"""How long the presets' trainings take here and in PyTorch.

    python -m bench.recipes [PRESET …] [--threads N]        (extra parity)

A training is the same step again and again: steps of each preset's network, at its batch size, are
timed in turn with PyTorch's in its three forms, and multiplied by the number of steps; so are those
of a preset's early epochs, whose crops are smaller, and the tests after each epoch. Both sides take
AdamW, whatever the preset takes, and find their images ready: PyTorch's own Muon and augmentation
would come on top. Of several presets, each is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from typing import Any, NamedTuple

import torch

import minimix as mx
from minimix.train import PRESETS
from minimix.train.architecture import described

from . import nets, rivals
from .timing import Times, interleave, ratio

IMAGES, TESTED = 50_000, 10_000  # CIFAR-10's


class Recipe(NamedTuple):
    """The network of a preset, as `nets` has its own."""

    preset: str
    size: int = 32

    @property
    def batch(self) -> int:
        return PRESETS[self.preset].batch_size

    def ours(self) -> mx.Module:
        return PRESETS[self.preset].build(10, (32, 32))

    def theirs(self) -> Any:
        of = PRESETS[self.preset].complete().model_settings
        if set(of.values()) & {"relu", "layer", "none", "both", "random", "smooth", "delta"}:
            raise SystemExit(f"bench: PyTorch's ConvMixer here has no {described('convmixer', of)}")
        sizes = (of[name] for name in ("hidden_dim", "depth", "kernel_size", "patch_size"))
        return rivals.ConvMixer(*sizes, stem_dim=of["stem_dim"], stem_depth=of["stem_depth"])


def minutes(preset: str, rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Minutes of the whole training by each candidate, and the ratio of its steps."""
    config = PRESETS[preset]
    sides = _sides(Recipe(preset))
    steps: Times = interleave({name: side.step for name, side in sides.items()}, rounds, 0.5)
    tests: Times = interleave({name: side.infer for name, side in sides.items()}, rounds, 0.2)
    found = ratio(steps)
    assert found is not None
    early_steps, early = steps, config.early_epochs
    if early:
        sides = _sides(Recipe(preset, config.early_size))
        early_steps = interleave({name: side.step for name, side in sides.items()}, rounds, 0.5)

    def whole(name: str) -> float:
        step, early_step, test = (statistics.median(t[name]) for t in (steps, early_steps, tests))
        training = IMAGES * (early * early_step + (config.epochs - early) * step)
        return (training + TESTED * config.epochs * test) / config.batch_size / 60

    return {name: whole(name) for name in sides}, found


def _sides(net: Any) -> dict[str, Any]:
    """minimix's net and PyTorch's, which compute the same."""
    sides: dict[str, Any] = {"minimix": nets.Minimix(net)}
    for form in nets.FORMS:
        sides[form] = nets.Torch(net, form)
        nets.check(nets.Minimix(net), sides[form])
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.recipes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("preset", nargs="*", default=list(PRESETS), help="all, if none is given")
    parser.add_argument("--threads", type=int, default=mx.kernels.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9, help="how often each candidate has a turn")
    options = parser.parse_args()
    if unknown := set(options.preset) - set(PRESETS):
        parser.error(f"there is no preset {min(unknown)}; there are {', '.join(PRESETS)}")
    if len(options.preset) > 1:
        for preset in options.preset:
            command = [sys.executable, "-m", "bench.recipes", preset]
            command += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
            done = subprocess.run(command, check=False)
            if done.returncode:
                raise SystemExit(f"bench: {preset} ended with exit code {done.returncode}")
        return
    nets.set_threads(options.threads)
    print(f"{options.threads} threads, PyTorch {torch.__version__}; minutes of the whole training")
    print(
        f"{'':10}{'minimix':>9}"
        + "".join(f"{form:>21}" for form in nets.FORMS)
        + "   ratio of steps"
    )
    preset = options.preset[0]
    whole, found = minutes(preset, options.rounds)
    print(
        f"{preset:10}{whole['minimix']:9.1f}"
        + "".join(f"{whole[form]:21.1f}" for form in nets.FORMS)
        + f"   {found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
    )


if __name__ == "__main__":
    main()
