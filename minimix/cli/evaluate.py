"""`minimix evaluate`: a trained model on test images."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .parser import command, path
from .results import print_test, reading, write_confusion


def add(commands: Any) -> None:
    parser = command(
        commands,
        run,
        "evaluate",
        "Test a trained model, on the images that it was tested on in training.",
    )
    parser.add_argument("model", type=path, metavar="RUN", help="run folder or model file")
    parser.add_argument(
        "--data", metavar="TEXT", help="where to find its data set (as in training)"
    )
    parser.add_argument(
        "--code",
        type=path,
        metavar="FILE",
        help="the file of your own class, where it is not where it was or has changed since",
    )
    parser.add_argument(
        "--csv",
        type=path,
        metavar="FILE",
        help="write the confusion matrix: a row for each true class, a column for each predicted",
    )
    parser.add_argument("--mirror", action="store_true", help="test with mirrored images as well")


def run(args: argparse.Namespace) -> int:
    from ..data import Plain
    from ..errors import DataError
    from ..train.evaluation import evaluate, fastest
    from ..train.trained import config_of, load_model

    model, facts = load_model(args.model, code=args.code)
    config = config_of(facts)
    about, same = facts["data"], False
    with reading() as progress:
        found = config.load(args.data or "", image_size=about["image_size"], progress=progress)
    found = found.renumbered(about["class_names"], args.model)
    there = config.validation or len(found.test_images)  # of another data set, perhaps fewer
    tested = replace(config, limit_train=0, limit_test=min(config.limit_test, there))
    try:
        data = tested.limited(found)
    except ValueError as error:
        raise DataError(str(error).replace("`", "")) from error
    print(f"data   {data.name}, {data.source}")
    print(f"model  {config.name}, {model.n_parameters():,} parameters")
    with suppress(ValueError):  # of a data set that has fewer images than the settings say
        same = config.limited(found).fingerprint == about["sha256"]
    if not same:
        print("note   not the data set of its training: it may have learned some of these images")
    images, labels = data.test_images, data.test_labels
    transform = Plain(about["mean"], about["std"])  # what it has learned with
    options = {"mirror": args.mirror, "shuffled": config.shuffle_patches, "transform": transform}
    test = evaluate(fastest(model), images, labels, data.n_classes, **options)
    print_test(test, data, config.tested_on)
    if args.csv:
        write_confusion(args.csv, test.confusion, data.class_names)
        print(f"confusion matrix {args.csv}")
    return 0
