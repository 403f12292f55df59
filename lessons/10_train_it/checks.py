"""Lesson 10, train it."""

from __future__ import annotations

import numpy as np

from minimix import SGD, Tensor, nn
from minimix import functional as F
from minimix.data.augment.reference import geometry
from minimix.optim import schedules

from ..exercise import Exercise


def pictures(rng, n, h, w, c=3):
    """Images of which no two pixels look alike."""
    return rng.permutation(n * h * w * c).reshape(n, h, w, c).astype(np.float32)


# ---- flip


def flipped(turn, choose=lambda which: which):
    """A `flip` that turns the wrong way, or the wrong ones."""

    def flip(images, which):
        out = images.copy()
        out[choose(which)] = turn(images[choose(which)])
        return out

    return flip


def mirror(images):
    return images[:, :, ::-1]


flip = Exercise(
    "10.flip",
    reference=flipped(mirror),
    cases=lambda rng: [
        ("3 images of 2×4, the second one", (pictures(rng, 3, 2, 4), np.arange(3) == 1)),
        ("5 images of 4×4, some", (pictures(rng, 5, 4, 4), rng.random(5) < 0.5)),
        ("2 images of 3×5, none", (pictures(rng, 2, 3, 5), np.zeros(2, bool))),
    ],
    mistakes={
        "upside down: this reads the rows backwards; left and right is the next axis, W": flipped(
            lambda images: images[:, ::-1]
        ),
        "red and blue have changed places: this reads the channels backwards": flipped(
            lambda images: images[..., ::-1]
        ),
        "rotated by 180°: rows and columns are both reversed; only columns should be": flipped(
            lambda images: images[:, ::-1, ::-1]
        ),
        "the order of the images is backwards, not that of their columns": flipped(
            lambda images: images[::-1]
        ),
        "all images are mirrored, not only those that `which` names": flipped(
            mirror, lambda which: np.ones_like(which)
        ),
        "the others are mirrored: those that `which` does not name": flipped(
            mirror, lambda which: ~which
        ),
        "only the mirrored ones came back: the others belong in the result, too": (
            lambda images, which: mirror(images[which])
        ),
        "nothing is mirrored": lambda images, which: images.copy(),
    },
)


# ---- crop


def cropped(mode="reflect", at=lambda top, left, i, padding: (top[i], left[i])):
    """A `crop` that pads with something else, or cuts elsewhere."""

    def crop(images, top, left, padding=4):
        _, h, w, _ = images.shape
        sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        padded = np.pad(images, sides, mode=mode)
        corners = [at(top, left, i, padding) for i in range(len(images))]
        return np.stack([padded[i, t : t + h, v : v + w] for i, (t, v) in enumerate(corners)])

    return crop


def case_of_crop(rng, n, h, w, padding):
    images, high = pictures(rng, n, h, w), 2 * padding + 1
    return images, rng.integers(0, high, n), rng.integers(0, high, n), padding


crop = Exercise(
    "10.crop",
    reference=lambda images, top, left, padding=4: geometry.pad_crop(
        images, top, left, padding, "reflect"
    ),
    cases=lambda rng: [
        (
            "one image of 5×7, from row 0, column 3, padding 2",
            (pictures(rng, 1, 5, 7), np.array([0]), np.array([3]), 2),
        ),
        ("6 images of 6×9, padding 4", case_of_crop(rng, 6, 6, 9, 4)),
        ("4 images of 8×5, padding 1", case_of_crop(rng, 4, 8, 5, 1)),
        (
            "3 images of 5×5, padding 3, cut where nothing moves",
            (pictures(rng, 3, 5, 5), np.array([3, 3, 3]), np.array([3, 3, 3]), 3),
        ),
    ],
    mistakes={
        'the border is black: np.pad(…, mode="reflect") continues the image': cropped("constant"),
        'the border repeats the outermost pixel: mode="reflect", not "edge"': cropped("edge"),
        'the mirror repeats the outermost pixel: mode="reflect", not "symmetric"': cropped(
            "symmetric"
        ),
        'the border comes from the other side: mode="reflect", not "wrap"': cropped("wrap"),
        "top and left are swapped: rows come first": cropped(
            at=lambda top, left, i, padding: (left[i], top[i])
        ),
        "every window was cut from the first image: image i from padded[i]": (
            lambda images, top, left, padding=4: cropped()(
                np.repeat(images[:1], len(images), axis=0), top, left, padding
            )
        ),
        "the padding is always 4: use the argument": (
            lambda images, top, left, padding=4: cropped()(images, top, left, 4)
        ),
        "every image was cut where the first one is: image i from top[i], left[i]": cropped(
            at=lambda top, left, i, padding: (top[0], left[0])
        ),
        "nothing moves: every image was cut out of the middle": cropped(
            at=lambda top, left, i, padding: (padding, padding)
        ),
        "top and left count in the padded image; do not add the padding to them": cropped(
            at=lambda top, left, i, padding: (top[i] + padding, left[i] + padding)
        ),
        "moved the wrong way: the window begins at row top[i] of the padded image": cropped(
            at=lambda top, left, i, padding: (2 * padding - top[i], 2 * padding - left[i])
        ),
    },
)


# ---- learning_rate


def lines(steps=(0, 2 / 5, 4 / 5, 1), rates=(0, 1, 1 / 20, 0)):
    """A `learning_rate` whose points are elsewhere."""
    return lambda step, total, peak: float(
        peak * np.interp(step / total, np.array(steps), np.array(rates))
    )


learning_rate = Exercise(
    "10.learning_rate",
    reference=lambda step, total, peak: schedules.official(peak, total)(
        step - 1
    ),  # at a step's end
    cases=lambda rng: [
        (f"step {step} of {total}, peak {peak}", (step, total, peak))
        for total, peak in ((100, 1.0), (2450, 0.05))
        for step in (0, total // 5, 2 * total // 5, 3 * total // 5, 4 * total // 5, total - 5)
    ],
    mistakes={
        "the points are evenly spaced; they should be at 2/5 and 4/5 of total": lines(
            (0, 1 / 3, 2 / 3, 1)
        ),
        "the peak is at 1/5 here; it should be at 2/5": lines((0, 1 / 5, 4 / 5, 1)),
        "this climbs to half of the steps and falls to 0; the points are at 2/5 and 4/5": lines(
            (0, 1 / 2, 1), (0, 1, 0)
        ),
        "at 4/5 it should be a twentieth of the peak, peak / 20, and is 1 / 20": (
            lambda step, total, peak: float(
                np.interp(step, [0, total * 2 / 5, total * 4 / 5, total], [0, peak, 1 / 20, 0])
            )
        ),
        "at 4/5 it should be peak / 20, and is 0": lines(rates=(0, 1, 0, 0)),
        "at the end it should be 0, and is still peak / 20": lines(rates=(0, 1, 1 / 20, 1 / 20)),
        "this begins at the peak; it should begin at 0 and climb": lines(rates=(1, 1, 1 / 20, 0)),
        "this is the fraction of the peak: multiply by peak": lambda step, total, peak: lines()(
            step, total, 1.0
        ),
        "this stays at the peak; after 2/5 it should fall": lines(rates=(0, 1, 1, 1)),
        "without peak / 20 it falls in one straight line from the peak to 0": lines(
            (0, 2 / 5, 1), (0, 1, 0)
        ),
    },
)


# ---- train_step: three steps of a small network


class Tiny(nn.Module):
    """A network with batch norm, and so with a difference between training and evaluation."""

    def __init__(self, seed):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.stem = nn.Patchify(3, 4, 2, rng=rng)
        self.norm = nn.BatchNorm(4)
        self.head = nn.Linear(4, 3, rng=rng)

    def forward(self, x):
        return self.head(self.norm(self.stem(x)).mean(axis=(1, 2)))


def three_steps(train_step, seed):
    """The losses, the last logits, and the weights and statistics after three steps."""
    rng = np.random.default_rng(seed)
    model = Tiny(seed).astype(np.float64).eval()
    optimizer = SGD(model.parameters(), lr=0.5, momentum=0.9)
    losses = []
    for _ in range(3):
        loss, logits = train_step(
            model, optimizer, Tensor(rng.normal(size=(5, 4, 6, 3))), rng.integers(0, 3, 5)
        )
        losses.append(float(loss))
    weights = np.concatenate([p.array.ravel() for p in model.parameters()])
    return np.array(losses), logits, weights, np.array(model.norm.running_var)


def step_with(
    prepare=lambda model: model.train(),
    loss=F.cross_entropy,
    before=lambda model, optimizer: optimizer.zero_grad(),
    after=lambda model, optimizer: optimizer.step(),
    result=lambda loss, logits: (loss.item(), logits.array),
):
    """A `train_step` of which one line can be wrong."""

    def train_step(model, optimizer, x, labels):
        prepare(model)
        logits = model(x)
        measured = loss(logits, labels)
        before(model, optimizer)
        measured.backward()
        after(model, optimizer)
        return result(measured, logits)

    return train_step


train_step = Exercise(
    "10.train_step",
    reference=step_with(),
    outputs=(
        "the loss in each of three steps",
        "logits",
        "the weights after three steps",
        "the running variance after three steps",
    ),
    run=three_steps,
    cases=lambda rng: [
        ("three steps of a small network", (1,)),
        ("three steps of another", (2,)),
    ],
    mistakes={
        "the model learned in evaluation mode, where it was left: model.train() first": step_with(
            prepare=lambda model: None
        ),
        "no softmax before the loss: F.cross_entropy takes the logits as they are": step_with(
            loss=lambda logits, labels: F.cross_entropy(F.softmax(logits), labels)
        ),
        "the old gradients are still there: call optimizer.zero_grad() before backward": step_with(
            before=lambda model, optimizer: None
        ),
        "nothing was learned: first backward, then optimizer.step(), and zero_grad before "
        "both": step_with(after=lambda model, optimizer: None),
        "the first step had no gradients yet: optimizer.step() comes after backward": step_with(
            before=lambda model, optimizer: optimizer.step() or optimizer.zero_grad(),
            after=lambda model, optimizer: None,
        ),
        "nothing is recorded inside no_grad, so there is nothing to learn from: leave it "
        "out": step_with(loss=lambda logits, labels: F.cross_entropy(logits.detach(), labels)),
        "the gradients are set to 0 between backward and step: zero_grad comes before "
        "backward": step_with(
            before=lambda model, optimizer: None,
            after=lambda model, optimizer: (optimizer.zero_grad(), optimizer.step()),
        ),
        "it runs away uphill: the gradient is that of the loss, without a minus": step_with(
            loss=lambda logits, labels: -F.cross_entropy(logits, labels),
            result=lambda loss, logits: (-loss.item(), logits.array),
        ),
    },
)


# ---- confusion


def counted(add, finish=lambda counts: counts):
    """A `confusion` that adds up differently."""

    def confusion(labels, guesses, n):
        counts = np.zeros((n, n), int)
        add(counts, labels, guesses)
        return finish(counts)

    return confusion


def one_by_one(counts, rows, columns):
    np.add.at(counts, (rows, columns), 1)


def at_once(counts, rows, columns):
    counts[rows, columns] += 1


confusion = Exercise(
    "10.confusion",
    reference=counted(one_by_one),
    cases=lambda rng: [
        (
            "labels 0 0 1 2 2 2, guesses 0 1 1 0 0 2, n=3",
            (np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 2]), 3),
        ),
        ("200 random ones, n=5", (rng.integers(0, 5, 200), rng.integers(0, 5, 200), 5)),
        ("the last class does not occur, n=4", (rng.integers(0, 3, 30), rng.integers(0, 3, 30), 4)),
    ],
    mistakes={
        "rows and columns are swapped: the row is the true class": counted(
            lambda counts, labels, guesses: one_by_one(counts, guesses, labels)
        ),
        "a pair that comes twice was counted once: counts[labels, guesses] += 1 adds to each place "
        "once. Loop, or use np.add.at": counted(at_once),
        "these are fractions of all images, not counts: do not divide": counted(
            one_by_one, lambda counts: counts / counts.sum()
        ),
        "these are fractions, not counts: do not divide": counted(
            one_by_one, lambda counts: counts / np.maximum(counts.sum(1, keepdims=True), 1)
        ),
        "only mistakes are counted: correct predictions belong on the diagonal": counted(
            one_by_one, lambda counts: counts * (1 - np.eye(len(counts), dtype=int))
        ),
        "only correct predictions are counted": counted(
            one_by_one, lambda counts: counts * np.eye(len(counts), dtype=int)
        ),
        "the table has one row per class that occurs; it should have n": (
            lambda labels, guesses, n: counted(one_by_one)(
                labels, guesses, 1 + max(labels.max(), guesses.max())
            )
        ),
    },
)

EXERCISES = [flip, crop, learning_rate, train_step, confusion]
