"""`minimix evaluate`: a trained model on test images."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import MinimixError
from .parser import command, path
from .results import print_test


def add(commands: Any) -> None:
    parser = command(commands, run, "evaluate", "Test a trained model.")
    parser.add_argument("model", type=path, metavar="RUN", help="run folder or model file")
    parser.add_argument(
        "--data", metavar="TEXT", help="where to find its data set (as in training)"
    )
    parser.add_argument("--mirror", action="store_true", help="test with mirrored images as well")


def run(args: argparse.Namespace) -> int:
    from ..data import Plain, load
    from ..train.evaluation import evaluate, fastest
    from ..train.trained import config_of, load_model

    model, facts = load_model(args.model)
    config = config_of(facts)
    data = config.limited(load(args.data or config.data))
    if list(data.class_names) != facts["data"]["class_names"]:
        raise MinimixError(
            f"{args.model} was trained on {facts['data']['name']}, which has other classes "
            f"than {data.name}"
        )
    print(f"model  {config.name}, {model.n_parameters():,} parameters")
    images, labels = data.test_images, data.test_labels
    about = facts["data"]
    transform = Plain(about["mean"], about["std"])  # what it has learned with
    options = {"mirror": args.mirror, "shuffled": config.shuffle_patches, "transform": transform}
    print_test(evaluate(fastest(model), images, labels, data.n_classes, **options), data)
    return 0
