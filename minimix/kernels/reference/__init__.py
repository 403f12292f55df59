"""What each kernel means, in NumPy: the oracle of the compiled ones, and what runs without Numba.

Arrays in, arrays out: float32 or float64, and the result has the dtype of the arguments. Images are
(N, H, W, C), rows are (M, C) with M = N·H·W. Short and obvious comes before fast.
"""
