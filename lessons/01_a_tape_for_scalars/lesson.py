# %% [markdown]
# # 01 · A tape for scalars
#
# **You build** a program that differentiates programs, in about forty lines, and train a small
# neural network with it.<br>
# **You need** Python functions and classes, and the derivatives of $x y$ and $\tanh x$.<br>
# **It takes** half an hour to work through, 10 seconds to run.
#
# This is where you are going: numbers that remember how they were computed, and that know (in red)
# how much the final result would change if they did.

# %%
import itertools
import math
import random
import time

import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check

# %%
a = mx.Tensor(2.0, requires_grad=True)
b = mx.Tensor(-3.0, requires_grad=True)
c = a * b
d = c + a
show.tape(
    d,
    backward=True,
    names={"a": a, "b": b, "c": c, "d": d},
    alt="01.1",
)

# %% [markdown]
# ## A derivative is a nudge
#
# What does "grad −2" below `a` mean? If you nudge `a` a little, the result moves −2 times as far.
#
# > **Predict** before you run the cell: in $d = a\,b + a$ with $a = 2$, $b = -3$, `a` is used
# > twice. Through the product, the result moves by −3 for every 1 that `a` moves. What does the
# > other use add?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
def f(a, b):
    return a * b + a


nudge = 1e-6
(f(2 + nudge, -3) - f(2, -3)) / nudge

# %% [markdown]
# Nudging works for any program, but it runs the whole program once *for every input*. A network has
# a million inputs to nudge. We want all the derivatives from a single pass, and here is how.
#
# ## One operation: a forward and a backward pass
#
# Break the program into steps so small that you know the derivative of each by heart. Each step is
# a function that returns **two** things: its result (the *forward pass*), and a function for the
# *backward pass*.

# %%
def add(x, y):
    """x + y, and its backward function."""

    def backward(g):
        return g, g  # one for x, one for y

    return x + y, backward


result, backward = add(2.0, 5.0)
print("forward: ", result)
print("backward:", backward(10.0))

# %% [markdown]
# `g` is what we know during the backward pass: *if the result of this step moves by 1, the final
# result moves by g.* `backward(g)` answers the same question for the inputs:
#
# $$ dx = g \cdot \frac{\partial\,\text{result}}{\partial x} \qquad
#    dy = g \cdot \frac{\partial\,\text{result}}{\partial y} $$
#
# For a sum both derivatives are 1, so `g` is passed on unchanged.
#
# ### Exercise 1 · `multiply`
#
# `multiply(x, y)` of two floats returns `(x·y, backward)`; `backward(g)` returns `(dx, dy)`.

# %%
def multiply(x, y):
    """x · y, and its backward function."""
    ### BEGIN SOLUTION
    def backward(g):
        return g * y, g * x

    return x * y, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. Hold $y$ fixed. If $x$ moves by 1, how far does $x y$ move?
# 2. The derivative with respect to $x$ is $y$, and with respect to $y$ it is $x$. Each is
#    multiplied by `g`.
# 3. Define `backward(g)` inside `multiply`, as in `add`: it can see `x` and `y`. Return
#    `x * y, backward`.

# %%
check("01.multiply", multiply)

# %% [markdown]
# ### Exercise 2 · `tanh`
#
# Now a function of one number: `tanh(x)` returns `(t, backward)` with $t = \tanh x$, and
# `backward(g)` returns a tuple with one element, `(dx,)`. The derivative is convenient: it needs
# only $t$, which you already have.
#
# $$ \frac{d \tanh x}{dx} = 1 - \tanh^2 x $$

# %%
def tanh(x):
    """tanh x, and its backward function. `math.tanh` computes tanh."""
    ### BEGIN SOLUTION
    t = math.tanh(x)

    def backward(g):
        return (g * (1 - t * t),)

    return t, backward
    ### END SOLUTION

# %% hints [markdown]
# 1. Compute `t = math.tanh(x)` once, outside `backward`, and use it in both places.
# 2. $dx = g\,(1 - t^2)$.
# 3. A tuple with one element is written `(value,)`, with the comma.

# %%
check("01.tanh", tanh)

# %% [markdown]
# ## The chain rule by hand
#
# With these operations, go backward through $d = a\,b + a$ by hand. The final result is `d`, so `g`
# starts as 1: *if d moves by 1, d moves by 1.*

# %%
a, b = 2.0, -3.0
c, back_through_c = multiply(a, b)
d, back_through_d = add(c, a)

dc, da_one = back_through_d(1.0)
da_two, db = back_through_c(dc)
print(f"dc {dc}    da {da_one} and {da_two}    db {db}")

# %% [markdown]
# `a` was used twice, so two gradients came back to it: 1 and −3. Both effects happen at once, **so
# they add up**: −2, just as the nudge said. That is all of backpropagation. The rest is
# bookkeeping, and bookkeeping is a job for a machine.
#
# ## The tape
#
# A `Value` is a number that records where it came from.

# %%
serials = itertools.count()


class Value:
    """A number that remembers how it was computed."""

    def __init__(self, data, inputs=(), op="", backward=None):
        self.data = data  # the number
        self.grad = None  # d(final result) / d(this), once we know it
        self.inputs = inputs  # a tuple of the Values it was made from
        self.op = op  # the name of what made it, for pictures
        self.backward = backward  # g -> one gradient for each input
        self.serial = next(serials)  # 0, 1, 2, …: how many Values are older


Value(3.0).serial, Value(3.0).serial

# %% [markdown]
# ### Exercise 3 · `record`
#
# `record(op, *inputs)` runs an operation such as `multiply` on the *numbers* of its inputs and
# returns the result as a `Value` with all four fields: the number, the inputs, `op.__name__` and
# backward. An input may be a plain number (as in `x * 2`): wrap it in a `Value` first.

# %%
def record(op, *inputs):
    """Run op on the inputs' numbers; the result as a Value that remembers."""
    ### BEGIN SOLUTION
    inputs = tuple(v if isinstance(v, Value) else Value(v) for v in inputs)
    result, backward = op(*(v.data for v in inputs))
    return Value(result, inputs, op.__name__, backward)
    ### END SOLUTION

# %% hints [markdown]
# 1. Three steps: make every input a Value; call `op` on their `.data`; build the new Value.
# 2. `isinstance(v, Value)` tells a Value from a number. `op(*numbers)` calls `op` with a list of
#    arguments and returns a pair.
# 3. The last line is `return Value(result, inputs, op.__name__, backward)`, with `inputs` a tuple.

# %%
check("01.record", record)

# %% [markdown]
# Teach `Value` the operators `+`, `*` and `-`, and it looks like an ordinary number. Run ordinary
# code on it, and the tape writes itself:

# %% folded
Value.__add__ = Value.__radd__ = lambda x, y: record(add, x, y)
Value.__mul__ = Value.__rmul__ = lambda x, y: record(multiply, x, y)
Value.__sub__ = lambda x, y: x + y * -1.0
Value.tanh = lambda x: record(tanh, x)

a, b = Value(2.0), Value(-3.0)
c = a * b
d = c + a
show.tape(
    d,
    names={"a": a, "b": b, "c": c, "d": d},
    alt="01.2",
)

# %% [markdown]
# ## In which order?
#
# The obvious backward pass: give `g` to a value, which at once passes each of its inputs its share,
# and each of those does the same …

# %%
def push(value, g):
    """Add g to the gradient of value, and pass its share on to each input at once."""
    global calls
    calls += 1
    value.grad = g if value.grad is None else value.grad + g
    if value.backward:
        for source, share in zip(value.inputs, value.backward(g)):
            push(source, share)


calls = 0
push(d, 1.0)
print(f"da {a.grad}   db {b.grad}   in {calls} calls")

# %% [markdown]
# Correct! Now a longer program: start with $x$ and double it $n$ times with `y = y + y`.
#
# > **Predict:** for $n = 4$ the tape has five values. How many times is `push` called? And for
# > $n = 18$, with nineteen values?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
def doubled(x, n):
    for _ in range(n):
        x = x + x
    return x


depths, counts = range(1, 19), []
for n in depths:
    calls = 0
    push(doubled(Value(1.0), n), 1.0)
    counts.append(calls)

fig, ax = show.subplots(
    alt="01.3", guess=guess,
    size=(6.5, 2.8),
)
ax.plot(depths, counts, "o-", label="calls of push")
ax.plot(depths, [n + 1 for n in depths], "s-", label="values on the tape")
ax.set(yscale="log", xlabel="doublings", xticks=[1, 6, 12, 18])
ax.set_title(f"{counts[-1]:,} calls for {depths[-1]} doublings")
ax.legend()
fig

# %% [markdown]
# Every value receives its gradient in two halves and passes on each half separately, so the work
# doubles at every step. The cure: **a value passes on its gradient only once, when all of it has
# arrived**, that is, after everything that was computed from it has been processed.
#
# Which order guarantees that? Nothing can be computed before its inputs, so every value is *newer*
# than its inputs, and the serial numbers say so. **Newest first** is always right.
#
# ## Where recursion fails
#
# Most small autograd programs find their values with a recursive function:

# %%
def ancestors(value, seen):
    """Everything that value was computed from, and value itself: found by recursion."""
    if value not in seen:
        seen.add(value)
        for source in value.inputs:
            ancestors(source, seen)
    return seen


def total(n):
    """1 + 1 + … + 1, one addition at a time."""
    y = Value(1.0)
    for _ in range(n):
        y = y + 1.0
    return y


print("100 additions:", len(ancestors(total(100), set())), "values")

# %% [markdown]
# > **Predict:** a sum of 5,000 numbers is nothing for a computer. What happens below?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
try:
    print("5,000 additions:", len(ancestors(total(5_000), set())), "values")
except RecursionError as error:
    print("RecursionError:", error)

# %% [markdown]
# Python allows about a thousand nested calls. A loop with its own list of values still to visit has
# no such limit.
#
# ### Exercise 4 · `newest_first`
#
# `newest_first(result)` returns a list of every Value that `result` depends on, including `result`
# itself, each once, with the largest `serial` first. No recursion.

# %%
def newest_first(result):
    """Every Value that result depends on, each once, newest first."""
    ### BEGIN SOLUTION
    seen, waiting = {result}, [result]
    while waiting:
        for source in waiting.pop().inputs:
            if source not in seen:
                seen.add(source)
                waiting.append(source)
    return sorted(seen, key=lambda v: v.serial, reverse=True)
    ### END SOLUTION

# %% hints [markdown]
# 1. Keep two things: a set `seen`, and a list `waiting` of values whose inputs you have not looked
#    at yet. Both start with `result` in them.
# 2. `while waiting:` take one out with `.pop()`; put each of its inputs that is not in `seen` into
#    both.
# 3. At the end `sorted(seen, key=lambda v: v.serial, reverse=True)`.

# %%
check("01.newest_first", newest_first)

# %% [markdown]
# ### Exercise 5 · `backward`
#
# Now the machine. `backward(result)` sets `.grad` of every Value that `result` depends on:
#
# - all start at `0.0`, `result` itself at `1.0`;
# - newest first, each value that has a `backward` calls it with its `grad`, and *adds* what it
#   returns to the `grad` of its `inputs`.

# %%
def backward(result):
    """Set the grad of every Value v behind result to d(result) / d(v)."""
    ### BEGIN SOLUTION
    order = newest_first(result)
    for value in order:
        value.grad = 0.0
    result.grad = 1.0
    for value in order:
        if value.backward:
            for source, share in zip(value.inputs, value.backward(value.grad)):
                source.grad += share
    ### END SOLUTION

# %% hints [markdown]
# 1. One loop over `newest_first(result)` sets all gradients to 0.0, a second one does the work.
# 2. `value.backward(value.grad)` gives a tuple with one share for each of `value.inputs`; leaves
#    have `backward = None`.
# 3. `for source, share in zip(value.inputs, value.backward(value.grad)): source.grad += share`.
#    Why `+=`? Remember `a`, which was used twice.

# %%
check("01.backward", backward)

# %% [markdown]
# The picture from the top, from your own code:

# %%
backward(d)
show.tape(
    d,
    names={"a": a, "b": b, "c": c, "d": d},
    alt="01.4",
)

# %% [markdown]
# And now the two programs that failed before, one for lack of time and one of stack:

# %%
x = Value(1.0)
backward(doubled(x, 1_000))
print(f"doubled 1,000 times: dx = 2**1000 is {x.grad == 2.0**1000}")

start = time.perf_counter()
backward(total(100_000))
print(f"a sum of 100,000 numbers: {time.perf_counter() - start:.1f} s")

# %% [markdown]
# ## It learns
#
# These forty lines can train a neural network. The data are two crescents of points; the network
# has two inputs, eight neurons and one output:
#
# $$ h_j = \tanh(u_j x_1 + v_j x_2 + w_j) \qquad
#    \text{score} = \textstyle\sum_j s_j h_j \qquad
#    \text{loss} = \text{mean}\,(\text{score} - \text{target})^2 $$
#
# Training is **gradient descent**: compute the loss, compute its gradient, and move every weight a
# little against its gradient; repeat. Nothing below mentions a derivative.

# %%
rng = np.random.default_rng(0)
angle = rng.uniform(0, np.pi, 60)
labels = np.arange(60) % 2
points = np.stack([np.cos(angle), np.sin(angle)], 1)
points[labels == 1] = [1.0, 0.4] - points[labels == 1]
points += rng.normal(0, 0.1, points.shape)
targets = 2.0 * labels - 1

random.seed(1)
neurons = [[Value(random.gauss(0, 1)) for _ in range(4)] for _ in range(8)]


def score(p):
    """Below 0 for one crescent, above 0 for the other."""
    return sum(s * (u * p[0] + v * p[1] + w).tanh() for u, v, w, s in neurons)


losses = []
for _ in range(80):
    loss = sum((e := score(p) - t) * e for p, t in zip(points.tolist(), targets)) * (1 / 60)
    backward(loss)
    for weight in itertools.chain(*neurons):
        weight.data -= 0.2 * weight.grad
    losses.append(loss.data)
size = len(newest_first(loss))
print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}; {size:,} values on each tape")

# %%
def classify(many):
    weights = np.array([[w.data for w in neuron] for neuron in neurons])
    return np.tanh(many @ weights[:, :2].T + weights[:, 2]) @ weights[:, 3]


fig, (left, right) = show.subplots(
    1, 2, size=(8, 3),
    alt="01.5",
)
left.plot(losses)
left.set(xlabel="step", title="loss", ylim=(0, None))
show.plane(right, classify, points, labels)
right.set_title("what it learned")
fig

# %% [markdown]
# ## Yours and the library's
#
# The same loss in `minimix`, whose values are whole arrays.
#
# > **Predict:** your tape for this loss has thousands of values. How many does the library's have?
# > Are the gradients the same, to how many digits?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
weights = np.array([[w.data for w in neuron] for neuron in neurons])
weights = mx.Tensor(weights, requires_grad=True)


def loss_of_arrays():
    hidden = (mx.Tensor(points) @ weights[:, :2].transpose() + weights[:, 2]).tanh()
    error = hidden @ weights[:, 3] - targets
    return (error * error).mean()


loss_of_arrays().backward()  # what is called for the first time takes longer (lesson 04)
weights.grad = None
newest = loss_of_arrays()

loss = sum((e := score(p) - t) * e for p, t in zip(points.tolist(), targets)) * (1 / 60)
start = time.perf_counter()
backward(loss)
yours = time.perf_counter() - start
start = time.perf_counter()
newest.backward()
library = time.perf_counter() - start

grads = np.array([[w.grad for w in neuron] for neuron in neurons])
print(f"largest difference of a gradient: {np.abs(grads - weights.grad).max():.1e}")
print(f"backward pass: yours {1000 * yours:.1f} ms, the library's {1000 * library:.2f} ms")

# %% [markdown]
# A dozen values instead of thousands. The machinery is the same as yours, and now you can read it:
# open **`minimix/autograd.py`**. `op` is your `record`, `Tensor._tape` is your `newest_first`, and
# `Tensor.backward` is your `backward`, with the checks that arrays need, and with care for their memory.
#
# **Go further.** Add `exp` and division. · Make `backward` free the tape as it passes over it, to
# save memory. · What is the derivative of a derivative: could `backward` itself be recorded?
#
# Next: **02 · Tensors and broadcasting**, in which one value stands for a million.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("01", multiply, tanh, record, newest_first, backward)
