"""How fast minimix is, compared with PyTorch on the same cores: `python -m bench`."""

import os

# BLAS's threads spin when they have nothing to do: 105 ms by default, on a core that the next
# candidate wants; with 2²⁰ clock cycles, 1 to 4. NumPy reads this as it is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")
