"""ConvMixer in JAX, on the CPU, compiled: the same weights, channels last as here.

Where JAX is installed. Its CPU back end takes all cores that the process may use, so for fewer
threads than that the process is told when it starts: `only_threads`, before JAX is imported.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .nets import Net, inputs

FORM = "JAX, jit"
MOMENTUM, EPS = 0.1, 1e-5  # of batch norm
LR, BETAS, TINY, DECAY = 1e-3, (0.9, 0.999), 1e-8, 1e-2  # of AdamW


def only_threads(n: int) -> None:
    """Let XLA, which has no number of threads, compute on one; n > 1: on all cores."""
    if n == 1:
        one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one}".strip()


class Jax:
    """As `nets.Minimix`: `step`, `infer`, `gradients`."""

    def __init__(self, net: Net) -> None:
        import jax

        jax.config.update("jax_platforms", "cpu")
        self.jax = jax
        model = net.ours()
        trained = {name for name, _ in model.named_parameters()}
        state = {name: jax.numpy.asarray(a) for name, a in model.state_dict().items()}
        self.parameters = {n: a for n, a in state.items() if n in trained}
        self.buffers = {n: a for n, a in state.items() if n not in trained}
        zeros = jax.numpy.zeros_like
        self.moments = tuple({n: zeros(a) for n, a in self.parameters.items()} for _ in range(2))
        self.time = 0
        images, labels = inputs(net)
        self.x, self.labels = jax.numpy.asarray(images), jax.numpy.asarray(labels)
        self.depth = net.depth
        self._gradients = jax.jit(jax.value_and_grad(self._loss, has_aux=True))
        self._step = jax.jit(self._update, donate_argnums=(0, 1, 2))
        self._infer = jax.jit(lambda p, b, x: self._forward(p, b, x, training=False)[0])

    def _norm(self, p: Any, b: Any, name: str, x: Any, training: bool) -> Any:
        jnp, moved = self.jax.numpy, {}
        mean, var = b[f"{name}.running_mean"], b[f"{name}.running_var"]
        if training:
            batch_mean, batch_var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            m = x.size // x.shape[-1]
            moved[f"{name}.running_mean"] = mean + MOMENTUM * (batch_mean - mean)
            moved[f"{name}.running_var"] = var + MOMENTUM * (batch_var * (m / (m - 1)) - var)
            mean, var = batch_mean, batch_var
        scale = p[f"{name}.weight"] / jnp.sqrt(var + EPS)
        return (x - mean) * scale + p[f"{name}.bias"], moved

    def _forward(self, p: Any, b: Any, x: Any, training: bool) -> Any:
        lax, moved = self.jax.lax, {}

        def convolution(name: str, x: Any, padding: str, stride: int = 1, groups: int = 1) -> Any:
            w = p[f"{name}.weight"]
            w = w[:, :, None] if w.ndim == 3 else w[None, None] if w.ndim == 2 else w
            y = lax.conv_general_dilated(
                x, w, (stride, stride), padding, feature_group_count=groups,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )  # fmt: skip
            return y + p[f"{name}.bias"]

        def stage(convolved: Any, norm: str) -> Any:
            y, new = self._norm(p, b, norm, self.jax.nn.gelu(convolved, False), training)
            moved.update(new)
            return y

        patch = len(p["stem.0.weight"])
        x = stage(convolution("stem.0", x, "VALID", patch), "stem.2")
        for i in range(self.depth):
            inside = f"blocks.{i}.0.fn"
            convolved = convolution(f"{inside}.0", x, "SAME", groups=x.shape[-1])
            x = stage(convolved, f"{inside}.2") + x
            x = stage(convolution(f"blocks.{i}.1", x, "VALID"), f"blocks.{i}.3")
        return x.mean((1, 2)) @ p["head.weight"] + p["head.bias"], moved

    def _loss(self, p: Any, b: Any, x: Any, labels: Any) -> Any:
        logits, moved = self._forward(p, b, x, training=True)
        log_p = self.jax.nn.log_softmax(logits)
        return -log_p[self.jax.numpy.arange(len(labels)), labels].mean(), moved

    def _update(self, p: Any, b: Any, moments: Any, time: Any, x: Any, labels: Any) -> Any:
        (loss, moved), g = self.jax.value_and_grad(self._loss, has_aux=True)(p, b, x, labels)
        first, second, new = {}, {}, {}
        for name, value in p.items():
            first[name] = BETAS[0] * moments[0][name] + (1 - BETAS[0]) * g[name]
            second[name] = BETAS[1] * moments[1][name] + (1 - BETAS[1]) * g[name] ** 2
            mean, square = (
                first[name] / (1 - BETAS[0] ** time),
                second[name] / (1 - BETAS[1] ** time),
            )
            root = self.jax.numpy.sqrt(square) + TINY
            new[name] = value * (1 - LR * DECAY) - LR * mean / root
        return loss, new, {**b, **moved}, (first, second)

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        (loss, moved), g = self._gradients(self.parameters, self.buffers, self.x, self.labels)
        self.buffers |= moved
        return float(loss), {name: np.asarray(a) for name, a in g.items()}

    def step(self) -> float:
        self.time += 1
        state = self.parameters, self.buffers, self.moments
        loss, self.parameters, self.buffers, self.moments = self._step(
            *state, float(self.time), self.x, self.labels
        )
        return float(loss)

    def infer(self) -> np.ndarray:
        return np.asarray(self._infer(self.parameters, self.buffers, self.x))
