"""Inference here and in ONNX Runtime, of the same trained network: each family at its own sizes.

    python -m bench.onnx [THREADS]        (extra export)

The two take turns on the same 64 images of 32×32; a figure is the median over rounds of the ratio
of their times in the same round: above 1, minimix is faster.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

import minimix as mx
from minimix.export import to_onnx
from minimix.train import architecture
from minimix.train.evaluation import fastest

from .timing import interleave, ratio

ROUNDS, IMAGES = 9, 64


def main(threads: int) -> None:
    mx.kernels.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    images = np.random.default_rng(0).normal(size=(IMAGES, 32, 32, 3)).astype(np.float32)
    print(f"{threads} threads, {IMAGES} images of 32×32, ONNX Runtime {onnxruntime.__version__}")
    print(f"{'':52} images/s   ratio  (quartiles)   difference")
    for family in mx.models.FAMILIES:
        settings = architecture.completed(family, {})
        model = architecture.build(
            family, settings, n_classes=10, image_size=(32, 32), rng=0
        ).eval()
        session = onnxruntime.InferenceSession(
            to_onnx(model, (32, 32, 3)), options, providers=["CPUExecutionProvider"]
        )
        fast = fastest(model)

        def here(fast: mx.Module = fast) -> np.ndarray:
            with mx.no_grad():
                return fast(mx.Tensor(images)).array

        def there(session: onnxruntime.InferenceSession = session) -> np.ndarray:
            return session.run(None, {"images": images})[0]

        apart = abs(here() - there()).max() / abs(there()).max()
        times = interleave({"minimix": here, "ONNX Runtime": there}, ROUNDS, 0.2)
        found = ratio(times)
        assert found is not None
        name = architecture.described(family, settings)
        print(
            f"{name:52.52} {IMAGES / np.median(times['minimix']):8.0f}   {found['median']:5.2f}  "
            f"({found['low']:.2f} to {found['high']:.2f})   {apart:.0e}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else mx.kernels.get_num_threads())
