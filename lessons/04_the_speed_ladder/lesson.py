# %% [markdown]
# # 04 · The speed ladder
#
# **You build** the matrix product three times and GELU once, each faster than the last.<br>
# **You need** lesson 02. Numba, which compiles Python functions, is introduced here.<br>
# **It takes** 40 minutes to work through, 15 seconds to run. Close programs that keep the processor
# busy.
#
# The same sum of products, at Python's speed and at your computer's. You will write almost every
# rung between them.

# %%
import math
import time

import numpy as np
from numba import njit

import minimix as mx
from lessons import show
from lessons.check import check


# %%
def once(f, *args):
    """The time of one call, in seconds."""
    start = time.perf_counter()
    f(*args)
    return time.perf_counter() - start


def seconds(f, *args):
    """The shortest time of many calls: the one that was disturbed least."""
    times = []
    while len(times) < 2 or sum(times) < 0.3:
        times.append(once(f, *args))
    return min(times)


rng = np.random.default_rng(0)
n = 512
a = rng.normal(size=(n, n)).astype(np.float32)
b = rng.normal(size=(n, n)).astype(np.float32)

x, y = a.ravel()[:100_000].tolist(), b.ravel()[:100_000].tolist()
python = 1e5 / seconds(lambda: sum(p * q for p, q in zip(x, y)))
machine = n**3 / seconds(np.matmul, a, b)
show.bars(
    {"a Python loop": python / 1e6, "NumPy's matrix product": machine / 1e6},
    unit="million per second",
    title=f"multiply-adds: a factor of {float(f'{machine / python:.1g}'):,.0f}",
    log=True,
    alt="04.1",
)

# %% [markdown]
# ## Rung 1: loops
#
# $$ c_{ij} = \sum_k a_{ik}\, b_{kj} \qquad a\ (M, K),\ b\ (K, C) \to c\ (M, C) $$
#
# ### Exercise 1 · `matmul_loops`
#
# Three loops, following the formula. No `@`, no slices.

# %%
def matmul_loops(a, b):
    """The matrix product in three loops.   a (M, K), b (K, C) -> (M, C)"""
    M, K = a.shape
    C = b.shape[1]
    c = np.zeros((M, C), a.dtype)
    ### BEGIN SOLUTION
    for i in range(M):
        for j in range(C):
            for k in range(K):
                c[i, j] += a[i, k] * b[k, j]
    ### END SOLUTION
    return c

# %% hints [markdown]
# 1. One loop for each letter of the formula: i, j and k.
# 2. `i` runs over `range(M)`, `j` over `range(C)`, `k` over `range(K)`.
# 3. Innermost: `c[i, j] += a[i, k] * b[k, j]`

# %%
check("04.matmul_loops", matmul_loops)

# %%
small = a[:64, :64], b[:64, :64]
speed = {"1. Python loops": 64**3 / seconds(matmul_loops, *small) / 1e6}
print(f"{speed['1. Python loops']:.1f} million multiply-adds per second")

# %% [markdown]
# At every one of those steps Python asks: what type is this? which function multiplies it? is the
# index in range? The multiplication itself is a hundredth of the time.
#
# ## Rung 2: give the inner loops to NumPy
#
# Reorder the sums: for each $k$, column $k$ of $a$ times row $k$ of $b$ is a whole (M, C) table,
# and $c$ is the sum of K such tables.
#
# ### Exercise 2 · `matmul_outer`
#
# One loop, over $k$. Broadcasting makes the table: shapes (M, 1) and (C,).

# %%
def matmul_outer(a, b):
    """The matrix product as a sum of tables.   a (M, K), b (K, C) -> (M, C)"""
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    ### BEGIN SOLUTION
    for k in range(a.shape[1]):
        c += a[:, k, None] * b[k]
    ### END SOLUTION
    return c

# %% hints [markdown]
# 1. Column $k$ of $a$ is `a[:, k]`, and row $k$ of $b$ is `b[k]`.
# 2. `a[:, k, None]` has shape (M, 1). Multiplied by an array (C,) it gives a table (M, C).
# 3. `c += a[:, k, None] * b[k]`

# %%
check("04.matmul_outer", matmul_outer)

# %%
speed["2. NumPy, table by table"] = n**3 / seconds(matmul_outer, a, b) / 1e6
print(f"{speed['2. NumPy, table by table']:,.0f} million multiply-adds per second")

# %% [markdown]
# ## Rung 3: compile it
#
# Numba compiles a Python function for the types of the arguments that it is called with. Here are
# your loops from rung 1, with one line on top:

# %%
@njit
def matmul_ijk(a, b):
    """Rung 1, compiled."""
    M, K = a.shape
    C = b.shape[1]
    c = np.zeros((M, C), a.dtype)
    for i in range(M):
        for j in range(C):
            for k in range(K):
                c[i, j] += a[i, k] * b[k, j]
    return c


# %% [markdown]
# > **Predict:** we call it twice on a 64 × 64 product. How long do the two calls take?

# %%
guess = ...  # your prediction, in milliseconds: (first, second)

# %%
show.guessed(guess)
first, second = (once(matmul_ijk, *small) for _ in range(2))
print(f"first call {1000 * first:.0f} ms, second call {1000 * second:.2f} ms")

# %% [markdown]
# The first call *is* the compiler. If you time it, you time the wrong thing. (`minimix` keeps what
# it has compiled in a cache folder, so that the first call is fast in later sessions.)
#
# > **Predict:** in `matmul_ijk` the innermost loop runs over `k`. Now swap two lines, so that it
# > runs over `j`: the same products, the same sums, the same number of steps. What happens to the
# > time, at n = 512?

# %%
guess = ...  # your prediction: how many times as fast?

# %% [markdown]
# ### Exercise 3 · `matmul_ikj`
#
# The same function with the loops in the order i, k, j.

# %%
@njit
def matmul_ikj(a, b):
    """The matrix product, loops in the order i, k, j.   a (M, K), b (K, C) -> (M, C)"""
    M, K = a.shape
    C = b.shape[1]
    c = np.zeros((M, C), a.dtype)
    ### BEGIN SOLUTION
    for i in range(M):
        for k in range(K):
            for j in range(C):
                c[i, j] += a[i, k] * b[k, j]
    ### END SOLUTION
    return c

# %% hints [markdown]
# 1. The innermost line is exactly that of `matmul_ijk`.
# 2. Only the order of the `for` lines changes: `i`, then `k`, then `j`.
# 3. `j` must run over `range(C)` and `k` over `range(K)`, whichever loop is inside.

# %%
check("04.matmul_ikj", matmul_ikj)

# %%
speed["3. Numba, i j k"] = n**3 / seconds(matmul_ijk, a, b) / 1e6
speed["4. Numba, i k j"] = n**3 / seconds(matmul_ikj, a, b) / 1e6
speed["5. minimix"] = n**3 / seconds(mx.kernels.matmul, a, b) / 1e6
speed["6. NumPy's @ (BLAS)"] = n**3 / seconds(np.matmul, a, b) / 1e6
show.bars(
    speed,
    unit="",
    log=True,
    title="million multiply-adds per second",
    mark=["4. Numba, i k j"],
    alt="04.2", guess=guess,
)

# %% [markdown]
# Two lines swapped, and it is tens of times faster. Why? Memory is read in cache lines of 64 bytes:
# 16 numbers that lie side by side.
#
# - **i j k:** the next step needs `b[k + 1, j]`, one *row* further on, 2 KiB away. Of each cache
#   line one number is used, and 15 are wasted.
# - **i k j:** the next step needs `b[k, j + 1]`, the next number in memory. All 16 are used, and
#   because neighbors are treated alike, the processor handles 4, 8 or 16 of them with **one
#   instruction** (SIMD).
#
# The last rungs keep numbers in registers and caches while they are needed. That takes more than an
# exercise: read `minimix/kernels/compiled/matmul.py` when you are curious.
#
# ## GELU: when memory is the bottleneck
#
# A matrix product does a lot of work for each number it reads. An activation function does little:
#
# $$ \text{gelu}(x) = \tfrac12\, x\, (1 + \tanh u) \qquad
#    u = \sqrt{2/\pi}\,(x + 0.044715\, x^3) $$
#
# It cannot be faster than reading all of $x$ and writing all of $y$, that is, than **a copy**.

# %%
ROOT, CUBE = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
HALF, ONE = np.float32(0.5), np.float32(1)


def gelu_numpy(x):
    """The formula, written in NumPy."""
    return HALF * x * (ONE + np.tanh(ROOT * (x + CUBE * x * x * x)))


@njit
def gelu_numba(x):
    """The same, one number at a time: x is read once and y is written once.   x (n,) -> (n,)"""
    y = np.empty_like(x)
    for i in range(x.size):
        v = x[i]
        y[i] = HALF * v * (ONE + math.tanh(ROOT * (v + CUBE * v * v * v)))
    return y


x = rng.normal(size=1 << 22).astype(np.float32)  # 4 million numbers, 16 MiB
assert np.allclose(gelu_numpy(x), gelu_numba(x), atol=1e-5)

# %% [markdown]
# > **Predict:** the NumPy line makes a whole array for each of its nine steps, and reads it again
# > for the next. The Numba loop passes over memory once, and it is compiled. Which one is faster?

# %%
guess = ...  # your prediction, such as {"NumPy, nine passes": 30, "Numba, one pass": 10}, in ms

# %%
took = {
    "a copy": 1000 * seconds(np.copy, x),
    "NumPy, nine passes": 1000 * seconds(gelu_numpy, x),
    "Numba, one pass": 1000 * seconds(gelu_numba, x),
}
show.bars(
    took,
    unit="ms",
    title="GELU of 4 million numbers",
    mark=["Numba, one pass"],
    alt="04.3", guess=guess,
)

# %% [markdown]
# One pass, compiled, and *slower*. `math.tanh` is a function call for every single number, and a
# call in the middle of a loop prevents SIMD. NumPy's `tanh` works on many numbers at once.
#
# What we need is a tanh made only of `+`, `×` and `÷`. Lambert found one in 1768: a continued
# fraction, here truncated after seven terms:
#
# $$ \tanh u \approx \frac{u\,(135135 + 17325\, u^2 + 378\, u^4 + u^6)}
#                         {135135 + 62370\, u^2 + 3150\, u^4 + 28\, u^6}
#    \qquad |u| \le 4.97 $$

# %%
C0, C1, C2, D1, D2, D3, EDGE = np.array([135135, 17325, 378, 62370, 3150, 28, 4.97], np.float32)


@njit
def tanh_lambert(u):
    """tanh u of one number, correct to four digits."""
    u = min(max(u, -EDGE), EDGE)
    s = u * u
    return u * (C0 + s * (C1 + s * (C2 + s))) / (C0 + s * (D1 + s * (D2 + s * D3)))


u = np.linspace(-8, 8, 201, dtype=np.float32)
error = np.array([tanh_lambert(v) for v in u]) - np.tanh(u)
print(f"largest error between -8 and 8: {abs(error).max():.0e}")

# %% [markdown]
# ### Exercise 4 · `gelu_fast`
#
# GELU in one pass with `tanh_lambert`. All constants are float32 already (`HALF`, `ONE`, `ROOT`,
# `CUBE`): a plain `0.5` would be a float64, and only half as many of those fit into one
# instruction.

# %%
@njit
def gelu_fast(x):
    """GELU with Lambert's tanh, one pass.   x (n,) float32 -> (n,)"""
    y = np.empty_like(x)
    ### BEGIN SOLUTION
    for i in range(x.size):
        v = x[i]
        u = ROOT * (v + CUBE * v * v * v)
        y[i] = HALF * v * (ONE + tanh_lambert(u))
    ### END SOLUTION
    return y

# %% hints [markdown]
# 1. It is `gelu_numba` with another tanh.
# 2. One loop over `range(x.size)`; read `x[i]` once, into a variable.
# 3. `y[i] = HALF * v * (ONE + tanh_lambert(ROOT * (v + CUBE * v * v * v)))`

# %%
check("04.gelu_fast", gelu_fast)

# %%
took["Numba, Lambert"] = 1000 * seconds(gelu_fast, x)
print(f"{took['Numba, Lambert']:.1f} ms")

# %% [markdown]
# Much better than with `math.tanh`, but still far from a copy. Something prevents SIMD. Compiled
# Python is still Python: before every division it checks whether the divisor is 0, in order to
# raise ZeroDivisionError. Our divisor is never 0.
#
# > **Predict:** what do we gain if Numba need not check?

# %%
guess = ...  # your prediction, such as {"the same, without the check": 20}, in ms

# %%
tanh_lambert = njit(tanh_lambert.py_func, error_model="numpy")  # the same two functions,
gelu_faster = njit(gelu_fast.py_func, error_model="numpy")  # with NumPy's rules for division

took["the same, without the check"] = 1000 * seconds(gelu_faster, x)
took["minimix, to 7 digits"] = 1000 * seconds(mx.kernels.gelu_tanh, x)
show.bars(
    took,
    unit="ms",
    title="GELU of 4 million numbers",
    mark=["the same, without the check"],
    alt="04.4", guess=guess,
)

# %% [markdown]
# The check itself is cheap. But a loop that *may* stop in the middle cannot process sixteen numbers
# at once.
#
# ## The wall
#
# Your GELU is now close to a copy: memory can deliver no more. From here on only **fewer passes**
# help: apply the bias, the GELU and the sums for batch norm while the numbers are in the cache.
# `minimix.fuse` does that to a whole network.

# %%
moved = 2 * x.nbytes / 1e9
print(f"a copy:      {moved / took['a copy'] * 1000:5.1f} GB/s")
print(f"gelu_faster: {moved / took['the same, without the check'] * 1000:5.1f} GB/s")
print(f"gelu_numpy:  {moved / took['NumPy, nine passes'] * 1000:5.1f} GB/s of useful traffic")

# %% [markdown]
# ## Yours and the library's

# %%
exact = mx.kernels.gelu_tanh(x)
print(f"gelu_fast:  largest difference {np.abs(gelu_fast(x) - exact).max():.0e}")
difference = np.abs(matmul_ikj(a, b) - mx.kernels.matmul(a, b)).max()
print(f"matmul_ikj: largest difference {difference:.0e}, of sums near {np.abs(a @ b).max():.0f}")

# %% [markdown]
# Read **`minimix/kernels/__init__.py`**, which chooses between the two, then
# **`minimix/kernels/reference/activation.py`**, what each kernel *means*, in NumPy, and
# **`minimix/kernels/compiled/activation.py`**, the same names, fast.
#
# **Go further.** Find the packed instructions: search
# `"\n".join(gelu_faster.inspect_asm().values())` for `mulps` (`fmul` on ARM), and then the same
# text of `gelu_fast`. · Cut the loops of `matmul_ikj` into blocks of 64. · Replace `HALF` by `0.5`
# in `gelu_fast`, compile it again without the check for 0, and time it.
#
# Next: **05 · Patches**. You have climbed the ladder; now for pictures.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("04", matmul_loops, matmul_outer, matmul_ikj, gelu_fast)
