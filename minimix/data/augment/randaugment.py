"""RandAugment: a few operations, drawn at random for each image (Cubuk et al., arXiv:1909.13719).

Two sets of operations are in use. torchvision's fourteen have one strength for all images and
sample the nearest pixel. timm's fifteen "increasing" ones draw a strength for each, apply each
with probability one half, and interpolate. Both are here with their magnitudes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from minimix.data.augment import colour
from minimix.data.augment.geometry import (
    affine_nearest,
    affine_smooth,
    rotation,
    shear,
    translation,
)
from minimix.data.cifar10 import MEAN
from minimix.data.draws import Draws

# (images uint8 (n, H, W, 3), s (n,): how strong, from −1 to 1) -> images
Operation = Callable[[np.ndarray, np.ndarray], np.ndarray]

TORCHVISION: dict[str, Operation] = {
    "Identity": lambda x, s: x,
    "ShearX": lambda x, s: affine_nearest(x, shear(0.3 * s, 0)),
    "ShearY": lambda x, s: affine_nearest(x, shear(0, 0.3 * s)),
    "TranslateX": lambda x, s: affine_nearest(x, translation(-_pixels(s, x.shape[2]), 0)),
    "TranslateY": lambda x, s: affine_nearest(x, translation(0, -_pixels(s, x.shape[1]))),
    "Rotate": lambda x, s: affine_nearest(x, rotation(30 * s, *x.shape[1:3])),
    "Brightness": lambda x, s: colour.brightness(x, 1 + 0.9 * s),
    "Color": lambda x, s: colour.saturation(x, 1 + 0.9 * s),
    "Contrast": lambda x, s: colour.contrast(x, 1 + 0.9 * s),
    "Sharpness": lambda x, s: colour.sharpness(x, 1 + 0.9 * s),
    "Posterize": lambda x, s: colour.posterize(x, 8 - np.round(4 * abs(s))),
    "Solarize": lambda x, s: colour.solarize(x, 255 * (1 - abs(s))),
    "AutoContrast": lambda x, s: colour.autocontrast(x),
    "Equalize": lambda x, s: colour.equalize(x),
}


def _pixels(s: np.ndarray, size: int) -> np.ndarray:
    return np.trunc(150 / 331 * size * s)


# Those that change colours; the others are maps, followed with either interpolation.
TIMM: dict[str, Operation] = {
    "AutoContrast": lambda x, s: colour.autocontrast(x),
    "Equalize": lambda x, s: colour.equalize(x),
    "Invert": lambda x, s: colour.invert(x),
    "Posterize": lambda x, s: colour.posterize(x, 4 - np.floor(4 * abs(s))),
    "Solarize": lambda x, s: colour.solarize(x, 256 - np.floor(256 * abs(s))),
    "SolarizeAdd": lambda x, s: colour.solarize_add(x, np.floor(110 * abs(s))),
    "Color": lambda x, s: colour.saturation(x, np.maximum(0.1, 1 + 0.9 * s)),
    "Contrast": lambda x, s: colour.contrast(x, np.maximum(0.1, 1 + 0.9 * s)),
    "Brightness": lambda x, s: colour.brightness(x, np.maximum(0.1, 1 + 0.9 * s)),
    "Sharpness": lambda x, s: colour.sharpness(x, np.maximum(0.1, 1 + 0.9 * s)),
}

TIMM_MAPS: dict[str, Operation] = {
    "Rotate": lambda x, s: rotation(30 * s, *x.shape[1:3]),
    "ShearX": lambda x, s: shear(0.3 * s, 0),
    "ShearY": lambda x, s: shear(0, 0.3 * s),
    "TranslateX": lambda x, s: translation(0.45 * x.shape[2] * s, 0),
    "TranslateY": lambda x, s: translation(0, 0.45 * x.shape[1] * s),
}

_FILL = tuple(round(255 * mean) for mean in MEAN)


def _smooth(of: Operation, cubic: bool) -> Operation:
    return lambda x, s: affine_smooth(x, of(x, s), _FILL, cubic)


_TIMM_OPERATIONS = [
    *TIMM.values(),
    *(_smooth(of, cubic=False) for of in TIMM_MAPS.values()),
    *(_smooth(of, cubic=True) for of in TIMM_MAPS.values()),
]


def rand_augment(images: np.ndarray, n: int, magnitude: int, draws: Draws) -> np.ndarray:
    """torchvision's: `n` of the fourteen, each at `magnitude` of 30, either way round.

    Drawn with replacement; black where a pixel comes from outside.
    """
    for layer in range(n):
        name = f"randaugment {layer}"
        choice = draws.integers(name, len(TORCHVISION))
        sign = np.where(draws.uniform(f"{name} sign") < 0.5, -1.0, 1.0)
        images = _each(images, choice, sign * magnitude / 30, list(TORCHVISION.values()))
    return images


def rand_augment_timm(images: np.ndarray, draws: Draws) -> np.ndarray:
    """timm's rand-m9-mstd0.5-inc1: two of the fifteen, each applied with probability 1/2.

    The magnitude is drawn from N(9, ½), at most 10; the data set's mean colour fills what comes
    from outside; interpolation is bilinear or bicubic, a coin's toss.
    """
    for layer in range(2):
        name = f"timm {layer}"
        sign = np.where(draws.uniform(f"{name} sign") < 0.5, -1.0, 1.0)
        level = (9 + 0.5 * draws.normals(f"{name} magnitude", 1)[:, 0]).clip(0, 10)
        cubic = draws.uniform(f"{name} interpolation") < 0.5
        choice = draws.integers(name, len(TIMM) + len(TIMM_MAPS))
        choice[cubic & (choice >= len(TIMM))] += len(TIMM_MAPS)
        choice[draws.uniform(f"{name} skip") < 0.5] = -1
        images = _each(images, choice, sign * level / 10, _TIMM_OPERATIONS)
    return images


def color_jitter(images: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
    """Brightness, contrast and saturation by factors from 1 ± strength, in a random order."""
    order = np.argsort(draws.uniforms("jitter order", 3), axis=1)
    low, high = max(0.0, 1 - strength), 1 + strength
    factors = [draws.uniform(f"jitter {i}", low, high) for i in range(3)]
    enhance = (colour.brightness, colour.contrast, colour.saturation)
    for turn in order.T:
        images = _each(images, turn, np.choose(turn, factors), enhance)
    return images


def _each(
    images: np.ndarray, choice: np.ndarray, strength: np.ndarray, operations: Sequence[Operation]
) -> np.ndarray:
    """Apply operation `choice` (n,) to each image, all images of one operation at once."""
    out = images.copy()
    for i, operation in enumerate(operations):
        which = np.flatnonzero(choice == i)
        if which.size:
            out[which] = operation(images[which], strength[which])
    return out
