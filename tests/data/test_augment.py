"""Augmentation: what is drawn, what it depends on, what comes out. Pixels: test_pillow.py."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimix.data import Augment, Loader, normalize
from minimix.data.augment import randaugment
from minimix.data.augment.mixing import boxes, erase, mix, one_hot
from minimix.data.augment.operations import Retouch
from minimix.data.augment.randaugment import TIMM, TORCHVISION
from minimix.data.augment.reference.geometry import pad_crop
from minimix.data.augment.reference.retouch import retouch
from minimix.data.draws import Draws

NOTHING = Augment(crop=None, flip=None)
# Every step of each kind at least once; none mixes images.
ALONE = [
    Augment(),
    Augment(pad_mode="zero", flip="alternating", padding=3, jitter=0.4),
    Augment(crop="resized", scale=0.3, randaugment=(2, 12)),
    Augment(crop=None, randaugment="timm", erasing=0.5, erase_mode="noise"),
    Augment(crop=None, flip=None, randaugment=(1, 30), erasing=1.0),
]


def some(n=200):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2), rng.integers(0, 10, n)


IMAGES, LABELS = some()
INDICES = np.arange(len(IMAGES))


def look(augment, which, seed=0, epoch=0):
    """What these images look like."""
    return augment(IMAGES[which], LABELS[which], INDICES[which], seed, epoch)[0]


# ------------------------------------------------------------------ what it depends on


@pytest.mark.parametrize("augment", ALONE)
def test_an_image_depends_on_seed_epoch_and_index_alone(augment):
    whole = look(augment, INDICES)
    assert whole.dtype == np.float32
    assert whole.shape == IMAGES.shape
    shuffled = np.random.default_rng(0).permutation(INDICES)
    np.testing.assert_array_equal(look(augment, shuffled), whole[shuffled])
    np.testing.assert_array_equal(look(augment, INDICES[37:38]), whole[37:38])
    for other in (look(augment, INDICES, epoch=1), look(augment, INDICES, seed=1)):
        same = (other == whole).all(axis=(1, 2, 3)).mean()
        assert same < 0.4


def test_one_step_does_not_stir_another():
    """Turning erasing on changes neither where images are cut nor which are flipped."""
    without, erased = look(Augment(), INDICES), look(Augment(erasing=1.0), INDICES)
    touched = (without != erased).all(-1)
    assert 0 < touched.mean() < 0.35
    np.testing.assert_array_equal(erased[touched], 0)


def test_through_a_loader_in_any_order():
    augment = ALONE[3]
    whole = look(augment, INDICES, seed=4, epoch=7)
    loader = Loader(IMAGES, INDICES, 64, seed=4, epoch=7, transform=augment)
    for x, indices in loader:
        np.testing.assert_array_equal(x, whole[indices])


@pytest.mark.parametrize("augment", [*ALONE, Augment(mixup=0.5, cutmix=0.5)])
def test_the_data_set_is_left_as_it_was(augment):
    before = IMAGES.copy()
    augment(IMAGES, LABELS, INDICES, 0, 0)
    np.testing.assert_array_equal(IMAGES, before)


# ------------------------------------------------------------------ crops and flips


def test_nothing():
    x, y = NOTHING(IMAGES, LABELS, INDICES, 0, 0)
    np.testing.assert_array_equal(x, normalize(IMAGES))
    assert y is LABELS


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_pad_crop_cuts_where_it_says(mode):
    top, left = np.random.default_rng(0).integers(0, 9, (2, len(IMAGES)))
    out = pad_crop(IMAGES, top, left, 4, mode)
    for i in range(0, len(IMAGES), 7):
        for row, column in ((0, 0), (0, 31), (31, 5), (16, 16)):
            y, x = row + top[i] - 4, column + left[i] - 4
            if mode == "zero" and not (0 <= y < 32 and 0 <= x < 32):
                np.testing.assert_array_equal(out[i, row, column], 0)
            else:
                y, x = (abs(v) if v < 32 else 62 - v for v in (y, x))
                np.testing.assert_array_equal(out[i, row, column], IMAGES[i, y, x])
    middle = np.full(len(IMAGES), 4)
    unmoved = pad_crop(IMAGES, middle, middle, 4, mode)
    np.testing.assert_array_equal(unmoved, IMAGES)


def test_a_smaller_piece_may_come_from_anywhere():
    n = 20_000
    images = np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1).repeat(3, axis=3).repeat(n, axis=0)
    augment = Augment(padding=1, pad_mode="zero", flip=None, size=4)
    x, _ = augment(images, np.zeros(n, int), np.arange(n), 0, 0)
    assert x.shape == (n, 4, 4, 3)
    pieces, counts = np.unique(x[..., 0].reshape(n, 16), axis=0, return_counts=True)
    padded = np.pad(images[0, ..., 0], 1)
    cut = [
        normalize(np.stack([padded[i : i + 4, j : j + 4]] * 3, -1))[..., 0].ravel()
        for i in range(5)
        for j in range(5)
    ]
    np.testing.assert_array_equal(pieces, np.unique(cut, axis=0))
    assert abs(counts / n - 1 / 25).max() < 0.01


def test_a_piece_larger_than_the_padded_image_is_refused():
    images, index = np.zeros((1, 8, 6, 3), np.uint8), np.zeros(1, int)
    assert Augment(padding=1, size=8)(images, index, index, 0, 0)[0].shape == (1, 8, 8, 3)
    with pytest.raises(ValueError, match="`size` is 9, more than there is of an image of 8×6"):
        Augment(padding=1, size=9)(images, index, index, 0, 0)
    for padding, mode in ((6, "reflect"), (7, "zero"), (10**9, "zero")):
        with pytest.raises(ValueError, match=r"less than the sides of an image, 8×6"):
            Augment(padding=padding, pad_mode=mode)(images, index, index, 0, 0)
    Augment(padding=99, crop=None)(images, index, index, 0, 0)  # which pads nothing


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 8, 8, 5), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)],
)
def test_other_images_are_refused(images):
    index = np.arange(len(images))
    with pytest.raises(ValueError, match=r"`images` are .*; expected uint8 \(N, H, W, C\)"):
        Augment()(images, index, index, 0, 0)


EVERYTHING = {"randaugment": "timm", "jitter": 0.3, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0}


@pytest.mark.parametrize("c", [1, 2, 4])
@pytest.mark.parametrize("crop", ["pad", "resized"])
def test_any_number_of_channels(c, crop):
    """What is done to one channel is done to all, where an operation does not mix them."""
    gray = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)
    images, index = gray.repeat(c, axis=3), np.arange(9)
    augment = Augment(crop=crop, **EVERYTHING, mean=(0.4,) * c, std=(0.2,) * c)
    x, targets = augment(images, index, index, 0, 1)
    assert (x.shape, x.dtype, targets.shape) == ((9, 8, 8, c), np.float32, (9, 10))
    one = replace(augment, mean=(0.4,), std=(0.2,))(gray, index, index, 0, 1)[0]
    np.testing.assert_array_equal(x, one.repeat(c, axis=3))
    three = replace(augment, mean=(0.4,) * 3, std=(0.2,) * 3)
    x = three(gray.repeat(3, axis=3), index, index, 0, 1)[0]
    np.testing.assert_allclose(x[..., :1], one, atol=1e-6)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 3), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_any_size(h, w, padding, n):
    padding = min(padding, h - 1, w - 1)  # a reflection reaches no further
    images = np.random.default_rng(0).integers(0, 256, (n, h, w, 3), np.uint8)
    augment = Augment(padding=padding, jitter=0.3)
    x, _ = augment(images, np.zeros(n, int), np.arange(n), 0, 0)
    assert x.shape == images.shape
    resized = replace(augment, crop="resized", randaugment="timm", erasing=0.5)
    assert resized(images, np.zeros(n, int), np.arange(n), 0, 0)[0].shape == images.shape


def test_every_crop_is_drawn():
    index = np.arange(20_000)
    corners = np.zeros((20_000, 5, 5, 3), np.uint8)
    corners[:, 2, 2] = 255
    x, _ = Augment(padding=2, pad_mode="zero", flip=None)(corners, index, index, 0, 0)
    row, column = np.divmod(x[..., 0].reshape(len(x), -1).argmax(1), 5)
    counts = np.histogram2d(row, column, 5, ((0, 5), (0, 5)))[0]
    assert abs(counts / len(x) - 1 / 25).max() < 0.01


def flipped(augment, epoch):
    """Which images were flipped."""
    x = look(replace(augment, crop=None), INDICES, epoch=epoch)
    as_is = (x == normalize(IMAGES)).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(x[~as_is], normalize(IMAGES[~as_is][:, :, ::-1]))
    return ~as_is


def test_random_flips_are_half_of_all():
    flips = np.array([flipped(Augment(), epoch) for epoch in range(10)])
    assert 0.45 < flips.mean() < 0.55
    assert abs(np.corrcoef(flips) - np.eye(10)).max() < 0.3


def test_alternating_flips_alternate():
    """Drawn in epoch 0; then each image is shown the other way round every other epoch."""
    augment = Augment(flip="alternating")
    flips = [flipped(augment, epoch) for epoch in range(5)]
    assert 0.4 < flips[0].mean() < 0.6
    for epoch, now in enumerate(flips):
        np.testing.assert_array_equal(now, flips[0] ^ (epoch % 2 == 1))


def test_a_whole_crop_changes_nothing():
    whole = np.c_[[0, 0, 32, 32, 0, 0]].repeat(len(IMAGES), axis=1)
    np.testing.assert_array_equal(after(Retouch.ENLARGE, whole), IMAGES)
    augment = replace(NOTHING, crop="resized", scale=1.0)
    np.testing.assert_array_equal(look(augment, INDICES), normalize(IMAGES))


@given(
    st.floats(0.05, 1),
    st.floats(0.2, 1),
    st.integers(3, 40),
    st.integers(3, 40),
    st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_boxes_fit(area, ratio, h, w, seed):
    draws = Draws(seed, 0, np.arange(50))
    top, left, height, width = boxes(
        draws, "box", (h, w), (area / 2, area), (ratio, 1 / ratio), (h - 1, w)
    )
    drawn = height > 0
    np.testing.assert_array_equal(drawn, width > 0)
    assert (height < h).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= h).all()
    assert (left + width <= w).all()
    share = height * width / (h * w)
    rounding = (height + width + 1) / (2 * h * w)
    assert (share[drawn] <= area + rounding[drawn]).all()
    assert (share[drawn] >= area / 2 - rounding[drawn]).all()


# ------------------------------------------------------------------ RandAugment


def test_the_sets_are_complete():
    assert len(TORCHVISION) == 14
    assert len(TIMM) == 15


def after(operation, parameters, images=IMAGES):
    steps = np.full((1, len(images)), operation), np.broadcast_to(parameters, (1, 6, len(images)))
    return retouch(images, *steps, np.zeros(3, np.uint8))


def done(table, name, images, strength):
    """Images after the operation of that name, each so strong."""
    operation, parameters = table[name]
    return after(operation, parameters(strength, *images.shape[1:3]), images)


@pytest.mark.parametrize("operation", [name for name in TORCHVISION if name != "Identity"])
def test_every_operation_does_something(operation):
    strength = np.full(len(IMAGES), 0.4)
    dull = IMAGES // 2 + 50
    out = done(TORCHVISION, operation, dull, strength)
    assert out.dtype == np.uint8
    assert out.shape == IMAGES.shape
    assert (out != dull).any(axis=(1, 2, 3)).mean() > 0.95


def test_magnitude_0_of_the_signed_ones_is_no_change():
    still = np.zeros(len(IMAGES))
    for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
                 "Contrast", "Sharpness", "Posterize"):  # fmt: skip
        np.testing.assert_array_equal(done(TORCHVISION, name, IMAGES, still), IMAGES)


def test_translations_go_the_way_of_their_sign():
    """Magnitude 12 of 30 moves by 5 pixels, to the right where positive."""
    strength = np.full(len(IMAGES), 12 / 30)
    out = done(TORCHVISION, "TranslateX", IMAGES, strength)
    np.testing.assert_array_equal(out[:, :, 5:], IMAGES[:, :, :-5])
    np.testing.assert_array_equal(out[:, :, :5], 0)
    out = done(TORCHVISION, "TranslateY", IMAGES, -strength)
    np.testing.assert_array_equal(out[:, :-5], IMAGES[:, 5:])


def test_magnitudes_of_the_official_recipe():
    """m = 12: posterize to 6 bits, solarize from 153."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    strength = np.array([12 / 30])
    np.testing.assert_array_equal(done(TORCHVISION, "Posterize", ramp, strength), ramp & 0b11111100)
    solarized = np.where(ramp < 153, ramp, 255 - ramp)
    np.testing.assert_array_equal(done(TORCHVISION, "Solarize", ramp, strength), solarized)
    # timm at 9 of 10: one bit, from 26, and 99 brighter
    strength = np.array([0.9])
    np.testing.assert_array_equal(done(TIMM, "Posterize", ramp, strength), ramp & 0b10000000)
    solarized = np.where(ramp < 26, ramp, 255 - ramp)
    np.testing.assert_array_equal(done(TIMM, "Solarize", ramp, strength), solarized)
    brighter = np.where(ramp < 128, ramp + 99, ramp)
    np.testing.assert_array_equal(done(TIMM, "SolarizeAdd", ramp, strength), brighter)


def test_operations_are_drawn_evenly(monkeypatch):
    """Each of the fourteen, either sign; each of timm's fifteen at half that rate."""
    drawn = []
    step = randaugment.step

    def note(table, choice, strength, shape):
        drawn.append((choice, strength))
        return step(table, choice, strength, shape)

    monkeypatch.setattr(randaugment, "step", note)
    n = 50_000
    draws = Draws(0, 0, np.arange(n))
    randaugment.rand_augment(2, 12, (32, 32), draws)
    assert len(drawn) == 2
    for choice, strength in drawn:
        assert abs(np.bincount(choice) / n - 1 / 14).max() < 0.005
        np.testing.assert_allclose(abs(strength), 0.4)
        assert abs((strength > 0).mean() - 0.5) < 0.01
    assert abs(np.corrcoef(drawn[0][0], drawn[1][0])[0, 1]) < 0.02
    drawn.clear()
    steps = randaugment.rand_augment_timm((32, 32), draws)
    assert len(drawn) == len(steps) == 2
    for (choice, strength), (operations, _) in zip(drawn, steps, strict=True):
        assert abs(np.bincount(choice) / n - 1 / 15).max() < 0.005
        assert abs(strength).max() <= 1
        assert abs(strength).mean() == pytest.approx(0.9, abs=0.005)
        assert abs(strength).std() == pytest.approx(0.05, abs=0.003)
        shares = np.bincount(operations, minlength=len(Retouch)) / n
        assert shares[Retouch.NONE] == pytest.approx(1 / 2, abs=0.006)
        for smooth in (Retouch.BILINEAR, Retouch.BICUBIC):  # five of fifteen, half of the time
            assert shares[smooth] == pytest.approx(1 / 12, abs=0.004)
        for other in (Retouch.INVERT, Retouch.SHARPNESS, Retouch.EQUALIZE):
            assert shares[other] == pytest.approx(1 / 30, abs=0.003)


@pytest.mark.parametrize(("policy", "color"), [((2, 12), (0, 0, 0)), ("timm", (125, 123, 114))])
def test_what_comes_from_outside(policy, color):
    """torchvision fills with black, timm with the mean color: a flat image has no third color."""
    flat = np.full(IMAGES.shape, (200, 40, 90), np.uint8)
    x, _ = replace(NOTHING, randaugment=policy)(flat, LABELS, INDICES, 0, 0)
    fill = (x == normalize(np.uint8([[color]]))).all(-1)
    own = (x == x[:, 16:17, 16:17]).all(-1)
    drawn_over = ~own.all(axis=(1, 2))
    assert drawn_over.sum() > 40
    # Not always: a second operation may change the color of what the first one filled in.
    assert (fill | own).all(axis=(1, 2))[drawn_over].mean() > 0.6


def test_jitter_is_three_factors_in_any_order():
    n = 6000
    draws = Draws(0, 0, np.arange(n))
    steps = randaugment.color_jitter(0.3, draws)
    operations, parameters = (np.stack(part) for part in zip(*steps, strict=True))
    orders, counts = np.unique(operations, axis=1, return_counts=True)
    assert orders.shape == (3, 6)
    assert abs(counts / n - 1 / 6).max() < 0.02
    for i, kind in enumerate((Retouch.BRIGHTNESS, Retouch.CONTRAST, Retouch.SATURATION)):
        factor = parameters[:, 0][operations == kind]
        assert len(factor) == n
        np.testing.assert_array_equal(
            np.sort(factor), np.sort(draws.uniform(f"jitter {i}", 0.7, 1.3))
        )


# ------------------------------------------------------------------ erasing, mixing, targets


@pytest.mark.parametrize("mode", ["zero", "noise"])
def test_erasing(mode):
    n = 3000
    x = np.full((n, 16, 16, 3), 5.0, np.float32)
    erase(x, 0.25, mode, Draws(0, 0, np.arange(n)))
    gone = (x != 5.0).any(-1)
    hit = gone.any(axis=(1, 2))
    assert 0.22 < hit.mean() < 0.28
    for rows, columns in ((gone[hit].any(2), gone[hit].any(1)),):
        height, width = rows.sum(1), columns.sum(1)
        np.testing.assert_array_equal(height * width, gone[hit].sum(axis=(1, 2)))  # boxes
    share = height * width / 256
    assert share.min() > 0.01
    assert share.max() < 0.37
    assert 0.13 < share.mean() < 0.2
    erased = x[gone]
    if mode == "zero":
        np.testing.assert_array_equal(erased, 0)
    else:
        np.testing.assert_allclose(np.cov(erased.T), np.eye(3), atol=0.05)
        np.testing.assert_allclose(erased.mean(0), 0, atol=0.05)


def test_one_hot():
    targets = one_hot(np.array([2, 0]), 4)
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, [[0, 0, 1, 0], [1, 0, 0, 0]])


def mixed(epoch, **alphas):
    x = normalize(IMAGES)
    out, targets = replace(NOTHING, **alphas)(IMAGES, LABELS, INDICES, 0, epoch)
    assert out.dtype == targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    different = LABELS[::-1] != LABELS
    share = targets[INDICES, LABELS][different]
    np.testing.assert_allclose(share, share[0], atol=1e-6)  # one λ a batch
    return x, out, targets, share[0]


def test_mixup_mixes_images_as_it_mixes_targets():
    shares = []
    for epoch in range(200):
        x, out, targets, share = mixed(epoch, mixup=0.5)
        shares.append(share)
        if epoch < 10:
            np.testing.assert_allclose(out, share * x + (1 - share) * x[::-1], atol=1e-5)
            hard = np.eye(10)[LABELS]
            np.testing.assert_allclose(targets, share * hard + (1 - share) * hard[::-1], atol=1e-6)
    # Beta(½, ½) is the arcsine law: mean ½, standard deviation √⅛.
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.std(shares) == pytest.approx(0.125**0.5, abs=0.05)


def test_cutmix_swaps_a_box_and_counts_it():
    shares = []
    for epoch in range(200):
        x, out, _, share = mixed(epoch, cutmix=1.0)
        shares.append(share)
        if epoch < 10:
            swapped = (out == x[::-1]).all(axis=(0, 3))
            kept = (out == x).all(axis=(0, 3))
            assert (swapped | kept).all()
            np.testing.assert_array_equal(swapped, np.outer(swapped.any(1), swapped.any(0)))
            assert 1 - swapped.mean() == pytest.approx(share)
    assert 0.55 < np.mean(shares) < 0.75  # ½, but for what the border cuts off
    assert len(set(shares)) > 100


def test_a_coin_decides_between_them():
    cuts = 0
    for epoch in range(100):
        x, out, _, _ = mixed(epoch, mixup=0.5, cutmix=0.5)
        cuts += ((out == x) | (out == x[::-1])).all()
    assert 30 < cuts < 70


def test_mixing_with_nobody_is_no_change():
    x = np.ones((1, 4, 4, 3), np.float32)
    y = one_hot(np.array([1]), 3)
    out, targets = mix(x, y, 0.5, 0.0, Draws(0, 0, np.zeros(1)))
    np.testing.assert_allclose(out, x, rtol=1e-6)
    np.testing.assert_allclose(targets, y, rtol=1e-6)


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop": "random"}, "`crop` is 'random'; expected one of 'pad', 'resized', None"),
        ({"pad_mode": "edge"}, "`pad_mode` is 'edge'; expected one of 'reflect', 'zero'"),
        ({"flip": True}, "`flip` is True; expected one of 'random', 'alternating', None"),
        ({"erase_mode": "pixel"}, "`erase_mode` is 'pixel'; expected one of 'zero', 'noise'"),
        ({"size": 0}, "`size` is 0 and `crop` 'pad'; expected at least 1, and 'pad'"),
        ({"size": 8, "crop": None}, "`size` is 8 and `crop` None; expected at least 1, and 'pad'"),
        ({"padding": -1}, "`padding` is -1; expected at least 0"),
        ({"padding": np.inf}, "`padding` is inf; expected at least 0"),
        ({"jitter": -0.1}, "`jitter` is -0.1; expected 0 to 10"),
        ({"jitter": 1e30}, r"`jitter` is 1e\+30; expected 0 to 10"),
        ({"jitter": np.nan}, "`jitter` is nan; expected 0 to 10"),
        ({"erasing": 1.5}, "`erasing` is 1.5; expected 0 to 1"),
        ({"mixup": np.nan}, "`mixup` is nan; expected at least 0"),
        ({"cutmix": np.inf}, "`cutmix` is inf; expected at least 0"),
        ({"scale": 0.0}, "`scale` is 0.0; expected more than 0, at most 1"),
        ({"scale": 1.5}, "`scale` is 1.5; expected more than 0, at most 1"),
        ({"scale": np.nan}, "`scale` is nan; expected more than 0, at most 1"),
        (
            {"randaugment": "rand"},
            "`randaugment` is 'rand'; expected .n, magnitude., 'timm' or",
        ),
        ({"randaugment": (2, 31)}, r"is \(2, 31\); expected .* magnitude from 0 to 30"),
        ({"randaugment": (2, np.nan)}, r"is \(2, nan\); expected .* magnitude from 0 to 30"),
        ({"randaugment": (99999, 5)}, r"is \(99999, 5\); expected .* at most 20 operations"),
    ],
)
def test_settings_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        Augment(**wrong)


def test_a_label_that_no_class_has():
    labels = np.full(len(IMAGES), 10)
    with pytest.raises(ValueError, match="`labels` go from 10 to 10; expected 0 to 9"):
        Augment(mixup=0.5)(IMAGES, labels, INDICES, 0, 0)


def test_a_crop_keeps_the_shape_and_as_much_as_is_said():
    """Of images that are not square, too."""
    augment = replace(NOTHING, crop="resized", scale=0.75)
    draws = Draws(0, 0, np.arange(500))
    ((_, parameters),) = augment._steps(draws, (32, 64), 0, 0)
    top, left, height, width = parameters[:4]
    assert (height * width / (32 * 64)).min() > 0.7
    assert len(np.unique(height)) > 3
    assert abs(width / height - 2).max() < 0.05
    assert ((top + height <= 32) & (left + width <= 64)).all()
