"""`minimix compare`: a study, from its file or its name to a table and a page."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import MinimixError
from .parser import command, count, path, print_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..compare.running import Point
    from ..compare.study import Study
    from ..data import Dataset

SMALLER = {  # settings that make a study smaller
    "epochs": "passes over the training images",
    "limit_train": "train on N images only, of all classes; another seed draws others",
    "limit_test": "test on N images only, of all classes and the same for every seed",
}


def add(commands: Any) -> None:
    from ..compare.presets import NAMES

    parser = command(
        commands,
        run,
        "compare",
        "Train several networks, each with several seeds, and compare them.",
        epilog="Studies that come with minimix: " + ", ".join(NAMES),
    )
    parser.add_argument("study", metavar="STUDY", help="a TOML file, or the name of a study")
    parser.add_argument(
        "--out", type=path, metavar="FOLDER", help="the folder to write to (studies/STUDY)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be trained and how long it would take, after a few steps of each",
    )
    parser.add_argument(
        "--print", action="store_true", help="print the study's file, to make another one of it"
    )
    parser.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="how many to train at a time (1)"
    )
    parser.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads for all of them (one per core), or for each of several processes (1)",
    )
    parser.add_argument("--data", metavar="TEXT", help="the data set, as in minimix train")
    group = parser.add_argument_group("To make a study smaller")
    group.add_argument("--seeds", type=count, metavar="N", help="use the seeds 0 to N − 1")
    for name, what in SMALLER.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=count, metavar="N", help=what)


def run(args: argparse.Namespace) -> int:
    from ..compare import running
    from ..compare.spread import serve, spread
    from ..compare.study import read_study
    from ..kernels import get_num_threads
    from ..parallel import world
    from ..train.fit import where

    ranks = world()
    jobs = args.jobs if ranks.size == 1 else ranks.size
    if args.jobs not in (1, jobs):
        args.parser.error(
            f"--jobs is {args.jobs}, but there are {ranks.size} processes, each of which trains "
            "one at a time; leave it out"
        )
    if not ranks.first:
        if not args.dry_run:
            serve(ranks)
        return ranks.broadcast(0)  # the exit code is rank 0's
    study = read_study(args.study, args.seeds)
    if args.print:
        print(study.text, end="")
        return 0
    smaller = {name: getattr(args, name) for name in SMALLER if getattr(args, name) is not None}
    if smaller:
        study = study.with_settings(**smaller)
    out = args.out or Path("studies", study.name)
    named = args.data or study.data
    data = study.rows[0].config().load(named, say=print_line)  # of the size that it says
    study.check(data)
    points = running.points_of(study, out)
    running.check_folder(study, points, data, out)

    threads = args.threads or get_num_threads()
    each = max(1, threads // jobs) if ranks.size == 1 else args.threads or 1
    options = [f"--data={where(named, data)}", f"--threads={each}"]
    todo = [point for point in points if not point.done]
    print_line(f"study   {study.title}")
    print_line(f"data    {data.name}, {data.source}")
    print_line(f"folder  {out}")
    if args.dry_run:
        _plan(study, points, todo, data, options, jobs)
        return ranks.broadcast(0)

    def busy(holder: str) -> None:
        raise MinimixError(f"{out} is in use by process {holder}; wait for it, or choose another")

    with files.disk_errors(f"cannot write to {out}"):
        out.mkdir(parents=True, exist_ok=True)
    with files.lock(out / ".lock", busy):
        print_line(f"{len(points)} trainings, {len(points) - len(todo)} of them done before")
        with spread(ranks) as start:
            stopped = running.train_all(todo, options, jobs, print_line, start)
        return ranks.broadcast(_finish(study, points, data, out, threads, stopped))


def _finish(
    study: Study, points: Sequence[Point], data: Dataset, out: Path, threads: int, stopped: int
) -> int:
    """Write what has been found so far, and say how it ended."""
    from ..compare.charts import picture
    from ..compare.costs import measure_costs
    from ..compare.page import page
    from ..compare.results import as_csv, as_json, as_text, collect

    costs = {} if stopped else measure_costs(study, data, out, threads, print_line)
    results = collect(study, points, costs, f"{data.name}, {data.source}")
    text = as_text(results)
    written = {
        "results.txt": text,
        "results.csv": as_csv(results),
        "results.json": as_json(results),
        "report.html": page(results),
        "accuracy.svg": picture(results),
    }
    for name, content in written.items():
        if content is not None:
            files.write(out / name, content.encode("utf-8", "replace"))
    print(f"\n{text}\npage {out / 'report.html'}", flush=True)
    if stopped:
        again = shlex.join(["minimix", *sys.argv[1:]])
        print_line(f"stopped, and saved; continue with: {again}")
        return 128 + stopped
    failed = sum(bool(point.why) for point in points)
    if failed:
        raise MinimixError(f"{failed} of {len(points)} trainings failed; the reasons stand above")
    return 0


def _plan(
    study: Study,
    points: Sequence[Point],
    todo: Sequence[Point],
    data: Dataset,
    options: Sequence[str],
    jobs: int,
) -> None:
    """Print what would be trained, and how long it would take."""
    from ..compare.estimate import seconds_by_row
    from ..compare.results import columns, seconds_text
    from ..compare.running import makespan

    seconds = seconds_by_row(points, data, options, print_line)
    rows = [("row", "seeds", "still to do", "each", "settings")]
    for row in study.rows:
        left = sum(point.row is row for point in todo)
        settings = " ".join(f"{key}={value}" for key, value in row.settings.items())
        each = seconds_text(seconds[row.name])
        rows.append((row.name, f"{len(study.seeds)}", f"{left}", each, settings))
    *lines, _ = zip(*rows, strict=True)
    for line, (*_, settings) in zip(columns(list(zip(*lines, strict=True))), rows, strict=True):
        print_line(f"{line}  {settings}")
    total = makespan([seconds[point.row.name] for point in todo], jobs)
    print_line(f"{len(todo)} of {len(points)} trainings to do, about {seconds_text(total)}")
