"""python -m bench: measure, print tables, write JSON and a roofline plot."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import minimix as mx

from . import jaxed, machine, nets, operations, report
from .timing import Times, interleave, ratio, spread

PARTS = ("steps", "operations", "memory", "start", "sweeps", "data")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute's worth; nothing is written")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts (repeatable)")
    parser.add_argument("--net", choices=[str(net) for net in nets.NETS], help="its steps alone")
    parser.add_argument("--threads", type=int, default=mx.kernels.get_num_threads())
    parser.add_argument("--rounds", type=int, default=0, help="how often each candidate has a turn")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    written = options.out / f"{options.threads}-threads.json"
    if not (options.only or options.quick):
        with tempfile.TemporaryDirectory() as fresh:  # what was there stays until all is measured
            for part in PARTS:
                for net in nets.NETS if part == "steps" else [None]:
                    apart(part, options, fresh, *(["--net", str(net)] if net else []))
            shutil.copytree(fresh, options.out, dirs_exist_ok=True)
        print("\n" + written.with_suffix(".md").read_text(), end="")
        return
    parts = options.only or ("steps", "operations", "start")
    rounds = options.rounds or (3 if options.quick else 9)
    jaxed.only_threads(options.threads)
    with_torch = importlib.util.find_spec("torch") is not None
    if with_torch:
        import torch

        torch.set_num_threads(options.threads)
    mx.kernels.set_num_threads(options.threads)

    result: dict[str, Any] = {}
    if options.only and not options.quick and written.exists():
        result = json.loads(written.read_text())  # the other parts stay as they were
    result["machine"] = machine.describe(options.threads)
    result["ceilings"] = machine.ceilings(3 if options.quick else 7, options.threads)
    if "steps" in parts:
        chosen = nets.NETS[2:3] if options.quick else nets.NETS
        if options.net:
            chosen = [net for net in nets.NETS if str(net) == options.net]
        measured = [steps(net, rounds, with_torch, options.quick) for net in chosen]
        before = result.get("steps", []) if options.net else []
        rows = {row["net"]: row for row in (*before, *measured)}
        result["steps"] = [rows[str(net)] for net in nets.NETS if str(net) in rows]
    if "operations" in parts:
        result["operations"] = operations.measure(options.quick, rounds, say)
    if "memory" in parts:
        result["memory"] = [memory(net, with_torch) for net in nets.NETS]
    if "start" in parts:
        result["start"] = start()
    if "sweeps" in parts:
        result["sweeps"] = sweeps(rounds, options.threads)
    if "data" in parts:
        result["data"] = [data(net, rounds) for net in nets.CONVMIXERS]
    tables = report.tables(result)
    print("\n" + tables)
    if not options.quick:
        options.out.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(result, indent=1) + "\n")
        written.with_suffix(".md").write_text(tables + "\n")
        if "operations" in result:
            report.roofline(result, written.with_name(f"{written.stem}-roofline.png"))


def apart(part: str, options: argparse.Namespace, out: str, *more: str) -> None:
    """Measure one part, or the steps of one net, in a process of its own.

    In the process of nine other nets, minimix's and PyTorch's, ResNet-20 took 1.4 times as long as
    in its own. Nobody trains like that.
    """
    command = [sys.executable, "-m", "bench", "--only", part, "--out", out, *more]
    command += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent, check=False
    )
    if done.returncode:
        raise SystemExit(f"bench: the part {part} ended with exit code {done.returncode}")


def say(what: str) -> None:
    print(f"measured {what}", file=sys.stderr, flush=True)


def steps(net: nets.Net | nets.Rival, rounds: int, with_torch: bool, quick: bool) -> dict[str, Any]:
    """Training and inference, all forms interleaved; JAX's of a ConvMixer, and not in the ratio."""
    candidates: dict[str, Any] = {"minimix": nets.Minimix(net)}
    if with_torch:
        forms = nets.FORMS[1:2] if quick else nets.FORMS
        for form in forms:
            candidates[form] = nets.Torch(net, form)
            nets.check(nets.Minimix(net), nets.Torch(net, form))
    if isinstance(net, nets.Net) and not quick and importlib.util.find_spec("jax"):
        candidates[jaxed.FORM] = jaxed.Jax(net)
        nets.check(nets.Minimix(net), jaxed.Jax(net))
    product = machine.Product(*machine.LARGE)
    training = interleave(
        {"product": product, **{name: c.step for name, c in candidates.items()}}, rounds
    )
    products = training.pop("product")
    inference = interleave({name: c.infer for name, c in candidates.items()}, rounds)
    say(f"{net}")
    arithmetic = {}
    if flops := net.flops():
        pairs = zip(training["minimix"], products, strict=True)
        arithmetic = {
            "gflops": 1e-9 * flops / spread(training["minimix"])["median"],
            "share": spread([(flops / step) / (product.flops / one) for step, one in pairs]),
        }
    return {
        "net": str(net),
        **arithmetic,
        **{
            kind: {
                "images/s": {n: spread([net.batch / t for t in ts]) for n, ts in times.items()},
                "ratio": ratio({n: ts for n, ts in times.items() if n != jaxed.FORM}),
            }
            for kind, times in (("training", training), ("inference", inference))
        },
    }


def _child(*arguments: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.child", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": str(mx.kernels.get_num_threads()), **environment},
    )
    return json.loads(done.stdout.splitlines()[-1])


def memory(net: nets.Net | nets.Rival, with_torch: bool) -> dict[str, Any]:
    forms = ["minimix", "minimix unfused", *(nets.FORMS if with_torch else ())]
    measured = {form: _child("memory", form, str(net)) for form in forms}
    say(f"memory of {net}")
    theirs = [measured[form]["step"] for form in nets.FORMS if form in measured]
    share = measured["minimix"]["step"] / min(theirs) if theirs else None
    return {"net": str(net), "bytes": measured, "share": share}


def start() -> dict[str, Any]:
    """The first process ever, with nothing compiled, and a later one."""
    with tempfile.TemporaryDirectory() as cache:
        before = time.perf_counter()
        first = _child("start", MINIMIX_CACHE_DIR=cache)
        middle = time.perf_counter()
        later = _child("start", MINIMIX_CACHE_DIR=cache)
        after = time.perf_counter()
    say("start-up")
    return {
        "first": {**first, "whole process": middle - before},
        "later": {**later, "whole process": after - middle},
    }


def medians(times: Times) -> dict[str, float]:
    """Milliseconds of each candidate."""
    return {value: 1e3 * spread(seconds)["median"] for value, seconds in times.items()}


def sweeps(rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Milliseconds per step as one size varies and the others stay fixed.

    Before that, those of a matrix product by BLAS as threads change: what a second one brings here.
    """
    base = nets.Net(128, 4, 5, 2, 64)
    series = {
        "threads": {n: base for n in (1, 2, 4, 8) if n <= threads},
        "batch": {n: base._replace(batch=n) for n in (16, 32, 64, 128)},
        "depth": {n: base._replace(depth=n) for n in (2, 4, 8)},
        "pixels": {n * n: base._replace(size=n) for n in (16, 32, 64)},
        "kernel size": {k: base._replace(kernel_size=k) for k in (3, 5, 7, 9)},
    }

    def with_threads(n, work):
        return lambda: (mx.kernels.set_num_threads(n), work())

    product = machine.Product(*machine.LARGE)
    times = interleave({str(n): with_threads(n, product) for n in series["threads"]}, rounds)
    result = {"matrix product by BLAS, other threads": medians(times)}
    for name, family in series.items():
        calls = {}
        for value, net in family.items():
            model = nets.Minimix(net)
            calls[str(value)] = with_threads(value, model.step) if name == "threads" else model.step
        times = interleave(calls, rounds)
        mx.kernels.set_num_threads(threads)
        result[f"{base}, other {name}"] = medians(times)
        say(f"sweep over {name}")
    return result


def data(net: nets.Net, rounds: int) -> dict[str, Any]:
    """A step on the same batch over and over, against one on batches that are being prepared."""
    import numpy as np

    from minimix.data import Augment, Loader, shapes10

    model = nets.Minimix(net)
    drawn = shapes10.load()
    everything = Augment(
        crop="pad",
        flip="random",
        randaugment=(2, 12),
        jitter=0.2,
        erasing=0.25,
        mixup=0.5,
        cutmix=0.5,
        n_classes=10,
    )
    images, labels = np.tile(drawn.train_images, (8, 1, 1, 1)), np.tile(drawn.train_labels, 8)
    batches = iter(Loader(images, labels, net.batch, transform=everything))

    def fed() -> None:
        x, labels = next(batches)
        model.x, model.labels = mx.Tensor(x), labels
        model.step()

    times = interleave({"same batch": model.step, "fed": fed}, rounds, 0.5)
    say(f"the data pipeline of {net}")
    ms = {name: {k: 1e3 * v for k, v in spread(t).items()} for name, t in times.items()}
    return {"net": str(net), "ms": ms, "cost": ratio(times, mine="same batch")}


if __name__ == "__main__":
    main()
