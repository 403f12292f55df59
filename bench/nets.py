"""The same net twice, with the same weights: minimix's, and PyTorch's in three forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

import minimix as mx
from minimix import to_torch
from minimix.cost import layers


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

    def ours(self) -> mx.Module:
        return RIVALS[self.name][0](self.size)

    def theirs(self) -> Any:
        from . import rivals

        return RIVALS[self.name][1](rivals, self.size)


def flops(net: Net | Rival, training: bool) -> float:
    """Multiplications and additions for one batch: of a training step, or of inference.

    A gradient of an activation takes as many as the activation, and so does one of a weight; of
    the images, which the first layer sees, none is needed.
    """
    rows, uncounted = layers(net.ours(), (1, net.size, net.size, 3))
    assert not uncounted, f"{net}: {uncounted}"
    counts = [row.multiply_adds for row in rows if row.multiply_adds]
    return 2.0 * net.batch * (3 * sum(counts) - counts[0] if training else sum(counts))


def _convmixer(**settings: Any) -> Callable[[int], mx.Module]:
    return lambda size: mx.ConvMixer(128, 8, 5, 4, 10, rng=0, **settings)


def _with_wide_stem(size: int) -> mx.Module:
    model = mx.ConvMixer(128, 8, 5, 4, 10, rng=0)
    convolution = mx.nn.Conv2d(3, 128, 7, 4, padding=3, rng=0)
    model.stem = mx.nn.Sequential(convolution, mx.nn.GELU(), mx.nn.BatchNorm(128))
    return model


def _by_name(name: str) -> Callable[[int], mx.Module]:
    """A model for inference, always the same one, with batch norm's statistics of an image.

    With those that it begins with, the logits of ConvMixer-768/32 are the same for all images.
    """

    @cache
    def make(size: int) -> mx.Module:
        model = mx.models.create(name, rng=0)
        for _, module in model.named_modules():
            if isinstance(module, mx.nn.BatchNorm):
                module.momentum = 1.0
        image = np.random.default_rng(1).standard_normal((1, size, size, 3))
        with mx.no_grad():
            model(mx.Tensor(image.astype(np.float32)))
        return model

    return make


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
    "convmixer_768_32": (
        _by_name("convmixer_768_32"),
        lambda r, size: r.ConvMixer(768, 32, 7, 7, r.nn.ReLU, n_classes=1000),
    ),
    "deit_small_patch16_224": (
        _by_name("deit_small_patch16_224"),
        lambda r, size: r.ViT(384, 12, 6, 16, size, n_classes=1000),
    ),
    "resmlp_12_224": (
        _by_name("resmlp_12_224"),
        lambda r, size: r.PatchMLP(r.ResMLPBlock, r.Affine(384), 384, 12, 16, size, 1000),
    ),
    "resnet50": (
        _by_name("resnet50"),
        lambda r, size: r.ResNet((3, 4, 6, 3), 64, True, r.Bottleneck, True, 1000),
    ),
}

# The nets, each with its goals: the least ratio to PyTorch in training and in inference, and the
# least share of a training step in the speed of a large matrix product.
NETS: dict[Net | Rival, dict[str, float]] = {
    Net(256, 8, 5, 2, 64): {"training": 2.2, "inference": 1.5, "share": 0.70},
    Net(128, 4, 5, 2, 64): {"training": 2.2, "inference": 1.5, "share": 0.55},
    Net(128, 8, 5, 4, 128): {"training": 2.2, "inference": 1.5, "share": 0.55},
    Rival("ConvMixer-128/8, ReLU"): {"training": 1.7, "inference": 1.3},
    Rival("ConvMixer-128/8, LayerNorm"): {"training": 1.7, "inference": 1.3},
    Rival("ConvMixer-128/8, 7×7 stem"): {"training": 1.7, "inference": 1.3},
    Rival("ResMLP-128/8"): {"training": 1.5, "inference": 1.4},
    Rival("MLP-Mixer-128/8"): {"training": 1.5, "inference": 1.4},
    Rival("ViT-128/6, 4 heads"): {"training": 1.3, "inference": 1.2},
    Rival("ResNet-20"): {"training": 1.3, "inference": 1.1},
    Rival("ResNet-18"): {"training": 1.3, "inference": 1.1},
}
LARGE: dict[Net | Rival, dict[str, float]] = {
    Rival(name, batch, 224): {"inference": 1.2}
    for name in ("convmixer_768_32", "deit_small_patch16_224", "resmlp_12_224", "resnet50")
    for batch in (1, 16)
}
CONVMIXERS = [net for net in NETS if isinstance(net, Net)]
FORMS: tuple[str, ...] = ()  # of PyTorch, where it is installed
if find_spec("torch"):
    FORMS = ("eager NCHW", "eager channels_last", "torch.compile")


def set_threads(n: int) -> None:
    """How many threads minimix, NumPy's BLAS and PyTorch may use."""
    mx.kernels.set_num_threads(n)
    if FORMS:
        import torch

        torch.set_num_threads(n)


def inputs(net: Net | Rival) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((net.batch, net.size, net.size, 3)).astype(np.float32)
    return images, rng.integers(0, 10, net.batch)


def in_mode(model: Any, training: bool) -> None:
    """Training or evaluation, of either framework; switched only where it changes, as users do."""
    if model.training != training:
        model.train(training)


class Minimix:
    """minimix's, fused as `minimix train` has it, or plain."""

    def __init__(self, net: Net | Rival, fused: bool = True) -> None:
        self.model: Any = net.ours()
        self.run = mx.fuse(self.model) if fused else self.model
        images, self.labels = inputs(net)
        self.x = mx.Tensor(images)

    @cached_property
    def optimizer(self) -> mx.AdamW:
        """Its moments take memory from the first step on, as PyTorch's do."""
        return mx.AdamW(self.model.parameters(), lr=1e-3)

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradients, without a step."""
        in_mode(self.model, True)
        self.optimizer.zero_grad()
        loss = mx.functional.cross_entropy(self.run(self.x), self.labels)
        loss.backward()
        return loss.item(), {name: p.grad for name, p in self.model.named_parameters()}

    def step(self) -> float:
        in_mode(self.model, True)
        self.optimizer.zero_grad()
        loss = mx.functional.cross_entropy(self.run(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self) -> np.ndarray:
        in_mode(self.model, False)
        with mx.no_grad():
            return self.run(self.x).array


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
        in_mode(self.model, True)
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
        in_mode(self.model, False)
        with self.torch.inference_mode():
            return self.run(self.x).numpy()


def check(ours: Minimix, theirs: Any) -> None:
    """SystemExit unless both compute the same: gradients, and logits in evaluation.

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
    check_inference(ours, theirs)


def check_inference(ours: Minimix, theirs: Any) -> None:
    _close("logits in evaluation", ours.infer(), theirs.infer())


def _close(
    what: str, mine: Any, theirs: Any, scale: float | None = None, tolerance: float = 1e-4
) -> None:
    error = np.abs(np.asarray(mine) - np.asarray(theirs)).max()
    error /= scale or max(np.abs(theirs).max(), 1e-6)
    if not error < tolerance:
        raise SystemExit(f"bench: {what} differs by {error:.1e} between the two: nothing is timed")
