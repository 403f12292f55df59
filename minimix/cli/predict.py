"""`minimix predict`: what is in a picture."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .. import kernels
from .parser import command, count, path


def add(commands: Any) -> None:
    parser = command(commands, run, "predict", "Classify pictures.")
    parser.add_argument(
        "images", nargs="+", type=path, metavar="IMAGE", help="an image file; any size"
    )
    parser.add_argument(
        "--model",
        type=path,
        metavar="RUN",
        help="run folder or model file (the model that comes with minimix)",
    )
    parser.add_argument(
        "--top", type=count, default=3, metavar="N", help="how many classes to print (3)"
    )
    parser.add_argument(
        "--explain", type=path, metavar="FILE", help="save a picture of what the layers see"
    )


def run(args: argparse.Namespace) -> int:
    from .. import functional as F
    from ..autograd import Tensor, no_grad
    from ..data import normalize, pictures, shuffle_patches
    from ..errors import DataError
    from ..train.trained import config_of, load_model

    if args.explain and len(args.images) > 1:
        args.parser.error(f"--explain takes one image, but {len(args.images)} are given")
    model, facts = load_model(args.model)
    names, shuffled = facts["data"]["class_names"], config_of(facts).shuffle_patches
    mean, std = facts["data"]["mean"], facts["data"]["std"]
    failed = 0
    with kernels.backend("numpy"):  # for a few images compiling is not worth the wait
        for path in args.images:
            try:
                x = pictures.read(path, facts["data"]["image_size"])
                x = shuffle_patches(x[None], shuffled)[0]
            except DataError as error:  # the others are still to be seen
                print(f"minimix: {error}", file=sys.stderr)
                failed = 1
                continue
            with no_grad():
                likely = F.softmax(model(Tensor(normalize(x[None], mean, std)))).array[0]
            top = sorted(zip(likely, names, strict=True), reverse=True)[: args.top]
            print(f"{path}: " + ", ".join(f"{name} {100 * p:.1f} %" for p, name in top))
            if args.explain:
                from ..report.explain import explain, save

                save(explain(model, x, names, mean, std), args.explain)
                print(f"picture {args.explain}")
    return failed
