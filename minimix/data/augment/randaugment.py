"""RandAugment: a few operations, drawn at random for each image (Cubuk et al., arXiv:1909.13719).

Two sets of operations are in use. torchvision's fourteen have the same strength for all images
and sample the nearest pixel. timm's fifteen "increasing" ones draw a strength for each image,
apply each operation with probability one half, and interpolate. Both are here, with their
magnitudes.

The functions here draw steps for `retouch`: each image's operation, (n,), and its parameters,
(6, n).
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np

from ..draws import Draws
from .operations import Retouch

Step: TypeAlias = tuple[np.ndarray, np.ndarray]

# Parameters of an operation, (6, m), or (m,) if it has only one: a function of its strength on each
# of m images, (m,) from −1 to 1, and of their height and width.
Parameters: TypeAlias = Callable[[np.ndarray, int, int], np.ndarray]


# ------------------------------------------------------------------ affine maps

# A map (6, m) says where each output pixel comes from, as in `Retouch` and Pillow's
# Image.transform.


def translation(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Each pixel comes from x to the right and y below."""
    return _maps(1, 0, x, 0, 1, y)


def shear(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Rows are shifted in proportion to y, columns in proportion to x."""
    return _maps(1, x, 0, y, 1, 0)


def rotation(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
    """Counterclockwise about the center, like Pillow's Image.rotate."""
    angle = -np.radians(degrees)
    cos, sin = np.cos(angle).round(15), np.sin(angle).round(15)
    x, y = width / 2, height / 2
    return _maps(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y)


def _maps(*coefficients: np.ndarray | float) -> np.ndarray:
    maps = np.empty((6, *np.broadcast(*coefficients).shape))
    for i, coefficient in enumerate(coefficients):
        maps[i] = coefficient
    return maps


# ------------------------------------------------------------------ the operations

TORCHVISION: dict[str, tuple[Retouch, Parameters]] = {
    "Identity": (Retouch.NONE, lambda s, h, w: s),
    "ShearX": (Retouch.NEAREST, lambda s, h, w: shear(0.3 * s, 0)),
    "ShearY": (Retouch.NEAREST, lambda s, h, w: shear(0, 0.3 * s)),
    "TranslateX": (Retouch.NEAREST, lambda s, h, w: translation(-_pixels(s, w), 0)),
    "TranslateY": (Retouch.NEAREST, lambda s, h, w: translation(0, -_pixels(s, h))),
    "Rotate": (Retouch.NEAREST, lambda s, h, w: rotation(30 * s, h, w)),
    "Brightness": (Retouch.BRIGHTNESS, lambda s, h, w: 1 + 0.9 * s),
    "Color": (Retouch.SATURATION, lambda s, h, w: 1 + 0.9 * s),
    "Contrast": (Retouch.CONTRAST, lambda s, h, w: 1 + 0.9 * s),
    "Sharpness": (Retouch.SHARPNESS, lambda s, h, w: 1 + 0.9 * s),
    "Posterize": (Retouch.POSTERIZE, lambda s, h, w: 8 - np.round(4 * abs(s))),
    "Solarize": (Retouch.SOLARIZE, lambda s, h, w: 255 * (1 - abs(s))),
    "AutoContrast": (Retouch.AUTOCONTRAST, lambda s, h, w: s),
    "Equalize": (Retouch.EQUALIZE, lambda s, h, w: s),
}


def _pixels(s: np.ndarray, size: int) -> np.ndarray:
    return np.trunc(150 / 331 * size * s)


# BILINEAR stands for both interpolations: half of these maps become BICUBIC.
TIMM: dict[str, tuple[Retouch, Parameters]] = {
    "AutoContrast": (Retouch.AUTOCONTRAST, lambda s, h, w: s),
    "Equalize": (Retouch.EQUALIZE, lambda s, h, w: s),
    "Invert": (Retouch.INVERT, lambda s, h, w: s),
    "Posterize": (Retouch.POSTERIZE, lambda s, h, w: 4 - np.floor(4 * abs(s))),
    "Solarize": (Retouch.SOLARIZE, lambda s, h, w: 256 - np.floor(256 * abs(s))),
    "SolarizeAdd": (Retouch.SOLARIZE_ADD, lambda s, h, w: np.floor(110 * abs(s))),
    "Color": (Retouch.SATURATION, lambda s, h, w: np.maximum(0.1, 1 + 0.9 * s)),
    "Contrast": (Retouch.CONTRAST, lambda s, h, w: np.maximum(0.1, 1 + 0.9 * s)),
    "Brightness": (Retouch.BRIGHTNESS, lambda s, h, w: np.maximum(0.1, 1 + 0.9 * s)),
    "Sharpness": (Retouch.SHARPNESS, lambda s, h, w: np.maximum(0.1, 1 + 0.9 * s)),
    "Rotate": (Retouch.BILINEAR, lambda s, h, w: rotation(30 * s, h, w)),
    "ShearX": (Retouch.BILINEAR, lambda s, h, w: shear(0.3 * s, 0)),
    "ShearY": (Retouch.BILINEAR, lambda s, h, w: shear(0, 0.3 * s)),
    "TranslateX": (Retouch.BILINEAR, lambda s, h, w: translation(0.45 * w * s, 0)),
    "TranslateY": (Retouch.BILINEAR, lambda s, h, w: translation(0, 0.45 * h * s)),
}


# ------------------------------------------------------------------ drawing steps


def rand_augment(n: int, magnitude: int, shape: tuple[int, int], draws: Draws) -> list[Step]:
    """torchvision's policy: `n` of the fourteen, each at `magnitude` of 30, with a random sign.

    Drawn with replacement; pixels from outside are black. shape: height, width.
    """
    steps = []
    for layer in range(n):
        name = f"randaugment {layer}"
        choice = draws.integers(name, len(TORCHVISION))
        sign = np.where(draws.uniform(f"{name} sign") < 0.5, -1.0, 1.0)
        steps.append(step(TORCHVISION.values(), choice, sign * magnitude / 30, shape))
    return steps


def rand_augment_timm(shape: tuple[int, int], draws: Draws) -> list[Step]:
    """timm's rand-m9-mstd0.5-inc1: two of the fifteen, each applied with probability 1/2.

    The magnitude is drawn from N(9, ½), at most 10; pixels from outside are the data set's mean
    color; interpolation is bilinear or bicubic with equal probability. shape: height, width.
    """
    steps = []
    for layer in range(2):
        name = f"timm {layer}"
        sign = np.where(draws.uniform(f"{name} sign") < 0.5, -1.0, 1.0)
        level = (9 + 0.5 * draws.normals(f"{name} magnitude", 1)[:, 0]).clip(0, 10)
        choice = draws.integers(name, len(TIMM))
        operations, parameters = step(TIMM.values(), choice, sign * level / 10, shape)
        cubic = draws.uniform(f"{name} interpolation") < 0.5
        operations[cubic & (operations == Retouch.BILINEAR)] = Retouch.BICUBIC
        operations[draws.uniform(f"{name} skip") < 0.5] = Retouch.NONE
        steps.append((operations, parameters))
    return steps


def color_jitter(strength: float, draws: Draws) -> list[Step]:
    """Brightness, contrast and saturation by factors from 1 ± strength, in a random order."""
    order = np.argsort(draws.uniforms("jitter order", 3), axis=1)
    low, high = max(0.0, 1 - strength), 1 + strength
    factors = [draws.uniform(f"jitter {i}", low, high) for i in range(3)]
    enhance = np.array([Retouch.BRIGHTNESS, Retouch.CONTRAST, Retouch.SATURATION])
    return [(enhance[turn], np.tile(np.choose(turn, factors), (6, 1))) for turn in order.T]


def step(
    table: Iterable[tuple[Retouch, Parameters]],
    choice: np.ndarray,
    strength: np.ndarray,
    shape: tuple[int, int],
) -> Step:
    """Operation number `choice` (n,) of the table with this strength (n,), for each image."""
    operations = np.zeros(len(choice), np.int64)
    parameters = np.zeros((6, len(choice)))
    for i, (operation, of) in enumerate(table):
        which = np.flatnonzero(choice == i)
        if which.size:
            operations[which] = operation
            parameters[:, which] = of(strength[which], *shape)
    return operations, parameters
