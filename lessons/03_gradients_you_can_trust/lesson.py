# %% [markdown]
# # 03 · Gradients you can trust
#
# **You build** a check that no wrong gradient passes, and find three bugs with it.<br>
# **You need** lesson 02.<br>
# **It takes** 30 minutes to work through, 5 seconds to run.
#
# A wrong gradient is the quietest bug there is. Nothing crashes; the loss even falls, only not
# quite as far. At the end of this lesson seven operations stand in a line-up, and three of them
# lie:

# %%
import inspect

import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from lessons.suspects import suspects
from minimix import functional as F
from minimix import gradcheck

# %% folded
fig, ax = show.subplots(size=(7, 3.2), alt="03.1")
rng = np.random.default_rng(4)
for (name, (op, inputs)), style in zip(suspects().items(), ["-", "--", ":", "-."] * 2):
    x, more = inputs[0], inputs[1:]
    target = op(rng.normal(size=x.shape), *more)[0]
    losses = []
    for _ in range(40):
        y, backward = op(x, *more)
        losses.append(((y - target) ** 2).mean())
        x = x - 0.3 * backward(y - target)[0]
    ax.semilogy(np.array(losses) / losses[0], style, label=name)
ax.set(xlabel="step of gradient descent", ylim=(1e-4, None), title="every loss falls")
ax.legend(fontsize=8, ncols=2, loc="lower right")
fig

# %% [markdown]
# ## Ask the forward function
#
# You checked your gradients against the library's. Who checked the library's? There is a witness
# that cannot be wrong in the same way: **the forward function itself**. Move the input a little,
# and see how far the output moves.
#
# ### Exercise 1 · `slope`
#
# The *central* difference steps to both sides:
#
# $$ f'(x) \approx \frac{f(x+h) - f(x-h)}{2h} $$

# %%
def slope(f, x, h):
    """The slope of f at x, measured from x - h to x + h."""
    ### BEGIN SOLUTION
    return (f(x + h) - f(x - h)) / (2 * h)
    ### END SOLUTION

# %% hints [markdown]
# 1. Rise over run.
# 2. The rise is `f(x + h) - f(x - h)`. How long is the run?
# 3. Mind the parentheses: `/ (2 * h)`, not `/ 2 * h`.

# %%
check("03.slope", slope)

# %% [markdown]
# > **Predict:** the slope of $\sin$ at 1 is $\cos 1$. With $h = 10^{-2}$ the measurement is off by
# > about $10^{-5}$. How far is it off with $h = 10^{-5}$? With $10^{-9}$? With $10^{-15}$?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
for h in (1e-2, 1e-5, 1e-9, 1e-15):
    print(f"h = {h:.0e}   off by {abs(slope(np.sin, 1.0, h) - np.cos(1.0)):.1e}")

# %% [markdown]
# Smaller is better, up to a point. Two errors compete:
#
# - the *curvature* between the two points: $\frac{h^2}{6} f'''$, smaller with smaller $h$;
# - the *rounding* of $f$, about $10^{-16}$ in float64, **divided by $h$**: larger with smaller $h$.
#
# > **Predict:** float32 rounds at $10^{-7}$. What is the smallest error that any $h$ can give?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
steps = np.logspace(-15, 0, 61)
f32 = np.float32


def one_sided(f, x, h):
    return (f(x + h) - f(x)) / h


fig, ax = show.subplots(size=(7, 3.4), alt="03.2", guess=guess)
for name, measure, kind, style in (
    ("one-sided, float64", one_sided, np.float64, "--"),
    ("central, float64", slope, np.float64, "-"),
    ("central, float32", slope, f32, ":"),
):
    errors = [abs(float(measure(np.sin, kind(1), kind(h))) - np.cos(1)) for h in steps]
    ax.loglog(steps, np.maximum(errors, 1e-13), style, label=name)
ax.set(xlabel="h", ylabel="error", ylim=(1e-13, 10))
ax.legend()
fig

# %% [markdown]
# So: **check in float64, with central differences, with $h$ near $10^{-5}$.** (In float32 a right
# gradient and one that is wrong in the fourth digit look the same.)
#
# ## Every number of an array
#
# ### Exercise 2 · `numerical_gradient`
#
# `f` takes an array and returns one number. Measure the slope for each number of `x` in turn, with
# all others held fixed. Return an array of the shape of `x`, and leave `x` unchanged.

# %%
def numerical_gradient(f, x, h=1e-5):
    """The gradient of f at x, one number at a time.   x (any shape) -> (same)"""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):  # every index: (0, 0), (0, 1), …
        ### BEGIN SOLUTION
        step = np.zeros_like(x)
        step[i] = h
        gradient[i] = (f(x + step) - f(x - step)) / (2 * h)
        ### END SOLUTION
    return gradient

# %% hints [markdown]
# 1. `i` is a whole index; `x[i]` is one number. Which two arrays do you give to `f`?
# 2. Make an array of zeros with `h` at `i`: then `x + step` and `x - step` are new arrays, and `x`
#    is unchanged.
# 3. `gradient[i] = (f(x + step) - f(x - step)) / (2 * h)`

# %%
check("03.numerical_gradient", numerical_gradient)

# %% [markdown]
# ## Two traps
#
# **The first.** To check an operation you need a single number at the end, and the obvious choice
# is `y.sum()`. Here is a softmax whose backward function is plainly wrong: it returns zeros.

# %%
def lying_softmax(x):
    """Softmax of each row, with a gradient of zeros.   x (N, C) -> (N, C)"""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True), lambda g: (np.zeros_like(x),)


# %% [markdown]
# > **Predict:** does it pass, if you compare with the numerical gradient of the sum?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
x = np.random.default_rng(0).normal(size=(2, 3))
y, backward = lying_softmax(x)

claimed = backward(np.ones_like(y))[0]
measured = numerical_gradient(lambda x: lying_softmax(x)[0].sum(), x)
print("claimed: ", claimed.ravel())
print("measured:", measured.ravel().round(8) + 0.0)

# %% [markdown]
# It passes! Every row of a softmax sums to 1 whatever $x$ is, so the true gradient of the sum *is*
# zero. Batch norm (lesson 07) hides wrong gradients in the same way. `y.sum()` asks only one question. Ask
# another: weight the outputs with **random numbers** $v$ (a random *cotangent*).

# %%
v = np.random.default_rng(1).normal(size=y.shape)
print("claimed: ", backward(v)[0].ravel())
measured = numerical_gradient(lambda x: (lying_softmax(x)[0] * v).sum(), x)
print("measured:", measured.ravel().round(3))

# %% [markdown]
# **The second.** ReLU is $\max(x, 0)$. Its backward function says that the slope at 0 is 0.
#
# > **Predict:** what does `slope` measure at exactly 0?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
print("measured at 0:", slope(lambda x: max(x, 0.0), 0.0, 1e-5))

# %% [markdown]
# At a kink there is no slope to measure, and neither answer is wrong. Check away from kinks.
#
# ## A check for networks
#
# One number at a time, a small ConvMixer with its 84,618 parameters takes 169,236 forward passes.
# But two are enough if you move **all numbers at once** in a random direction $u$:
#
# $$ \underbrace{\textstyle\sum v \cdot \dfrac{f(x + hu) - f(x - hu)}{2h}}_{\text{measured by forward passes}}
#    \;\approx\;
#    \underbrace{\textstyle\sum dx \cdot u}_{\text{claimed by backward(v)}} $$
#
# To get past this check, the error of $dx$ would have to be perpendicular to a random direction.
#
# ### Exercise 3 · `compare`
#
# `op` has our usual form: arrays in, `(y, backward)` out. For each input return the relative error
#
# $$ \frac{|\text{claimed} - \text{measured}|}{|\text{claimed}| + |\text{measured}|} $$

# %%
def compare(op, inputs, rng, h=1e-5):
    """The relative error of each gradient along a random direction: a list, one per input."""
    y, backward = op(*inputs)
    v = rng.normal(size=y.shape)
    errors = []
    for i, dx in enumerate(backward(v)):
        u = rng.normal(size=inputs[i].shape)

        def moved(s):
            """y with input i moved by s · u."""
            return op(*inputs[:i], inputs[i] + s * u, *inputs[i + 1 :])[0]

        ### BEGIN SOLUTION
        measured = (v * (moved(h) - moved(-h))).sum() / (2 * h)
        claimed = (dx * u).sum()
        errors.append(abs(claimed - measured) / (abs(claimed) + abs(measured)))
        ### END SOLUTION
    return errors

# %% hints [markdown]
# 1. `moved(h)` and `moved(-h)` are arrays of the shape of `y`. Their difference over `2 * h` is the
#    rate at which each output moves.
# 2. `measured` is that rate times `v`, summed; `claimed` is `dx` times `u`, summed.
# 3. `errors.append(abs(claimed - measured) / (abs(claimed) + abs(measured)))`

# %%
check("03.compare", compare)

# %% [markdown]
# ## The line-up
#
# `suspects()` returns a dict: name → `(op, inputs)`.
#
# > **Predict:** how large is the relative error of a correct gradient here? And of one that is
# > missing a factor of 3 in a small term?

# %%
guess = ...  # your prediction: a number, or a few words

# %% [markdown]
# ### Exercise 4 · `guilty`
#
# Return the set of names whose gradient is wrong for *any* of their inputs. Where do you draw the
# line? Print the errors first and look.

# %%
def guilty(suspects):
    """The names of the operations whose backward is wrong: a set."""
    rng = np.random.default_rng(0)
    ### BEGIN SOLUTION
    return {
        name for name, (op, inputs) in suspects.items() if max(compare(op, inputs, rng)) > 1e-6
    }
    ### END SOLUTION

# %% hints [markdown]
# 1. `for name, (op, inputs) in suspects.items(): print(name, compare(op, inputs, rng))`
# 2. Correct gradients are near $10^{-10}$, wrong ones above $10^{-3}$: there is a wide gap. Draw
#    the line in the middle of it.
# 3. `max(compare(op, inputs, rng)) > 1e-6`, in a set comprehension.

# %%
check("03.guilty", guilty)

# %%
rng = np.random.default_rng(0)
errors = {name: max(compare(op, inputs, rng)) for name, (op, inputs) in suspects().items()}

fig, ax = show.subplots(size=(7, 2.8), alt="03.3", guess=guess)
for i, (name, error) in enumerate(errors.items()):
    wrong = error > 1e-6
    ax.plot(error, i, "X" if wrong else "o", color=show.RED if wrong else show.BLUE, ms=9)
ax.axvline(1e-6, color=show.GRAY, linestyle=":")
ax.set_yticks(range(len(errors)), errors)
ax.set(xscale="log", xlabel="relative error", xlim=(1e-13, 3), title="three of them lie")
ax.invert_yaxis()
fig

# %% [markdown]
# You know *which* ones. Now read *why*: each has one wrong line in its backward function.

# %%
for name in sorted(guilty(suspects())):
    print(inspect.getsource(suspects()[name][0]))

# %% [markdown]
# <details><summary>The three lines</summary>
#
# - **gelu**: the derivative of $0.044715\,x^3$ is $3 \cdot 0.044715\,x^2$; the 3 is missing. The
#   error is at most 0.03, near $|x| = 1.6$: in training you would never notice.
# - **layer_norm**: the variance depends on every $x$ in the row, too. The term
#   `- normal * (h * normal).mean(axis=1, keepdims=True)` is missing. With a cotangent of ones and
#   $\gamma = 1$ the error is invisible.
# - **smooth**: in the backward pass the kernel must be reversed. `before` reads from the left and
#   belongs to `w[2]`, `after` to `w[0]`. With a symmetric kernel the error is invisible.
#
# </details>
#
# That is why checks use random cotangents, axes of different lengths, and kernels without symmetry.
#
# ## Yours and the library's
#
# `minimix.gradcheck` is your `compare`, with a five-point difference; for small inputs it checks
# every number. It checks whole models as well, with all their parameters:

# %%
rng = np.random.default_rng(0)
x, gamma, beta = rng.normal(size=(4, 6)), rng.normal(size=6), rng.normal(size=6)
print(gradcheck(F.layer_norm, [x, gamma, beta]))

model = mx.ConvMixer(4, 2, kernel_size=3, patch_size=2, n_classes=3, rng=0).astype(np.float64)
print(gradcheck(model, [rng.normal(size=(2, 8, 8, 3))]))

lies, inputs = suspects()["smooth"]
print(gradcheck(mx.op(lies), list(inputs), raise_on_failure=False))

# %% [markdown]
# The last line names the operation, the argument, the index and both numbers. Read
# **`minimix/gradcheck/check.py`**; its first page explains what it does beyond yours, and why.
#
# **Go further.** Write an eighth suspect and give the line-up to a friend. · Make `compare` fail on a
# backward that changes its `g` in place. · Why does `gradcheck` never report an error of exactly 0?
#
# Next: **04 · The speed ladder**. Your gradients are right. Now make them fast.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("03", slope, numerical_gradient, compare, guilty)
