# %% [markdown]
# # 02 · Tensors and broadcasting
#
# **You build** the backward pass of broadcasting, of the matrix product and of the loss of every
# classifier, and train a network with them.<br>
# **You need** lesson 01, and NumPy's shapes and `axis=`.<br>
# **It takes** 40 minutes to work through, 5 seconds to run.
#
# In lesson 01 the tape held thousands of single numbers. Now each value on the tape is a whole
# array. By the end, your operations will separate these three arms:

# %%
import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F

# %%
rng = np.random.default_rng(0)
labels = np.arange(240) % 3
radius = rng.uniform(0.1, 1, 240)
angle = 4 * radius + labels * 2 * np.pi / 3 + rng.normal(0, 0.15, 240)
points = (radius * [np.cos(angle), np.sin(angle)]).T  # (240, 2)

fig, ax = show.subplots(alt="02.1", size=(3.4, 3.2))
show.plane(ax, None, points, labels)
fig

# %% [markdown]
# ## A copy in the forward pass is a sum in the backward pass
#
# NumPy stretches shapes until they fit: **broadcasting**.

# %%
x = np.array([[1.0], [2.0], [3.0]])  # (3, 1): one number per row
y = np.array([10.0, 20.0, 30.0, 40.0])  # (4,):  one number per column
show.arrays(
    {"x": x, "y": y, "x · y": x * y},
    joints=("×", "="),
    alt="02.2",
)

# %% [markdown]
# Every number in `y` was used in three products. Each product sends back a gradient, and in lesson
# 01 you saw what happens to a value that is used several times: its gradients **add up**.
#
# > **Predict:** the incoming gradient $g$ has shape (3, 4), say all ones. Then $g \cdot x$ has
# > shape (3, 4) as well, but the gradient of `y` must have the shape of `y`, (4,). Which four
# > numbers does it contain?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
g = np.ones((3, 4))
show.arrays(
    {"g · x": g * x, "dy": (g * x).sum(axis=0)},
    joints=("→",),
    alt="02.3", guess=guess,
)

# %% [markdown]
# ### Exercise 1 · `unbroadcast`
#
# `unbroadcast(g, shape)` undoes broadcasting: it sums `g` over every axis along which an array of
# `shape` was stretched to `g.shape`, and returns an array of exactly that `shape`. NumPy aligns
# shapes from the right, and stretches in two ways:
#
# | `shape` | `g.shape` | stretched | so sum over |
# |---|---|---|---|
# | `   (4,)` | `(3, 4)` | a missing axis was added in front | axis 0 |
# | `(3, 1)` | `(3, 4)` | an axis of length 1 was repeated | axis 1, and keep it |

# %%
def unbroadcast(g, shape):
    """Sum g over the axes along which an array of `shape` was stretched."""
    ### BEGIN SOLUTION
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1)
    return g.sum(axis=stretched, keepdims=True)
    ### END SOLUTION

# %% hints [markdown]
# 1. Handle the missing axes first. There are `g.ndim - len(shape)` of them, all in front.
# 2. `g.sum(axis=(0, 1))` sums over two axes at once; `axis=()` sums over none.
# 3. Then the axes `i` with `shape[i] == 1`: `g.sum(axis=…, keepdims=True)` leaves them with
#    length 1.

# %%
check("02.unbroadcast", unbroadcast)

# %% [markdown]
# ### Exercise 2 · `multiply`, for arrays
#
# The same convention as in lesson 01: `multiply(x, y)` returns the product and `backward`, and
# `backward(g)` returns `(dx, dy)`, **each in the shape of its own argument**.
#
# $$ dx = g\,y \text{, summed to the shape of } x \qquad dy = g\,x \text{, summed to the shape of } y $$

# %%
def multiply(x, y):
    """x · y with broadcasting, and its backward function."""
    ### BEGIN SOLUTION
    def backward(g):
        return unbroadcast(g * y, x.shape), unbroadcast(g * x, y.shape)

    return x * y, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. Write it as in lesson 01, then ask of each gradient: does it have the right shape?
# 2. `g * y` has the shape of the *result*. `unbroadcast` brings it back to `x.shape`.
# 3. `return unbroadcast(g * y, x.shape), …`

# %%
check("02.multiply", multiply)

# %% [markdown]
# ## One line, and it is on the tape
#
# A function of that form is all that `minimix` asks for. `op` lifts it from arrays to tensors: from
# now on it records itself, and `backward` passes through it.

# %%
times = mx.op(multiply)

p = mx.Tensor(x, requires_grad=True)
q = mx.Tensor(y, requires_grad=True)
times(p, q).sum().backward()
print("p", p.grad.ravel(), "  q", q.grad)

# %% [markdown]
# (The engine also sums over broadcast axes if you do not, so the library's own `multiply` is even
# shorter. But somebody has to write that engine, and now you know how.)
#
# ## The trap
#
# Broadcasting never asks whether you meant it. Here a line is fitted to points, twice. The two
# programs differ in one thing only: the shape of the targets.

# %%
t = np.linspace(-1, 1, 50).reshape(50, 1)  # (50, 1)
targets = 1.5 * t + 0.3 + rng.normal(0, 0.1, t.shape)  # (50, 1)


def fit(targets):
    """200 steps of gradient descent: the slope, the offset and the last loss."""
    w, b = mx.Tensor(np.zeros((1, 1)), requires_grad=True), mx.Tensor([0.0], requires_grad=True)
    b = b.astype(np.float64)
    for _ in range(200):
        error = mx.Tensor(t) @ w + b - targets
        loss = (error * error).mean()
        w.grad = b.grad = None
        loss.backward()
        for parameter in (w, b):
            parameter.array = parameter.array - 0.2 * parameter.grad
    return w.item(), b.item(), loss.item()


good, bad = fit(targets), fit(targets.ravel())  # (50, 1) and (50,)

# %% [markdown]
# > **Predict:** the second program compares `(50, 1)` predictions with `(50,)` targets. No error,
# > no warning. What is the shape of `error`? Which line does it find?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
fig, ax = show.subplots(alt="02.4", guess=guess, size=(6, 2.8))
ax.plot(t, targets, ".", color=show.GRAY)
for (w, b, loss), name, style in ((good, "(50, 1)", "-"), (bad, "(50,)", "--")):
    ax.plot(t, w * t + b, style, label=f"targets {name}: loss {loss:.3f}")
ax.legend()
fig

# %% [markdown]
# `error` was a (50, 50) table: every prediction minus *every* target. The best answer to all
# targets at once is their mean: a flat line. The loss fell, the program ran, and the model learned
# nothing. When a network will not learn, check shapes first.
#
# ## The matrix product
#
# Every linear layer is a matrix product. With $x$ (M, K) and $w$ (K, C):
#
# $$ y_{mc} = \sum_k x_{mk}\, w_{kc} \qquad\text{so}\qquad
#    dx_{mk} = \sum_c g_{mc}\, w_{kc} \qquad dw_{kc} = \sum_m x_{mk}\, g_{mc} $$
#
# ### Exercise 3 · `matmul`
#
# Write those sums as matrix products. Let the shapes guide you: there is only one way to get (M, K)
# from $g$ (M, C) and $w$ (K, C).

# %%
def matmul(x, w):
    """x @ w, and its backward function.   x (M, K), w (K, C) -> (M, C)"""
    ### BEGIN SOLUTION
    def backward(g):
        return g @ w.T, x.T @ g

    return x @ w, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. A sum over $c$ of $g_{mc} w_{kc}$: in a matrix product the summed index is the last one of the
#    left matrix and the first one of the right matrix.
# 2. So $w$ must be transposed: $w^T$ is (C, K).
# 3. `dx = g @ w.T`. For `dw` the summed index is $m$: `x.T @ g`.

# %%
check("02.matmul", matmul)

# %% [markdown]
# ### Exercise 4 · `linear`
#
# A layer adds a bias: $y = x w + b$ with $b$ (C,). `backward(g)` returns `(dx, dw, db)`. The bias
# was broadcast over all M rows.

# %%
def linear(x, w, b):
    """x @ w + b, and its backward function.   x (M, K), w (K, C), b (C,) -> (M, C)"""
    ### BEGIN SOLUTION
    y, matmul_backward = matmul(x, w)

    def backward(g):
        return *matmul_backward(g), g.sum(axis=0)

    return y + b, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. You have the first two gradients already.
# 2. The bias was copied to every row. A copy in the forward pass is …
# 3. `db = g.sum(axis=0)`.

# %%
check("02.linear", linear)

# %% [markdown]
# ## The loss of every classifier
#
# A network computes one score per class, its *logits* $z$ (N, n_classes). Softmax turns them into
# probabilities, and the loss is minus the logarithm of the probability of the right class, averaged
# over the batch:
#
# $$ p_{nk} = \frac{e^{z_{nk}}}{\sum_j e^{z_{nj}}} \qquad
#    L = -\frac1N \sum_n \log p_{n,\,\text{label}_n} $$
#
# Its gradient may be the most elegant of all. With $q$ the one-hot rows of the labels:
#
# $$ dz = \frac gN\,(p - q) $$
#
# *What was predicted, minus what is true.*
#
# > **Predict:** three logits, 1000, 0 and 0. What is $e^{1000}$ in floating point? And $p$?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
z = np.array([1000.0, 0.0, 0.0])
with np.errstate(all="ignore"):
    print("as written:        ", np.exp(z) / np.exp(z).sum())

z = z - z.max()
print("maximum subtracted:", np.exp(z) / np.exp(z).sum())

# %% [markdown]
# Subtracting the same number from all logits changes nothing ($e^{-c}$ cancels), and now nothing
# overflows.
#
# ### Exercise 5 · `cross_entropy`
#
# `cross_entropy(logits, *, labels)` returns the loss, a number, and `backward`; `backward(g)`
# returns `dlogits` (N, n_classes). `labels` (N,) are integers, passed by keyword.

# %%
def cross_entropy(logits, *, labels):
    """Mean cross-entropy, and its backward function.   (N, n_classes), labels (N,) -> ()"""
    rows = np.arange(len(labels))
    ### BEGIN SOLUTION
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def backward(g):
        dz = np.exp(log_p)
        dz[rows, labels] -= 1
        return g * dz / len(labels)

    return -log_p[rows, labels].mean(), backward
    ### END SOLUTION

# %% hints [markdown]
# 1. $\log p = z - \log \sum e^z$, after subtracting the largest logit of each row
#    (`keepdims=True`). Do not compute `log` of a `p` that may be 0.
# 2. `log_p[rows, labels]` picks one number from each row; the loss is minus their mean.
# 3. In `backward`: `p = np.exp(log_p)`; subtract 1 at `[rows, labels]`; multiply by `g` and divide
#    by N.

# %%
check("02.cross_entropy", cross_entropy)

# %% [markdown]
# ## Three arms
#
# Two of your layers with a tanh between them, and your loss.

# %%
layer, loss_of = mx.op(linear), mx.op(cross_entropy)
rng = np.random.default_rng(2)
w1, b1 = rng.normal(0, 1.5, (2, 32)), np.zeros(32)
w2, b2 = rng.normal(0, 0.3, (32, 3)), np.zeros(3)
parameters = [mx.Tensor(p, requires_grad=True) for p in (w1, b1, w2, b2)]


def network(x):
    """x (N, 2) -> logits (N, 3)"""
    w1, b1, w2, b2 = parameters
    return layer(layer(mx.Tensor(x), w1, b1).tanh(), w2, b2)


fig, axes = show.subplots(1, 3, size=(8, 2.9), alt="02.5")
shots = dict(zip((0, 50, 1000), axes, strict=True))
for step in range(1001):
    loss = loss_of(network(points), labels=labels)
    for p in parameters:
        p.grad = None
    loss.backward()
    if step in shots:
        show.plane(shots[step], lambda x: network(x).array, points, labels)
        shots[step].set_title(f"step {step}: loss {loss.item():.2f}", fontsize=9)
    for p in parameters:
        p.array = p.array - 1.0 * p.grad
fig

# %% [markdown]
# ## When an operation is wrong
#
# Your gradients come from plain Python functions, so they can be nonsense. A tensor library that
# accepts nonsense costs you a weekend.
#
# > **Predict:** below, the bias gradient is not summed. What will the engine say?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
@mx.op
def careless(x, w, b):
    def backward(g):
        return g @ w.T, x.T @ g, g[:, :2]

    return x @ w + b, backward


inputs = [mx.Tensor(rng.normal(size=s), requires_grad=True) for s in ((5, 2), (2, 3), (3,))]
try:
    careless(*inputs).sum().backward()
except RuntimeError as error:
    print(error)

# %% [markdown]
# It names the operation, the argument and both shapes.
#
# ## Yours and the library's

# %%
x, w, b = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
labels5 = np.array([0, 2, 1, 1, 0])
results = []
for a, c in ((mx.op(linear), mx.op(cross_entropy)), (F.linear, None)):
    tensors = [mx.Tensor(v, requires_grad=True) for v in (x, w, b)]
    logits = a(*tensors)
    (c(logits, labels=labels5) if c else F.cross_entropy(logits, labels5)).backward()
    results.append([t.grad for t in tensors])

for name, mine, library in zip(("dx", "dw", "db"), *results, strict=True):
    print(name, "largest difference", f"{np.abs(mine - library).max():.0e}")

# %% [markdown]
# Now read **`minimix/functional/arithmetic.py`**: each operation is a few lines: the
# formula, then forward and backward. `unbroadcast` is in `minimix/autograd.py`; `linear` is at the top
# of `minimix/functional/conv.py`, and lessons 05 and 06 show why it lives there.
#
# **Go further.** Write `softmax` by itself; why is its gradient so much longer than that of softmax
# and loss together? · Make `unbroadcast` reject shapes that do not broadcast. · Find a place in
# your own code where `(N, 1)` could have met `(N,)`.
#
# Next: **03 · Gradients you can trust**. You checked yours against ours. Who checked ours?

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("02", unbroadcast, multiply, matmul, linear, cross_entropy)
