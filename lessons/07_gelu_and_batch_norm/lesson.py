# %% [markdown]
# # 07 · GELU and batch normalization
#
# **You build** what stands between the convolutions: a smooth gate, and a layer that keeps numbers
# at a healthy size; both with their backward pass in closed form.<br>
# **You need** the product and chain rules, mean and variance, and lessons 02 and 03.<br>
# **It takes** an hour to work through, 10 seconds to run.
#
# Here are sixteen blocks of a randomly initialized ConvMixer. How much does the output of each
# block depend on the input image? Without normalization, soon not at all. (`nn.Residual(f)` adds the
# input of $f$ to its result, $x + f(x)$; lesson 09 says why.)

# %%
import math
import time
import tracemalloc

import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F
from minimix import nn
from minimix.data import shapes10

# %%
from minimix.kernels.reference.activation import erf

mx.kernels.set_num_threads(1)  # arrays as small as these are not worth a second one
data = shapes10.load(1000, 10)
images = (data.train_images / np.float32(255) - 0.5) * 4  # (N, 32, 32, 3), -2 to 2
labels = data.train_labels
h = 32


def mixer(depth, norm, seed=0):
    """A ConvMixer of 4 by 4 patches, with or without batch normalization."""
    rng = np.random.default_rng(seed)

    def tail():
        gelu = nn.GELU(approximate="tanh")  # the cheaper of two forms that you will meet
        return gelu, nn.BatchNorm(h) if norm else nn.Identity()

    def block():
        places = nn.Residual(nn.Sequential(nn.DepthwiseConv2d(h, 3, rng=rng), *tail()))
        return nn.Sequential(places, nn.PointwiseConv2d(h, h, rng=rng), *tail())

    stem = nn.Sequential(nn.Patchify(3, h, 4, rng=rng), *tail())
    head = nn.Sequential(nn.GlobalAvgPool(), nn.Linear(h, 10, rng=rng))
    return nn.Sequential(stem, *[block() for _ in range(depth)], head)


def layers(model, x):
    """What comes out of the stem and of every block."""
    outputs = []
    for part in list(model._modules.values())[:-1]:
        x = part(x)
        outputs.append(x)
    return outputs


fig, axes = show.subplots(
    1, 2, size=(8, 2.9), sharey=True,
    alt="07.1",
)
for ax, norm in zip(axes, (False, True)):
    outputs = [x.array for x in layers(mixer(16, norm), mx.Tensor(images[:32]))]
    show.through_depth(ax, [x - x.mean(axis=0) for x in outputs], low=1e-10, high=1e2)
    ax.set_title("with batch normalization" if norm else "without normalization")
axes[0].set_ylabel("size of the differences")
fig

# %% [markdown]
# Each column is a histogram: how large are the deviations from the mean over 32 images? On the left
# they are lost in rounding errors after a dozen blocks. By then every image looks the same.
#
# ## A gate that opens gradually
#
# First the GELU. Without a nonlinearity between them, two linear layers are just one linear layer.
# `relu` passes a number if it is positive. GELU multiplies it by the probability that a random
# number from the standard normal distribution lies below it:
#
# $$ y = x\,\Phi(x) \qquad \Phi(x) = \tfrac12 \Big(1 + \operatorname{erf} \frac{x}{\sqrt2}\Big)
#    \qquad \varphi(x) = \Phi'(x) = \frac{1}{\sqrt{2\pi}}\, e^{-x^2/2} $$
#
# Large numbers pass, very negative ones do not, and numbers in between pass in part.
#
# ### Exercise 1 · `gelu`
#
# `gelu(x)` of an array returns `(y, backward)`; `backward(g)` returns `dx`. The derivative follows
# from the product rule, applied to $x \cdot \Phi(x)$. `erf` is imported already; `math.sqrt(2)` is
# a Python number and keeps float32 arrays float32, which `np.sqrt(2)` would not.

# %%
def gelu(x):
    """x Φ(x), and its backward function."""
    ### BEGIN SOLUTION
    cdf = 0.5 * (1 + erf(x / math.sqrt(2)))
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)

    def backward(g):
        return g * (cdf + x * density)

    return x * cdf, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. Two factors, so two terms: the derivative of $x$ times $\Phi(x)$, plus $x$ times the derivative
#    of $\Phi(x)$.
# 2. $dx = g\,\big(\Phi(x) + x\,\varphi(x)\big)$.
# 3. `cdf = 0.5 * (1 + erf(x / math.sqrt(2)))` and
#    `density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)`; both are used in `backward`.

# %%
check("07.gelu", gelu)

# %% [markdown]
# > **Predict:** the slope of `relu` is 0 or 1. Is the slope of GELU ever negative? Ever larger
# > than 1?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
x = np.linspace(-4, 4, 401)
y, backward = gelu(x)
slope = backward(np.ones_like(x))

fig, (left, right) = show.subplots(
    1, 2, size=(8, 2.8),
    alt="07.2", guess=guess,
)
left.plot(x, y, label="GELU")
left.plot(x, np.maximum(x, 0), "--", label="ReLU")
left.set_title("y")
left.legend()
right.plot(x, slope, label="GELU")
right.plot(x, x > 0, "--", label="ReLU")
right.set_title(f"slope: between {slope.min():.2f} and {slope.max():.2f}")
fig

# %% [markdown]
# ### Two cheaper gates
#
# `erf` used to be expensive, and two approximations are common:
#
# $$ \tfrac12 x \Big(1 + \tanh\big(\sqrt{2/\pi}\,(x + 0.044715\,x^3)\big)\Big)
#    \qquad\text{and}\qquad x\,\sigma(1.702\,x), \quad \sigma(z) = \frac1{1 + e^{-z}} $$
#
# > **Predict:** to how many digits do they agree with the exact form?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
tanh_form, _ = F.gelu.array(x, approximate="tanh")
sigmoid_form = x / (1 + np.exp(-1.702 * x))

fig, ax = show.subplots(
    size=(7, 2.6),
    alt="07.3", guess=guess,
)
ax.plot(x, abs(sigmoid_form - y), "--", label="sigmoid form")
ax.plot(x, abs(tanh_form - y), label="tanh form")
ax.set(yscale="log", ylim=(1e-8, 0.1), xlabel="x", title="error")
ax.legend(loc="lower right")
print("largest error of the tanh form:   ", f"{abs(tanh_form - y).max():.4f}")
print("largest error of the sigmoid form:", f"{abs(sigmoid_form - y).max():.2f}")
fig

# %% [markdown]
# Three digits, and two. Good enough to train with, but they are *different functions*: weights that
# were trained with one give slightly different answers with another. ConvMixer uses the exact one.
#
# ## Batch normalization
#
# Now the cure for the picture at the top. For every channel, take all the numbers that it has in
# this batch (all images, all places: $M = N H W$ of them), shift them to mean 0, scale them to
# variance 1, and let the network choose another scale $\gamma$ and shift $\beta$ if it needs them:
#
# $$ \mu = \tfrac1M \sum x \qquad \sigma^2 = \tfrac1M \sum (x - \mu)^2 \qquad
#    \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} \qquad y = \gamma\,\hat x + \beta $$
#
# (Ioffe & Szegedy 2015, arXiv:1502.03167. The $\varepsilon$ is there for a channel whose variance
# is 0.)
#
# ### Exercise 2 · `batch_norm`
#
# `batch_norm(x, gamma, beta, eps)` of **tensors** `x (…, C)`, `gamma (C,)`, `beta (C,)` returns a
# tensor `(…, C)`. Write no backward function: use what tensors can do, `t.mean(axis=…)`, `+ - * /`
# and `.sqrt()`, and the tape will do the backward pass. `axes` are all axes except the last.

# %%
def batch_norm(x, gamma, beta, eps=1e-5):
    """x (…, C), gamma (C,), beta (C,) -> (…, C), from primitive operations."""
    axes = tuple(range(x.ndim - 1))
    ### BEGIN SOLUTION
    centered = x - x.mean(axis=axes)
    variance = (centered * centered).mean(axis=axes)
    normal = centered / (variance + eps).sqrt()
    return gamma * normal + beta
    ### END SOLUTION

# %% hints [markdown]
# 1. Four lines for four formulas. `x.mean(axis=axes)` has shape (C,), and broadcasting lines it up
#    with the last axis of `x`.
# 2. `centered = x - x.mean(axis=axes)`; the variance is the mean of its square.
# 3. `normal = centered / (variance + eps).sqrt()`, then `gamma * normal + beta`. Stay with tensors:
#    `.array` would cut the tape.

# %%
check("07.batch_norm", batch_norm)

# %% folded
rng = np.random.default_rng(0)
x = mx.Tensor(rng.normal(3, 2, (6, 2)), requires_grad=True)
gamma = mx.Tensor(np.ones(2), requires_grad=True)
beta = mx.Tensor(np.zeros(2), requires_grad=True)
y = batch_norm(x, gamma, beta)
show.tape(
    y,
    names={"x": x, "γ": gamma, "β": beta, "y": y},
    alt="07.4",
)

# %% [markdown]
# ## A test that cannot fail
#
# Is the gradient right? Many people would check it like this: sum everything, call backward,
# compare with a finite difference.
#
# > **Predict:** what is the gradient of `y.sum()` with respect to `x`?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
y.sum().backward()
print("largest number in dx:", f"{np.abs(x.grad).max():.0e}")

# %% [markdown]
# Zero, up to rounding. The normalized numbers of a channel *always* add up to 0, so nothing that
# you do to `x` changes the sum. A backward function that returns zeros, or any nonsense that
# happens to cancel, passes this test. This is why lesson 03 sends back **random numbers** instead
# of ones:

# %%
arrays = [rng.normal(size=(6, 2)), rng.normal(size=2), rng.normal(size=2)]
print(mx.gradcheck(batch_norm, arrays))

# %% [markdown]
# ## By hand
#
# The tape needs about ten operations and saves what each of them needs. With pencil and paper a
# single formula remains. `x` affects the result in three ways: directly, through $\mu$ and through
# $\sigma^2$. Add the three, and nearly all terms cancel:
#
# $$ d\beta = \sum g \qquad d\gamma = \sum g\,\hat x \qquad
#    dx = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}}
#    \Big( g - \frac{d\beta}{M} - \hat x\,\frac{d\gamma}{M} \Big) $$
#
# There is a picture in it. Plot $g$ against $\hat x$ for one channel and fit a line:

# %% folded
normal = np.sort(rng.normal(size=12))
normal = (normal - normal.mean()) / normal.std()  # one channel, M = 12
g = 0.5 + 0.8 * normal + rng.normal(0, 0.7, 12)
line = g.mean() + (g * normal).mean() * normal  # dβ/M + x̂ dγ/M

fig, ax = show.subplots(
    size=(6, 3),
    alt="07.5",
)
ax.plot(normal, line, label="dβ/M + x̂ dγ/M")
ax.vlines(normal, line, g, colors=show.RED, label="dx, up to its scale")
ax.plot(normal, g, "o", color="black", markersize=4, label="g")
ax.set(xlabel="x̂", ylabel="g")
ax.legend(loc="upper left")
fig

# %% [markdown]
# $d\beta/M$ is the mean of $g$, $d\gamma/M$ the slope of the line, and `dx` is **what the line
# cannot explain**. It has to be: if you shift all of `x`, the shift is subtracted again; if you
# scale it, the scale is divided out. Moving `x` in these two directions changes nothing, so the
# gradient has no component in them.
#
# ### Exercise 3 · `batch_norm_backward`
#
# `batch_norm_backward(g, normal, gamma, rstd)` with `g` and `normal` ($\hat x$) of shape `(M, C)`,
# `gamma (C,)` and `rstd` $= 1/\sqrt{\sigma^2+\varepsilon}$ `(C,)` returns `(dx, dgamma, dbeta)`.

# %%
def batch_norm_backward(g, normal, gamma, rstd):
    """The backward pass of batch normalization, in closed form."""
    ### BEGIN SOLUTION
    dbeta = g.sum(axis=0)
    dgamma = (g * normal).sum(axis=0)
    dx = gamma * rstd * (g - dbeta / len(g) - normal * (dgamma / len(g)))
    return dx, dgamma, dbeta
    ### END SOLUTION

# %% hints [markdown]
# 1. `dbeta` and `dgamma` first; `dx` is made from them.
# 2. Sums over the rows: `axis=0`. $M$ is `len(g)`.
# 3. `dx = gamma * rstd * (g - dbeta / M - normal * dgamma / M)`.

# %%
check("07.batch_norm_backward", batch_norm_backward)

# %% [markdown]
# As an operation it needs a forward pass as well:

# %%
@mx.op
def batch_norm_closed(x, gamma, beta):
    """Batch normalization in closed form: one line on the tape."""
    rows = x.reshape(-1, x.shape[-1])
    rstd = 1 / np.sqrt(rows.var(axis=0) + x.dtype.type(1e-5))
    normal = (rows - rows.mean(axis=0)) * rstd

    def backward(g):
        dx, *rest = batch_norm_backward(g.reshape(rows.shape), normal, gamma, rstd)
        return dx.reshape(x.shape), *rest

    return (normal * gamma + beta).reshape(x.shape), backward


print(mx.gradcheck(batch_norm_closed, arrays))

# %% [markdown]
# Three forms of the same thing: a **graph** of primitive operations, the **closed form**, and the
# library's, **fused**: whatever can be done in one pass over memory is done in one.
#
# > **Predict:** all three return the same. How much memory does each save for the backward pass, in
# > units of the size of `x`? How much longer does the graph take?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
forms = {"graph": batch_norm, "closed form": batch_norm_closed, "fused": F.batch_norm}
values = rng.normal(size=(32, 16, 16, 64)).astype(np.float32)
g = rng.normal(size=values.shape).astype(np.float32)
x = mx.Tensor(values, requires_grad=True)
gamma = mx.Tensor(np.ones(64, np.float32), requires_grad=True)
beta = mx.Tensor(np.zeros(64, np.float32), requires_grad=True)
kept, times, gradients = {}, {}, {}
for name, form in forms.items():
    form(x, gamma, beta).backward(g)  # to warm up
    x.zero_grad()
    tracemalloc.start()
    y = form(x, gamma, beta)
    kept[name] = tracemalloc.get_traced_memory()[0] / values.nbytes
    tracemalloc.stop()
    y.backward(g)
    gradients[name] = x.grad
    times[name] = []
for _ in range(10):
    for name, form in forms.items():
        start = time.perf_counter()
        form(x, gamma, beta).backward(g)
        times[name].append(time.perf_counter() - start)
for name in forms:
    same = np.allclose(gradients[name], gradients["fused"], atol=1e-5)
    ratio = min(times[name]) / min(times["fused"])
    print(f"{name:12} same dx: {same}   keeps {kept[name]:.0f} × x   "
          f"takes {ratio:.1f} × as long")

# %% [markdown]
# The result itself is one of the `× x`, and the fused form saves nothing else: it has `x` anyway,
# and `μ` and `1/σ` are small. In a deep network such saved arrays fill most of the memory, so they
# limit the size of a batch.
#
# ## Train and eval
#
# The mean over a batch has a strange consequence: what the network says about an image depends on
# the *other* images in the batch.

# %% folded
model = mixer(4, norm=True)
said = {"in training": [], "at test time": []}
for i in range(1, 9):
    batch = mx.Tensor(images[[0, *range(10 * i, 10 * i + 15)]])  # image 0 and 15 others
    said["in training"].append(model.train()(batch).array[0])
for i in range(1, 9):
    batch = mx.Tensor(images[[0, *range(10 * i, 10 * i + 15)]])
    said["at test time"].append(model.eval()(batch).array[0])

fig, axes = show.subplots(
    1, 2, size=(8, 2.7), sharey=True,
    alt="07.6",
)
for ax, (mode, scores) in zip(axes, said.items()):
    ax.plot(np.array(scores).T, "o", color=show.BLUE, markersize=4, alpha=0.6)
    ax.set(title=f"image 0 in eight batches, {mode}", xlabel="class", xticks=range(10))
axes[0].set_ylabel("score")
fig

# %% [markdown]
# That must not happen when the network is used: the answer for an image must not depend on which
# other images are asked about at the same time. So during training the layer also keeps **running statistics**,
# which move a little toward each batch, and at test time (`model.eval()`) it uses these instead:
#
# $$ \text{running} \leftarrow (1 - m)\,\text{running} + m \cdot \text{batch} \qquad m = 0.1 $$
#
# The running variance estimates the variance over *all* images from a sample of $M$ numbers, so it
# uses the unbiased variance, $\frac{M}{M-1}\sigma^2$.
#
# ### Exercise 4 · `running_statistics`
#
# `running_statistics(mean, var, x, momentum)` with `mean` and `var` of shape `(C,)` and the batch
# `x (…, C)` returns the new `(mean, var)`. Leave the arguments unchanged.

# %%
def running_statistics(mean, var, x, momentum):
    """The running mean and variance after one more batch."""
    rows = x.reshape(-1, x.shape[-1])
    ### BEGIN SOLUTION
    m = len(rows)
    unbiased = rows.var(axis=0) * (m / (m - 1))
    new_mean = (1 - momentum) * mean + momentum * rows.mean(axis=0)
    return new_mean, (1 - momentum) * var + momentum * unbiased
    ### END SOLUTION

# %% hints [markdown]
# 1. The batch statistics are over the rows: `axis=0`. The old values keep the *larger* weight.
# 2. `rows.var(axis=0)` divides by $M$; multiply by $M / (M - 1)$ (or see `ddof` in NumPy's manual).
# 3. `(1 - momentum) * mean + momentum * rows.mean(axis=0)`, and the same for the variance.

# %%
check("07.running_statistics", running_statistics)

# %% [markdown]
# The running statistics start as a guess, mean 0 and variance 1, and after $t$ batches that guess
# still has the weight $0.9^t$.
#
# > **Predict:** train a network for a few steps, and compute its loss on the same images twice, in
# > training mode and in eval mode. Which is larger, and for how many steps? (`AdamW` takes the
# > training steps here; the next lesson builds it.)

# %%
guess = ...  # your prediction: a number, or a few words

# %%
def train(model, steps, watch=None, lr=0.01):
    """The loss of every step; watch() is called before every third one."""
    rng = np.random.default_rng(0)
    optimizer = mx.AdamW(model.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        if watch and step % 3 == 0:
            watch()
        batch = rng.integers(0, len(images), 64)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(mx.Tensor(images[batch])), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


model = mixer(4, norm=True)
held = mx.Tensor(images[:80])
in_training, at_test_time = [], []


def watch():
    """The loss on 80 images in both modes, without changing the running statistics."""
    before = {name: array.copy() for name, array in model.named_buffers()}
    with mx.no_grad():
        in_training.append(F.cross_entropy(model.train()(held), labels[:80]).item())
        for name, array in model.named_buffers():
            array[:] = before[name]
        at_test_time.append(F.cross_entropy(model.eval()(held), labels[:80]).item())
    model.train()


with_norm = train(model, 60, watch)
fig, ax = show.subplots(
    size=(7, 2.8),
    alt="07.7", guess=guess,
)
ax.plot(range(0, 60, 3), in_training, "o-", label="with the batch's statistics (training)")
ax.plot(range(0, 60, 3), at_test_time, "s--", label="with running statistics (eval)")
ax.set(xlabel="steps", title="loss on the same 80 images", ylim=(1.5, 2.8))
ax.legend()
fig

# %% [markdown]
# Until the statistics have settled, and as long as the weights change quickly, the network in eval
# mode is not the one that was trained. Two mistakes to remember: forgetting `model.eval()` before
# testing (scores depend on the batch), and trusting eval scores after very few steps.
#
# ## What breaks without it
#
# Back to the first picture, now for the backward pass. This is the gradient of the loss with
# respect to the output of each block:

# %%
fig, axes = show.subplots(
    1, 2, size=(8, 2.9), sharey=True,
    alt="07.8",
)
for ax, norm in zip(axes, (False, True)):
    deep = mixer(16, norm)
    outputs = layers(deep, mx.Tensor(images[:32], requires_grad=True))
    for x in outputs:
        x.retain_grad()
    F.cross_entropy(deep[len(deep) - 1](outputs[-1]), labels[:32]).backward()
    show.through_depth(ax, [x.grad for x in outputs], low=1e-17, high=1)
    ax.set_title("with batch normalization" if norm else "without normalization")
axes[0].set_ylabel("size of the gradient")
fig

# %% [markdown]
# With sixteen blocks the first layers receive no gradient. With four the gradients are small, but
# there; and AdamW divides each one by its usual size, so that small gradients alone do little harm.
#
# > **Predict:** does a network of four blocks learn without normalization? (60 steps of 64 images.)

# %%
guess = ...  # your prediction: a number, or a few words

# %%
without = train(mixer(4, norm=False), 60)
fig, ax = show.subplots(
    size=(7, 2.6),
    alt="07.9", guess=guess,
)
ax.plot(with_norm, label="with batch normalization")
ax.plot(without, "--", label="without")
ax.axhline(math.log(10), color=show.GRAY, linewidth=0.8)
ax.text(0, 2.4, "guessing: ln 10", color=show.GRAY)
ax.set(xlabel="steps", title="training loss", ylim=(1.3, 2.6))
ax.legend(loc="lower left")
fig

# %% [markdown]
# It does not: where all images look nearly the same, a gradient says nearly nothing about them,
# however large the steps. Larger initial weights would help. Batch normalization makes the
# initialization nearly irrelevant, and keeps the numbers at a good size *while* the weights change.
#
# ## Yours and the library's

# %%
x = mx.Tensor(rng.normal(2, 3, (4, 5, 6, 3)))
layer = nn.BatchNorm(3).astype(np.float64)
mean, var = running_statistics(np.zeros(3), np.ones(3), x.array, momentum=0.1)
y = layer(x)
print("y:      ", np.allclose(batch_norm(x, layer.weight, layer.bias).array, y.array))
print("running:", np.allclose(mean, layer.running_mean), np.allclose(var, layer.running_var))

x = rng.normal(size=1000)
(mine, my_backward), (theirs, their_backward) = gelu(x), F.gelu.array(x)
print("gelu:   ", np.allclose(mine, theirs), np.allclose(my_backward(x), their_backward(x)))

# %% [markdown]
# Read `gelu` in **`minimix/functional/activation.py`** and `batch_norm` in
# **`minimix/functional/norm.py`**: your formulas, with training and eval in one function. How each
# becomes a single pass over memory is in **`minimix/kernels/compiled/norm.py`**, and what it means
# in `minimix/kernels/reference/norm.py`.
#
# **Go further.** Normalize the channels of every image at every place, instead of every channel
# over the batch: that is layer normalization, `F.layer_norm`. Which of the problems above does it
# not have? · In eval mode a batch norm is a scale and a shift. Which weights of the following
# convolution can absorb them? · Find the minimum of GELU to six digits.
#
# Next: **08 · AdamW**, which takes the steps.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("07", gelu, batch_norm, batch_norm_backward, running_statistics)
