"""The rivals and ConvMixer's relatives in PyTorch, from their papers; the names are timm's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def patches(dim: int, p: int) -> nn.Module:
    """The patch embedding, as tokens (N, T, D)."""

    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Conv2d(3, dim, p, p)

        def forward(self, x: Any) -> Any:
            return self.proj(x).flatten(2).transpose(1, 2)

    return Embed()


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Any) -> Any:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Any) -> Any:
        n, t, d = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(y.transpose(1, 2).reshape(n, t, d))


class Encoder(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn, self.mlp = Attention(dim, heads), MLP(dim, 4 * dim)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(
        self, dim: int, depth: int, heads: int, p: int, size: int, n_classes: int = 10
    ) -> None:
        super().__init__()
        self.patch_embed = patches(dim, p)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // p) ** 2, dim))
        self.blocks = nn.Sequential(*[Encoder(dim, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim, 1e-6), nn.Linear(dim, n_classes)

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Affine(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x: Any) -> Any:
        return torch.addcmul(self.beta, self.alpha, x)


class ResMLPBlock(nn.Module):
    def __init__(self, dim: int, tokens: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = Affine(dim), Affine(dim)
        self.linear_tokens, self.mlp_channels = nn.Linear(tokens, tokens), MLP(dim, 4 * dim)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))

    def forward(self, x: Any) -> Any:
        x = x + self.ls1 * self.linear_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.ls2 * self.mlp_channels(self.norm2(x))


class MixerBlock(nn.Module):
    def __init__(self, dim: int, tokens: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.mlp_tokens, self.mlp_channels = MLP(tokens, dim // 2), MLP(dim, 4 * dim)

    def forward(self, x: Any) -> Any:
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class PatchMLP(nn.Module):
    def __init__(
        self,
        block: Any,
        norm: nn.Module,
        dim: int,
        depth: int,
        p: int,
        size: int,
        n_classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = patches(dim, p)
        self.blocks = nn.Sequential(*[block(dim, (size // p) ** 2) for _ in range(depth)])
        self.norm, self.head = norm, nn.Linear(dim, n_classes)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.blocks(self.stem(x))).mean(1))


class Padded(nn.Module):
    """The shortcut without weights: fewer pixels, and zeros on both sides of the channels."""

    def __init__(self, missing: int, stride: int) -> None:
        super().__init__()
        self.missing, self.stride = missing, stride

    def forward(self, x: Any) -> Any:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))


def shortcut(c: int, out: int, stride: int, projected: bool) -> nn.Module:
    if stride == 1 and c == out:
        return nn.Identity()
    if not projected:
        return Padded(out - c, stride)
    return nn.Sequential(nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, c: int, width: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(c, width, stride, projected)

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, c: int, width: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(c, 4 * width, stride, projected)

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """For CIFAR; `imagenet`: with a 7×7 stem of stride 2 and a max pool."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        width: int,
        projected: bool,
        block: Any = BasicBlock,
        imagenet: bool = False,
        n_classes: int = 10,
    ) -> None:
        super().__init__()
        kernel, stride, padding = (7, 2, 3) if imagenet else (3, 1, 1)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        c = width
        for i, n in enumerate(blocks):
            stage = []
            for j in range(n):
                stage.append(block(c, width * 2**i, 2 if i and not j else 1, projected))
                c = width * 2**i * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.stages = len(blocks)
        self.fc = nn.Linear(c, n_classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of (N, C, H, W)."""

    def forward(self, x: Any) -> Any:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Residual(nn.Module):
    def __init__(self, fn: Any) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Any) -> Any:
        return self.fn(x) + x


class ConvMixer(nn.Module):
    """As in the paper's appendix, and with minimix's finer stem."""

    def __init__(
        self,
        d: int,
        depth: int,
        k: int,
        p: int,
        activation: Any = nn.GELU,
        norm: Any = nn.BatchNorm2d,
        stem: Any = None,
        stem_dim: int = 0,
        stem_depth: int = 0,
        n_classes: int = 10,
    ) -> None:
        super().__init__()

        def stage(convolution: Any, d: int) -> list[Any]:
            return [convolution, activation(), norm(d)]

        def block(d: int) -> nn.Module:
            depthwise = nn.Conv2d(d, d, k, groups=d, padding="same")
            return nn.Sequential(
                Residual(nn.Sequential(*stage(depthwise, d))), *stage(nn.Conv2d(d, d, 1), d)
            )

        finer: list[Any] = []
        if stem_dim:  # minimix's own: patches of half the size, some blocks, then 2×2 to a patch
            half = nn.Conv2d(3, stem_dim, p // 2, p // 2)
            finer = [*stage(half, stem_dim), *[block(stem_dim) for _ in range(stem_depth)]]
            stem = nn.Conv2d(stem_dim, d, 2, 2)
        self.stem = nn.Sequential(*finer, *stage(stem or nn.Conv2d(3, d, p, p), d))
        self.blocks = nn.Sequential(*[block(d) for _ in range(depth)])
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(d, n_classes)

    def forward(self, x: Any) -> Any:
        return self.head(self.pooling(self.blocks(self.stem(x))))
