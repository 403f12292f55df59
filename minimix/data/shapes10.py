"""shapes10: a data set that is drawn instead of downloaded.

Ten shapes in 32×32 pixels, at random places, sizes and angles, in random colors, the shape striped
one way and the background another, with noise on top. Either may be the lighter one, so no pixel by
itself tells anything about the class: a linear model stays near chance, while a small ConvMixer
learns to see the shapes.

Image i is a function of (seed, split, i) alone: a larger set starts with the smaller one.
"""

import numpy as np

from .dataset import Dataset
from .draws import Draws

# Each shape fits the unit disc: positive inside, about the distance to the edge, negative outside.


def disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 0.9 - np.hypot(u, v)


def ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 0.22 - abs(np.hypot(u, v) - 0.75)


def crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(1 - np.hypot(u, v), np.hypot(u - 0.5, v) - 0.8)


def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 0.8 - np.maximum(abs(u), abs(v))


def frame(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 0.2 - abs(np.maximum(abs(u), abs(v)) - 0.65)


def checker(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Two of a square's four quarters."""
    quarters = np.sign(u * v) * np.minimum(abs(u), abs(v))
    return np.minimum(square(u, v), quarters)


def bars(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(0.2 - abs(abs(u) - 0.5), 0.85 - abs(v))


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    long, short = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    return np.minimum(0.95 - long, 0.25 - short)


def triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    slanted = np.sqrt(3) / 2 * abs(u) - v / 2
    return 0.5 - np.maximum(slanted, v)


def star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points on the unit circle; folded into one half of one, it ends at one line."""
    fold = np.pi / 5
    away = abs(np.arctan2(v, u) % (2 * fold) - fold)  # angle from the nearest notch
    a, b = np.hypot(u, v) * np.cos(away), np.hypot(u, v) * np.sin(away)
    notch, tip_a, tip_b = 0.42, np.cos(fold), np.sin(fold)
    length = np.hypot(tip_a - notch, tip_b)
    return (b * (tip_a - notch) - (a - notch) * tip_b) / length


SHAPES = (disc, ring, crescent, square, frame, checker, bars, cross, triangle, star)
CLASS_NAMES = tuple(shape.__name__ for shape in SHAPES)


def load(n_train: int = 10_000, n_test: int = 2_000, *, seed: int = 0) -> Dataset:
    """The set with `n_train` and `n_test` images, as many of each class.

    Images are uint8 (N, 32, 32, 3), labels int64 (N,): the names' places in CLASS_NAMES.
    """
    for name, n in (("n_train", n_train), ("n_test", n_test)):
        if n < 1:
            raise ValueError(f"`{name}` is {n}; expected at least 1")
    train_labels, test_labels = np.arange(n_train) % 10, np.arange(n_test) % 10
    return Dataset(
        name="shapes10",
        train_images=_draw(train_labels, seed, split=0),
        train_labels=train_labels,
        test_images=_draw(test_labels, seed, split=1),
        test_labels=test_labels,
        class_names=CLASS_NAMES,
        source=f"drawn by minimix (seed {seed})",
    )


def _draw(labels: np.ndarray, seed: int, split: int) -> np.ndarray:
    """Images uint8 (n, 32, 32, 3), some at a time so that they stay in cache."""
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    # Linux's C library gives freed memory back to the system, and mapping it again would take as
    # long as drawing. Once it has freed an array as large as this, it keeps what is smaller.
    np.empty(8 << 20, np.uint8)
    for start in range(0, len(labels), 50):
        part = slice(start, min(start + 50, len(labels)))
        draws = Draws(seed, split, np.arange(part.start, part.stop))
        _draw_some(labels[part], draws, images[part])
    return images


def _draw_some(labels: np.ndarray, draws: Draws, images: np.ndarray) -> None:
    """Draw these shapes into images (n, 32, 32, 3)."""

    def uniform(name: str, low: float, high: float) -> np.ndarray:
        return draws.uniform(name, low, high).astype(np.float32)[:, None, None]

    # The picture spans [-1, 1] both ways; (u, v) are the shape's own coordinates.
    x = (np.arange(32, dtype=np.float32) - 15.5) / 16
    y = x[:, None]
    radius, angle = uniform("radius", 0.42, 0.72), uniform("angle", 0, 2 * np.pi)
    dx, dy = x - uniform("x", -0.3, 0.3), y - uniform("y", -0.3, 0.3)
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius

    inside = np.empty_like(u)
    for label, shape in enumerate(SHAPES):
        of_class = labels == label
        inside[of_class] = shape(u[of_class], v[of_class])
    # How deep inside, in pixels: an edge is a pixel wide.
    mask = np.clip(inside * radius * 16 + 0.5, 0, 1)

    def stripes(name: str) -> np.ndarray:
        """Stripes of random strength, width and direction, which are added to a color."""
        direction = uniform(name + " direction", 0, np.pi)
        along = np.cos(direction) * x + np.sin(direction) * y
        width, phase = uniform(name + " width", 5, 25), uniform(name + " phase", 0, 2 * np.pi)
        return uniform(name + " strength", 0, 0.2) * np.cos(width * along + phase)

    ground = draws.uniforms("ground", 3)
    figure = (ground + 0.2 + 0.6 * draws.uniforms("figure", 3)) % 1  # never too near the ground
    behind, front = stripes("ground"), stripes("figure")
    noise = draws.bits("noise", 3 * 32 * 32 // 8).view(np.uint8).reshape(images.shape)
    grain = uniform("grain", 0, 0.4)
    colors = (color.astype(np.float32).T[:, :, None, None] for color in (ground, figure))
    for i, (of_ground, of_figure) in enumerate(zip(*colors, strict=True)):  # red, green, blue
        picture = of_ground + behind
        picture += mask * (of_figure + front - picture)
        picture += (noise[..., i].astype(np.float32) / 255 - 0.5) * grain
        images[..., i] = (np.clip(picture, 0, 1) * 255).round()
