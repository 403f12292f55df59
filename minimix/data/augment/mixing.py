"""After normalization: random erasing, and mixing images and their targets.

x float32 (n, H, W, 3), normalized; targets float32 (n, K), each a distribution over the classes.
"""

import numpy as np

from ..draws import Draws


def boxes(
    draws: Draws,
    name: str,
    shape: tuple[int, int],
    area: tuple[float, float],
    ratio: tuple[float, float],
    largest: tuple[int, int],
    otherwise: tuple[int, int] = (0, 0),
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A random box in each image: top, left, height, width, each int64 (n,).

    `area` is the range of its share of the image, `ratio` that of width / height, uniform on a
    logarithmic scale. A box larger than `largest` (height, width) is drawn again, up to ten times;
    then its size is `otherwise`.
    """
    h, w = shape
    height, width = np.zeros((2, len(draws.indices)), np.int64)
    for attempt in range(10):
        size = h * w * draws.uniform(f"{name} area {attempt}", *area)
        aspect = np.exp(draws.uniform(f"{name} ratio {attempt}", *np.log(ratio)))
        tall = np.round(np.sqrt(size / aspect)).astype(np.int64)
        wide = np.round(np.sqrt(size * aspect)).astype(np.int64)
        fits = (tall > 0) & (tall <= largest[0]) & (wide > 0) & (wide <= largest[1])
        new = fits & (height == 0)
        height, width = np.where(new, tall, height), np.where(new, wide, width)
        if height.all():
            break
    none = height == 0
    height[none], width[none] = otherwise
    top = draws.integers(f"{name} top", h - height + 1)
    left = draws.integers(f"{name} left", w - width + 1)
    return top, left, height, width


def erase(x: np.ndarray, probability: float, mode: str, draws: Draws) -> None:
    """Random erasing (Zhong et al., arXiv:1708.04896), in place.

    With this probability, a box of 2 to 33 % of an image becomes 0 (mode "zero") or is drawn from
    N(0, 1) in every pixel and channel ("noise").
    """
    which = np.flatnonzero(draws.uniform("erase") < probability)
    some = draws.of(which)
    h, w = x.shape[1:3]
    ratio = (1 / 3.3, 1 / 0.3)
    top, left, height, width = boxes(some, "erase", (h, w), (0.02, 0.33), ratio, (h - 1, w - 1))
    if mode == "noise":
        noise = some.normals("erase noise", x[0].size).reshape(-1, *x.shape[1:])
    for k, i in enumerate(which):
        box = slice(top[k], top[k] + height[k]), slice(left[k], left[k] + width[k])
        x[i][box] = noise[k][box] if mode == "noise" else 0


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Labels (n,) as distributions, float32 (n, K): 1 on the label, 0 elsewhere."""
    targets = np.zeros((len(labels), n_classes), np.float32)
    targets[np.arange(len(labels)), labels] = 1
    return targets


def mix(
    x: np.ndarray, targets: np.ndarray, mixup: float, cutmix: float, once: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """MixUp or CutMix of the batch with itself in reverse order, x', and of the targets.

    Changes x in place. λ is drawn once a batch from Beta(α, α), where α is `mixup` or `cutmix`; if
    neither is 0, each is used half of the time. MixUp: λ x + (1 − λ) x', Zhang et al.,
    arXiv:1710.09412. CutMix: a box with 1 − λ of the area comes from x', Yun et al.,
    arXiv:1905.04899; λ is then corrected for what lies beyond the border.

    once  the draws of one index, which stand for the batch
    """
    cut = bool(once.uniform("cutmix")[0] < 0.5) if mixup and cutmix else bool(cutmix)
    alpha = cutmix if cut else mixup
    philox = np.random.Philox(key=int(once.bits("lambda")[0, 0]))
    share = np.random.Generator(philox).beta(alpha, alpha)  # a Python float: x stays float32
    if cut:
        h, w = x.shape[1:3]
        tall, wide = int(h * np.sqrt(1 - share)), int(w * np.sqrt(1 - share))
        y = int(once.integers("cutmix y", h)[0]) - tall // 2
        z = int(once.integers("cutmix x", w)[0]) - wide // 2
        box = slice(max(y, 0), min(y + tall, h)), slice(max(z, 0), min(z + wide, w))
        other = x[::-1, *box]
        share = 1 - other[0, ..., 0].size / (h * w)
        x[:, *box] = other
    else:
        other = (1 - share) * x[::-1]
        x *= share
        x += other
    return x, share * targets + (1 - share) * targets[::-1]
