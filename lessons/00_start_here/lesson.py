# %% [markdown]
# # 00 · Start here
#
# In fifteen lessons you will build a neural network that recognizes pictures: every derivative,
# every layer and every step of its training, in Python that you write and understand. This page
# shows where you are going, and checks that your machine is ready.
#
# **You build** one line, to see how exercises work.<br>
# **You need** Python and some NumPy.<br>
# **It takes** 10 minutes to work through, 10 seconds to run.
#
# *Select a cell and press Shift + Enter to run it. The first run spends a few seconds compiling.*

# %%
import os
import platform

import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from lessons.trained import shapes10_model
from minimix.data import normalize, shapes10

# %%
data = shapes10.load(n_train=1, n_test=300, seed=7)
model = shapes10_model()


def ask(images):
    """images uint8 (N, 32, 32, 3) -> logits (N, 10): one score per class; the largest wins."""
    with mx.no_grad():
        return model(mx.Tensor(normalize(np.ascontiguousarray(images)))).array


logits = ask(data.test_images)
fig, axes = show.subplots(3, 8, size=(8.5, 3.9), alt="00.1")
for i, ax in enumerate(axes.flat):
    said = data.class_names[logits[i].argmax()]
    right = logits[i].argmax() == data.test_labels[i]
    show.image(ax, data.test_images[i], f"{'✓' if right else '✗'} {said}")
fig

# %% [markdown]
# The pictures come from `minimix.data.shapes10`: ten shapes drawn at random places, sizes and
# angles, in random colors, with stripes and noise. The network has never seen these. It is a
# **ConvMixer** with 18,106 parameters, and this is its whole architecture:

# %%
print(mx.summary(model, (1, 32, 32, 3)))

# %% [markdown]
# You will write every kind of layer in this table yourself.
#
# ## Your machine

# %%
machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
print(f"minimix {mx.__version__} on {machine}")
print(f"Python {platform.python_version()}, NumPy {np.__version__}")
if mx.kernels.backend_name() == "numba":
    print("kernels are compiled by Numba: fast")
else:
    print("kernels run in NumPy: lesson 04 needs Numba; 10 and 11 take longer than with it")

# %% [markdown]
# ## How an exercise works
#
# You get a function without a body. Replace the line that raises, run the cell, then run the cell
# that checks it. If your answer is wrong, the checker tries to tell you *why*. Three hints and a
# solution are folded away below: open them one at a time, and only when you need them.
#
# ### Exercise · `accuracy`
#
# `logits` (N, n_classes) has one row per picture and one column per class; the largest number in a row is
# the network's answer. `labels` (N,) are the right answers. Return the fraction that is right,
# between 0 and 1.

# %%
def accuracy(logits, labels):
    """The fraction of rows whose largest number is at the label.   (N, n_classes), (N,) -> ()"""
    ### BEGIN SOLUTION
    return (logits.argmax(axis=1) == labels).mean()
    ### END SOLUTION

# %% hints [markdown]
# 1. `logits.argmax(axis=…)` gives the position of the largest number in each row. Which axis runs
#    along a row?
# 2. `==` between two arrays gives an array of True and False, which count as 1 and 0.
# 3. The mean of that is the fraction.

# %%
check("00.accuracy", accuracy)

# %% [markdown]
# (Try a wrong answer, too: return a sum instead of a mean, and check again.)

# %%
print(f"{100 * accuracy(logits, data.test_labels):.1f} % of 300 unseen pictures")

# %% [markdown]
# ## What does it look at?
#
# Cover part of a picture with the color of its corner, and ask the network again. Where the score
# of the right class drops most, the network was looking.

# %%
def importance(image, label, side=6):
    """How much the label's logit falls when a square at each place is covered."""
    places = range(0, 33 - side, 3)
    covered = np.repeat(image[None], len(places) ** 2, axis=0)
    for n, (i, j) in enumerate((i, j) for i in places for j in places):
        covered[n, i : i + side, j : j + side] = image[:3, :3].mean(axis=(0, 1))
    fall = ask(image[None])[0, label] - ask(covered)[:, label]
    return fall.reshape(len(places), len(places))


chosen = [9, 11, 5, 17]
fig, axes = show.subplots(2, 4, size=(7, 3.6), alt="00.2")
for (above, below), i in zip(axes.T, chosen, strict=True):
    show.image(above, data.test_images[i], data.class_names[data.test_labels[i]])
    seen = importance(data.test_images[i], data.test_labels[i])
    show.image(below, seen, cmap="viridis", vmin=0, interpolation="bilinear")
fig

# %% [markdown]
# ## What does it see?
#
# > **Predict:** we change all the pictures in six ways. Which changes hurt? Rank them before you
# > run the cell: *upside down*, *negative* (every color replaced by its opposite), *much darker*,
# > *noise* added, *gray* instead of color, and *shuffled*: cut into 4 × 4 pieces of 8 × 8 pixels
# > that are put back in random order.

# %%
guess = ...  # your prediction, such as {"upside down": 90, "gray": 20}: how many % are right?

# %%
rng = np.random.default_rng(0)
images = data.test_images


def shuffled(images, p=8):
    """Each image (32, 32, 3) cut into p × p pieces that are put back in random order."""
    n, g = len(images), 32 // p
    pieces = images.reshape(n, g, p, g, p, 3).swapaxes(2, 3).reshape(n, g * g, p, p, 3)
    order = rng.permuted(np.tile(np.arange(g * g), (n, 1)), axis=1)
    pieces = pieces[np.arange(n)[:, None], order].reshape(n, g, g, p, p, 3)
    return pieces.swapaxes(2, 3).reshape(images.shape)


changes = {
    "as they are": images,
    "upside down": images[:, ::-1],
    "negative": 255 - images,
    "darker": images // 2,
    "noise": np.clip(images + rng.normal(0, 30, images.shape), 0, 255).astype(np.uint8),
    "gray": np.repeat(images.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8),
    "shuffled": shuffled(images),
}
fig, axes = show.subplots(1, 7, size=(9, 1.8), alt="00.3")
for ax, (name, changed) in zip(axes, changes.items(), strict=True):
    show.image(ax, changed[9], name)
fig

# %%
show.bars(
    {name: 100 * accuracy(ask(changed), data.test_labels) for name, changed in changes.items()},
    unit="% right",
    title="guessing gets 10 %",
    mark=["gray", "shuffled"],
    alt="00.4", guess=guess,
)

# %% [markdown]
# It does not care which way up a picture is, or whether it is light or dark: the training shapes
# came at every angle, some lighter than their background and some darker. But they always came in
# color. You still see the star in the gray picture; the network had learned to separate shape from
# background by color, and was never shown another way. **A network knows only what it was shown.**
#
# In a shuffled picture all the pieces are still there, and yet the network is lost: it knows
# *where* edges are, not only that there are some. Lesson 06 shows which layer is responsible.
#
# ## The road
#
# | | you build | and end up with |
# |---|---|---|
# | 01 | a tape for scalars | forty lines that differentiate programs |
# | 02 | tensors and broadcasting | a network that untwists a spiral |
# | 03 | gradients you can trust | three bugs that nobody would notice |
# | 04 | the speed ladder | a matrix product, ten thousand times faster |
# | 05 | patches | a picture as a sequence of pieces |
# | 06 | depthwise and pointwise convolution | the two halves of a ConvMixer |
# | 07 | GELU and batch normalization | why depth works at all |
# | 08 | AdamW | a fast path down a narrow valley |
# | 09 | ConvMixer | the whole paper in twenty lines |
# | 10 | training | curves and schedules, and how to read them |
# | 11 | is it attention, or is it patches? | an experiment with error bars |
# | 12 | break it | bugs hunted with your own tools |
# | 13 | why residuals, why norms | signals and gradients that survive depth |
# | 14 | mixing tokens | attention, beside its rivals; a framework of your own |
# | 15 | from here to a real project | a model of your own pictures, in use elsewhere |
#
# Each lesson builds on those before it, but nothing forces the order. `minimix lessons --check`
# shows how far you are, and the last cell of each lesson keeps what you have built in a package of
# your own, `mymix/`. At the very end, one line trains a network on photographs of ten kinds of
# objects:
#
#     minimix train --data cifar10
#
# Next: **01 · A tape for scalars**.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("00", accuracy)
