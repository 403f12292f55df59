"""Lesson 15, from here to a real project."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ..exercise import Exercise, Wrong, edited

# ---- to_folders


def to_folders(images, labels, names, folder):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = Path(folder) / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")


def written(answer, images, labels, names):
    """What is on disk afterwards: the folders, how many files are in each, all their pixels."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "new" / "pictures"
        try:
            answer(images, labels, names, folder)
            answer(images, labels, names, str(folder))  # a cell may run twice; a path may be text
        except FileExistsError:
            raise Wrong(
                "mkdir fails where the folder exists already, as for the second picture of a "
                "class: mkdir(parents=True, exist_ok=True)"
            ) from None
        except FileNotFoundError:
            raise Wrong(
                "a folder does not exist yet: make it first, with all folders above it: "
                "mkdir(parents=True, exist_ok=True)"
            ) from None
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        by_class = {path: path.relative_to(folder).parts for path in files}
        if not files:
            raise Wrong("nothing was written to `folder`")
        if any(len(parts) < 2 for parts in by_class.values()):
            raise Wrong("the pictures lie in `folder` itself; each class has a folder of its own")
        found: dict[str, list[bytes]] = {}
        for path, parts in by_class.items():
            with Image.open(path) as picture:
                if not path.suffix:  # some of Pillow's formats, once used, are saved without one
                    raise Wrong(
                        'the ending of the name says in which format a picture is saved: ".png"'
                    )
                if picture.format != "PNG":
                    raise Wrong(
                        f"the files are in the format {picture.format}; PNG keeps each pixel as it "
                        'is: a name that ends in ".png"'
                    )
                pixels = np.asarray(picture.convert("RGB")).tobytes()
            found.setdefault("/".join(parts[:-1]), []).append(pixels)
    every = [np.frombuffer(p, np.uint8) for name in sorted(found) for p in sorted(found[name])]
    return sorted(found), [len(found[name]) for name in sorted(found)], np.stack(every)


folders = Exercise(
    "15.to_folders",
    reference=to_folders,
    run=written,
    outputs=("the folders", "the number of files in each", "their pixels"),
    cases=lambda rng: [
        (
            "5 images of 4×6 pixels, labels 1 0 1 1 2",
            (
                rng.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8),
                np.array([1, 0, 1, 1, 2]),
                ["cat", "dog", "fox"],
            ),
        ),
    ],
    mistakes=edited(
        to_folders,
        {
            "all pictures of a class have the same name, so each overwrites the one before": (
                'f"{i}.png"',
                '"0.png"',
            ),
            "the file is named after its label only, so each picture overwrites the one before": (
                'f"{i}.png"',
                'f"{label}.png"',
            ),
            "the folders are called by their labels; use the names: names[label]": (
                "names[label]",
                "str(label)",
            ),
            "names[i] is the name of the i-th class, not of the i-th picture: names[label]": (
                "names[label]",
                "names[i % len(names)]",
            ),
            "the colors are in reverse order, blue first; Pillow, like NumPy here, has red first": (
                "fromarray(image)",
                "fromarray(np.ascontiguousarray(image[:, :, ::-1]))",
            ),
            "only the first picture was written: is a `return` inside the loop?": (
                'f"{i}.png")',
                'f"{i}.png")\n        return',
            ),
            "images[label] is the picture with the number of the class: images[i]": (
                "fromarray(image)",
                "fromarray(images[label])",
            ),
            "this writes the same picture each time: the one of the loop, not images[0]": (
                "fromarray(image)",
                "fromarray(images[0])",
            ),
            "height and width are swapped: an image is (H, W, 3) already": (
                "fromarray(image)",
                "fromarray(np.ascontiguousarray(image.swapaxes(0, 1)))",
            ),
        },
    ),
)


# ---- recall_and_precision


def recall_and_precision(confusion):
    right = np.diag(confusion)
    return right / confusion.sum(axis=1), right / np.maximum(1, confusion.sum(axis=0))


def told_apart(answer, confusion):
    """Both fractions; 0/0 has a message of its own."""
    found = answer(confusion)
    if isinstance(found, (tuple, list)) and len(found) == 2:
        precision = np.asarray(found[1])
        empty = confusion.sum(axis=0) == 0
        if precision.shape == empty.shape and np.isnan(precision[empty].astype(float)).any():
            raise Wrong(
                "0/0 is nan: where a class was never predicted, divide by 1 instead, "
                "np.maximum(1, …)"
            )
    return found


report = Exercise(
    "15.recall_and_precision",
    reference=recall_and_precision,
    run=told_apart,
    outputs=("recall", "precision"),
    cases=lambda rng: [
        ("3 classes", (np.array([[8, 1, 3], [2, 5, 0], [4, 6, 9]]),)),
        ("the third is never predicted", (np.array([[7, 3, 0], [1, 4, 0], [2, 6, 0]]),)),
        ("6 classes", (rng.integers(1, 50, (6, 6)),)),
    ],
    mistakes=edited(
        recall_and_precision,
        {
            "recall and precision are swapped: rows are true classes, so recall divides by the sum "
            "of a row, axis=1": (
                "return right / confusion.sum(axis=1), right / np.maximum(1, "
                "confusion.sum(axis=0))",
                "return right / np.maximum(1, confusion.sum(axis=0)), right / "
                "confusion.sum(axis=1)",
            ),
            "both are divided by the number of all pictures; divide by the number in the class": (
                "confusion.sum(axis=1)",
                "confusion.sum()",
                "np.maximum(1, confusion.sum(axis=0))",
                "confusion.sum()",
            ),
            "these are the numbers of right answers; divide each by a sum": (
                "right / confusion.sum(axis=1), right / np.maximum(1, confusion.sum(axis=0))",
                "right, right",
            ),
            "precision is divided by the sums of rows; it is those of columns, axis=0": (
                "np.maximum(1, confusion.sum(axis=0))",
                "confusion.sum(axis=1)",
            ),
            "recall is divided by the sums of columns; it is those of rows, axis=1": (
                "right / confusion.sum(axis=1)",
                "right / np.maximum(1, confusion.sum(axis=0))",
            ),
            "the whole matrix is divided; only the diagonal was classified correctly: np.diag": (
                "np.diag(confusion)",
                "confusion",
            ),
            "the right ones are on the diagonal; the largest of a row need not be": (
                "np.diag(confusion)",
                "confusion.max(axis=1)",
            ),
            "these are in percent; a fraction lies between 0 and 1": (
                "np.diag(confusion)",
                "100 * np.diag(confusion)",
            ),
            "this is the accuracy, one number for all classes; return two for each class": (
                "return right / confusion.sum(axis=1), right / np.maximum(1, "
                "confusion.sum(axis=0))",
                "return (right.sum() / confusion.sum(),) * 2",
            ),
            "this divides by the wrong ones alone; divide by all in the row, or column, with the "
            "right ones": (
                "right / confusion.sum(axis=1), right / np.maximum(1, confusion.sum(axis=0))",
                "right / np.maximum(1, confusion.sum(axis=1) - right), "
                "right / np.maximum(1, confusion.sum(axis=0) - right)",
            ),
            "this is one number for all classes; return one for each": (
                "np.diag(confusion)",
                "np.trace(confusion)",
            ),
            "`//` divides without a remainder, so everything is 0 or 1: use `/`": (
                "right / confusion.sum(axis=1), right / np",
                "right // confusion.sum(axis=1), right // np",
            ),
            "adding 1 to every column changes the others, too: np.maximum(1, …)": (
                "np.maximum(1, confusion.sum(axis=0))",
                "(1 + confusion.sum(axis=0))",
            ),
        },
    ),
)


# ---- prepare


def prepare(pixels, mean, std):
    x = (pixels / 255 - np.array(mean)) / np.array(std)
    return x[None].astype(np.float32)


def with_dtype(answer, *args):
    x = answer(*args)
    return x, str(getattr(x, "dtype", type(x).__name__))


def pictures(rng):
    mean, std = (0.5, 0.4, 0.45), (0.25, 0.3, 0.2)
    return [
        (f"a picture of {h}×{w}", (rng.integers(0, 256, (h, w, 3), dtype=np.uint8), mean, std))
        for h, w in ((4, 6), (5, 5))
    ]


ready = Exercise(
    "15.prepare",
    reference=prepare,
    run=with_dtype,
    outputs=("the batch", "its type"),
    cases=pictures,
    mistakes=edited(
        prepare,
        {
            "pixels are not divided by 255: mean and std are on the scale from 0 to 1": (
                "pixels / 255",
                "pixels",
            ),
            "the mean is not subtracted": ("pixels / 255 - np.array(mean)", "pixels / 255"),
            "it is not divided by std": (" / np.array(std)", ""),
            "mean and std are forgotten": (
                "(pixels / 255 - np.array(mean)) / np.array(std)",
                "pixels / 255",
            ),
            "these are mean and std of this picture; use those given, of the training set": (
                "np.array(mean)",
                "(pixels / 255).mean(axis=(0, 1))",
                "np.array(std)",
                "(pixels / 255).std(axis=(0, 1))",
            ),
            "std² is the variance: divide by std itself": (
                "np.array(std)",
                "np.array(std) ** 2",
            ),
            "it was multiplied by std; divide": (" / np.array(std)", " * np.array(std)"),
            "the mean was added; subtract it": ("- np.array(mean)", "+ np.array(mean)"),
            "only the mean is divided by std: parentheses around the difference": (
                "(pixels / 255 - np.array(mean)) / np.array(std)",
                "pixels / 255 - np.array(mean) / np.array(std)",
            ),
            "mean and std are swapped": (
                "np.array(mean)) / np.array(std)",
                "np.array(std)) / np.array(mean)",
            ),
            "the batch axis is missing: x[None] adds one in front": ("x[None]", "x"),
            "channels come first here, as in PyTorch; they are last: (1, H, W, 3)": (
                "x[None]",
                "x.transpose(2, 0, 1)[None]",
            ),
            "the colors are in reverse order": ("pixels / 255", "pixels[:, :, ::-1] / 255"),
            "the batch axis comes first: x[None], not x[..., None]": ("x[None]", "x[..., None]"),
            "this is float64; give .astype(np.float32)": (".astype(np.float32)", ""),
            "pixels were divided by 256; the largest is 255": ("/ 255", "/ 256"),
            "`//` leaves 0 and 1 only: divide with `/`": ("/ 255", "// 255"),
            "this is the scale from −1 to 1, which other networks use; here use mean and std": (
                "(pixels / 255 - np.array(mean)) / np.array(std)",
                "pixels / 127.5 - 1",
            ),
            "mean is on the scale from 0 to 1: divide by 255 before you subtract it": (
                "(pixels / 255 - np.array(mean)) / np.array(std)",
                "(pixels - np.array(mean)) / 255 / np.array(std)",
            ),
            "integers have no fractions: convert to float32 at the end, not the pixels to uint8": (
                "x[None].astype(np.float32)",
                "x[None].astype(np.uint8).astype(np.float32)",
            ),
        },
    ),
)


# ---- to_pytorch


def to_pytorch(kind, w):
    if kind == "linear":
        return w.T
    if kind == "pointwise":
        return w.T[:, :, None, None]
    if kind == "depthwise":
        return w.transpose(2, 0, 1)[:, None]
    return w.transpose(3, 2, 0, 1)


layout = Exercise(
    "15.to_pytorch",
    reference=to_pytorch,
    cases=lambda rng: [
        (f'"{kind}", w of shape {shape}', (kind, rng.normal(size=shape)))
        for kind, shape in {
            "linear": (3, 5),
            "pointwise": (4, 6),
            "depthwise": (3, 3, 4),
            "patchify": (2, 2, 3, 5),
        }.items()
    ],
    mistakes=edited(
        to_pytorch,
        {
            "linear: PyTorch's weight is (out, in), the transpose of ours": (
                "return w.T\n",
                "return w\n",
            ),
            "pointwise: in and out are not swapped; PyTorch has out first": (
                "w.T[:, :, None, None]",
                "w[:, :, None, None]",
            ),
            "pointwise: PyTorch's kernel has two more axes, of length 1: (out, in, 1, 1)": (
                "w.T[:, :, None, None]",
                "w.T",
            ),
            "pointwise: the axes of length 1 come last: (out, in, 1, 1)": (
                "w.T[:, :, None, None]",
                "w.T[None, None]",
            ),
            "depthwise: .T reverses all axes, so each kernel is transposed, too: "
            "transpose(2, 0, 1)": ("w.transpose(2, 0, 1)[:, None]", "w.T[:, None]"),
            "depthwise: an axis of length 1 is missing: (C, 1, k, k)": (
                "w.transpose(2, 0, 1)[:, None]",
                "w.transpose(2, 0, 1)",
            ),
            "depthwise: the axis of length 1 comes after C: (C, 1, k, k)": (
                "w.transpose(2, 0, 1)[:, None]",
                "w.transpose(2, 0, 1)[None]",
            ),
            "depthwise: reshape keeps the order of the numbers, and so mixes channels and "
            "places: transpose": (
                "w.transpose(2, 0, 1)[:, None]",
                "w.reshape(w.shape[2], 1, w.shape[0], w.shape[1])",
            ),
            "patchify: .T reverses all axes, so each kernel is transposed, too: "
            "transpose(3, 2, 0, 1)": ("w.transpose(3, 2, 0, 1)", "w.T"),
            "patchify: in and out are swapped; PyTorch has out first": (
                "w.transpose(3, 2, 0, 1)",
                "w.transpose(2, 3, 0, 1)",
            ),
            "patchify: reshape keeps the order of the numbers: transpose": (
                "w.transpose(3, 2, 0, 1)",
                "w.reshape(w.shape[3], w.shape[2], w.shape[0], w.shape[1])",
            ),
            "patchify: the weight is returned as it is": ("w.transpose(3, 2, 0, 1)", "w"),
            "depthwise: the kernels are flipped; both libraries compute the same correlation": (
                "w.transpose(2, 0, 1)[:, None]",
                "w[::-1, ::-1].transpose(2, 0, 1)[:, None]",
            ),
        },
    ),
)


# ---- combine


def combine(gradients, counts):
    total = sum(counts)
    return sum(n / total * g for g, n in zip(gradients, counts, strict=True))


def unchanged(answer, gradients, counts):
    """What it returns; a changed array among the gradients has a message of its own."""
    before = [g.copy() for g in gradients]
    found = answer(gradients, counts)
    if not all(np.array_equal(a, b) for a, b in zip(before, gradients, strict=True)):
        raise Wrong(
            "the first array was changed in place: `total = gradients[0]` is no copy; start from "
            "np.zeros_like(gradients[0])"
        )
    return found


def shards(rng):
    def grads(n, shape):
        return [rng.normal(size=shape) for _ in range(n)]

    return [
        ("2 ranks with 20 and 40 images", (grads(2, (4,)), [20, 40])),
        ("3 ranks with 5, 1 and 2 images", (grads(3, (2, 3)), [5, 1, 2])),
        ("2 ranks with 8 images each", (grads(2, (3,)), [8, 8])),
        ("1 rank", (grads(1, (5,)), [7])),
    ]


reduce = Exercise(
    "15.combine",
    reference=combine,
    run=unchanged,
    cases=shards,
    mistakes=edited(
        combine,
        {
            "this is the plain mean; a rank with more images counts for more: weights n / N": (
                "n / total * g",
                "g / len(counts)",
            ),
            "gradients are added without weights; each counts for n / N": (
                "n / total * g",
                "g",
            ),
            "it is not divided by N, the number of all images": ("n / total * g", "n * g"),
            "it is divided by the number of ranks; N is the number of all images, sum(counts)": (
                "total = sum(counts)",
                "total = len(counts)",
            ),
            "the weights are n over the largest n; they are n / N, N being their sum": (
                "total = sum(counts)",
                "total = max(counts)",
            ),
            "the weights are upside down: n / N, not N / n": ("n / total", "total / n"),
            "each gradient is a mean already: multiply by n / N, do not divide by n": (
                "n / total * g",
                "g / n",
            ),
            "they are divided by N, as if each were a sum; each is a mean over its n images: "
            "times n / N": ("n / total * g", "g / total"),
            "only the last gradient is returned: add them up": (
                "return sum(n / total * g for g, n in zip(gradients, counts, strict=True))",
                "return counts[-1] / total * gradients[-1]",
            ),
            "all numbers are added up; the sum is over ranks only": (
                "return sum(",
                "return np.sum(",
                "n / total * g for g, n in zip(gradients, counts, strict=True)",
                "[n / total * g for g, n in zip(gradients, counts, strict=True)]",
            ),
            "it is divided by the number of ranks once more: the weights add up to 1 already": (
                "n / total * g",
                "n / total * g / len(counts)",
            ),
        },
    ),
)


EXERCISES = [folders, report, ready, layout, reduce]
