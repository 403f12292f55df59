"""`minimix export`: a trained model for other programs."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

from .parser import command, path

KINDS = {"onnx": ".onnx", "timm": ".safetensors", "npz": ".npz"}


def add(commands: Any) -> None:
    parser = command(
        commands,
        run,
        "export",
        "Write a trained model to a file that other programs read.",
        epilog="onnx   for ONNX Runtime and others: takes `images` (N, H, W, C), gives `logits`\n"
        "timm   the weights in PyTorch's layout, under timm's names, as .safetensors\n"
        "npz    the weights as they are here, for NumPy, and `facts`, as JSON",
    )
    parser.add_argument("model", type=path, metavar="RUN", help="run folder or model file")
    parser.add_argument("--to", choices=KINDS, required=True, help="the form (see below)")
    parser.add_argument("--out", type=path, metavar="FILE", help="where (RUN's name, here)")
    parser.add_argument(
        "--normalize",
        action="store_true",
        help="onnx: take images as they are in files, uint8, and normalize them in the model",
    )
    parser.add_argument("--code", type=path, metavar="FILE", help="the file of your own class")


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from .. import files
    from ..errors import MinimixError
    from ..interop import save_weights
    from ..train.trained import load

    if args.normalize and args.to != "onnx":
        args.parser.error(f"--normalize is for --to onnx, not {args.to}")
    trained = load(args.model, code=args.code)
    there = args.model.resolve()
    out = args.out or Path((there.name if there.is_dir() else there.stem) + KINDS[args.to])
    if out.resolve() == there:
        raise MinimixError(f"{out} is the model itself; give another --out")
    about = {
        "class_names": trained.class_names,
        "image_size": trained.image_size,
        "mean": trained.mean,
        "std": trained.std,
    }
    if trained.settings.get("shuffle_patches") and args.to == "onnx":
        raise MinimixError(
            f"{args.model} has learned from shuffled patches, which the file would not show"
        )
    if args.to == "onnx":
        from ..export import OPSET, to_onnx

        shape = (*trained.image_size, len(trained.mean))
        normalize = (trained.mean, trained.std) if args.normalize else None
        files.write(out, to_onnx(trained.model, shape, normalize=normalize, about=about))
        kind = "uint8" if args.normalize else "float32, normalized: (x/255 − mean) / std"
        print(f"input  images (N, {shape[0]}, {shape[1]}, {shape[2]}), {kind}")
        print(f"output logits (N, {len(trained.class_names)}); opset {OPSET}")
    elif args.to == "timm":
        try:
            save_weights(trained.model, out)
        except ValueError as error:
            raise MinimixError(str(error)) from error
    else:
        with io.BytesIO() as content:
            facts = {**about, "settings": trained.settings}
            arrays: dict[str, Any] = dict(trained.model.state_dict())
            np.savez(content, **arrays, facts=np.array(json.dumps(facts, default=list)))
            files.write(out, content.getvalue())
    print(f"mean   {', '.join(f'{v:.4f}' for v in trained.mean)}")
    print(f"std    {', '.join(f'{v:.4f}' for v in trained.std)}")
    print(f"wrote  {out}")
    return 0
