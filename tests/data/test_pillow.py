"""Every operation on pixels against Pillow's of the same name, in both back ends.

On the machines where minimix is developed they agree to the byte. Another compiler may fuse
Pillow's multiplications and additions, so one gray level is allowed, to one byte in a thousand.
"""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from minimix import kernels
from minimix.data.augment import randaugment
from minimix.data.augment.operations import Retouch
from minimix.data.augment.randaugment import TIMM, TORCHVISION, rand_augment
from minimix.data.augment.reference.retouch import retouch

N = 60
NEAREST, BILINEAR, BICUBIC = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
)


def draw_images():
    """Noise, blocks, gradients, flat colors, few colors, dark and bright ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 32, 32, 3), np.uint8)
    images[10:20] = images[10:20, ::8, ::8].repeat(8, 1).repeat(8, 2)
    gradient = np.add.outer(np.arange(32), 3 * np.arange(32))[..., None] * [1, 2, 1]
    images[20:30] = (gradient + images[20:30] // 16) % 256
    images[30:33] = rng.integers(0, 256, (3, 1, 1, 3))
    images[33] = 0
    images[34] = 255
    images[35:40] = rng.choice([0, 255], (5, 32, 32, 3))
    images[40:50] //= 4
    images[50:] = 255 - images[50:] // 5
    return images


IMAGES = draw_images()
PICTURES = [Image.fromarray(image) for image in IMAGES]
RNG = np.random.default_rng(1)
FACTOR = np.concatenate([[0.0, 0.1, 0.64, 1.0, 1.36, 1.9], RNG.uniform(0, 2, N - 6)])
ANGLE = np.concatenate([[0.0, 12.0, -12.0, 30.0, -30.0, 90.0], RNG.uniform(-180, 180, N - 6)])
SLOPE = np.concatenate([[0.0, 0.12, -0.12, 0.3], RNG.uniform(-0.5, 0.5, N - 4)])
SHIFT = np.concatenate([[0, 1, -1, 31, 32, -32], RNG.integers(-20, 21, N - 6)])


@pytest.fixture(params=kernels.BACKENDS, autouse=True)
def in_backend(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed")
    with kernels.backend(request.param):
        yield


def after(operation, parameters=0.0, fill=(0, 0, 0)):
    """IMAGES after an operation, each with its parameters (N,) or (6, N)."""
    steps = np.full((1, N), operation), np.broadcast_to(parameters, (1, 6, N))
    return retouch(IMAGES, *steps, np.array(fill, np.uint8))


def assert_agree(ours, theirs):
    """`theirs(picture, i)` is Pillow's for image i."""
    expected = np.stack([np.asarray(theirs(PICTURES[i], i)) for i in range(N)])
    assert ours.dtype == np.uint8
    difference = abs(ours.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Retouch.BRIGHTNESS, ImageEnhance.Brightness),
        (Retouch.CONTRAST, ImageEnhance.Contrast),
        (Retouch.SATURATION, ImageEnhance.Color),
        (Retouch.SHARPNESS, ImageEnhance.Sharpness),
    ],
    ids=["brightness", "contrast", "color", "sharpness"],
)
def test_enhance(ours, theirs):
    assert_agree(after(ours, FACTOR), lambda p, i: theirs(p).enhance(FACTOR[i]))


def test_point_operations():
    bits, level = RNG.integers(1, 9, N), RNG.uniform(0, 256, N)
    posterized = after(Retouch.POSTERIZE, bits)
    assert_agree(posterized, lambda p, i: ImageOps.posterize(p, int(bits[i])))
    assert_agree(after(Retouch.SOLARIZE, level), lambda p, i: ImageOps.solarize(p, level[i]))
    assert_agree(after(Retouch.INVERT), lambda p, _: ImageOps.invert(p))
    add = RNG.integers(0, 111, N)

    def brighten(picture, i):
        return picture.point([min(255, v + int(add[i])) if v < 128 else v for v in range(256)] * 3)

    assert_agree(after(Retouch.SOLARIZE_ADD, add), brighten)


def test_histogram_operations():
    assert_agree(after(Retouch.AUTOCONTRAST), lambda p, _: ImageOps.autocontrast(p))
    assert_agree(after(Retouch.EQUALIZE), lambda p, _: ImageOps.equalize(p))


def transformed(picture, coefficients, resample, fill=None):
    return picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, resample, fillcolor=fill
    )


MAPS = {
    "rotate": randaugment.rotation(ANGLE, 32, 32),
    "shear x": randaugment.shear(SLOPE, 0),
    "shear y": randaugment.shear(0, SLOPE),
    "translate x": randaugment.translation(SHIFT, 0),
    "translate y": randaugment.translation(0, SHIFT),
}


@pytest.mark.parametrize("of", MAPS)
def test_nearest(of):
    maps = MAPS[of]
    assert_agree(
        after(Retouch.NEAREST, maps),
        lambda p, i: transformed(p, tuple(maps[:, i]), NEAREST),
    )


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("of", MAPS)
def test_smooth(of, cubic):
    maps, fill = MAPS[of] + np.c_[[0, 0, 0.3, 0, 0, -0.7]], (125, 123, 114)
    assert_agree(
        after(Retouch.BICUBIC if cubic else Retouch.BILINEAR, maps, fill),
        lambda p, i: transformed(p, tuple(maps[:, i]), BICUBIC if cubic else BILINEAR, fill),
    )


def test_rotations_are_those_of_rotate():
    for resample, ours in (
        (NEAREST, Retouch.NEAREST),
        (BILINEAR, Retouch.BILINEAR),
        (BICUBIC, Retouch.BICUBIC),
    ):
        turned = after(ours, MAPS["rotate"])
        assert_agree(turned, lambda p, i, how=resample: p.rotate(ANGLE[i], how))


def test_resized_crop():
    height, width = RNG.integers(1, 33, (2, N))
    top, left = RNG.integers(0, 33 - height), RNG.integers(0, 33 - width)

    def cut_and_enlarge(picture, i):
        box = (left[i], top[i], left[i] + width[i], top[i] + height[i])
        return picture.crop(box).resize((32, 32), BILINEAR)

    box = np.stack([top, left, height, width, top, left])
    assert_agree(after(Retouch.ENLARGE, box), cut_and_enlarge)


def test_flip():
    assert_agree(after(Retouch.FLIP), lambda p, _: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


# ------------------------------------------------------------------ whole policies

SIGN = np.where(np.arange(N) % 2, 1.0, -1.0)


def torchvision(name, picture, magnitude, sign):
    """Its operation on a picture, at `magnitude` of 30."""
    share = magnitude / 30
    signed = sign * share
    slide = int(150 / 331 * 32 * signed)
    return {
        "Identity": lambda: picture,
        "ShearX": lambda: transformed(picture, (1, 0.3 * signed, 0, 0, 1, 0), NEAREST),
        "ShearY": lambda: transformed(picture, (1, 0, 0, 0.3 * signed, 1, 0), NEAREST),
        "TranslateX": lambda: transformed(picture, (1, 0, -slide, 0, 1, 0), NEAREST),
        "TranslateY": lambda: transformed(picture, (1, 0, 0, 0, 1, -slide), NEAREST),
        "Rotate": lambda: picture.rotate(30 * signed, NEAREST),
        "Brightness": lambda: ImageEnhance.Brightness(picture).enhance(1 + 0.9 * signed),
        "Color": lambda: ImageEnhance.Color(picture).enhance(1 + 0.9 * signed),
        "Contrast": lambda: ImageEnhance.Contrast(picture).enhance(1 + 0.9 * signed),
        "Sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(1 + 0.9 * signed),
        "Posterize": lambda: ImageOps.posterize(picture, 8 - round(magnitude / 7.5)),
        "Solarize": lambda: ImageOps.solarize(picture, 255 - 8.5 * magnitude),
        "AutoContrast": lambda: ImageOps.autocontrast(picture),
        "Equalize": lambda: ImageOps.equalize(picture),
    }[name]()


@pytest.mark.parametrize("magnitude", [1, 12, 17, 30])
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name, magnitude):
    operation, parameters = TORCHVISION[name]
    ours = after(operation, parameters(SIGN * magnitude / 30, 32, 32))
    assert_agree(ours, lambda p, i: torchvision(name, p, magnitude, SIGN[i]))


@pytest.mark.parametrize("level", [0.0, 3.3, 9.0, 10.0])
@pytest.mark.parametrize("name", TIMM)
def test_timm(name, level):
    """Its operation at `level` of 10, by the definitions in its auto_augment."""
    share, fill = level / 10, (125, 123, 114)

    def theirs(picture, i):
        s = SIGN[i] * share
        enhanced = max(0.1, 1 + 0.9 * s)
        bits, threshold, add = 4 - int(4 * share), 256 - int(256 * share), int(110 * share)
        return {
            "AutoContrast": lambda: ImageOps.autocontrast(picture),
            "Equalize": lambda: ImageOps.equalize(picture),
            "Invert": lambda: ImageOps.invert(picture),
            "Posterize": lambda: picture.point([v & -(1 << (8 - bits)) for v in range(256)] * 3),
            "Solarize": lambda: ImageOps.solarize(picture, threshold),
            "SolarizeAdd": lambda: picture.point(
                [min(255, v + add) if v < 128 else v for v in range(256)] * 3
            ),
            "Color": lambda: ImageEnhance.Color(picture).enhance(enhanced),
            "Contrast": lambda: ImageEnhance.Contrast(picture).enhance(enhanced),
            "Brightness": lambda: ImageEnhance.Brightness(picture).enhance(enhanced),
            "Sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(enhanced),
            "Rotate": lambda: picture.rotate(30 * s, BICUBIC, fillcolor=fill),
            "ShearX": lambda: transformed(picture, (1, 0.3 * s, 0, 0, 1, 0), BICUBIC, fill),
            "ShearY": lambda: transformed(picture, (1, 0, 0, 0.3 * s, 1, 0), BICUBIC, fill),
            "TranslateX": lambda: transformed(picture, (1, 0, 14.4 * s, 0, 1, 0), BICUBIC, fill),
            "TranslateY": lambda: transformed(picture, (1, 0, 0, 0, 1, 14.4 * s), BICUBIC, fill),
        }[name]()

    operation, parameters = TIMM[name]
    if operation == Retouch.BILINEAR:
        operation = Retouch.BICUBIC
    assert_agree(after(operation, parameters(SIGN * share, 32, 32), fill), theirs)


def test_two_layers_in_a_row():
    """What is drawn is what is done, to each image, in order."""
    from minimix.data.draws import Draws

    draws = Draws(5, 2, np.arange(N))
    names = [
        [list(TORCHVISION)[k] for k in draws.integers(f"randaugment {layer}", 14)]
        for layer in range(2)
    ]
    signs = [
        np.where(draws.uniform(f"randaugment {layer} sign") < 0.5, -1.0, 1.0) for layer in range(2)
    ]

    def theirs(picture, i):
        for layer in range(2):
            picture = torchvision(names[layer][i], picture, 12, signs[layer][i])
        return picture

    assert len({*names[0], *names[1]}) == 14
    operations, parameters = zip(*rand_augment(2, 12, (32, 32), draws), strict=True)
    black = np.zeros(3, np.uint8)
    assert_agree(retouch(IMAGES, np.stack(operations), np.stack(parameters), black), theirs)
