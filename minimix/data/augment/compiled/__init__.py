"""The same names as in `reference/`, image by image, for Numba."""
