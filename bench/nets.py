"""The same ConvMixer twice, with the same weights: minimix's, and PyTorch's in three forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minimix as mx
from minimix import to_torch


class Net(NamedTuple):
    hidden_dim: int
    depth: int
    kernel_size: int
    patch_size: int
    batch: int
    size: int = 32

    def __str__(self) -> str:
        d, depth, k, p, n, size = self
        return f"{d}/{depth} k{k} p{p} batch {n}" + (f" {size}×{size}" if size != 32 else "")

    def flops(self) -> float:
        """Multiplications and additions of one training step: a forward pass, and twice that."""
        d, depth, k, p, n, size = self
        pixels = n * (size // p) ** 2
        block = pixels * d * (d + k * k)
        return 2.0 * (3 * depth * block + 2 * pixels * d * 3 * p * p)


NETS = [Net(256, 8, 5, 2, 64), Net(128, 4, 5, 2, 64), Net(128, 8, 5, 4, 128)]
FORMS = ("eager NCHW", "eager channels_last", "torch.compile")


def inputs(net: Net) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((net.batch, net.size, net.size, 3)).astype(np.float32)
    return images, rng.integers(0, 10, net.batch)


def convmixer(net: Net) -> mx.ConvMixer:
    return mx.ConvMixer(net.hidden_dim, net.depth, net.kernel_size, net.patch_size, 10, rng=0)


class Minimix:
    """minimix's, fused as `minimix train` has it, or plain."""

    def __init__(self, net: Net, fused: bool = True) -> None:
        self.model = convmixer(net)
        self.run = mx.fuse(self.model) if fused else self.model
        images, self.labels = inputs(net)
        self.x = mx.Tensor(images)
        self.optimizer = mx.AdamW(self.model.parameters(), lr=1e-3)

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradients, without a step."""
        self.optimizer.zero_grad()
        loss = mx.functional.cross_entropy(self.run(self.x), self.labels)
        loss.backward()
        return loss.item(), {name: p.grad for name, p in self.model.named_parameters()}

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = mx.functional.cross_entropy(self.run(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self) -> np.ndarray:
        self.run.eval()
        with mx.no_grad():
            logits = self.run(self.x).array
        self.run.train()
        return logits


class Torch:
    """PyTorch's: `form` is one of FORMS."""

    def __init__(self, net: Net, form: str) -> None:
        import torch

        self.torch = torch
        layout = torch.contiguous_format if form == "eager NCHW" else torch.channels_last
        self.model = _torch_convmixer(net).to(memory_format=layout)
        state = {n: torch.from_numpy(a) for n, a in to_torch(convmixer(net).state_dict()).items()}
        self.model.load_state_dict(state)
        images, labels = inputs(net)
        self.x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        self.labels = torch.from_numpy(labels)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-2)
        self.run: Callable[..., Any] = self.model
        if form == "torch.compile":
            torch._dynamo.reset()  # it counts the nets before this one, and gives up at the eighth
            self.run = torch.compile(self.model)

    def _backward(self) -> Any:
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.run(self.x), self.labels)
        loss.backward()
        return loss

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        loss = self._backward()
        grads = {name: p.grad for name, p in self.model.named_parameters()}
        return loss.item(), mx.from_torch(grads)

    def step(self) -> float:
        loss = self._backward()
        self.optimizer.step()
        return loss.item()

    def infer(self) -> np.ndarray:
        self.model.eval()
        with self.torch.inference_mode():
            logits = self.run(self.x).numpy()
        self.model.train()
        return logits


def _torch_convmixer(net: Net) -> Any:
    """As in the paper's appendix; the names are timm's."""
    from torch import nn

    d, depth, k, p, _, _ = net

    class Residual(nn.Module):
        def __init__(self, fn: Any) -> None:
            super().__init__()
            self.fn = fn

        def forward(self, x: Any) -> Any:
            return self.fn(x) + x

    class ConvMixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, d, p, p), nn.GELU(), nn.BatchNorm2d(d))
            self.blocks = nn.Sequential(
                *[
                    nn.Sequential(
                        Residual(
                            nn.Sequential(
                                nn.Conv2d(d, d, k, groups=d, padding="same"),
                                nn.GELU(),
                                nn.BatchNorm2d(d),
                            )
                        ),
                        nn.Conv2d(d, d, 1),
                        nn.GELU(),
                        nn.BatchNorm2d(d),
                    )
                    for _ in range(depth)
                ]
            )
            self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Linear(d, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.pooling(self.blocks(self.stem(x))))

    return ConvMixer()


def check(ours: Minimix, theirs: Torch) -> None:
    """Both must compute the same before either is timed."""
    loss, grads = ours.gradients()
    their_loss, their_grads = theirs.gradients()
    _close("loss", loss, their_loss)
    whole = np.sqrt(sum(np.square(g).sum() for g in grads.values()))
    for name, g in grads.items():
        _close(f"gradient of {name}", g, their_grads[name], scale=max(whole, 1e-6))
    _close("logits in evaluation", ours.infer(), theirs.infer())


def _close(what: str, mine: Any, theirs: Any, scale: float | None = None) -> None:
    error = np.abs(np.asarray(mine) - np.asarray(theirs)).max()
    error /= scale or max(np.abs(theirs).max(), 1e-6)
    if not error < 1e-4:
        raise SystemExit(f"bench: {what} differs from PyTorch's by {error:.1e}: nothing is timed")
