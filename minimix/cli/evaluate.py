"""`minimix evaluate`: a trained model on test images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import MinimixError
from .parser import command
from .results import print_test


def add(commands: Any) -> None:
    parser = command(commands, run, "evaluate", "Test a trained model.")
    parser.add_argument("model", type=Path, metavar="RUN", help="run folder, or a model's file")
    parser.add_argument("--data", help="another place of the data set it was trained on")
    parser.add_argument("--mirror", action="store_true", help="also with mirrored images")


def run(args: argparse.Namespace) -> int:
    from ..data import load
    from ..fuse import fuse
    from ..train import evaluate as test
    from ..train.saved import config_of, load_model

    model, facts = load_model(args.model)
    config = config_of(facts)
    data = config.limited(load(args.data or config.data))
    if list(data.class_names) != facts["data"]["class_names"]:
        raise MinimixError(
            f"{args.model} was trained on {facts['data']['name']}, --data is {data.name}: "
            "other classes"
        )
    images, labels = data.test_images, data.test_labels
    print_test(test(fuse(model), images, labels, data.n_classes, mirror=args.mirror), data)
    return 0
