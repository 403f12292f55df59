"""The kernels of augmentation: compiled and reference give the same bytes, or the same error."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minimix import kernels
from minimix.data.augment import reference
from minimix.data.augment.operations import Retouch
from minimix.data.augment.reference.geometry import pad_crop
from minimix.data.augment.reference.retouch import LARGEST, retouch

compiled = pytest.importorskip("minimix.data.augment.compiled.retouch", reason="needs Numba")

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33), st.just(3))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=SHAPES,
    colors=st.sampled_from([(0, 256), (100, 141), (7, 8), (254, 256)]),
    steps=st.integers(0, 3),
    seed=st.integers(0, 999),
)
def test_retouch(shape, colors, steps, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(*colors, shape, np.uint8)
    operations = rng.integers(0, len(Retouch), (steps, shape[0]))
    parameters = np.empty((steps, 6, shape[0]))
    for step, i in np.ndindex(operations.shape):
        parameters[step, :, i] = parameters_of(operations[step, i], shape, rng)
    fill = rng.integers(0, 256, 3, np.uint8)
    before = images.copy()
    mine = retouch(images, operations, parameters, fill)
    np.testing.assert_array_equal(images, before)
    truth = retouch.reference(images, operations, parameters, fill)
    np.testing.assert_array_equal(mine, truth)


def parameters_of(operation, shape, rng):
    if operation == Retouch.ENLARGE:
        size = rng.integers(1, np.array(shape[1:3]) + 1)
        corner = rng.integers(0, np.array(shape[1:3]) - size + 1)
        return [*corner, *size, 0, 0]
    if operation in (Retouch.NEAREST, Retouch.BILINEAR, Retouch.BICUBIC):
        # Round coefficients, so that places fall on the border between two pixels.
        spread, digits = rng.choice([0.1, 0.4]), rng.choice([1, 2, 9])
        return np.array([1, 0, 0, 0, 1, 0]) + rng.normal(0, spread, 6).round(digits)
    ranges = {
        Retouch.POSTERIZE: lambda: rng.integers(0, 9),
        Retouch.SOLARIZE: lambda: rng.integers(0, 257),
        Retouch.SOLARIZE_ADD: lambda: rng.integers(0, 256),
    }
    return ranges.get(operation, lambda: rng.uniform(0, 2))()


@settings(max_examples=50)
@given(shape=SHAPES, padding=st.integers(0, 30), smaller=st.integers(0, 3), seed=st.integers(0, 9))
def test_pad_crop(shape, padding, smaller, seed):
    rng = np.random.default_rng(seed)
    n, h, w, _ = shape
    images = rng.integers(0, 256, shape, np.uint8)
    size = max(h + 2 * padding - smaller, 1), max(w - smaller, 1)
    top = rng.integers(0, h + 2 * padding - size[0] + 1, n)
    left = rng.integers(0, w + 2 * padding - size[1] + 1, n)
    for mode in ("zero", "reflect"):
        asked = images, top, left, padding, mode, size
        np.testing.assert_array_equal(pad_crop(*asked), pad_crop.reference(*asked))


# ------------------------------------------------------------------ what they are not made for


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return type(error), str(error)


def both(function, *arguments):
    """What both back ends say to it: the same."""
    with kernels.backend("numba"):
        mine = outcome(function, *arguments)
    with kernels.backend("numpy"):
        truth = outcome(function, *arguments)
    if isinstance(truth, tuple):
        assert mine == truth
    else:
        assert mine.dtype == truth.dtype
        np.testing.assert_array_equal(mine, truth)
    return truth


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), np.uint8)
FILL = np.array([1, 2, 3], np.uint8)


def steps(operation, p):
    return np.full((1, 5), operation), np.full((1, 6, 5), np.reshape(p, (-1, 1)), float)


@pytest.mark.parametrize(
    ("operation", "p", "message"),
    [
        (-1, 0, "operations go from -1 to -1; expected 0 to 15"),
        (16, 0, "operations go from 16 to 16; expected 0 to 15"),
        (Retouch.NEAREST, np.nan, "parameters hold nan"),
        (Retouch.BILINEAR, np.inf, "parameters hold inf"),
        (Retouch.BICUBIC, -1e300, r"parameters hold -1e\+300"),
        (Retouch.NEAREST, LARGEST, "parameters hold 1073741824.0"),
        (Retouch.BRIGHTNESS, np.nan, "parameters hold nan"),
        (Retouch.POSTERIZE, 9, "POSTERIZE has parameters from 9 to 9; expected 0 to 8"),
        (Retouch.SOLARIZE_ADD, -1, "SOLARIZE_ADD has parameters from -1 to -1; expected 0 to 255"),
        (Retouch.ENLARGE, [0, 0, 0, 7, 0, 0], "a box to ENLARGE is empty, or not inside"),
        (Retouch.ENLARGE, [0, 0, 10, 7, 0, 0], "a box to ENLARGE is empty, or not inside"),
        (Retouch.ENLARGE, [0, 1, 9, 7, 0, 0], "a box to ENLARGE is empty, or not inside"),
        (Retouch.ENLARGE, [-1, 0, 9, 7, 0, 0], "a box to ENLARGE is empty, or not inside"),
        (Retouch.ENLARGE, [2**29, 2**29, 2**29, 2**29, 0, 0], "a box to ENLARGE is empty"),
    ],
)
def test_retouch_refuses(operation, p, message):
    with pytest.raises(ValueError, match=message):
        retouch(IMAGES, *steps(operation, p), FILL)
    both(retouch, IMAGES, *steps(operation, p), FILL)


@pytest.mark.parametrize("operation", [Retouch.NEAREST, Retouch.BILINEAR, Retouch.BICUBIC])
@pytest.mark.parametrize("p", [LARGEST - 1, 1 - LARGEST, 1e-300, [1, 0, 1e9, 0, 1, -1e9]])
def test_maps_that_lead_far_away(operation, p):
    both(retouch, IMAGES, *steps(operation, p), FILL)


def spoiled(a):
    """Arrays like `a`, and not: other dtypes, shapes, strides, byte orders; read-only."""
    yield from (a.astype(dtype) for dtype in (np.int8, np.float32, np.int32, ">i8", ">f8", bool))
    yield from (a[:0], a[..., :-1], a[None], a[0], np.concatenate([a, a]), a[::-1])
    yield np.asfortranarray(a)
    yield np.repeat(a, 2, axis=-1)[..., ::2]
    frozen = a.copy()
    frozen.setflags(write=False)
    yield frozen


@pytest.mark.filterwarnings("ignore")  # of NumPy's, about casts
def test_whatever_they_are_given_both_back_ends_do_the_same():
    for operation in Retouch:
        p = {Retouch.ENLARGE: [1, 2, 3, 4, 0, 0], Retouch.POSTERIZE: 3}.get(operation, 0.7)
        good = [IMAGES, *steps(operation, p), FILL]
        for i, a in enumerate(good):
            for bad in spoiled(a):
                both(retouch, *good[:i], bad, *good[i + 1 :])
    corner = np.array([0, 1, 2, 3, 4])
    good = [IMAGES, corner, corner[::-1].copy()]
    for i, a in enumerate(good):
        for bad in spoiled(a):
            both(pad_crop, *good[:i], bad, *good[i + 1 :], 2, "reflect")
    for options in (
        (0, "zero"),
        (2, "edge"),
        (-1, "zero"),
        (2, "zero", (13, 11)),
        (2, "zero", (14, 1)),
        (2, "zero", (0, 1)),
        (2, "reflect", (5, -1)),
        (20, "reflect", (49, 47)),
    ):
        both(pad_crop, IMAGES, 0 * corner, 0 * corner, *options)


@pytest.mark.parametrize("bad", [-1, 5, 2**62, -(2**62)])
def test_a_crop_outside_the_padded_image(bad):
    corner = np.array([0, 1, 2, 3, bad])
    for top, left, name in ((corner, corner * 0, "top"), (corner * 0, corner, "left")):
        with pytest.raises(ValueError, match=rf"{name} goes from .* to .*; expected 0 to 4"):
            pad_crop(IMAGES, top, left, 2, "zero")


def test_every_kernel_is_tried():
    import importlib
    import pkgutil

    found = set()
    for module in pkgutil.iter_modules(reference.__path__, reference.__name__ + "."):
        found |= {
            n
            for n, k in vars(importlib.import_module(module.name)).items()
            if hasattr(k, "reference")
        }
    assert found == {"pad_crop", "retouch"}
