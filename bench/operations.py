"""Every operation by itself against PyTorch's, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minimix import AdamW, Parameter, kernels
from minimix import functional as F
from minimix.kernels.simd.memory import empty

from .timing import Calls, interleave, ratio, say, spread


class Operation(NamedTuple):
    """One thing to compute, by minimix and by PyTorch.

    flops, numbers  multiplications and additions, and how many numbers must be read and written
    """

    name: str
    flops: float
    numbers: float
    minimix: Callable[[], Any]
    torch: dict[str, Callable[[], Any]]


def operations(quick: bool) -> Iterator[Operation]:
    shapes = [(64, 16, c) for c in ((256,) if quick else (64, 128, 256, 512))]
    for n, size, c in shapes:
        for k in (5,) if quick else (3, 5, 7, 9):
            yield from depthwise(n, size, c, k)
    for n, size, c in shapes:
        yield from pointwise(n, size, c)
    for n, size, c in [(64, 16, 256)] if quick else [(64, 16, 256), (64, 16, 128), (128, 8, 128)]:
        yield from elementwise(n, size, c)
    yield from patchify(64, 2, 256)
    for convolution in CONVOLUTIONS[1:2] if quick else CONVOLUTIONS:
        yield from conv2d(*convolution)
    yield from others()
    yield from adamw(700_000)


# size of the image, channels, results, kernel, stride, groups; batches of 64
CONVOLUTIONS = [
    (32, 16, 16, 3, 1, 1),
    (16, 32, 32, 3, 1, 1),
    (8, 64, 64, 3, 1, 1),
    (32, 64, 64, 3, 1, 1),
    (16, 128, 128, 3, 1, 1),
    (4, 512, 512, 3, 1, 1),
    (32, 64, 128, 3, 2, 1),
    (32, 3, 128, 7, 4, 1),
    (16, 128, 128, 3, 2, 128),
]


def _draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that begin at a cache line, as PyTorch's arrays do (NumPy's need not)."""
    numbers = empty(shape, np.float32)
    numbers[...] = np.random.default_rng((seed, *shape)).standard_normal(shape)
    return numbers


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


def _layouts(torch: Any, *images: np.ndarray) -> dict[str, list[Any]]:
    """The same images (N, H, W, C) as (N, C, H, W), in both layouts of memory."""
    if torch is None:
        return {}
    plain = [torch.from_numpy(a).permute(0, 3, 1, 2) for a in images]
    return {
        "NCHW": [a.contiguous() for a in plain],
        "channels_last": [a.contiguous(memory_format=torch.channels_last) for a in plain],
    }


def _convolution_backward(
    torch: Any, g: Any, x: Any, w: Any, stride: int, padding: int, groups: int, mask: list[bool]
) -> Any:
    return torch.ops.aten.convolution_backward(
        g, x, w, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, mask
    )


def depthwise(n: int, size: int, c: int, k: int) -> Iterator[Operation]:
    torch = _torch()
    x, g, w = _draw(n, size, size, c), _draw(n, size, size, c, seed=1), _draw(k, k, c)
    forward, backward = {}, {}
    for layout, (tx, tg) in _layouts(torch, x, g).items():
        tw = torch.from_numpy(np.ascontiguousarray(w.transpose(2, 0, 1)[:, None]))

        def call(tx=tx, tw=tw):
            return torch.nn.functional.conv2d(tx, tw, padding=k // 2, groups=c)

        def call_back(tx=tx, tg=tg, tw=tw):
            return _convolution_backward(torch, tg, tx, tw, 1, k // 2, c, [True, True, False])[:2]

        forward[layout], backward[layout] = call, call_back

    def mine() -> tuple[np.ndarray, np.ndarray]:
        dx, dw = kernels.depthwise_conv2d_dx(g, w), kernels.depthwise_conv2d_dw(x, g, k)
        return dx, dw.transpose(2, 0, 1)[:, None]

    flops = 2.0 * x.size * k * k
    where = f"{c} channels, k {k}"
    yield Operation(
        f"depthwise, {where}", flops, 2 * x.size, lambda: kernels.depthwise_conv2d(x, w), forward
    )
    yield Operation(f"depthwise gradients, {where}", 2 * flops, 4 * x.size, mine, backward)


def pointwise(n: int, size: int, c: int) -> Iterator[Operation]:
    torch = _torch()
    x, g, w = _draw(n, size, size, c), _draw(n, size, size, c, seed=1), _draw(c, c)
    rows, g_rows = x.reshape(-1, c), g.reshape(-1, c)
    forward, backward = {}, {}
    for layout, (tx, tg) in _layouts(torch, x, g).items():
        tw = torch.from_numpy(np.ascontiguousarray(w.T)[:, :, None, None])

        def call(tx=tx, tw=tw):
            return torch.nn.functional.conv2d(tx, tw)

        def call_back(tx=tx, tg=tg, tw=tw):
            return _convolution_backward(torch, tg, tx, tw, 1, 0, 1, [True, True, False])[:2]

        forward[layout], backward[layout] = call, call_back
    if torch is not None:
        tx, tg, tw = (torch.from_numpy(a) for a in (rows, g_rows, w))
        forward["matmul"] = lambda: tx @ tw
        backward["matmul"] = lambda: (tg @ tw.T, (tx.T @ tg).T)

    def mine() -> tuple[np.ndarray, np.ndarray]:
        return kernels.matmul(g_rows, w.T), kernels.matmul(rows.T, g_rows).T

    flops = 2.0 * x.size * c
    yield Operation(
        f"pointwise, {c} channels", flops, 2 * x.size, lambda: kernels.matmul(rows, w), forward
    )
    yield Operation(f"pointwise gradients, {c} channels", 2 * flops, 4 * x.size, mine, backward)


def elementwise(n: int, size: int, c: int) -> Iterator[Operation]:
    torch = _torch()
    x, g = _draw(n, size, size, c), _draw(n, size, size, c, seed=1)
    gamma, beta, mean, var = np.abs(_draw(4, c))
    calls: dict[str, dict[str, Any]] = {name: {} for name in ("gelu", "dgelu", "norm", "dnorm")}
    for layout, (tx, tg) in _layouts(torch, x, g).items():
        tgamma, tbeta = torch.from_numpy(gamma), torch.from_numpy(beta)
        tmean, tvar = torch.from_numpy(mean.copy()), torch.from_numpy(var.copy())

        def normed(tx=tx, tmean=tmean, tvar=tvar, tgamma=tgamma, tbeta=tbeta):
            return torch.nn.functional.batch_norm(tx, tmean, tvar, tgamma, tbeta, training=True)

        _, save_mean, save_rstd = torch.native_batch_norm(
            tx, tgamma, tbeta, None, None, True, 0.1, 1e-5
        )

        def normed_back(tx=tx, tg=tg, tgamma=tgamma, m=save_mean, r=save_rstd):
            return torch.ops.aten.native_batch_norm_backward(
                tg, tx, tgamma, None, None, m, r, True, 1e-5, [True, True, True]
            )

        calls["gelu"][layout] = lambda tx=tx: torch.nn.functional.gelu(tx)
        calls["dgelu"][layout] = lambda tx=tx, tg=tg: torch.ops.aten.gelu_backward(tg, tx)
        calls["norm"][layout], calls["dnorm"][layout] = normed, normed_back

    norm = F.batch_norm.array
    options = {"running_mean": mean.copy(), "running_var": var.copy()}
    _, norm_back = norm(x, gamma, beta, **options)
    where = f"{n}×{size}×{size}×{c}"
    numbers = float(x.size)
    yield Operation(
        f"GELU, {where}", 20 * numbers, 2 * numbers, lambda: kernels.gelu(x), calls["gelu"]
    )
    yield Operation(
        f"GELU gradient, {where}",
        30 * numbers,
        3 * numbers,
        lambda: kernels.gelu_backward(x, g),
        calls["dgelu"],
    )
    yield Operation(
        f"batch norm, {where}",
        7 * numbers,
        3 * numbers,
        lambda: norm(x, gamma, beta, **options)[0],
        calls["norm"],
    )
    yield Operation(
        f"batch norm gradients, {where}",
        12 * numbers,
        5 * numbers,
        lambda: norm_back(g),
        calls["dnorm"],
    )


def patchify(n: int, p: int, d: int) -> Iterator[Operation]:
    torch = _torch()
    x, w, b = _draw(n, 32, 32, 3), _draw(p, p, 3, d), _draw(d)
    y, back = F.patchify.array(x, w, b)
    g = _draw(*y.shape)
    forward, backward = {}, {}
    for layout in _layouts(torch, x):
        tx, tg = (_layouts(torch, a)[layout][0] for a in (x, g))
        tw = torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1)))
        tb = torch.from_numpy(b)

        def call(tx=tx, tw=tw, tb=tb):
            return torch.nn.functional.conv2d(tx, tw, tb, stride=p)

        def call_back(tx=tx, tg=tg, tw=tw):
            return _convolution_backward(torch, tg, tx, tw, p, 0, 1, [False, True, False])[1]

        forward[layout], backward[layout] = call, call_back
    flops = 2.0 * y.size * 3 * p * p
    where = f"p {p}, {d} channels"
    yield Operation(
        f"patchify, {where}", flops, x.size + y.size, lambda: F.patchify.array(x, w, b)[0], forward
    )
    yield Operation(
        f"patchify, weight gradient, {where}",
        flops,
        x.size + y.size,
        lambda: back(g)[1]().transpose(3, 2, 0, 1),
        backward,
    )


def _both_ways(
    name: str,
    flops: float,
    mine: Any,
    theirs: Any,
    *arrays: np.ndarray,
    weights: tuple[np.ndarray, ...] = (),
) -> Iterator[Operation]:
    """An operation and its gradients: `mine` gives (y, backward), `theirs` takes tensors.

    Arrays of four axes are images, and layouts matter; weights are such of convolutions.
    """
    torch = _torch()
    images = bool(weights) or name.partition(",")[0].endswith("pooling")
    y, back = mine(*arrays, *weights)
    g = _draw(*y.shape, seed=1)
    forward, backward = {}, {}
    for layout in ("NCHW", "channels_last")[: 1 + images] if torch is not None else ():
        if images:
            *xs, tg = (_layouts(torch, a)[layout][0] for a in (*arrays, g))
        else:
            *xs, tg = (torch.from_numpy(a.copy()) for a in (*arrays, g))
        ws = [torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))) for w in weights]
        tensors = [t.requires_grad_() for t in (*xs, *ws)]
        graph = theirs(*tensors)

        def call(tensors=tensors):
            with torch.no_grad():
                return theirs(*tensors)

        def call_back(graph=graph, tensors=tensors, tg=tg):
            return torch.autograd.grad(graph, tensors, tg, retain_graph=True)

        label = layout if images else "eager"
        forward[label], backward[label] = call, call_back

    def gradients() -> tuple[np.ndarray, ...]:
        results = back(g)
        results = results if isinstance(results, tuple) else (results,)
        computed = [r() if callable(r) else r for r in results]
        n = len(arrays)
        dws = [dw.transpose(3, 2, 0, 1) for dw in computed[n : n + len(weights)]]
        return (*computed[:n], *dws)

    numbers = float(sum(a.size for a in arrays) + y.size)
    yield Operation(name, flops, numbers, lambda: mine(*arrays, *weights)[0], forward)
    what, _, where = name.partition(", ")
    yield Operation(f"{what} gradients, {where}", 2 * flops, 2 * numbers, gradients, backward)


def conv2d(size: int, c: int, d: int, k: int, stride: int, groups: int) -> Iterator[Operation]:
    torch = _torch()
    x, w = _draw(64, size, size, c), _draw(k, k, c // groups, d)
    options: dict[str, Any] = {"stride": stride, "padding": k // 2, "groups": groups}
    places = 64 * ((size - 1) // stride + 1) ** 2
    where = f"{size}×{size}, {c} to {d} channels, k {k}" + f", stride {stride}" * (stride > 1)
    yield from _both_ways(
        f"conv2d, {where}" + ", a group a channel" * (groups > 1),
        2.0 * places * d * k * k * c / groups,
        lambda x, w: F.conv2d.array(x, w, **options),
        lambda x, w: torch.nn.functional.conv2d(x, w, **options),
        x,
        weights=(w,),
    )


def others() -> Iterator[Operation]:
    """What transformers and residual nets need besides."""
    torch = _torch()
    functional = torch.nn.functional if torch is not None else None
    x = _draw(64, 32, 32, 48)
    yield from _both_ways("ReLU, 64×32×32×48", x.size, F.relu.array, lambda x: x.relu(), x)
    yield from _both_ways(
        "max pooling, 64×32×32×48, 3×3, stride 2",
        2.25 * x.size,
        lambda x: F.max_pool2d.array(x, size=3, stride=2, padding=1),
        lambda x: functional.max_pool2d(x, 3, 2, 1),
        x,
    )
    yield from _both_ways(
        "average pooling, 64×32×32×48, 2×2",
        x.size,
        lambda x: F.avg_pool2d.array(x, size=2),
        lambda x: functional.avg_pool2d(x, 2),
        x,
    )
    tokens, gamma, beta = _draw(64, 65, 128), _draw(128), _draw(128, seed=1)
    yield from _both_ways(
        "layer norm, 64×65×128",
        7.0 * tokens.size,
        F.layer_norm.array,
        lambda x, gamma, beta: functional.layer_norm(x, (128,), gamma, beta),
        tokens,
        gamma,
        beta,
    )
    scores = _draw(256, 65, 65)
    yield from _both_ways(
        "softmax, 256×65×65",
        20.0 * scores.size,
        F.softmax.array,
        lambda x: functional.softmax(x, -1),
        scores,
    )
    q, k, v = _draw(3, 64, 4, 65, 32)
    yield from _both_ways(
        "attention, 64×4×65×32",
        4.0 * 64 * 4 * 65 * 65 * 32,
        F.attention.array,
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v),
        q,
        k,
        v,
    )


def adamw(n: int) -> Iterator[Operation]:
    """The parameters of ConvMixer-256/8, in as many tensors as it has."""
    torch = _torch()
    parts = np.array_split(_draw(n), 70)
    parameters = [Parameter(part.copy()) for part in parts]
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part * np.float32(0.1)
    mine = AdamW(parameters, lr=1e-3, weight_decay=1e-2)
    theirs = {}
    if torch is not None:
        for name, options in (("foreach", {"foreach": True}), ("fused", {"fused": True})):
            copies = [torch.nn.Parameter(torch.from_numpy(part.copy())) for part in parts]
            for copy, part in zip(copies, parts, strict=True):
                copy.grad = torch.from_numpy(part * np.float32(0.1))
            optimizer = torch.optim.AdamW(copies, lr=1e-3, weight_decay=1e-2, **options)
            theirs[name] = lambda o=optimizer, copies=copies: (o.step(), *copies)[1:]
    yield Operation(
        f"AdamW, {n:,} parameters",
        12.0 * n,
        7.0 * n,
        lambda: (mine.step(), *(p.array for p in parameters))[1:],
        theirs,
    )


def measure(quick: bool, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for operation in operations(quick):
        compare(operation)
        calls: Calls = {"minimix": operation.minimix, **operation.torch}
        times = interleave(calls, rounds, 0.03)
        seconds = spread(times["minimix"])["median"]
        rows.append(
            {
                "operation": operation.name,
                "ms": {
                    name: {k: 1e3 * v for k, v in spread(t).items()} for name, t in times.items()
                },
                "ratio": ratio(times),
                "gflops": 1e-9 * operation.flops / seconds,
                "gbs": 4e-9 * operation.numbers / seconds,
                "flops a byte": operation.flops / (4 * operation.numbers),
            }
        )
        say(operation.name)
    return rows


def compare(operation: Operation) -> None:
    """Compare minimix's result with PyTorch's. SystemExit where they differ."""
    mine = _arrays(operation.minimix())
    for form, call in operation.torch.items():
        for a, b in zip(mine, _arrays(call()), strict=True):
            b = b.transpose(0, 2, 3, 1) if b.shape != a.shape and b.ndim == 4 else b
            error = np.abs(a - b.reshape(a.shape)).max() / np.abs(b).max()
            if not error < 1e-4:
                raise SystemExit(
                    f"bench: {operation.name} differs from PyTorch's {form} by {error:.1e}: "
                    "nothing is timed"
                )


def _arrays(result: Any) -> list[np.ndarray]:
    results = result if isinstance(result, tuple) else (result,)
    return [np.asarray(r.detach() if hasattr(r, "detach") else r) for r in results]
