"""Measure minimix and PyTorch, print tables, write them, JSON and a roofline plot.

Without options everything is measured, each part, and each net where a part has a row for each, in
a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

import minimix as mx

from . import fresh, jaxed, machine, nets, operations, report, scaling, steps

PARTS = {
    "steps": "training and inference of every net",
    "large": "inference at 224×224",
    "operations": "each operation alone",
    "memory": "peak memory of training steps",
    "threads": "what threads gain, and what a busy process costs",
    "start": "the first step, compiled and loaded",
    "sweeps": "training steps as one size varies",
    "data": "the cost of preparing batches",
}
NETS: dict[str, list[Any]] = {  # of the parts that have a row for each
    "steps": list(nets.NETS),
    "large": list(nets.LARGE),
    "memory": list(nets.NETS),
    "threads": list(nets.NETS),
    "data": nets.CONVMIXERS,
}
ROUNDS = dict.fromkeys(PARTS, 7) | {"large": 3, "threads": 4}  # whose rounds are long
QUICK = "steps", "operations", "start"
QUICK_NETS = nets.Net(128, 8, 5, 4, 128), nets.Rival("resmlp_12_224", 1, 224)

Job: TypeAlias = tuple[str, Any]  # a part, and the net, or None, that is measured in one process


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="The parts: " + "; ".join(f"{part}, {what}" for part, what in PARTS.items()) + ".",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute's worth, in this process; writes nothing"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="this part (repeatable)")
    named = [str(net) for net in (*nets.NETS, *nets.LARGE)]
    parser.add_argument(
        "--net", choices=named, metavar="NET", help="its rows alone: " + "; ".join(named)
    )
    parser.add_argument("--threads", type=int, default=mx.kernels.get_num_threads())
    parser.add_argument(
        "--rounds", type=int, default=0, help="turns of each candidate (7; large: 3, threads: 4)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    jobs = list_jobs(options)
    if options.net and not jobs:
        parser.error(f"these parts have no row for {options.net}")
    written = options.out / f"{options.threads}-threads.json"
    if options.quick or len(jobs) == 1:
        print("\n" + here(jobs, options, written))
    elif jobs:
        with tempfile.TemporaryDirectory() as folder:  # the old results stay until all is measured
            if (options.only or options.net) and written.exists():
                kept = json.loads(written.read_text())  # and then what was not measured
                for part in () if options.net else options.only:
                    kept.pop(part, None)
                Path(folder, written.name).write_text(json.dumps(kept))
            for part, net in jobs:
                apart(part, net, options, folder)
            shutil.copytree(folder, options.out, dirs_exist_ok=True)
        print("\n" + written.with_suffix(".md").read_text(), end="")


def list_jobs(options: argparse.Namespace) -> list[Job]:
    """What is to be measured."""
    jobs: list[Job] = []
    for part in options.only or (QUICK if options.quick else PARTS):
        if part == "threads" and options.threads == 1:
            print("bench: one thread, so nothing about threads is measured", file=sys.stderr)
        elif part in NETS:
            some = QUICK_NETS if options.quick and not options.net else NETS[part]
            found = [net for net in NETS[part] if net in some]
            jobs += [(part, net) for net in found if options.net in (None, str(net))]
        elif not options.net:
            jobs.append((part, None))
    return jobs


def apart(part: str, net: Any, options: argparse.Namespace, out: str) -> None:
    """Measure one part, or one net of it, in a process of its own.

    In the process of nine other nets, minimix's and PyTorch's, ResNet-20 took 1.4 times as long as
    in its own. Nobody trains like that.
    """
    command = [sys.executable, "-m", "bench", "--only", part, "--out", out]
    command += ["--net", str(net)] if net else []
    command += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent, check=False
    )
    if done.returncode:
        raise SystemExit(f"bench: the part {part} ended with exit code {done.returncode}")


def here(jobs: list[Job], options: argparse.Namespace, written: Path) -> str:
    """Measure in this process, and give the tables; write them unless it is to be quick."""
    jaxed.only_threads(options.threads)
    nets.set_threads(options.threads)
    result: dict[str, Any] = {}
    if written.exists() and not options.quick:
        result = json.loads(written.read_text())
    before, result["machine"] = result.get("machine"), machine.describe(options.threads)
    known = before and all(before[it] == result["machine"][it] for it in ("processor", "system"))
    if not known or ("operations", None) in jobs:
        result["ceilings"] = machine.ceilings(3 if options.quick else 7, options.threads)
    for part, net in jobs:
        rounds = options.rounds or (3 if options.quick else ROUNDS[part])
        measured = measure(part, net, rounds, options.quick)
        if part in NETS:
            rows = {row["net"]: row for row in [*result.get(part, []), measured]}
            measured = [rows[str(net)] for net in NETS[part] if str(net) in rows]
        result[part] = measured
    tables = report.tables(result)
    if not options.quick:
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(result, indent=1) + "\n")
        written.with_suffix(".md").write_text(tables + "\n")
        if ("operations", None) in jobs:
            report.roofline(result, written.with_name(f"{written.stem}-roofline.png"))
    return tables


def measure(part: str, net: Any, rounds: int, quick: bool) -> Any:
    match part:
        case "steps":
            return steps.steps(net, rounds, quick)
        case "large":
            return steps.large(net, rounds, quick)
        case "operations":
            return operations.measure(quick, rounds)
        case "memory":
            return fresh.memory(net)
        case "threads":
            return scaling.threads(net, rounds)
        case "start":
            return fresh.start(quick)
        case "sweeps":
            return scaling.sweeps(rounds)
        case "data":
            return steps.data(net, rounds)


if __name__ == "__main__":
    main()
