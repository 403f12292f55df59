# %% [markdown]
# # 05 · Patches
#
# **You build** the first layer of a ConvMixer: cut images into patches, map each with one matrix,
# and derive the backward pass; then filters computed from the images themselves.<br>
# **You need** the matrix product and its gradients (lesson 02), `reshape` and `transpose`.<br>
# **It takes** 40 minutes to work through, 10 seconds to run.
#
# A ConvMixer does not look at pixels one by one. It cuts an image into small squares and describes
# each with a list of numbers:

# %%
import time

import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F
from minimix.data import shapes10

# %% folded
rng = np.random.default_rng(0)
images = shapes10.load(1000, 10).train_images / np.float32(255)  # (N, H, W, C), 0 to 1
star = images[219:220]  # (1, 32, 32, 3)

weight = rng.normal(0, 0.1, (8, 8, 3, 24))
description = F.patchify(star, weight).array  # (1, 4, 4, 24)

tiles = [star[0, i : i + 8, j : j + 8] for i in range(0, 32, 8) for j in range(0, 32, 8)]
fig, (a, b, c) = show.subplots(
    1, 3, size=(8, 2.7), width_ratios=(1, 1.1, 1.5),
    alt="05.1",
)
show.image(a, star[0], "an image (32, 32, 3)")
show.image(b, show.mosaic(np.array(tiles), 4), "its patches (4, 4, 8·8·3)")
rows = description.reshape(16, 24)
limit = np.abs(rows).max()  # so that 0 is white, blue is negative, orange is positive
show.image(
    c, rows, "24 numbers for each: (4, 4, 24)", aspect="auto",
    cmap=show.SIGNED, vmin=-limit, vmax=limit,
)
fig

# %% [markdown]
# Shapes in this lesson: $N$ images of $H \times W$ pixels with $C$ channels, channels last:
# `(N, H, W, C)`. A patch is $p \times p$ pixels and so has $K = p\,p\,C$ numbers. $h$ numbers, called
# channels from here on, describe it: the *width* of the network.
#
# ## Reshape does not cut squares
#
# In one dimension cutting is easy: 6 numbers in a row, `reshape(3, 2)`, three pieces of 2. So for
# an image of 4 × 6 pixels and $p = 2$, try `reshape(2, 3, 2, 2)`: two by three patches of two by
# two pixels. The shape fits. Below, every pixel is labeled with the patch in which it ended up.
#
# > **Predict:** which four pixels are patch 0?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
H, W, p = 4, 6, 2
pixels = np.arange(H * W)
at_once = np.empty(H * W, int)
at_once[pixels.reshape(H // p, W // p, p, p)] = np.arange(6).reshape(2, 3, 1, 1)
with_care = np.empty(H * W, int)
order = pixels.reshape(H // p, p, W // p, p).transpose(0, 2, 1, 3)
with_care[order] = np.arange(6).reshape(2, 3, 1, 1)


def draw(ax, labels, title):
    ax.imshow(labels.reshape(H, W), cmap="Blues", vmin=-1, vmax=9)
    for (row, column), label in np.ndenumerate(labels.reshape(H, W)):
        ax.text(column, row, label, ha="center", va="center")
    ax.set_title(title, fontsize=9, loc="center")
    ax.axis("off")


fig, (left, right) = show.subplots(
    1, 2, size=(6, 2.2),
    alt="05.2", guess=guess,
)
draw(left, at_once, "reshape(2, 3, 2, 2)")
draw(right, with_care, "what we want")
fig

# %% [markdown]
# Stripes. `reshape` never moves a number: it only regroups them, row after row. What it can do is
# split an axis in two. A pixel's row number $0 \dots H{-}1$ becomes (which patch, which row in it),
# and likewise its column number. Then the axes are in the wrong order, and *that* is a job for
# `transpose`:
#
# $$ (N, H, W, C) \;\xrightarrow{\text{split}}\; (N, \tfrac Hp, p, \tfrac Wp, p, C)
#    \;\xrightarrow{\text{transpose}}\; (N, \tfrac Hp, \tfrac Wp, p, p, C)
#    \;\xrightarrow{\text{join}}\; (N, \tfrac Hp, \tfrac Wp, K) $$
#
# ### Exercise 1 · `cut`
#
# `cut(x, p)` of `x (N, H, W, C)` returns the patches, `(N, H/p, W/p, p·p·C)`. Inside a patch the
# numbers keep their order: row by row, pixel by pixel, channel by channel.

# %%
def cut(x, p):
    """x (N, H, W, C) -> patches (N, H/p, W/p, p·p·C)."""
    ### BEGIN SOLUTION
    N, H, W, C = x.shape
    x = x.reshape(N, H // p, p, W // p, p, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(N, H // p, W // p, p * p * C)
    ### END SOLUTION

# %% hints [markdown]
# 1. Three steps, as in the formula: reshape to six axes, transpose, reshape to four.
# 2. Of the six axes `(N, H/p, p, W/p, p, C)` two are swapped: number 2, the row inside a patch, and
#    number 3, the column of the patch.
# 3. `x.reshape(N, H // p, p, W // p, p, C).transpose(0, 1, 3, 2, 4, 5)`, then reshape.

# %%
check("05.cut", cut)

# %% [markdown]
# ## The backward pass is a jigsaw puzzle
#
# Cutting computes nothing. It moves every number to exactly one place. So in the backward pass each
# gradient moves to where its number came from: the same steps in reverse.
#
# > **Predict:** the forward transpose was `(0, 1, 3, 2, 4, 5)`. Which transpose undoes it?

# %%
guess = ...  # your prediction: a number, or a few words

# %% [markdown]
# ### Exercise 2 · `join`
#
# `join(patches, p)` undoes `cut`: `(N, H/p, W/p, p·p·C)` back to `(N, H, W, C)`. ($C$ follows from
# the length of a patch.)

# %%
def join(patches, p):
    """patches (N, H/p, W/p, p·p·C) -> x (N, H, W, C)."""
    ### BEGIN SOLUTION
    N, rows, columns, K = patches.shape
    C = K // (p * p)
    x = patches.reshape(N, rows, columns, p, p, C).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(N, rows * p, columns * p, C)
    ### END SOLUTION

# %% hints [markdown]
# 1. Read the formula above from right to left.
# 2. Split the last axis: `patches.reshape(N, rows, columns, p, p, C)` with `C = K // (p * p)`.
# 3. Swapping two axes is undone by swapping them again: the same
#    `.transpose(0, 1, 3, 2, 4, 5)`. Then `reshape(N, rows * p, columns * p, C)`.

# %%
check("05.join", join)

# %%
show.guessed(guess)
print("cut and joined, nothing lost:", np.array_equal(join(cut(images, 4), 4), images))

# %% [markdown]
# ## One matrix for all patches
#
# A patch is now a row of $K$ numbers, and the layer is the linear map that you already know:
#
# $$ y = \text{cut}(x)\,w + b \qquad
#    (N, \tfrac Hp, \tfrac Wp, K) \cdot (K, h) + (h) \to (N, \tfrac Hp, \tfrac Wp, h) $$
#
# The weights are stored as `w (p, p, C, h)`: each of its $h$ filters is a small image. In the
# backward pass, with $g$ and the patches as rows:
#
# $$ dx = \text{join}(g\,w^\top) \qquad dw = \text{cut}(x)^\top g \qquad
#    db = \sum_{\text{all patches}} g $$
#
# ### Exercise 3 · `patchify`
#
# `patchify(x, w, b)` with `x (N, H, W, C)`, `w (p, p, C, h)`, `b (h,)` returns `(y, backward)`;
# `backward(g)` with `g (N, H/p, W/p, h)` returns `(dx, dw, db)`, each in the shape of its argument.

# %%
def patchify(x, w, b):
    """Patch embedding, and its backward function."""
    p, h = w.shape[0], w.shape[3]
    ### BEGIN SOLUTION
    patches, matrix = cut(x, p), w.reshape(-1, h)

    def backward(g):
        rows, g_rows = patches.reshape(-1, len(matrix)), g.reshape(-1, h)
        dw = (rows.T @ g_rows).reshape(w.shape)
        return join(g @ matrix.T, p), dw, g_rows.sum(axis=0)

    return patches @ matrix + b, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. Forward: `cut(x, p)`, and `w` as a matrix: `w.reshape(-1, h)`, (K, h). NumPy's `@` multiplies
#    the last axis and leaves the others alone.
# 2. For `dw` make rows of both: `patches.reshape(-1, K)` is (M, K) and `g.reshape(-1, h)` is (M,
#    h), where M counts all patches of all images. Their product sums over M automatically.
# 3. `dw = (rows.T @ g_rows).reshape(w.shape)`, `db = g_rows.sum(axis=0)`,
#    `dx = join(g @ matrix.T, p)`.

# %%
check("05.patchify", patchify)

# %% [markdown]
# ## The same thing is a convolution
#
# A convolution slides a $k \times k$ window over the image in steps of $s$, the **stride**, and
# takes one product with the weights at each position. Each position reads $k \times k$ pixels, so
# most pixels are read several times. How often? Ask the gradient: with all weights 1, the gradient
# of the sum counts the reads.
#
# > **Predict:** a window of 4 × 4 and strides of 1, 2 and 4. How many times is a pixel in the
# > middle read?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
fig, axes = show.subplots(
    1, 3, size=(8, 2.6),
    alt="05.3", guess=guess,
)
for ax, stride in zip(axes, (1, 2, 4)):
    x = mx.Tensor(np.zeros((1, 16, 16, 1)), requires_grad=True)
    F.conv2d(x, np.ones((4, 4, 1, 1)), stride=stride).sum().backward()
    reads = x.grad[0, :, :, 0]
    show.image(ax, reads, f"stride {stride}: {reads[8, 8]:.0f}× in the middle", cmap="Blues",
               vmin=0, vmax=16)
    for row, column in [(0, 0), (8, 8)]:
        shade = "white" if reads[row, column] > 8 else "black"
        ax.text(column, row, f"{reads[row, column]:.0f}", ha="center", va="center", color=shade)
fig

# %% [markdown]
# With stride $p$ every pixel is read exactly once: the windows *are* the patches. So `patchify` is
# a convolution with kernel $p$ and stride $p$. Does it give the same numbers? (`F.conv2d.array` is
# the operation on plain arrays, without the tape: like yours, it returns the result and its backward
# function.)

# %%
p, h = 4, 128
w = rng.normal(0, 0.1, (p, p, 3, h)).astype(np.float32)
b = rng.normal(0, 0.1, h).astype(np.float32)
x = images[:64]


def seconds(f, repeats=3):
    """The fastest of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


yours, _ = patchify(x, w, b)
general, _ = F.conv2d.array(x, w, b, stride=p)
close = abs(yours - general).max() < 1e-5
print("largest difference:", "below 0.00001" if close else "too large")
ratio = seconds(lambda: F.conv2d.array(x, w, b, stride=p)) / seconds(lambda: patchify(x, w, b))
print(f"the general convolution takes about {float(f'{ratio:.1g}'):.0f} times as long")

# %% [markdown]
# The same numbers; and since nothing is read twice, a single large matrix product does all the
# work.
#
# ## What p does
#
# Patches are what the ConvMixer paper is about; its title is *Patches Are All You Need?* Here is what
# remains of an image when each patch keeps only its mean color:

# %% folded
fig, axes = show.subplots(
    1, 4, size=(8, 2.3),
    alt="05.4",
)
for ax, p in zip(axes, (1, 2, 4, 8)):
    patches = cut(star, p)  # (1, 32/p, 32/p, p·p·3)
    means = patches.reshape(*patches.shape[:3], p * p, 3).mean(axis=3)
    show.image(ax, means[0], f"p = {p}: {means.shape[1]} × {means.shape[2]} places")
fig

# %% [markdown]
# ### Exercise 4 · `patch_costs`
#
# `patch_costs(H, W, C, p, h)` returns three integers for one image: the number of patches, the
# number of parameters of the layer (weights and biases), and the number of multiplications (each
# with its addition) in its matrix product.
#
# > **Predict** before you write it: double $p$. There are a quarter as many patches and nearly four
# > times as many parameters. And multiplications?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
def patch_costs(H, W, C, p, h):
    """(patches, parameters, multiply-adds) of a patch embedding, for one image."""
    ### BEGIN SOLUTION
    patches = (H // p) * (W // p)
    weights = p * p * C * h
    return patches, weights + h, patches * weights
    ### END SOLUTION

# %% hints [markdown]
# 1. There are $\frac Hp \cdot \frac Wp$ patches. `w` is (p, p, C, h) and `b` is (h,).
# 2. Each patch is a row of $K = p\,p\,C$ numbers times a matrix of $K \times h$: that is $K h$
#    multiplications.
# 3. `patches * p * p * C * h`. The bias multiplies nothing.

# %%
check("05.patch_costs", patch_costs)

# %% [markdown]
# Their number stays the same: $\frac Hp \frac Wp \cdot p\,p\,C\,h = H\,W\,C\,h$, whatever $p$ is.
# But this layer is followed by the blocks, which do the same work *at every place*: a depthwise and
# a pointwise convolution with $k^2 h + h^2$ multiplications (lesson 06). For a ConvMixer with
# $h = 128$, four blocks and $k = 5$ on images of 32 × 32:

# %%
h, depth, k = 128, 4, 5
print(" p    places   parameters   embedding    blocks   (million multiply-adds per image)")
work = {}
for p in (1, 2, 4, 8):
    patches, parameters, embedding = patch_costs(32, 32, 3, p, h)
    blocks = patches * depth * (k * k * h + h * h)
    total = mx.ConvMixer(h, depth, k, p, n_classes=10).n_parameters()
    print(f"{p:2}  {patches:8,}  {total:11,}  {embedding / 1e6:10.1f}  {blocks / 1e6:8.1f}")
    work[f"p = {p}"] = (embedding + blocks) / 1e6
show.bars(
    work,
    title="one image through ConvMixer-128/4",
    unit="million multiply-adds",
    alt="05.5", guess=guess,
)

# %% [markdown]
# Doubling $p$ makes the network four times cheaper and hardly changes its number of parameters. The
# price is resolution. What that does to accuracy is the question of lesson 11.
#
# ## What is in a patch?
#
# $K$ numbers, but much less information than that: they are strongly correlated. A pixel and its
# right neighbor:

# %% folded
one, neighbor = images[:200, 8, 8, 0], images[:200, 8, 9, 0]
far = images[:200, 8, 30, 0]
fig, axes = show.subplots(
    1, 2, size=(6, 2.9), sharey=True,
    alt="05.6",
)
for ax, other, words in zip(axes, (neighbor, far), ("its right neighbor", "22 pixels away")):
    ax.plot(one, other, ".", markersize=4)
    ax.set(xlabel="red of a pixel", title=f"{words}: {np.corrcoef(one, other)[0, 1]:.2f}")
    ax.set_aspect("equal")
axes[0].set_ylabel("red of another")
fig

# %% [markdown]
# The number above each plot is their correlation: neighbors are nearly equal, and even pixels far
# apart often both belong to the background. So a filter with random weights mostly measures the
# color of its whole patch. So does every other one, and their outputs are correlated too.
#
# Which patterns occur in patches, and how strongly? Take all patches as rows `(M, K)`. Their
# **covariance** $\Sigma$ `(K, K)` says how each pair of the $K$ numbers varies together. It has $K$
# **eigenvectors**, directions that $\Sigma$ only stretches: $\Sigma e = \lambda e$. Each is a
# pattern whose strength is *uncorrelated* with that of the others, and its **eigenvalue** $\lambda$ says how much:
#
# $$ \Sigma = \frac 1M \sum_m (r_m - \bar r)(r_m - \bar r)^\top = E\,\Lambda\,E^\top $$
#
# > **Predict:** each eigenvector is a patch, so it can be shown as a picture. What does the one
# > with the *largest* eigenvalue look like: flat, a gradient, or a checkerboard? And the one with
# > the smallest?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
p = 4
rows = cut(images, p).reshape(-1, p * p * 3).astype(np.float64)  # (M, K): 64,000 patches
variances, patterns = np.linalg.eigh(np.cov(rows, rowvar=False))  # in increasing order
show.filters(
    patterns[:, ::-1].reshape(p, p, 3, -1),
    alt="05.7", guess=guess,
)

# %% [markdown]
# Nobody designed these: they come from the images. The first three are flat colors, and they carry
# most of the variance; then come gradients, then ever finer stripes. (Photographs give the same
# picture, with brightness first.)

# %%
share = np.cumsum(variances[::-1]) / variances.sum()
print(f"of all variance: the first pattern {share[0]:.0%}, the first three {share[2]:.0%}")
print(f"the first varies {variances[-1] / variances[0]:.0f} times as much as the last")

# %% [markdown]
# ## Whitening
#
# So let the layer start with these patterns as its filters, each divided by its standard deviation:
# then the outputs are uncorrelated and equally large. This is called **whitening** (like white
# light, which contains every color equally):
#
# $$ \text{filters} = E\,(\Lambda + \varepsilon)^{-\frac12} \qquad (K, K)\text{, in columns} $$
#
# The small $\varepsilon$ keeps patterns that hardly occur from being amplified into noise.
#
# ### Exercise 5 · `whitening`
#
# `whitening(rows, eps)` of patches `(M, K)` returns the filters `(K, K)`: column $i$ is the
# eigenvector with the $i$-th **largest** eigenvalue $\lambda_i$ of the rows' covariance, divided
# by $\sqrt{\lambda_i + \varepsilon}$.

# %%
def whitening(rows, eps):
    """rows (M, K) -> filters (K, K), whose outputs rows @ filters are uncorrelated."""
    ### BEGIN SOLUTION
    centered = rows - rows.mean(axis=0)
    covariance = centered.T @ centered / len(rows)
    variances, patterns = np.linalg.eigh(covariance)
    return patterns[:, ::-1] / np.sqrt(variances[::-1] + eps)
    ### END SOLUTION

# %% hints [markdown]
# 1. First the covariance (subtract the mean of the rows!), then its eigenvectors.
# 2. `variances, patterns = np.linalg.eigh(covariance)` returns the eigenvectors as *columns*, the
#    smallest eigenvalue first. `[:, ::-1]` reverses the columns.
# 3. `patterns[:, ::-1] / np.sqrt(variances[::-1] + eps)`: broadcasting divides each column.

# %%
check("05.whitening", whitening)

# %% [markdown]
# How strongly are the outputs of 48 filters correlated with each other? Random filters beside
# yours:

# %% folded
whiten = whitening(rows, eps=5e-4)
random = rng.normal(size=whiten.shape)

fig, axes = show.subplots(
    1, 2, size=(6, 2.9),
    alt="05.8",
)
for ax, filters, name in zip(axes, (random, whiten), ("random filters", "whitening filters")):
    size = np.abs(np.corrcoef(rows @ filters, rowvar=False))
    mean = (size.sum() - 48) / (48 * 47)
    show.image(ax, size, f"{name}: on average {mean:.2f}", cmap="Blues", vmin=0, vmax=1)
fig

# %% [markdown]
# Why does this matter for training? Gradient descent is slow in a valley that is much steeper in one
# direction than in another, and here the steepness in each direction is proportional to the variance
# (lesson 08 has the picture):

# %%
for name, outputs in {"patches": rows, "whitened": rows @ whiten}.items():
    variance = np.linalg.eigvalsh(np.cov(outputs, rowvar=False))
    print(f"{name:9} largest variance / smallest: {variance[-1] / variance[0]:6.1f}")

# %% [markdown]
# ## Yours and the library's

# %%
x = rng.normal(size=(2, 6, 9, 3))
w, b = rng.normal(size=(3, 3, 3, 5)), rng.normal(size=5)
y, backward = patchify(x, w, b)
theirs, library_backward = F.patchify.array(x, w, b)
g = rng.normal(size=y.shape)
pairs = {"y": (y, theirs)}
for name, mine, share in zip(("dx", "dw", "db"), backward(g), library_backward(g)):
    pairs[name] = mine, share() if callable(share) else share
for name, (mine, other) in pairs.items():
    print(f"{name}: {'same' if np.allclose(mine, other) else 'different'}", end="   ")
print()
print(mx.gradcheck(mx.op(patchify), [x, w, b]))

# %% [markdown]
# Read `patchify` in **`minimix/functional/conv.py`**: your three exercises on half a page. It
# returns each gradient as a function, which is called only if the gradient is wanted: images need
# no gradient, so the first layer of a network never computes its `dx`.
#
# Your whitening is in **`minimix/train/whitening.py`**, with one addition: the negative of each
# filter is a filter too, because the GELU behind it passes only one sign.

# %%
from minimix.train.whitening import whitening_filters

theirs = whitening_filters(images, p, 48, rng).reshape(48, 48)
same = np.allclose(abs(theirs), abs(whiten), rtol=0.01, atol=0.01)
print("the same filters, up to their signs:", same)

# %% [markdown]
# **Go further.** `shapes10` is synthetic; use photographs: `minimix.data.load("cifar10")`. Which
# pattern comes first now? · Whiten with `eps=0` and `eps=0.1` and look at the last outputs. · Let
# the patches overlap, with stride $p/2$: what do `cut` and `join` become, and why is `join` no
# longer the inverse of `cut`?
#
# Next: **06 · Depthwise and pointwise convolution**, what happens between the patches.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("05", cut, join, patchify, patch_costs, whitening)
