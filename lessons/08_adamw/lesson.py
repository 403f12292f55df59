# %% [markdown]
# # 08 · AdamW
#
# **You build** the optimizer that trains ConvMixers, one idea at a time: momentum, a scale for each
# weight, bias correction, and weight decay in the right place.<br>
# **You need** gradients; the last experiment trains a small ConvMixer, of the layers of lessons 05 to 07.<br>
# **It takes** 45 minutes to work through, 15 seconds to run.
#
# A gradient says which way is down *here*. Getting to the bottom is another matter. Here are forty
# steps of three optimizers in a long valley with steep sides:

# %%
import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F
from minimix import nn
from minimix.data import shapes10

# %%
STEEP = 50.0
start = np.array([-4.0, 0.6])


def height(x, y):
    """A valley: gentle along x, 50 times as steep along y, lowest at (0, 0)."""
    return 0.5 * (x * x + STEEP * y * y)


def library_path(make, steps=40):
    """The path of one of the library's optimizers."""
    p = mx.Tensor(start.copy(), requires_grad=True)
    optimizer, path = make([p]), [start]
    for _ in range(steps):
        optimizer.zero_grad()
        height(p[0], p[1]).backward()
        optimizer.step()
        path.append(p.array.copy())
    return np.array(path)


paths = {
    "gradient descent": library_path(lambda p: mx.SGD(p, lr=0.038)),
    "momentum": library_path(lambda p: mx.SGD(p, lr=0.02, momentum=0.8)),
    "AdamW": library_path(lambda p: mx.AdamW(p, lr=0.1, weight_decay=0)),
}
fig, axes = show.subplots(
    1, 3, size=(8.6, 2.7), sharey=True,
    alt="08.1",
)
for ax, (name, path) in zip(axes, paths.items()):
    show.valley(ax, height, {name: path}, extent=(-4.5, 1.5, -0.8, 0.8))
    ax.set_title(f"{name}: {height(*path[-1]):.3g}")
fig

# %% [markdown]
# (The number is the height that was reached, starting from 17. The axes are stretched: the valley
# is far narrower than it looks. And do not bet on a winner yet: this valley hides the strength of
# AdamW.)
#
# ## Why steep is slow
#
# Gradient descent subtracts the gradient, times a **learning rate** $\eta$:
# $\theta \leftarrow \theta - \eta\,g$. In our valley the gradient is $(x,\; 50\,y)$, so each step
# multiplies the two numbers by
#
# $$ x \leftarrow (1 - \eta)\,x \qquad y \leftarrow (1 - 50\,\eta)\,y $$
#
# > **Predict:** above which $\eta$ does `y` grow instead of shrink? And how many steps does `x`
# > then need to shrink to a tenth?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
def gradient(theta):
    return np.array([theta[0], STEEP * theta[1]])


def descend(rate, steps=40):
    theta, path = start, [start]
    for _ in range(steps):
        theta = theta - rate * gradient(theta)
        path.append(theta)
    return np.array(path)


fig, axes = show.subplots(
    1, 3, size=(8.6, 2.7), sharey=True,
    alt="08.2", guess=guess,
)
for ax, rate in zip(axes, (0.005, 0.038, 0.041)):
    path = descend(rate)
    show.valley(ax, height, {"": path}, extent=(-4.5, 1.5, -0.8, 0.8))
    ax.set_title(f"η = {rate}: {height(*path[-1]):.3g}")
fig

# %% [markdown]
# $|1 - 50\,\eta| < 1$ only for $\eta < 2/50$. The steep direction sets the speed limit for all, and
# at that limit the gentle one loses 4 % per step: more than 50 steps to shrink to a tenth. The
# ratio of the largest to the smallest curvature is called the **condition number**. Here it is 50;
# in a network it is thousands. (Whitening in lesson 05 made one smaller.)
#
# ## Momentum
#
# A rolling ball would not zigzag. It has a velocity $u$ that the gradient only *changes*, and
# friction takes some of it away:
#
# $$ u \leftarrow \mu\,u + g \qquad \theta \leftarrow \theta - \eta\,u $$
#
# Across the valley the gradient changes sign at every step and cancels. Along the valley it always
# points the same way and adds up.
#
# > **Predict:** the gradient is 1 at every step and $\mu = 0.9$. What does $u$ grow to?

# %%
guess = ...  # your prediction: a number, or a few words

# %% [markdown]
# ### Exercise 1 · `momentum`
#
# `momentum(theta, g, u, lr, mu)` of arrays of the same shape returns the new `(theta, u)`. Leave
# the arguments unchanged: `theta = theta - …` makes a new array, `theta -= …` would change the old
# one.

# %%
def momentum(theta, g, u, lr, mu):
    """One step of gradient descent with momentum: the new theta and u."""
    ### BEGIN SOLUTION
    u = mu * u + g
    return theta - lr * u, u
    ### END SOLUTION

# %% hints [markdown]
# 1. First the velocity, then the step with the *new* velocity.
# 2. `u = mu * u + g` makes a new array under the old name.
# 3. `return theta - lr * u, u`.

# %%
check("08.momentum", momentum)

# %%
show.guessed(guess)
u, speeds = 0.0, []
for _ in range(40):
    _, u = momentum(0.0, 1.0, u, lr=1.0, mu=0.9)
    speeds.append(u)
print("u after 1, 2, 3, 10 and 40 steps:", *(f"{speeds[i]:.2f}" for i in (0, 1, 2, 9, 39)))

# %% [markdown]
# To $1 / (1 - \mu)$: with $\mu = 0.9$ a constant gradient ends up ten times as strong. So momentum
# needs a smaller learning rate. How many steps does it take until the height stays below 0.001?

# %%
def arrival(step, state, limit=500):
    """The path of a step function in the valley, and how many steps it needs to the bottom."""
    theta, path = start, [start]
    for t in range(1, limit):
        theta, *state = step(theta, gradient(theta), *state, t)
        path.append(theta)
    high = [t for t, theta in enumerate(path) if height(*theta) > 1e-3]
    return np.array(path), high[-1] + 1


zero = np.zeros(2)
_, plain = arrival(lambda theta, g, u, t: momentum(theta, g, u, 0.038, 0.0), [zero])
print("no momentum, η = 0.038:", plain, "steps")
for mu in (0.5, 0.7, 0.8, 0.9, 0.95):
    rolled, steps = arrival(lambda theta, g, u, t: momentum(theta, g, u, 0.02, mu), [zero])
    print(f"μ = {mu:4}, η = 0.02: {steps:8} steps")

# %% [markdown]
# More than twice as fast; with too much momentum the ball swings back and forth. (With the best
# $\eta$ and $\mu$ the number of steps grows like the *square root* of the condition number: Polyak
# 1964.)
#
# ## Two averages
#
# Momentum still has one speed limit for all weights. But the weights of a network differ greatly:
# gradients of one layer may be a thousand times those of another. **Adam** (Kingma & Ba 2015,
# arXiv:1412.6980) keeps two running averages for every single weight: of the gradient, and of its
# square.
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1)\, g \qquad
#    v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \qquad
#    \theta \leftarrow \theta - \eta\, \frac{m}{\sqrt v} $$
#
# $m$ is the direction, $\sqrt v$ the usual size, and their quotient has no units: if the gradient
# always points the same way, the quotient is ±1, whatever the gradient's size. The usual values are
# $\beta_1 = 0.9$, a memory of about 10 steps, and $\beta_2 = 0.999$, of about 1000.
#
# Both averages start at 0, before they have seen anything, and so at first they are too small.
#
# > **Predict:** the gradient is 1 from the first step on, so $m/\sqrt v$ should be 1. At the first
# > step $m = 0.1$ and $v = 0.001$. Is the step too short or too long? And at step 10?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
t = np.arange(1, 5001)
m, v = 1 - 0.9**t, 1 - 0.999**t  # what the averages of ones are after t steps

fig, (left, right) = show.subplots(
    1, 2, size=(8, 2.8),
    alt="08.3", guess=guess,
)
left.plot(t, m, label="m")
left.plot(t, v, "--", label="v")
left.set(xscale="log", title="averages of a constant 1", xlabel="step")
left.legend()
right.plot(t, m / np.sqrt(v), label="m / √v")
right.plot(t, np.ones(5000), "--", label="what it should be")
right.set(xscale="log", title="length of a step, in units of η", xlabel="step", ylim=(0, 7))
right.legend()
fig

# %% [markdown]
# Too long, and for thousands of steps: the average of the squares has the longer memory, so it is
# further off. Fortunately we know exactly how far. After $t$ steps an average of ones is
# $1 - \beta^t$. Divide by that:
#
# $$ \hat m = \frac{m}{1 - \beta_1^{\,t}} \qquad \hat v = \frac{v}{1 - \beta_2^{\,t}} $$
#
# ### Exercise 2 · `moments`
#
# `moments(g, m, v, beta1, beta2, t)` takes the gradient of step $t = 1, 2, 3, \dots$ and the
# averages so far. It returns four things: the new `m` and `v`, and the corrected `m_hat` and
# `v_hat`.

# %%
def moments(g, m, v, beta1, beta2, t):
    """(m, v, m_hat, v_hat) after step t."""
    ### BEGIN SOLUTION
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return m, v, m / (1 - beta1**t), v / (1 - beta2**t)
    ### END SOLUTION

# %% hints [markdown]
# 1. The averages continue *uncorrected*: the corrected values are only used in the step.
# 2. `m = beta1 * m + (1 - beta1) * g`; for `v` the gradient is squared, elementwise.
# 3. `m / (1 - beta1**t)`. Since $t$ starts at 1, nothing is divided by zero.

# %%
check("08.moments", moments)

# %% [markdown]
# ### Exercise 3 · `adam`
#
# `adam(theta, g, m, v, t, lr, beta1, beta2, eps)` returns the new `(theta, m, v)`:
#
# $$ \theta \leftarrow \theta - \eta\, \frac{\hat m}{\sqrt{\hat v} + \varepsilon} $$
#
# The small $\varepsilon$, *outside* the square root, is for a weight whose gradient has been 0 so
# far.

# %%
def adam(theta, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """One step of Adam: the new theta, m and v."""
    ### BEGIN SOLUTION
    m, v, m_hat, v_hat = moments(g, m, v, beta1, beta2, t)
    return theta - lr * m_hat / (np.sqrt(v_hat) + eps), m, v
    ### END SOLUTION

# %% hints [markdown]
# 1. `moments` has done most of it.
# 2. The step uses the corrected averages; what you return and keep are the uncorrected ones.
# 3. `theta - lr * m_hat / (np.sqrt(v_hat) + eps)`.

# %%
check("08.adam", adam)

# %% [markdown]
# > **Predict:** multiply the height by 1000, and so every gradient. What happens to the path of
# > gradient descent? And to that of Adam?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
def ten_steps(step, scale):
    theta, m, v = start, zero, zero
    for t in range(1, 11):
        theta, m, v = step(theta, scale * gradient(theta), m, v, t)
    return theta


def plain(theta, g, m, v, t):
    return theta - 0.01 * g, m, v


for name, step in {"gradient descent": plain, "Adam": lambda *a: adam(*a, lr=0.1)}.items():
    for scale in (1, 1000):
        x, y = ten_steps(step, scale)
        print(f"{name:17} ×{scale:<5} after ten steps at ({x:.3g}, {y:.3g})")

# %% [markdown]
# Adam's path does not change. Its learning rate has a meaning: **about how far each weight moves in
# one step.** That is why the same $\eta$ works for so many different networks.
#
# ## What Adam cannot see
#
# Adam has a scale for every *weight*, that is, for every axis. Our valley is easy for it, because
# it lies along an axis. Rotate it by 45°.
#
# > **Predict:** which of the three optimizers become slower, and which do not?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
turn = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
along = np.diag([1, STEEP])
valleys = {  # curvature, where to start, what to show
    "along an axis": (along, start, (-4.5, 1.5, -0.8, 0.8)),
    "rotated by 45°": (turn @ along @ turn.T, turn @ start, (-4.5, 1.5, -4, 1.2)),
}
optimizers = {
    "gradient descent": lambda theta, g, m, v, t: (theta - 0.038 * g, m, v),
    "momentum": lambda theta, g, m, v, t: (*momentum(theta, g, m, 0.02, 0.8), v),
    "Adam": lambda *a: adam(*a, lr=0.1),
}
fig, axes = show.subplots(
    1, 2, size=(8, 3.2),
    alt="08.4", guess=guess,
)
for ax, (name, (matrix, begin, extent)) in zip(axes, valleys.items()):

    def slope(x, y):
        return 0.5 * (matrix[0, 0] * x * x + 2 * matrix[0, 1] * x * y + matrix[1, 1] * y * y)

    for optimizer, step in optimizers.items():
        theta, m, v, path = begin, zero, zero, [begin]
        for t in range(1, 401):
            theta, m, v = step(theta, matrix @ theta, m, v, t)
            path.append(theta)
        high = [t for t, theta in enumerate(path) if slope(*theta) > 1e-3]
        print(f"{name}: {optimizer:17} {high[-1] + 1:4} steps")
    show.valley(ax, slope, {"Adam": np.array(path[:60])}, extent=extent)
    ax.set_title(f"{name}: 60 steps of Adam")
fig

# %% [markdown]
# Gradient descent and momentum do not depend on the axes, and take exactly as many steps as before.
# Adam needs many more: along the axes the rotated valley is equally steep in both directions, so
# its two scales are the same and do not help. Newer optimizers (Shampoo, Muon) look at whole
# matrices of weights instead.
#
# ## Decay
#
# Large weights are a sign of a network that has memorized its training data, so it is common to let
# all weights shrink a little at every step. There are two ways to write this, and for plain
# gradient descent they are the same:
#
# $$ \text{in the gradient:}\quad g \leftarrow g + \lambda\,\theta \qquad\qquad
#    \text{decoupled:}\quad \theta \leftarrow (1 - \eta\,\lambda)\,\theta $$
#
# For Adam they are not. The **W** in AdamW is the second one (Loshchilov & Hutter 2019,
# arXiv:1711.05101): decay first, then take a step of Adam that knows nothing of the decay.
#
# ### Exercise 4 · `adamw`
#
# `adamw(theta, g, m, v, t, lr, weight_decay, beta1, beta2, eps)` returns the new `(theta, m, v)`.

# %%
def adamw(theta, g, m, v, t, lr, weight_decay, beta1=0.9, beta2=0.999, eps=1e-8):
    """One step of AdamW: the new theta, m and v."""
    ### BEGIN SOLUTION
    theta = (1 - lr * weight_decay) * theta
    return adam(theta, g, m, v, t, lr, beta1, beta2, eps)
    ### END SOLUTION

# %% hints [markdown]
# 1. Two lines: decay, then `adam`.
# 2. The decay is scaled by the learning rate, so that both vanish when the learning rate goes to 0.
# 3. `theta = (1 - lr * weight_decay) * theta`, then
#    `return adam(theta, g, m, v, t, lr, beta1, beta2, eps)`.

# %%
check("08.adamw", adamw)

# %% [markdown]
# Take two kinds of weights, 400 of each, all starting at 1. The loss does not depend on either:
# their gradients are pure noise. But for one kind the noise is large (±10), for the other small
# (±0.1).
#
# > **Predict:** with decay *in the gradient*, which of the two kinds decays faster? And with
# > decoupled decay?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
rng = np.random.default_rng(0)
lr, decay, steps = 0.01, 0.1, 1500
noise = np.repeat([10.0, 0.1], 400)  # (800,)


def in_the_gradient(theta, g, m, v, t):
    return adam(theta, g + decay * theta, m, v, t, lr)


def decoupled(theta, g, m, v, t):
    return adamw(theta, g, m, v, t, lr, decay)


fig, axes = show.subplots(
    1, 2, size=(8, 2.8), sharey=True,
    alt="08.5", guess=guess,
)
for ax, step in zip(axes, (in_the_gradient, decoupled)):
    theta, m, v = np.ones(800), np.zeros(800), np.zeros(800)
    means = []
    for t in range(1, steps + 1):
        theta, m, v = step(theta, noise * rng.normal(size=800), m, v, t)
        means.append(theta.reshape(2, 400).mean(axis=1))
    large, small = np.array(means).T
    ax.plot(large, label="large gradients")
    ax.plot(small, "--", label="small gradients")
    ax.plot((1 - lr * decay) ** np.arange(steps), ":", color="black", label="(1 − ηλ)ᵗ")
    ax.set(title=step.__name__.replace("_", " "), xlabel="step")
axes[0].set_ylabel("mean weight")
axes[1].legend()
fig

# %% [markdown]
# In the gradient, the decay is divided by $\sqrt{\hat v}$ like everything else: weights with large
# gradients hardly decay, and those with small gradients vanish. Decoupled, every weight decays at
# the rate that $\lambda$ prescribes.
#
# ## On a real loss
#
# A small ConvMixer, 60 steps, each optimizer with four learning rates.
#
# > **Predict:** for which optimizer does the learning rate matter least?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
mx.kernels.set_num_threads(1)  # arrays as small as these are not worth a second one
data = shapes10.load(1000, 10)
images = (data.train_images / np.float32(255) - 0.5) * 4
h = 32


def small_mixer():
    rng = np.random.default_rng(0)

    def block():
        places = nn.Sequential(nn.DepthwiseConv2d(h, 3, rng=rng), gelu, nn.BatchNorm(h))
        return nn.Residual(places), nn.PointwiseConv2d(h, h, rng=rng), gelu, nn.BatchNorm(h)

    gelu = nn.GELU(approximate="tanh")
    stem = nn.Patchify(3, h, 4, rng=rng), gelu, nn.BatchNorm(h)
    head = nn.GlobalAvgPool(), nn.Linear(h, 10, rng=rng)
    return nn.Sequential(*stem, *block(), *block(), *head)


def final_loss(make, lr, steps=60):
    """The mean loss of the last ten steps."""
    model, rng = small_mixer(), np.random.default_rng(0)
    optimizer, losses = make(model.parameters(), lr), []
    for _ in range(steps):
        batch = rng.integers(0, len(images), 64)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(mx.Tensor(images[batch])), data.train_labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses[-10:])


makers = {
    "gradient descent": lambda p, lr: mx.SGD(p, lr=lr),
    "momentum 0.9": lambda p, lr: mx.SGD(p, lr=lr, momentum=0.9),
    "AdamW": lambda p, lr: mx.AdamW(p, lr=lr),
}
rates = (0.001, 0.01, 0.1, 1)
fig, ax = show.subplots(
    size=(7, 3),
    alt="08.6", guess=guess,
)
for (name, make), marker in zip(makers.items(), "os^"):
    ax.plot(rates, [final_loss(make, lr) for lr in rates], f"{marker}-", label=name)
ax.axhline(np.log(10), color=show.GRAY, linewidth=0.8)
ax.text(1, np.log(10) + 0.02, "guessing", color=show.GRAY, ha="center")
ax.set(xscale="log", xlabel="learning rate", title="loss after 60 steps", ylim=(1.8, 2.7))
ax.legend(loc="upper left")
fig

# %% [markdown]
# For none. Each has a best rate, a tenth of it is much worse, and the best rates differ by a factor
# of a hundred: a learning rate means nothing without its optimizer. At its best rate AdamW is
# ahead, and with $\eta = 1$, *one unit per step for every weight*, it fails. So the usual choice is
# AdamW, with an $\eta$ that rises and falls during training: lesson 10.
#
# ## Yours and the library's

# %%
rng = np.random.default_rng(0)
p, q = (mx.Tensor(rng.normal(size=(3, 4)), requires_grad=True) for _ in range(2))
mine_p, mine_q = p.array.copy(), q.array.copy()
m = v = u = np.zeros((3, 4))
library_adamw = mx.AdamW([p], lr=0.1, weight_decay=0.05)
library_sgd = mx.SGD([q], lr=0.1, momentum=0.9)
for t in range(1, 21):
    p.grad, q.grad = rng.normal(size=(2, 3, 4))
    mine_p, m, v = adamw(mine_p, p.grad, m, v, t, lr=0.1, weight_decay=0.05)
    mine_q, u = momentum(mine_q, q.grad, u, lr=0.1, mu=0.9)
    library_adamw.step()
    library_sgd.step()
print("AdamW after 20 steps:   ", np.allclose(mine_p, p.array))
print("momentum after 20 steps:", np.allclose(mine_q, q.array))

# %% [markdown]
# Read **`minimix/optim/adamw.py`**: your formulas are in its docstring, and it calls
# `adamw_update`, whose meaning is a few lines in **`minimix/kernels/reference/adamw.py`**. Written
# like that, NumPy passes over memory a dozen times; `minimix/kernels/compiled/adamw.py` does it
# once. Momentum is in `minimix/optim/sgd.py`.
#
# **Go further.** Nesterov's momentum looks ahead: `mx.SGD(…, nesterov=True)`. Does it swing less? ·
# What does Adam do with $\beta_1 = \beta_2 = 0$? · Where a batch norm directly follows a
# convolution, the loss does not depend on the scale of that convolution's weights. What effect can decay have on such weights? (Think of angles.)
#
# Next: **09 · ConvMixer**, all of it in twenty lines.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("08", momentum, moments, adam, adamw)
