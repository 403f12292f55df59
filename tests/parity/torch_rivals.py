"""ConvMixer's rivals in PyTorch, written from their papers, with timm's names."""

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention


class MLP(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Patches(nn.Module):
    """(N, C, H, W) -> (N, T, D)"""

    def __init__(self, dim, p):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, p, stride=p)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (
            part.reshape(n, t, self.heads, -1).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class ViTBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), MLP(dim, 4 * dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """pool: "token", "average" or "distilled"."""

    def __init__(self, dim, depth, heads, p=16, n_classes=1000, size=224, pool="token"):
        super().__init__()
        tokens = {"average": [], "token": ["cls_token"], "distilled": ["cls_token", "dist_token"]}
        self.tokens = tokens[pool]
        for name in self.tokens:
            setattr(self, name, nn.Parameter(torch.randn(1, 1, dim)))
        self.pos_embed = nn.Parameter(torch.randn(1, len(self.tokens) + (size // p) ** 2, dim))
        self.patch_embed = Patches(dim, p)
        self.blocks = nn.Sequential(*(ViTBlock(dim, heads) for _ in range(depth)))
        setattr(self, "norm" if self.tokens else "fc_norm", nn.LayerNorm(dim, eps=1e-6))
        self.head = nn.Linear(dim, n_classes)
        if pool == "distilled":
            self.head_dist = nn.Linear(dim, n_classes)

    def forward(self, x):
        x = self.patch_embed(x)
        tokens = [getattr(self, name).expand(len(x), -1, -1) for name in self.tokens]
        x = self.blocks(torch.cat([*tokens, x], 1) + self.pos_embed)
        if not self.tokens:
            return self.head(self.fc_norm(x.mean(1)))
        x = self.norm(x)
        if len(self.tokens) == 1:
            return self.head(x[:, 0])
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


class Affine(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x):
        return self.alpha * x + self.beta


class ResMLPBlock(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.norm1, self.linear_tokens = Affine(dim), nn.Linear(tokens, tokens)
        self.norm2, self.mlp_channels = Affine(dim), MLP(dim, 4 * dim)
        self.ls1, self.ls2 = (nn.Parameter(torch.ones(dim)) for _ in range(2))

    def forward(self, x):
        x = x + self.ls1 * self.linear_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.ls2 * self.mlp_channels(self.norm2(x))


class MixerBlock(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.norm1, self.mlp_tokens = nn.LayerNorm(dim, eps=1e-6), MLP(tokens, dim // 2)
        self.norm2, self.mlp_channels = nn.LayerNorm(dim, eps=1e-6), MLP(dim, 4 * dim)

    def forward(self, x):
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class PatchMLP(nn.Module):
    def __init__(self, block, norm, dim, depth, p=16, n_classes=1000, size=224):
        super().__init__()
        self.stem = Patches(dim, p)
        self.blocks = nn.Sequential(*(block((size // p) ** 2, dim) for _ in range(depth)))
        self.norm, self.head = norm(dim), nn.Linear(dim, n_classes)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.stem(x))).mean(1))


def ResMLP(*sizes, **options):
    return PatchMLP(ResMLPBlock, Affine, *sizes, **options)


def Mixer(*sizes, **options):
    return PatchMLP(MixerBlock, lambda dim: nn.LayerNorm(dim, eps=1e-6), *sizes, **options)


class Basic(nn.Module):
    expansion = 1

    def __init__(self, c, width, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, c, width, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class Padding(nn.Module):
    def __init__(self, missing, stride):
        super().__init__()
        self.missing, self.stride = missing, stride

    def forward(self, x):
        x = x[:, :, :: self.stride, :: self.stride]
        return pad(x, (0, 0, 0, 0, self.missing // 2, self.missing // 2))


class ResNet(nn.Module):
    def __init__(self, block, blocks, width, large, shortcut, n_classes):
        super().__init__()
        kernel = (7, 2, 3) if large else (3, 1, 1)
        self.conv1 = nn.Conv2d(3, width, *kernel, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        c = width
        for stage, n in enumerate(blocks):
            layers = []
            for i in range(n):
                stride = 2 if stage and i == 0 else 1
                out = width * 2**stage * block.expansion
                around = nn.Identity()
                if stride > 1 or c != out:
                    around = Padding(out - c, stride)
                    if shortcut == "B":
                        convolution = nn.Conv2d(c, out, 1, stride, bias=False)
                        around = nn.Sequential(convolution, nn.BatchNorm2d(out))
                layers.append(block(c, width * 2**stage, stride, around))
                c = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.fc = nn.Linear(c, n_classes)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


def randomized(model, seed=0):
    """Norms, statistics and layer scales that are not what they begin with."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.data.uniform_(low, high, generator=generator)

    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or name.endswith(("alpha", "beta")):
            small = name.endswith(("bias", "beta"))
            uniform(parameter, *((-0.2, 0.2) if small else (0.5, 1.5)))
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            uniform(buffer, *((0.5, 1.5) if name.endswith("var") else (-0.2, 0.2)))
    return model.eval()


def full_size():
    """A function that makes it, by timm's name, for every size of minimix."""
    from torch_convmixer import Timm

    def resnet(block, *blocks):
        return lambda: ResNet(block, blocks, 64, True, "B", 1000)

    deit = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
    return {
        "convmixer_768_32": lambda: Timm(768, 32, 7, 7, 1000, nn.ReLU),
        "convmixer_1024_20_ks9_p14": lambda: Timm(1024, 20, 9, 14, 1000),
        "convmixer_1536_20": lambda: Timm(1536, 20, 9, 7, 1000),
        **{f"deit_{name}_patch16_224": lambda s=s: ViT(*s) for name, s in deit.items()},
        **{
            f"deit_{name}_distilled_patch16_224": lambda s=s: ViT(*s, pool="distilled")
            for name, s in deit.items()
        },
        "resmlp_12_224": lambda: ResMLP(384, 12),
        "resmlp_24_224": lambda: ResMLP(384, 24),
        "resmlp_big_24_224": lambda: ResMLP(768, 24, 8),
        "mixer_b16_224": lambda: Mixer(768, 12),
        "resnet18": resnet(Basic, 2, 2, 2, 2),
        "resnet50": resnet(Bottleneck, 3, 4, 6, 3),
        "resnet152": resnet(Bottleneck, 3, 8, 36, 3),
    }
