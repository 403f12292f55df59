"""`minimix models`: the networks that have names, and what they cost here."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from ..version import __version__
from .parser import command, count

MEASURED = ("training", "inference", "memory")


def add(commands: Any) -> None:
    parser = command(
        commands,
        run,
        "models",
        "List networks by name, those of the paper and some for CIFAR-10, and what they cost.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="which of them, such as 'resnet*' (all)"
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure their speed and memory here (minutes)"
    )
    parser.add_argument(
        "--size", type=count, default=224, metavar="N", help="side of ImageNet's images (224)"
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        metavar="N",
        help="images at a time (4 for ImageNet, 128 for CIFAR-10)",
    )
    parser.add_argument("--threads", type=count, metavar="N", help="threads (one per core)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..compare.measure import measure
    from ..compare.names import counts, requests
    from ..kernels import get_num_threads

    known = requests(args.size, args.batch_size, args.threads or get_num_threads())
    chosen = {name: one for name, one in known.items() if _wanted(name, args.names)}
    for pattern in args.names:
        if not any(_wanted(name, [pattern]) for name in known):
            near = ", ".join(get_close_matches(pattern, known, 3, 0.3) or known)
            args.parser.error(f"there is no network {pattern!r}; the nearest are {near}")
    rows = []
    with tqdm(total=len(chosen), disable=not sys.stderr.isatty(), leave=False) as bar:
        for name, request in chosen.items():
            bar.set_description_str(name)
            try:
                found: dict[str, Any] = counts(request)
            except ValueError as error:
                found = {"error": str(error)}
            if args.measure and "error" not in found:
                found |= measure(request)
            rows.append(_row(name, request, found))
            bar.update()
    print(_as_json(rows) if args.json else _as_csv(rows) if args.csv else _as_text(rows, args))
    return 0


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _row(name: str, request: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    from ..compare.names import PUBLISHED

    paper = PUBLISHED.get(name)
    return {
        "name": name,
        "size": request["image_size"][0],
        "batch_size": request["batch_size"],
        **{key: found.get(key) for key in ("parameters", "multiply_adds", *MEASURED)},
        "paper_images_per_s": paper.throughput if paper else None,
        "paper_top1": paper.top1 if paper else None,
        "error": found.get("error", ""),
    }


def _as_text(rows: Sequence[Mapping[str, Any]], args: argparse.Namespace) -> str:
    from ..compare.names import SOURCE
    from ..compare.results import COST_HEADS, columns, cost_texts

    shown = len(COST_HEADS) if args.measure else 2
    size, batch = ("size", "batch") if args.measure else ("size", "")
    head = ("name", size, batch, *COST_HEADS[:shown], "paper: images/s", "top-1")
    lines = [head]
    for row in rows:
        cost = {key: value for key, value in row.items() if value is not None}
        top1 = f"{row['paper_top1']:.2f} %" if row["paper_top1"] else ""
        lines.append(
            (
                row["name"],
                f"{row['size']}",
                f"{row['batch_size']}" if args.measure else "",
                *cost_texts(cost)[:shown],
                f"{row['paper_images_per_s'] or ''}",
                top1,
            )
        )
    table = columns(lines)
    for i, row in enumerate(rows, 1):
        table[i] += f"  {row['error']}" if row["error"] else ""
    words = [f"Paper: {SOURCE}, ImageNet, inference on the authors' GPU."]
    if args.measure:
        words.append("Memory: of a training step, beyond what Python and its libraries take.")
    return "\n".join([*table, "", *words])


def _as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"minimix": __version__, "networks": rows}, indent=1)


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    with io.StringIO(newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue().rstrip("\n")
