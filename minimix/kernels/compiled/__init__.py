"""The kernels in Numba: the names of `minimix.kernels.reference`, fast."""

from ..reference import *  # noqa: F403
