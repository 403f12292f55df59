"""Tables for people, and the roofline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Where minimix's speed is found, of what, and what to call it.
SPEEDS = (
    ("steps", "training", "Training"),
    ("steps", "inference", "Inference"),
    ("large", "inference", "Inference at 224×224"),
)
SHARES = """A share is that of the product's speed in the same round; "ratio at that speed" is what
the ratio to PyTorch would be if all multiplications and additions ran at it and everything else
took no time. They are counted as direct convolutions make them. ResNets' 3×3 convolutions make
fewer multiplications (Winograd), so their share is larger than that of what is computed, and may
be above 1."""


def tables(result: dict[str, Any]) -> str:
    parts = [_machine(result["machine"], result["ceilings"])]
    for part, kind, title in SPEEDS:
        if part in result:
            parts.append(_speeds(result[part], kind, title))
    shares = [(part, kind, title) for part, kind, title in SPEEDS if part in result]
    for part, kind, title in shares:
        parts.append(_share(result[part], kind, title))
    if shares:
        parts.append(SHARES)
    if "operations" in result:
        parts.append(_operations(result["operations"], result["ceilings"]))
    if "memory" in result:
        parts.append(_memory(result["memory"]))
    if "threads" in result:
        parts.append(_threads(result["threads"]))
    if "start" in result:
        parts.append(_start(result["start"]["net"]))
        parts.append(_presets(result["start"]["presets"]))
    if "sweeps" in result:
        parts += [_sweep(name, series) for name, series in result["sweeps"].items()]
    if "data" in result:
        parts.append(_data(result["data"]))
    return "\n\n".join(parts)


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(["-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)]) + "|"
    return "\n".join([f"### {title}", "", line(head), rule, *map(line, rows)])


def _range(value: dict[str, Any], digits: int = 0) -> str:
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f}–{value['high']:.{digits}f})"


def _ratio(value: dict[str, Any] | None) -> str:
    return _range(value, 2) if value else "–"


def _machine(machine: dict[str, Any], ceilings: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    state = " with changes" if machine["changed since"] else ""
    products = ", ".join(f"{shape} {g:.0f}" for shape, g in ceilings["products"].items())
    return "\n".join(
        [
            f"{machine['processor']}, {machine['cores']} cores, vectors of "
            f"{machine['vector bits']} bits, {machine['system']}",
            f"{machine['threads']} threads; load before {machine['load before']}; {versions}; "
            f"commit {machine['commit']}{state}",
            f"matrix products, GFLOP/s (NumPy's BLAS): {products}; copying "
            f"{ceilings['copy gbs']:.0f} GB/s",
            "Medians with quartiles of interleaved rounds; a ratio is that of the fastest other "
            "candidate's time to minimix's in the same round (JAX, where it is installed, is not "
            "among them).",
        ]
    )


def _speeds(rows: list[dict[str, Any]], kind: str, title: str) -> str:
    forms = list(rows[0][kind]["images/s"])
    body = [
        [
            row["net"],
            *(
                _rate(rates[form]) if form in (rates := row[kind]["images/s"]) else "–"
                for form in forms
            ),
            _ratio(row[kind]["ratio"]),
            f"≥ {row['goals'][kind]}",
        ]
        for row in rows
    ]
    goals = {row["goals"][kind] for row in rows}
    goal = f" (goal: ratio ≥ {min(goals)})" if len(goals) == 1 else ""
    return _table(f"{title}, images/s{goal}", ["net", *forms, "ratio", "goal"], body)


def _rate(value: dict[str, float]) -> str:
    return _range(value, 0 if value["median"] >= 10 else 1)


def _share(rows: list[dict[str, Any]], kind: str, title: str) -> str:
    body = [
        [
            row["net"],
            f"{row[kind]['gflops']:.0f}",
            _range(row[kind]["share"], 2),
            _ratio(row[kind]["ratio at that speed"]),
        ]
        for row in rows
    ]
    head = ["net", "GFLOP/s", "share", "ratio at that speed"]
    if kind == "training":
        head.append("goal: share")
        for cells, row in zip(body, rows, strict=True):
            cells.append(f"≥ {row['goals']['share']:.2f}" if "share" in row["goals"] else "–")
    return _table(f"{title} as a share of the speed of a 2048×2048×2048 matrix product", head, body)


def _limit(row: dict[str, Any], ceilings: dict[str, Any]) -> float:
    """GFLOP/s that arithmetic and memory allow an operation."""
    return min(ceilings["gflops"], ceilings["copy gbs"] * row["flops a byte"])


def _operations(rows: list[dict[str, Any]], ceilings: dict[str, Any]) -> str:
    body = []
    for row in rows:
        theirs = row["ratio"]
        against = (
            f"{_range(row['ms'][theirs['against']], 2)} {theirs['against']}" if theirs else "–"
        )
        body.append(
            [
                row["operation"],
                _range(row["ms"]["minimix"], 2),
                against,
                _ratio(theirs),
                f"{row['gflops']:.0f}",
                f"{row['gbs']:.0f}",
                f"{100 * row['gflops'] / _limit(row, ceilings):.0f} %",
            ]
        )
    head = [
        "operation",
        "minimix, ms",
        "PyTorch's fastest, ms",
        "ratio",
        "GFLOP/s",
        "GB/s",
        "of the roofline",
    ]
    return _table("Operations (goal: ratio ≥ 1.2)", head, body)


def _memory(rows: list[dict[str, Any]]) -> str:
    forms = list(rows[0]["bytes"])
    body = [
        [
            row["net"],
            *(f"{row['bytes'][form]['step'] / 2**20:.0f}" for form in forms),
            f"{row['share']:.2f}" if row["share"] else "–",
            f"{row['bytes']['minimix']['faults a step']:.0f}",
        ]
        for row in rows
    ]
    title = "Peak memory of training steps, MiB (goal: ≤ 0.7 of PyTorch's least)"
    return _table(title, ["net", *forms, "share", "page faults a step"], body)


def _threads(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["gain"])
    body = [
        [
            row["net"],
            *(_range(row["gain"][name], 2) for name in names),
            *(_range(row["loss"][name], 2) for name in names),
            _ratio(row["ratio"]),
        ]
        for row in rows
    ]
    n = rows[0]["threads"]
    head = [
        "net",
        *(f"{name}, 1 thread / {n}" for name in names),
        *(f"{name}, busy / quiet" for name in names),
        "theirs / ours",
    ]
    title = (
        f"Times of training steps: 1 thread / {n} threads (goal: ≥ 1.8); on {n} threads, beside a "
        "busy process / without; PyTorch's loss to it / minimix's (goal: ≥ 0.9)"
    )
    return _table(title, head, body)


START = "seconds (goals: first step ≤ 20 in the first process, ≤ 1 in a later one)"


def _start(start: dict[str, dict[str, float]]) -> str:
    head = ["process", *next(iter(start.values()))]
    body = [[name, *(f"{seconds:.2f}" for seconds in row.values())] for name, row in start.items()]
    return _table(f"Start-up, {START}", head, body)


def _presets(presets: dict[str, dict[str, dict[str, float]]]) -> str:
    body = [
        [
            name,
            *(f"{row[which]['first step']:.2f}" for which in ("first", "later")),
            f"{row['later']['step']:.2f}",
        ]
        for name, row in presets.items()
    ]
    title = f"Start-up of `minimix train`, with a test, {START}"
    return _table(title, ["preset", "first process", "later process", "second step"], body)


def _sweep(name: str, series: dict[str, float]) -> str:
    least = next(iter(series.values()))
    body = [[value, f"{ms:.1f}", f"{ms / least:.2f}"] for value, ms in series.items()]
    return _table(name, [name.partition("other ")[2], "ms", "times the first"], body)


def _data(rows: list[dict[str, Any]]) -> str:
    body = [
        [
            row["net"],
            *(_range(ms, 1) for ms in row["ms"].values()),
            f"{100 * (row['cost']['median'] - 1):+.1f} %",
        ]
        for row in rows
    ]
    title = "Batches with all augmentations, ms a step (goal: cost ≤ 5 %)"
    return _table(title, ["net", *rows[0]["ms"], "cost"], body)


def roofline(result: dict[str, Any], path: Path) -> None:
    """Each operation between the two things that bound it: memory's slope and arithmetic's roof."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ceilings = result["ceilings"]
    roof, slope = ceilings["gflops"], ceilings["copy gbs"]
    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    intensities = [2**i for i in range(-2, 9)]
    axes.plot(intensities, [min(roof, slope * i) for i in intensities], color="0.3")
    axes.annotate(f"matrix product, {roof:.0f} GFLOP/s", (64, roof), (64, roof * 1.1))
    axes.annotate(
        f"copying, {slope:.0f} GB/s", (0.5, slope * 0.5), (0.3, slope * 0.75), rotation=34
    )
    kinds = dict.fromkeys(row["operation"].partition(",")[0] for row in result["operations"])
    for kind in kinds:
        rows = [r for r in result["operations"] if r["operation"].partition(",")[0] == kind]
        axes.scatter(
            [r["flops a byte"] for r in rows], [r["gflops"] for r in rows], s=24, label=kind
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="arithmetic, FLOP for each byte that must move",
        ylabel="GFLOP/s",
        title=f"minimix on {result['machine']['processor']}, "
        f"{result['machine']['threads']} threads, float32",
    )
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(True, which="major", alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
