# %% [markdown]
# # 06 · Depthwise and pointwise convolution
#
# **You build** the two convolutions that a ConvMixer is made of, with all their gradients, and find
# out how far each block sees and what it costs.<br>
# **You need** lessons 02, 03 and 05.<br>
# **It takes** an hour to work through, 10 seconds to run.
#
# A place in a deep network sees the image through all the layers below it, and every depthwise
# convolution widens its view. Here is what the middle of a ConvMixer ($k = 5$, $p = 2$) sees after one, two, three and
# four blocks:

# %%
import time

import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F
from minimix.data import shapes10
from minimix.kernels import depthwise_conv2d

# %%
rng = np.random.default_rng(0)
images = shapes10.load(300, 10).train_images / np.float32(255)  # (N, H, W, C), 0 to 1
star = images[219]  # (32, 32, 3)


def blocks(n):
    """n depthwise convolutions with 5 by 5 kernels, one after the other."""

    def f(x):
        for _ in range(n):
            x = depthwise_conv2d.reference(x, np.ones((5, 5, 1)))
        return x

    return f


fig, axes = show.subplots(
    1, 4, size=(8, 2.3),
    alt="06.1",
)
for n, ax in enumerate(axes, 1):
    seen = show.reads(blocks(n), (1, 16, 16, 1))[0, 8, 8, 0, 0, :, :, 0]
    seen = seen.repeat(2, axis=0).repeat(2, axis=1)[..., None]  # a place is 2 × 2 pixels
    show.image(ax, np.where(seen, star, 0.75 + 0.25 * star), f"{n} block" + "s" * (n > 1))
fig

# %% [markdown]
# These regions were not computed from a formula. The convolutions were run on an array whose
# elements only record which inputs they were computed from. You will do the same with your own.
#
# ## Two jobs, one after the other
#
# An ordinary convolution has a weight for every place in its window, every input channel and every
# output channel: `w (k, k, h, h)`. It mixes places and channels at once. ConvMixer alternates:
#
# | | weights | mixes |
# |---|---|---|
# | ordinary | `(k, k, h, h)` | places and channels |
# | **depthwise** | `(k, k, h)` | places: one kernel for each channel, and channels never meet |
# | **pointwise** | `(h, h)` | channels: one matrix at every place, and places never meet |
#
# > **Predict:** with $h = 256$ channels and $k = 5$, how many times fewer weights do these two have
# > together than the ordinary convolution?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
k, h = 5, 256
print(f"ordinary {k * k * h * h:,}   depthwise {k * k * h:,}   pointwise {h * h:,}")
print(f"{k * k * h * h / (k * k * h + h * h):.0f} times fewer")

# %% [markdown]
# ## Depthwise
#
# For each channel separately: place the kernel on the image, multiply, add up, move on by one. The
# image is padded with zeros so that the result has the same size: $a = \lfloor (k-1)/2 \rfloor$
# before (above and on the left) and the remaining $k - 1 - a$ after.
#
# $$ y[n,r,s,c] = \sum_{i=0}^{k-1} \sum_{j=0}^{k-1} \bar x[n,\, r + i,\, s + j,\, c] \; w[i,j,c]
#    \qquad \bar x\text{: } x \text{ padded with zeros} $$
#
# ### Exercise 1 · `depthwise`
#
# `depthwise(x, w)` of `x (N, H, W, C)` and `w (k, k, C)` returns `y (N, H, W, C)`. Do not loop over
# pixels: the sum has $k \cdot k$ terms, and each of them is *the whole image*, shifted.

# %%
def depthwise(x, w):
    """x (N, H, W, C), w (k, k, C) -> y (N, H, W, C)."""
    k, (N, H, W, C) = len(w), x.shape
    a = (k - 1) // 2
    ### BEGIN SOLUTION
    padded = np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)))
    y = np.zeros_like(x)
    for i in range(k):
        for j in range(k):
            y += padded[:, i : i + H, j : j + W] * w[i, j]
    return y
    ### END SOLUTION

# %% hints [markdown]
# 1. `np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)))` pads the images with zeros, and
#    leaves the batch and channel axes alone.
# 2. In the formula hold $i$ and $j$ fixed: what is read for *all* $r$ and $s$ together is the
#    rectangle of $\bar x$ that begins at $(i, j)$ and is as large as the image.
# 3. Start with `y = np.zeros_like(x)`; for every `i` and `j`:
#    `y += padded[:, i : i + H, j : j + W] * w[i, j]`. `w[i, j]` has shape (C,): one weight per
#    channel.

# %%
check("06.depthwise", depthwise)

# %% [markdown]
# What can nine weights do? Here is one gray picture in four channels, each with its own kernel, in
# one call:

# %% folded
kernels = {
    "blur": np.ones((3, 3)) / 9,
    "edges between rows": np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]]) / 3,
    "edges between columns": np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]) / 3,
    "light from the top left": np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]) / 3,
}
gray = images[188].mean(axis=-1)
gray = np.repeat(gray[None, :, :, None], 4, axis=-1)  # (1, 32, 32, 4)
y = depthwise(gray, np.stack(list(kernels.values()), axis=-1))

fig, axes = show.subplots(
    1, 5, size=(8.6, 2),
    alt="06.2",
)
show.image(axes[0], gray[0, :, :, 0], "x")
for c, (ax, name) in enumerate(zip(axes[1:], kernels)):
    show.image(ax, y[0, 1:-1, 1:-1, c], name)
fig

# %% [markdown]
# ## The flip
#
# Give it the simplest image of all: black, with one white pixel.
#
# > **Predict:** the kernel contains the numbers 1 to 9, row by row. Which nine numbers appear
# > around the white pixel, and in which order?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
dot = np.zeros((1, 5, 5, 1))
dot[0, 2, 2, 0] = 1
w = np.arange(1.0, 10).reshape(3, 3, 1)
show.arrays(
    {"x": dot[0, :, :, 0], "w": w[:, :, 0], "y": depthwise(dot, w)[0, :, :, 0]},
    joints=("∗", "="),
    alt="06.3", guess=guess,
)

# %% [markdown]
# The kernel, **rotated by 180°**. The output *below* the white pixel sees it in the *upper* row of
# its window: reading and being read are opposite directions.
#
# Look at it with an array that records. Its elements are not numbers: when two of them are added or
# multiplied, they merge their lists of sources. An even kernel shows the rotation best: it reaches
# further to one side.

# %% folded
table = show.reads(lambda x: depthwise(x, np.ones((4, 4, 1))), (1, 9, 9, 1))
table = table.reshape(9, 9, 9, 9)  # (row and column of the output, row and column of the input)

fig, (left, right) = show.subplots(
    1, 2, size=(6, 2.9),
    alt="06.4",
)
for ax, mask, words in (
    (left, table[4, 4], "inputs that output ★ reads"),
    (right, table[:, :, 4, 4], "outputs that read input ★"),
):
    show.image(ax, mask, words, cmap="Blues", vmin=0, vmax=1.7)
    ax.set_xticks(np.arange(10) - 0.5, [])
    ax.set_yticks(np.arange(10) - 0.5, [])
    ax.axis("on")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.grid(color="white")
    ax.text(4, 4, "★", ha="center", va="center", fontsize=13)
fig

# %% [markdown]
# The backward pass asks the right-hand question: `x` at ★ was read by these outputs, each with its
# own weight, and their gradients come back through the same weights:
#
# $$ dx = g \text{ convolved with } w \text{ rotated by 180°, with } k - 1 - a \text{ zeros before
#    and } a \text{ after} $$
#
# Or think of the line in your loop, `y += padded[…] * w[i, j]`. In the forward pass it *reads* from
# a rectangle of `padded`; in the backward pass it *adds* to the same rectangle of `dpadded`. Both
# ways lead to the same numbers.
#
# ### Exercise 2 · `depthwise_dx`
#
# `depthwise_dx(g, w)` of `g (N, H, W, C)` and `w (k, k, C)` returns `dx (N, H, W, C)`.

# %%
def depthwise_dx(g, w):
    """g (N, H, W, C), w (k, k, C) -> dx (N, H, W, C)."""
    k, (N, H, W, C) = len(w), g.shape
    a = (k - 1) // 2
    ### BEGIN SOLUTION
    dpadded = np.zeros((N, H + k - 1, W + k - 1, C), g.dtype)
    for i in range(k):
        for j in range(k):
            dpadded[:, i : i + H, j : j + W] += g * w[i, j]
    return dpadded[:, a : a + H, a : a + W]
    ### END SOLUTION

# %% hints [markdown]
# 1. The second way is the safer one: start with `dpadded`, zeros in the shape of `padded`,
#    `(N, H + k - 1, W + k - 1, C)`, and use the same double loop.
# 2. Where the forward pass reads `padded[:, i : i + H, j : j + W]` times `w[i, j]`, the backward
#    pass adds `g * w[i, j]` to `dpadded[:, i : i + H, j : j + W]`.
# 3. At the end remove the padding: `return dpadded[:, a : a + H, a : a + W]`.

# %%
check("06.depthwise_dx", depthwise_dx)

# %% [markdown]
# For an odd kernel the padding is the same on both sides, and the two ways can be compared using
# what you already have:

# %%
g, w = rng.normal(size=(2, 8, 9, 3)), rng.normal(size=(5, 5, 3))
same = np.allclose(depthwise_dx(g, w), depthwise(g, w[::-1, ::-1]))
print("dx is a convolution with the flipped kernel:", same)

# %% [markdown]
# ## The gradient of the kernel
#
# The weight $w[i,j,c]$ occurs in the same line: it multiplies a whole rectangle of $\bar x$, in
# every image. Each of those products moves the result, so all of them count:
#
# $$ dw[i,j,c] = \sum_{n,r,s} \bar x[n,\, r + i,\, s + j,\, c] \; g[n,r,s,c] $$
#
# ### Exercise 3 · `depthwise_dw`
#
# `depthwise_dw(x, g, k)` of `x` and `g`, both `(N, H, W, C)`, returns `dw (k, k, C)`.

# %%
def depthwise_dw(x, g, k):
    """x (N, H, W, C), g (N, H, W, C) -> dw (k, k, C)."""
    N, H, W, C = x.shape
    a = (k - 1) // 2
    ### BEGIN SOLUTION
    padded = np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)))
    dw = np.empty((k, k, C), x.dtype)
    for i in range(k):
        for j in range(k):
            dw[i, j] = (padded[:, i : i + H, j : j + W] * g).sum(axis=(0, 1, 2))
    return dw
    ### END SOLUTION

# %% hints [markdown]
# 1. The same padding, the same loop, the same rectangles as in `depthwise`.
# 2. For each `i` and `j`: the rectangle times `g`, summed over everything except the channels.
# 3. `dw[i, j] = (padded[:, i : i + H, j : j + W] * g).sum(axis=(0, 1, 2))`.

# %%
check("06.depthwise_dw", depthwise_dw)

# %% [markdown]
# Three functions make one operation. Does it pass the test of lesson 03?

# %%
@mx.op
def my_depthwise(x, w):
    return depthwise(x, w), lambda g: (depthwise_dx(g, w), depthwise_dw(x, g, len(w)))


for k in (3, 4):
    x, w = rng.normal(size=(2, 5, 6, 3)), rng.normal(size=(k, k, 3))
    print(f"k = {k}:", mx.gradcheck(my_depthwise, [x, w], linear=["x", "w"]))

# %% [markdown]
# ## Pointwise
#
# The other half is easy. At every place, apply the same matrix:
#
# $$ y[n,r,s] = x[n,r,s]\; w + b \qquad (N, H, W, K) \cdot (K, C) + (C) \to (N, H, W, C) $$
#
# > **Predict:** with `w (K, C)` this equals the `patchify` of lesson 05 for one patch size. Which?

# %%
guess = ...  # your prediction: a number, or a few words

# %% [markdown]
# ### Exercise 4 · `pointwise`
#
# `pointwise(x, w, b)` returns `(y, backward)`, and `backward(g)` returns `(dx, dw, db)`, in the
# shapes `(N, H, W, K)`, `(K, C)` and `(C,)`.

# %%
def pointwise(x, w, b):
    """1×1 convolution, and its backward function."""
    ### BEGIN SOLUTION
    K, C = w.shape

    def backward(g):
        rows, g_rows = x.reshape(-1, K), g.reshape(-1, C)
        return g @ w.T, rows.T @ g_rows, g_rows.sum(axis=0)

    return x @ w + b, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. Channels are the last axis, so NumPy's `@` does all places of all images at once.
# 2. For `dw` and `db` make rows of pixels: `x.reshape(-1, K)` and `g.reshape(-1, C)`.
# 3. `dx = g @ w.T`, `dw = rows.T @ g_rows`, `db = g_rows.sum(axis=0)`.

# %%
check("06.pointwise", pointwise)

# %%
show.guessed(guess)
x, w, b = rng.normal(size=(2, 5, 6, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
y, _ = pointwise(x, w, b)
one, _ = F.patchify.array(x, w[None, None], b)
print("pointwise is patchify with p = 1:", np.allclose(y, one))

# %% [markdown]
# ## Together: a factored kernel
#
# A depthwise convolution followed directly by a pointwise one: each output is a sum over places and
# channels, as in an ordinary convolution. Its weights are products, $w[i,j,c] \cdot v[c,d]$.
#
# > **Predict:** can the pair compute everything that an ordinary convolution of the same size can?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
x = rng.normal(size=(2, 8, 8, 3))
w, v = rng.normal(size=(5, 5, 3)), rng.normal(size=(3, 4))
pair, _ = pointwise(depthwise(x, w), v, 0)
product = w[:, :, :, None] * v  # (5, 5, 3, 4)
ordinary, _ = F.conv2d.array(x, product, padding="same")
print("the same as one ordinary convolution:", np.allclose(pair, ordinary))
print(f"whose {product.size} weights are products of {w.size + v.size}")

# %% [markdown]
# No: 300 weights made from 87 numbers cannot be chosen freely. All outputs have to use the *same*
# filtered picture of a channel, only scaled. Depth makes up for what is lost: with 256
# channels, one ordinary convolution costs as much as twenty such pairs, with a GELU after each.
#
# ## How far it sees
#
# One depthwise convolution reads a window of $k$ places along each axis. The next one reads $k$ results, each
# of which has read $k$ places. The set of inputs that an output depends on is its **receptive
# field**.
#
# ### Exercise 5 · `receptive_field`
#
# `receptive_field(k, depth, p)` returns how many *pixels* wide the receptive field is after patches
# of size $p$ and `depth` blocks, each with one $k \times k$ depthwise convolution (far from the
# edge of the image). Pointwise convolutions, GELU and normalization read no neighbors.

# %%
def receptive_field(k, depth, p):
    """Width in pixels of what one output reads."""
    ### BEGIN SOLUTION
    return p * (1 + depth * (k - 1))
    ### END SOLUTION

# %% hints [markdown]
# 1. Count places first, pixels at the end. Without any block an output sees its own place: 1.
# 2. A block lets it see $a$ places further on one side and $k - 1 - a$ on the other. How many is
#    that in total?
# 3. $1 + \text{depth}\,(k - 1)$ places, and each place is $p$ pixels wide.

# %%
check("06.receptive_field", receptive_field)

# %% [markdown]
# The recording array uses no formula. Do they agree?

# %%
def stack(k, depth):
    """`depth` depthwise convolutions, one after the other."""

    def f(x):
        for _ in range(depth):
            x = depthwise(x, np.ones((k, k, 1)))
        return x

    return f


for k, depth in [(3, 1), (3, 4), (4, 3), (5, 4)]:
    table = show.reads(stack(k, depth), (1, 21, 21, 1)).reshape(21, 21, 21, 21)
    rows_seen = table[10, 10].any(axis=1).sum()
    formula = receptive_field(k, depth, 1)
    print(f"k = {k}, depth {depth}: recorded {rows_seen}, formula {formula}")

# %% [markdown]
# So after four blocks, as in the first picture, an output can see everything. But it need not
# depend on everything equally.
#
# > **Predict:** in a randomly initialized ConvMixer, how much does the output in the middle depend
# > on each pixel? Equally on all that it can see?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
model = mx.ConvMixer(32, 4, kernel_size=5, patch_size=2, n_classes=10, rng=0).eval()
x = mx.Tensor(images[:32], requires_grad=True)
features = model.blocks(model.stem(x))  # (32, 16, 16, 32)
g = np.zeros(features.shape, np.float32)
g[:, 8, 8] = rng.normal(size=(32, 32))  # only the middle, with random weights
features.backward(g)
weight = np.abs(x.grad).mean(axis=(0, 3))  # (32, 32)

fig, (left, right) = show.subplots(
    1, 2, size=(7, 2.9), width_ratios=(1, 1.5),
    alt="06.5", guess=guess,
)
show.image(left, np.sqrt(weight), "dependence on each pixel (square root)", cmap="Blues")
across = weight.sum(axis=0) / weight.sum()
right.bar(np.arange(32), across)
right.set(xlabel="column", title="share of each column of pixels", xticks=[0, 8, 16, 24, 31])
fig

# %%
inner = np.sort(weight.ravel())[::-1].cumsum() / weight.sum()
print(f"half of it comes from {np.searchsorted(inner, 0.5) / inner.size:.0%} of the pixels")

# %% [markdown]
# A narrow peak: many paths lead from the middle to the middle, and few to the edge; and each block
# also adds its input to its result (the *residual connection*, lesson 09), which leads straight
# through. (Luo et al. 2016, arXiv:1701.04128, call this the
# *effective* receptive field. Training widens it.) That is a good reason to try large kernels: the
# paper goes up to $k = 9$.
#
# ## What it costs
#
# Multiply-adds at one place, for all $h$ output channels: a depthwise convolution takes $k^2 h$, a
# pointwise one $h^2$, an ordinary one $k^2 h^2$.

# %%
k, h = 5, 256
show.bars(
    {"depthwise": k * k * h, "pointwise": h * h, "ordinary": k * k * h * h},
    title="multiply-adds at one place, k = 5, h = 256 (logarithmic)",
    log=True,
    alt="06.6",
)

# %% [markdown]
# > **Predict:** the pointwise half does ten times the work of the depthwise half. Both are written
# > in NumPy: which of them takes longer?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
x = mx.Tensor(rng.normal(size=(16, 16, 16, h)).astype(np.float32))
w = mx.Tensor(rng.normal(size=(k, k, h)).astype(np.float32))
v = mx.Tensor(rng.normal(size=(h, h)).astype(np.float32))


def seconds(f, repeats=10):
    """The fastest of some runs, after one to warm up."""
    f()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


print(f"multiply-adds    pointwise / depthwise = {h / k**2:.0f}")
for name in ("numpy", "numba")[: 1 + (mx.kernels.backend_name() == "numba")]:
    with mx.backend(name):
        places = seconds(lambda: F.depthwise_conv2d(x, w))
        channels = seconds(lambda: F.pointwise_conv2d(x, v))
    print(f"time with {name}  pointwise / depthwise = {channels / places:.1f}")

# %% [markdown]
# In NumPy the *depthwise* half takes longer. Each of its $k^2$ lines loads all of `x` and all of
# `y` from memory and does one multiply-add with each number; a matrix product uses every number
# that it has loaded hundreds of times. The compiled kernel (if you have Numba) passes over memory
# once, and then the pointwise half takes longer. Multiply-adds say how much must be computed, not
# how long it takes.
#
# ## Yours and the library's

# %%
x, w = rng.normal(size=(2, 7, 9, 3)), rng.normal(size=(4, 4, 3))
g = rng.normal(size=x.shape)
y, backward = F.depthwise_conv2d.array(x, w)
dx, dw, _ = backward(g)
print("y: ", np.allclose(depthwise(x, w), y))
print("dx:", np.allclose(depthwise_dx(g, w), dx()))
print("dw:", np.allclose(depthwise_dw(x, g, 4), dw()))

# %%
x, w = mx.Tensor(images[:32]), mx.Tensor(rng.normal(size=(5, 5, 3)).astype(np.float32))
ratio = seconds(lambda: depthwise(x.array, w.array)) / seconds(lambda: F.depthwise_conv2d(x, w))
print(f"back end {mx.kernels.backend_name()}: yours takes {ratio:.0f} times as long")

# %% [markdown]
# Read **`minimix/functional/conv.py`**: `depthwise_conv2d` and `pointwise_conv2d`. What they mean
# is in **`minimix/kernels/reference/depthwise.py`**, nearly word for word what you wrote; with the
# back end `numpy` that is what runs. How the fast one works, keeping several outputs in registers
# at once, is in **`minimix/kernels/compiled/depthwise.py`**.
#
# **Go further.** Write `depthwise_dx` the other way, as a convolution with the flipped kernel, so
# that it is right for even kernels too. · Take a *dilated* kernel, whose weights are two places
# apart: what is its receptive field? · Which depthwise kernel makes the whole layer the identity?
#
# Next: **07 · GELU and batch normalization**, what stands between the convolutions.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("06", depthwise, depthwise_dx, depthwise_dw, pointwise, receptive_field)
