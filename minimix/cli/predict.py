"""`minimix predict`: what is in a picture, or in each of ten thousand."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files, kernels
from .parser import command, count, path
from .results import reading

if TYPE_CHECKING:
    from ..train.trained import Trained

MANY = 32  # pictures for which compiling the kernels is worth the wait
TOGETHER = 200  # pictures that go through the model at a time


def add(commands: Any) -> None:
    parser = command(commands, run, "predict", "Classify pictures.")
    parser.add_argument(
        "images",
        nargs="+",
        type=path,
        metavar="IMAGE",
        help="an image file, of any size, or a folder of them",
    )
    parser.add_argument(
        "--model",
        type=path,
        metavar="RUN",
        help="run folder or model file (the model that comes with minimix); or ImageNet weights in "
        "timm's layout, as convmixer_768_32.safetensors, which the file or its folder names",
    )
    parser.add_argument(
        "--weights",
        type=path,
        metavar="FILE",
        help="weights of the model whose name is --model, where the file is called otherwise",
    )
    parser.add_argument(
        "--classes",
        type=path,
        metavar="FILE",
        help="names of the classes of such weights, one a line (the .txt beside them, or numbers)",
    )
    parser.add_argument(
        "--code",
        type=path,
        metavar="FILE",
        help="the file of your own class, where it is not where it was or has changed since",
    )
    parser.add_argument(
        "--top", type=count, default=3, metavar="N", help="how many classes to print (3)"
    )
    parser.add_argument(
        "--csv", type=path, metavar="FILE", help="write the probability of every class to a table"
    )
    parser.add_argument("--json", type=path, metavar="FILE", help="the same, as JSON")
    parser.add_argument(
        "--features",
        type=path,
        metavar="FILE.npz",
        help="write what the last layer sees of each image: arrays `features` (N, D) and `files`",
    )
    parser.add_argument(
        "--explain", type=path, metavar="FILE", help="save a picture of what the layers see"
    )


def run(args: argparse.Namespace) -> int:
    from ..data import shuffle_patches
    from ..train.trained import load

    if args.explain and (len(args.images) > 1 or os.path.isdir(args.images[0])):
        args.parser.error(f"--explain takes one image, but {len(args.images)} are given")
    if args.weights and not args.model:
        args.parser.error("--weights needs the name of their model, as in --model resnet18")
    try:
        name = str(args.model) if args.weights else None
        trained = load(args.weights or args.model, code=args.code, name=name, classes=args.classes)
    except ValueError as error:  # there is no model of that name
        args.parser.error(f"--model: {str(error).partition(': ')[2]}")
    names, tables = trained.class_names, (args.csv, args.json, args.features)
    paths, failed = [], 0
    for given in args.images:
        inside = _pictures(given)
        paths += inside
        if not inside:
            failed = 1
            print(f"minimix: {given} has no pictures", file=sys.stderr)

    read: list[Path] = []
    answers: list[np.ndarray] = []
    features: list[np.ndarray] = []
    with ExitStack() as stack:
        progress = stack.enter_context(reading(quiet=not any(tables)))
        if len(paths) < MANY:
            stack.enter_context(kernels.backend("numpy"))
        for some, pixels, errors in _batches(paths, trained):
            for line in errors:  # the others are still to be seen
                print(f"minimix: {line}", file=sys.stderr)
                failed = 1
            if some:
                probabilities, seen = trained.predict(pixels, features=args.features is not None)
                read += some
                answers.append(probabilities)
                features.append(seen)
                if not any(tables):
                    for one, likely in zip(some, probabilities, strict=True):
                        top = np.argsort(-likely, kind="stable")[: args.top]
                        words = (f"{names[i]} {100 * likely[i]:.1f} %" for i in top)
                        print(f"{one}: " + ", ".join(words))
            progress(len(read), len(paths))
            if args.explain and some:
                from ..report.explain import explain, save

                seen = shuffle_patches(pixels, trained.settings.get("shuffle_patches", 0))[0]
                figure = explain(trained.model, seen, names, trained.mean, trained.std)
                save(figure, args.explain)
                print(f"picture {args.explain}")
    if answers and any(tables):
        _write(args, read, np.concatenate(answers), names, np.concatenate(features))
    return failed


def _pictures(given: Path) -> list[Path]:
    """A file, or all pictures in a folder and its folders, hidden ones left out."""
    from ..data.recognize import PICTURES

    if not os.path.isdir(given):
        return [given]
    found = []
    for folder, inside, names in os.walk(given):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        pictures = (name for name in sorted(names) if name.lower().endswith(PICTURES))
        found += [Path(folder, name) for name in pictures if not name.startswith(".")]
    return found


def _batches(
    paths: list[Path], trained: Trained
) -> Iterator[tuple[list[Path], np.ndarray, list[str]]]:
    """Those that can be read, in batches: their paths and pixels, and lines about the others."""
    from ..data import pictures
    from ..errors import DataError

    size, channels = trained.image_size, len(trained.mean)
    together = TOGETHER if len(paths) >= MANY else 1
    together = max(1, together * 32 * 32 // (size[0] * size[1]))  # of larger ones, fewer
    found = zip(paths, pictures.read_all(paths, size, trained.crop), strict=True)
    while batch := list(itertools.islice(found, together)):
        good = [(one, pixels) for one, pixels in batch if isinstance(pixels, np.ndarray)]
        errors = [str(error) for _, error in batch if isinstance(error, DataError)]
        images = np.array([pixels for _, pixels in good], np.uint8).reshape(-1, *size, 3)
        yield [one for one, _ in good], pictures.with_channels(images, channels), errors


def _write(
    args: argparse.Namespace,
    read: list[Path],
    answers: np.ndarray,
    names: tuple[str, ...],
    features: np.ndarray,
) -> None:
    """The tables that were asked for, each whole or not at all."""
    if args.csv:
        with io.StringIO(newline="") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(["file", "class", "probability", *names])
            for one, likely in zip(read, answers, strict=True):
                best = int(likely.argmax())
                numbers = [f"{p:.6f}" for p in likely]
                writer.writerow([one, names[best], numbers[best], *numbers])
            files.write(args.csv, table.getvalue().encode("utf-8", "surrogateescape"))
    if args.json:
        rows = [
            {
                "file": str(one),
                "class": names[int(likely.argmax())],
                "probabilities": dict(zip(names, likely.round(6).tolist(), strict=True)),
            }
            for one, likely in zip(read, answers, strict=True)
        ]
        files.write(args.json, f"{json.dumps(rows, indent=1)}\n".encode())
    if args.features:
        with io.BytesIO() as content:
            np.savez(content, features=features, files=np.array([str(one) for one in read]))
            files.write(args.features, content.getvalue())
    for table in filter(None, (args.csv, args.json, args.features)):
        print(f"{len(read):,} pictures: {table}")
