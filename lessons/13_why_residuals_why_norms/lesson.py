# %% [markdown]
# # 13 · Why residuals, why norms
#
# **You build** the measurements that show what depth does to a signal and to its gradient, an
# initialization that repairs half of it, and a count of the paths through a residual network.<br>
# **You need** the chain rule, variances, and lessons 02, 07 and 09.<br>
# **It takes** an hour to work through, 30 seconds to run.
#
# A ConvMixer adds the input of each depthwise convolution to its output, and normalizes after each
# convolution. Neither has anything to do with images. Both are there because of *depth*: a product of
# forty factors is almost never near 1.

# %%
import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F
from minimix import nn
from minimix.data import normalize, shapes10

# %%
mx.kernels.set_num_threads(1)  # arrays as small as these are not worth a second one
H, DEPTH = 64, 40
x = np.random.default_rng(0).standard_normal((256, H)).astype(np.float32)

# %% [markdown]
# ## The signal
#
# The simplest deep network there is: forty times a linear map and a GELU, initialized as the layers
# of this library and of PyTorch are, uniformly between $-1/\sqrt{64}$ and $1/\sqrt{64}$.

# %%
def plain(depth, rng):
    """A list of `depth` layers, each a linear map and a GELU."""
    return [nn.Sequential(nn.Linear(H, H, rng=rng), nn.GELU()) for _ in range(depth)]


layers = plain(DEPTH, np.random.default_rng(0))

# %% [markdown]
# ### Exercise 1 · `signal_sizes`
#
# `signal_sizes(layers, x)` sends an array x through all layers, one after the other, and returns a
# list with the standard deviation of the output of each: as many numbers as layers, the first one
# for the first layer.

# %%
def signal_sizes(layers, x):
    """The standard deviation of each layer's output.   x (N, H) -> a list of floats"""
    ### BEGIN SOLUTION
    sizes, x = [], mx.Tensor(x)
    for layer in layers:
        x = layer(x)
        sizes.append(float(x.array.std()))
    return sizes
    ### END SOLUTION

# %% hints [markdown]
# 1. A layer takes a Tensor and returns one. What one layer returns goes into the next.
# 2. The numbers of a Tensor `x` are `x.array`, an array with a method `std()`.
# 3. In the loop: `x = layer(x)`, then `sizes.append(float(x.array.std()))`.

# %%
check("13.signal_sizes", signal_sizes)

# %% [markdown]
# > **Predict:** the input has a standard deviation of 1. How large is the output of layer 40:
# > about 1, about 0.1, or much less?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
sizes = signal_sizes(layers, x)
print(f"layer 1: {sizes[0]:.2f}, layer 2: {sizes[1]:.2f}, layer 40: {sizes[-1]:.2g}")

# %% [markdown]
# Only the biases remain of it: for two different inputs the outputs agree.

# %%
other = np.random.default_rng(1).standard_normal((256, H)).astype(np.float32)


def through(layers, x):
    """What comes out at the end."""
    x = mx.Tensor(x)
    for layer in layers:
        x = layer(x)
    return x.array


difference = np.abs(through(layers, x) - through(layers, other)).max()
print(f"largest difference between the outputs for two inputs: {difference:.1g}")

# %% [markdown]
# Why? Each output of a linear map is a sum of $K$ products with independent weights of mean 0, so
# variances multiply and add up:
#
# $$ \operatorname{Var}(y) = K \cdot \operatorname{Var}(w) \cdot \mathrm{E}[x^2] $$
#
# Weights that are uniform in $\pm 1/\sqrt K$ have variance $1/(3K)$: the linear map alone divides
# the variance by three, and an activation that lets about half of the numbers through halves it
# once more. That is a factor of $\sqrt{1/6} \approx 0.4$ per layer for the standard deviation. Forty
# layers: $0.4^{40} \approx 10^{-16}$, and even less with a GELU, which near zero is $x/2$:
# $\sqrt{1/12} \approx 0.29$ per layer. (The difference that you saw is only the rounding of float32.)
#
# ## Half of a remedy
#
# He and others (2015) chose the variance so that the factor is 1: with a ReLU, which keeps half of
# $\mathrm{E}[x^2]$, that is $\operatorname{Var}(w) = 2/K$.
#
# ### Exercise 2 · `he_normal`
#
# `he_normal(fan_in, fan_out, rng)` returns weights `(fan_in, fan_out)`, drawn from a normal
# distribution with mean 0 and variance `2 / fan_in`, as float32. `rng` is a NumPy Generator; draw
# from it once, with `rng.standard_normal`.

# %%
def he_normal(fan_in, fan_out, rng):
    """Normal weights of variance 2 / fan_in.   -> (fan_in, fan_out), float32"""
    ### BEGIN SOLUTION
    weights = rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)
    return weights.astype(np.float32)
    ### END SOLUTION

# %% hints [markdown]
# 1. Numbers of variance 1, times a constant c, have variance c².
# 2. `rng.standard_normal((fan_in, fan_out))` has variance 1, in float64.
# 3. Multiply by `np.sqrt(2 / fan_in)`, and end with `.astype(np.float32)`.

# %%
check("13.he_normal", he_normal)

# %%
def rescaled(layers, rng, activation=nn.ReLU):
    """New layers with your weights, no biases, and this activation."""
    new = [nn.Sequential(nn.Linear(H, H, bias=False), activation()) for _ in layers]
    for layer in new:
        layer[0].weight.array = he_normal(H, H, rng)
    return new


relu = signal_sizes(rescaled(layers, np.random.default_rng(0)), x)
gelu = signal_sizes(rescaled(layers, np.random.default_rng(0), nn.GELU), x)
print(f"layer 40, He et al.: with ReLU {relu[-1]:.2f}, with GELU {gelu[-1]:.2f}")

# %% [markdown]
# With ReLU the signal stays within a factor of about two. With GELU, which keeps a fraction of 0.43
# of $\mathrm{E}[x^2]$ and not quite a half, a small error per layer is a large one after forty, and
# it grows as the signal shrinks (near zero a GELU is $x/2$, and keeps a quarter). Initialization is
# like balancing a pencil on its tip: it is right for one activation, and only until the weights
# move.
#
# ## The gradient
#
# The backward pass is a product too. With $J_i$ the Jacobian of layer $i$,
#
# $$ \frac{\partial L}{\partial x_0} = J_1^T J_2^T \cdots J_{40}^T \; g $$
#
# ### Exercise 3 · `gradient_sizes`
#
# `gradient_sizes(layers, x, g)` sends x through all layers, starts the backward pass at the last
# output with the gradient `g`, and returns a list with the standard deviation of the gradient of
# the loss with respect to each layer's *output*: as many numbers as layers, in their order. (The
# last one is that of `g` itself.)
#
# The tape keeps the gradients of leaves only. Call `y.retain_grad()` on an output whose gradient
# you want to find in `y.grad` afterwards.

# %%
def gradient_sizes(layers, x, g):
    """The standard deviation of the gradient of each layer's output.   -> a list of floats"""
    ### BEGIN SOLUTION
    outputs, y = [], mx.Tensor(x)
    for layer in layers:
        y = layer(y)
        y.retain_grad()
        outputs.append(y)
    y.backward(g)
    return [float(y.grad.std()) for y in outputs]
    ### END SOLUTION

# %% hints [markdown]
# 1. The forward pass is that of exercise 1, but keep the outputs themselves in a list.
# 2. `y.retain_grad()` right after the layer; after the loop, `y.backward(g)`, once.
# 3. Then `[float(y.grad.std()) for y in outputs]`.

# %%
check("13.gradient_sizes", gradient_sizes)

# %% [markdown]
# > **Predict:** the network above, with its first initialization, has lost its signal on the way
# > forward. Is the gradient of its first layer large or small, compared with the last?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
g = np.random.default_rng(2).standard_normal((256, H)).astype(np.float32)
backward = gradient_sizes(plain(DEPTH, np.random.default_rng(0)), x, g)
print(f"gradient at layer 40: {backward[-1]:.2g}, at layer 1: {backward[0]:.2g}")

# %% [markdown]
# The last layers learn, from a signal that says nothing; the first layers, which see the image, do
# not learn. This is the **vanishing gradient** (Hochreiter 1991), and it kept networks shallow for
# twenty years.
#
# ## The residual
#
# He and others (2016) let each layer compute what should be *added* to its input:
#
# $$ x_{i+1} = x_i + f_i(x_i) \qquad\text{with the Jacobian}\qquad I + J_i $$
#
# However small $J_i$ is, the gradient arrives: the product $(I + J_1^T) \cdots (I + J_{40}^T)\,g$
# contains $g$ itself.

# %%
residual = [nn.Residual(layer) for layer in plain(DEPTH, np.random.default_rng(0))]
after = gradient_sizes(residual, x, g)
print(f"with residuals: gradient at layer 40: {after[-1]:.2g}, at layer 1: {after[0]:.2g}")

# %% [markdown]
# Multiply out such a product, and every term is a **path**: at each block the signal either goes
# through the layer or skips it. So a deep residual network is also a collection of many shallow
# ones (Veit and others 2016).
#
# ### Exercise 4 · `paths`
#
# `paths(n)` returns a list of n + 1 integers: how many of the paths through n residual blocks go
# through exactly 0, 1, …, n layers.

# %%
def paths(n):
    """How many ways through n blocks go through 0, 1, …, n layers.   -> n + 1 ints"""
    ### BEGIN SOLUTION
    counts = [1]
    for _ in range(n):  # one block more: a path skips it, or goes through it
        counts = [skip + go for skip, go in zip([*counts, 0], [0, *counts], strict=True)]
    return counts
    ### END SOLUTION

# %% hints [markdown]
# 1. Through no block there is one way, with no layers: `[1]`. What does one block more do?
# 2. A path of k layers through n + 1 blocks skipped the last one, with k layers before it, or went
#    through it, with k − 1 before it.
# 3. Add `[*counts, 0]` (skipped) and `[0, *counts]` (went through), number by number, n times.

# %%
check("13.paths", paths)

# %% folded
share = np.array(paths(DEPTH)) / 2.0**DEPTH
factor = backward[0] / backward[-1]
per_layer = factor ** (1 / (DEPTH - 1))  # what one layer does to a gradient, on average
reach = share * per_layer ** np.arange(DEPTH + 1)

fig, axes = show.subplots(
    1, 2, size=(8, 2.8), alt="13.1",
)
axes[0].bar(range(DEPTH + 1), share, color=show.BLUE)
axes[0].set(ylabel="fraction of the paths", title="How many there are")
axes[1].bar(range(DEPTH + 1), reach / reach.sum(), color=show.RED)
axes[1].set(ylabel="fraction of the gradient", title="What they carry")
for ax in axes:
    ax.set_xlabel("layers on a path")
fig

# %% [markdown]
# Long paths vanish as before, but there are enough short ones. Nothing is free, though: what is
# added at every block adds up, in the forward pass too.

# %%
print(f"with residuals: signal at layer 1: {signal_sizes(residual, x)[0]:.1f}, "
      f"at layer 40: {signal_sizes(residual, x)[-1]:.0f}")

# %% [markdown]
# ## The norm
#
# A batch normalization after each layer sets mean and standard deviation of each channel to 0 and
# 1, *whatever* the layer before it does. Nothing has to be balanced any more:

# %%
def normalized(depth, rng, scale=1.0):
    """Layers as in `plain`, each with a batch norm; all weights times `scale`."""
    layers = plain(depth, rng)
    for layer in layers:
        layer[0].weight.array *= scale
        layer.append(nn.BatchNorm(H))
    return layers


for scale in (0.1, 1, 10):
    new = normalized(DEPTH, np.random.default_rng(0), scale)
    there, back = signal_sizes(new, x), gradient_sizes(new, x, g)
    print(f"weights × {scale:<4} signal at layer 40: {there[-1]:.2f}   "
          f"gradient, layer 1 over layer 40: {back[0] / back[-1]:.2g}")

# %% [markdown]
# The signal no longer depends on the size of the weights. The gradient does not vanish either; it
# *grows* in the backward pass, by about 13 percent per layer at the usual size of the weights (each norm divides by the standard
# deviation of what it normalizes; Yang and others 2019). Norm and residual repair different things:
# the norm keeps the *signal* at a healthy size, the residual gives the *gradient* a direct path, and
# with both, neither gets out of hand.
#
# ## In a ConvMixer, before and after training
#
# Sixteen blocks, four variants, the same initial weights. What is drawn is the gradient of each
# depthwise kernel, relative to that of the last block.

# %%
COMPILED = mx.kernels.backend_name() == "numba"
WIDTH, BLOCKS, STEPS = (16, 16, 200) if COMPILED else (4, 4, 4)
data = shapes10.load(2000, 10)
images, labels = normalize(data.train_images), data.train_labels


def mixer(residual, norm):
    """A ConvMixer, with or without its residuals and its batch norms."""
    rng = np.random.default_rng(0)

    def half(convolution):
        rest = [nn.BatchNorm(WIDTH)] if norm else []
        return nn.Sequential(convolution, nn.GELU(), *rest)

    def block():
        places = half(nn.DepthwiseConv2d(WIDTH, 5, rng=rng))
        channels = half(nn.PointwiseConv2d(WIDTH, WIDTH, rng=rng))
        return nn.Sequential(nn.Residual(places) if residual else places, channels)

    stem, blocks = half(nn.Patchify(3, WIDTH, 4, rng=rng)), [block() for _ in range(BLOCKS)]
    return nn.Sequential(stem, *blocks, nn.GlobalAvgPool(), nn.Linear(WIDTH, 10, rng=rng))


def kernel_gradients(model, x, y):
    """The size of the gradient of each depthwise kernel, the first block first."""
    model.zero_grad()
    F.cross_entropy(model(mx.Tensor(x)), y).backward()
    kernels = [m for _, m in model.named_modules() if isinstance(m, nn.DepthwiseConv2d)]
    return np.array([np.abs(m.weight.grad).mean() for m in kernels])


def train(model, steps):
    """`steps` steps with AdamW: the mean loss of the last ten."""
    optimizer, rng, losses = mx.AdamW(model.parameters(), lr=0.01), np.random.default_rng(0), []
    for _ in range(steps):
        batch = rng.integers(len(images), size=64)
        loss = F.cross_entropy(model(mx.Tensor(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses[-10:])

# %% [markdown]
# > **Predict:** four networks: with both, without residuals, without norms, without either. Which
# > of them learn in 200 steps? (Guessing among ten classes has a loss of $\ln 10 = 2.30$.)

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
VARIANTS = {
    "both": (True, True), "no residual": (False, True),
    "no norm": (True, False), "neither": (False, False),
}
before, trained = {}, {}
for name, (residual_too, norm_too) in VARIANTS.items():
    model = mixer(residual_too, norm_too)
    before[name] = kernel_gradients(model, images[:64], labels[:64])
    loss = train(model, STEPS)
    trained[name] = kernel_gradients(model, images[:64], labels[:64])
    first, last = before[name][0], before[name][-1]
    print(f"{name:12} gradient, first block over last: {first / last:7.1g}   loss {loss:.2f}")

# %% folded
fig, axes = show.subplots(
    1, 2, size=(8, 3), sharey=True, alt="13.2",
)
titles = ("at the start", "after training")
for ax, sizes, title in zip(axes, (before, trained), titles, strict=True):
    for (name, values), marker in zip(sizes.items(), "os^D", strict=True):
        relative = np.maximum(values / max(values[-1], 1e-30), 1e-12)
        ax.semilogy(range(1, BLOCKS + 1), relative, marker=marker, markersize=3.5, label=name)
    ax.set(xlabel="block", title=title, xticks=[1, 4, 8, 12, 16])
axes[0].set_ylabel("gradient, relative to the last block")
axes[1].legend()
fig

# %% [markdown]
# Remove the norms, and the gradient of the first block collapses, with residuals as without: in a
# ConvMixer the residual goes around the depthwise half only, so that every block still has one
# convolution with no path around it. Leaving out the residuals alone does little here. How much
# each part is worth after hundreds of epochs is another question; lesson 11 has the paper's answer.
#
# ## Yours and the library's

# %%
rng = np.random.default_rng(3)
print("variance times fan-in:", round(float(he_normal(512, 512, rng).var() * 512), 2))
model = mx.ConvMixer(16, 4, kernel_size=5, patch_size=4, n_classes=10, rng=0)
print("residuals in a ConvMixer of four blocks:",
      sum(isinstance(m, nn.Residual) for _, m in model.named_modules()))

# %% [markdown]
# Read **`Residual`** in `minimix/nn/containers.py` and **`minimix/functional/norm.py`**.
#
# **Go further.** Multiply the output of each residual branch by a trainable number that starts at
# zero ("ReZero", or ResMLP's layer scale). Does the network without norms learn now? · Put the norm
# *before* the layer, inside the residual, as transformers do. What changes in the picture? · How
# deep can you go without residuals before norms are no longer enough?
#
# Next: **14 · Mixing tokens**, and what ConvMixer's rivals do in its place.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("13", signal_sizes, he_normal, gradient_sizes, paths)
