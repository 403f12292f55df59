"""The same net twice, with the same weights: minimix's, and PyTorch's in three forms."""

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

    def ours(self) -> mx.Module:
        return mx.ConvMixer(
            self.hidden_dim, self.depth, self.kernel_size, self.patch_size, 10, rng=0
        )

    def theirs(self) -> Any:
        from . import rivals

        return rivals.ConvMixer(self.hidden_dim, self.depth, self.kernel_size, self.patch_size)


class Rival(NamedTuple):
    """Another net, by its name in RIVALS."""

    name: str
    batch: int = 64
    size: int = 32

    def __str__(self) -> str:
        return f"{self.name} batch {self.batch}"

    def flops(self) -> float | None:
        return None

    def ours(self) -> mx.Module:
        return RIVALS[self.name][0](self.size)

    def theirs(self) -> Any:
        from . import rivals

        return RIVALS[self.name][1](rivals, self.size)


def _convmixer(**settings: Any) -> Callable[[int], mx.Module]:
    return lambda size: mx.ConvMixer(128, 8, 5, 4, 10, rng=0, **settings)


def _with_wide_stem(size: int) -> mx.Module:
    model = mx.ConvMixer(128, 8, 5, 4, 10, rng=0)
    convolution = mx.nn.Conv2d(3, 128, 7, 4, padding=3, rng=0)
    model.stem = mx.nn.Sequential(convolution, mx.nn.GELU(), mx.nn.BatchNorm(128))
    return model


# Each twice: minimix's of a size of images, and PyTorch's, which needs the module `rivals`.
RIVALS: dict[str, tuple[Callable[[int], mx.Module], Callable[[Any, int], Any]]] = {
    "ConvMixer-128/8, ReLU": (
        _convmixer(activation="relu"),
        lambda r, size: r.ConvMixer(128, 8, 5, 4, activation=r.nn.ReLU),
    ),
    "ConvMixer-128/8, LayerNorm": (
        _convmixer(norm="layer"),
        lambda r, size: r.ConvMixer(128, 8, 5, 4, norm=r.ChannelNorm),
    ),
    "ConvMixer-128/8, 7×7 stem": (
        _with_wide_stem,
        lambda r, size: r.ConvMixer(128, 8, 5, 4, stem=r.nn.Conv2d(3, 128, 7, 4, 3)),
    ),
    "ResMLP-128/8": (
        lambda size: mx.models.ResMLP(128, 8, 4, 10, image_size=size, rng=0),
        lambda r, size: r.PatchMLP(r.ResMLPBlock, r.Affine(128), 128, 8, 4, size),
    ),
    "MLP-Mixer-128/8": (
        lambda size: mx.models.MLPMixer(128, 8, 4, 10, image_size=size, rng=0),
        lambda r, size: r.PatchMLP(r.MixerBlock, r.nn.LayerNorm(128, 1e-6), 128, 8, 4, size),
    ),
    "ViT-128/6, 4 heads": (
        lambda size: mx.models.ViT(128, 6, 4, 4, 10, image_size=size, rng=0),
        lambda r, size: r.ViT(128, 6, 4, 4, size),
    ),
    "ResNet-20": (
        lambda size: mx.models.ResNet(20, rng=0),
        lambda r, size: r.ResNet((3, 3, 3), 16, projected=False),
    ),
    "ResNet-18": (
        lambda size: mx.models.ResNet(18, 64, shortcut="B", rng=0),
        lambda r, size: r.ResNet((2, 2, 2, 2), 64, projected=True),
    ),
}

NETS: list[Net | Rival] = [
    Net(256, 8, 5, 2, 64),
    Net(128, 4, 5, 2, 64),
    Net(128, 8, 5, 4, 128),
    *map(Rival, RIVALS),
]
CONVMIXERS = [net for net in NETS if isinstance(net, Net)]
FORMS = ("eager NCHW", "eager channels_last", "torch.compile")


def inputs(net: Net | Rival) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((net.batch, net.size, net.size, 3)).astype(np.float32)
    return images, rng.integers(0, 10, net.batch)


class Minimix:
    """minimix's, fused as `minimix train` has it, or plain."""

    def __init__(self, net: Net | Rival, fused: bool = True) -> None:
        self.model: Any = net.ours()
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

    def __init__(self, net: Net | Rival, form: str) -> None:
        import torch

        self.torch = torch
        layout = torch.contiguous_format if form == "eager NCHW" else torch.channels_last
        self.ours = net.ours()
        self.model = net.theirs().to(memory_format=layout)
        state = to_torch(self.ours.state_dict(), self.ours)
        self.model.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
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
        return loss.item(), mx.from_torch(grads, self.ours)

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


def check(ours: Minimix, theirs: Any) -> None:
    """Both must compute the same before either is timed.

    Rounding decides on which side of its kink a ReLU is, so gradients of nets with ReLU agree less.
    """
    kinks = "ReLU" in repr(ours.model)
    loss, grads = ours.gradients()
    their_loss, their_grads = theirs.gradients()
    _close("loss", loss, their_loss)
    whole = np.sqrt(sum(np.square(g).sum() for g in grads.values()))
    for name, g in grads.items():
        tolerance = 1e-2 if kinks else 1e-4
        _close(f"gradient of {name}", g, their_grads[name], max(whole, 1e-6), tolerance)
    _close("logits in evaluation", ours.infer(), theirs.infer())


def _close(
    what: str, mine: Any, theirs: Any, scale: float | None = None, tolerance: float = 1e-4
) -> None:
    error = np.abs(np.asarray(mine) - np.asarray(theirs)).max()
    error /= scale or max(np.abs(theirs).max(), 1e-6)
    if not error < tolerance:
        raise SystemExit(f"bench: {what} differs by {error:.1e} between the two: nothing is timed")
