# %% [markdown]
# # 10 · Train it
#
# **You build** everything between a network and a *trained* network: augmentation, a schedule, the
# training step, and an analysis of the mistakes.<br>
# **You need** lessons 08 and 09.<br>
# **It takes** an hour to work through, 90 seconds to run.
#
# This is what a good training run looks like, as logged by the authors of ConvMixer:
# ConvMixer-256/8 on CIFAR-10, 25 epochs. At the end of this lesson you can explain every bend in
# both curves.

# %%
import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F
from minimix.data import cifar10, normalize, shapes10
from minimix.data.augment.reference import geometry
from minimix.optim import schedules
from minimix.train.evaluation import evaluate

# %% folded
# github.com/locuslab/convmixer-cifar10: accuracy on the test images after each epoch, in percent
log = [54.18, 61.57, 70.69, 77.08, 73.44, 76.55, 83.28, 76.55, 81.38, 78.91, 83.87, 83.12,
       85.63, 87.00, 85.27, 89.07, 90.19, 90.68, 91.39, 92.40, 92.38, 92.48, 92.53, 92.55,
       92.60]

fig, (above, below) = show.subplots(
    2, 1, size=(7, 3.8), sharex=True, height_ratios=(3, 1),
    alt="10.1",
)
above.plot(range(1, 26), log, "o-", markersize=4)
above.set(ylabel="correct, %", title="ConvMixer-256/8 on CIFAR-10, trained by its authors")
below.plot([0, 10, 20, 25], [0, 0.05, 0.0025, 0], color=show.RED)
below.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
fig

# %% [markdown]
# ## The pictures
#
# If CIFAR-10 is on this computer, it is used here; otherwise *shapes10*, a synthetic set that is
# drawn on the spot. Everything below works with either. (`minimix train --data cifar10` downloads
# CIFAR-10.)

# %% folded
place = cifar10.find()
data = cifar10.read(place) if place else shapes10.load(n_train=6000, n_test=1000)
names = data.class_names
test_images, test_labels = data.test_images[:1000], data.test_labels[:1000]

fig, axes = show.subplots(2, 8, size=(8, 2.3), alt="10.2")
for ax, picture, label in zip(axes.flat, data.train_images, data.train_labels):
    show.image(ax, picture, names[label])
fig.suptitle(f"{data.name}: {len(data.train_images):,} images to learn from")
fig

# %% [markdown]
# ## Augmentation
#
# A mirrored boat is a boat. A boat two pixels further left is a boat. To the network, these are
# different numbers: **new training pictures for free**. All that matters is that the label stays
# true.
#
# > **Predict:** which of these may you mirror: boats, cats, the digits 0 to 9, chest X-rays, road
# > signs?

# %%
guess = ...  # your prediction: a number, or a few words

# %% [markdown]
# ### Exercise 1 · `flip`
#
# `images` (N, H, W, C) and `which` (N,), True or False for each image. Return a new array in which
# the images selected by `which` are mirrored, left to right.

# %%
def flip(images, which):
    """Mirror the images selected by which.   (N, H, W, C), (N,) bool -> (N, H, W, C)"""
    ### BEGIN SOLUTION
    result = images.copy()
    result[which] = images[which, :, ::-1]
    return result
    ### END SOLUTION

# %% hints [markdown]
# 1. Left to right is the axis W, the third one. `a[::-1]` reverses an axis.
# 2. An array of True and False selects along the first axis: `images[which]` are the images to
#    mirror.
# 3. Copy all images, then overwrite the selected ones: `result[which] = images[which, :, ::-1]`.

# %%
check("10.flip", flip)

# %% [markdown]
# ### Exercise 2 · `crop`
#
# Move each image a little: pad it by `padding` pixels on every side, mirrored at the edge (`np.pad`
# calls this "reflect"), and cut out a window of the original size, whose upper left corner is at
# row `top[i]`, column `left[i]` of the padded image *i*. With `top = left = padding` nothing moves.

# %%
def crop(images, top, left, padding=4):
    """Pad, and cut a window from each.   (N, H, W, C), (N,) int, (N,) int -> (N, H, W, C)"""
    ### BEGIN SOLUTION
    n, h, w, _ = images.shape
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(images, sides, mode="reflect")
    windows = [padded[i, top[i] : top[i] + h, left[i] : left[i] + w] for i in range(n)]
    return np.stack(windows)
    ### END SOLUTION

# %% hints [markdown]
# 1. Two steps: pad the whole batch at once; then cut out one image at a time, in a loop over `i`.
# 2. `np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="reflect")`:
#    nothing before or after along N and C.
# 3. A window is `padded[i, top[i] : top[i] + h, left[i] : left[i] + w]`; `np.stack` makes an array
#    from a list of windows.

# %%
check("10.crop", crop)

# %%
def augment(images, rng):
    """Each image moved by up to 4 pixels, and about half of them mirrored."""
    n = len(images)
    return flip(crop(images, rng.integers(0, 9, n), rng.integers(0, 9, n)), rng.random(n) < 0.5)


fig, axes = show.subplots(1, 8, size=(8, 1.4), alt="10.3", guess=guess)
eight = augment(data.train_images[[9] * 8], np.random.default_rng(0))
eight[0] = data.train_images[9]
for i, (ax, picture) in enumerate(zip(axes, eight)):
    show.image(ax, picture, "" if i else "original")
fig

# %% [markdown]
# ## A schedule
#
# Large steps move fast but cannot settle; small steps settle but move slowly. So: start small,
# while the statistics of batch norm and AdamW are still guesses; then take large steps; then
# smaller and smaller ones.
#
# ### Exercise 3 · `learning_rate`
#
# The authors' schedule consists of straight lines between four points: 0 at the start, `peak` after
# 2/5 of the `total` steps, `peak / 20` after 4/5, and 0 at the end.

# %%
def learning_rate(step, total, peak):
    """The learning rate at step `step` of `total`: a float."""
    ### BEGIN SOLUTION
    steps = [0, total * 2 / 5, total * 4 / 5, total]
    return float(np.interp(step, steps, [0, peak, peak / 20, 0]))
    ### END SOLUTION

# %% hints [markdown]
# 1. `np.interp(x, xs, ys)` draws straight lines between the points and returns the height at x.
# 2. xs are the four steps: 0, two fifths of `total`, four fifths of it, `total`.
# 3. ys are `[0, peak, peak / 20, 0]`.

# %%
check("10.learning_rate", learning_rate)

# %% [markdown]
# ## One step
#
# ### Exercise 4 · `train_step`
#
# All the lessons so far in a few lines. Put the model into training mode; compute the logits
# (forward); compute `F.cross_entropy` of the logits and the labels; clear the old gradients; call
# backward; let the optimizer take a step. Return the loss as a number (`loss.item()`) and the
# logits as an array (`logits.array`).

# %%
def train_step(model, optimizer, x, labels):
    """Learn from one batch.   Tensor (N, H, W, C), labels (N,) -> loss, logits (N, n_classes)"""
    ### BEGIN SOLUTION
    model.train()
    logits = model(x)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), logits.array
    ### END SOLUTION

# %% hints [markdown]
# 1. Six things to do, one line each, in the order of the text, and a `return`.
# 2. `model.train()`, `model(x)`, `F.cross_entropy(logits, labels)`, `optimizer.zero_grad()`,
#    `loss.backward()`, `optimizer.step()`.
# 3. `zero_grad` must come before `backward` (gradients add up), and `step` after it.

# %%
check("10.train_step", train_step)

# %% [markdown]
# ## The training loop
#
# The rest is ten lines. Every epoch visits the same images in a new order.

# %%
COMPILED = mx.kernels.backend_name() == "numba"
WIDTH, STEPS, BATCH = (48, 500, 64) if COMPILED else (16, 60, 32)  # NumPy alone is much slower


def accuracy(model, images, labels):
    """The fraction of images that the model classifies correctly, in evaluation mode."""
    return evaluate(model, images, labels, data.n_classes).accuracy


def fit(images, labels, steps, augmented, seed=0):
    """Train a ConvMixer: (the model, a table of its progress)."""
    rng = np.random.default_rng(seed)
    model = mx.ConvMixer(WIDTH, 4, kernel_size=5, patch_size=2 if COMPILED else 4, rng=seed,
                         n_classes=data.n_classes)
    if COMPILED:
        model = mx.fuse(model)  # the same layers and numbers, in fewer passes over memory
    optimizer = mx.AdamW(model.parameters(), lr=0.01, weight_decay=0.005)
    epochs = [rng.permutation(len(images)) for _ in range(1 + steps * BATCH // len(images))]
    order = np.concatenate(epochs)[: steps * BATCH].reshape(steps, BATCH)
    history = []
    for step, batch in enumerate(order):
        x = augment(images[batch], rng) if augmented else images[batch]
        optimizer.lr = learning_rate(step, steps, peak=0.01)
        loss, _ = train_step(model, optimizer, mx.Tensor(normalize(x)), labels[batch])
        if (step + 1) % (steps // 10) == 0:
            train, test = ((images[:500], labels[:500]), (test_images, test_labels))
            history.append((step + 1, accuracy(model, *train), accuracy(model, *test), loss))
            print(f"step {step + 1:4} of {steps}: loss {loss:.2f}", flush=True)
    return model, np.array(history)

# %% [markdown]
# ## Memorizing
#
# We start with few pictures: a thousand. In 500 steps the network sees each of them 32 times.
#
# > **Predict:** what fraction of the thousand does it classify correctly at the end? And of a
# > thousand that it has never seen?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
few, few_labels = data.train_images[:1000], data.train_labels[:1000]

_, memorized = fit(few, few_labels, STEPS, augmented=False)
print(f"training images {memorized[-1, 1]:.0%}, test images {memorized[-1, 2]:.0%}")
if not COMPILED:
    print("(a much shorter run, for the NumPy back end; the text below describes the full one)")

# %% [markdown]
# It has learned the pictures, not what they show: *overfitting*. These two numbers are the first
# thing to look at in any training run. If they are far apart, the network knows the examples and
# not the subject; if both are low, it is too small, or was not trained long enough.
#
# > **Predict:** the same thousand pictures and the same number of steps, but with augmentation:
# > hardly any picture comes twice in the same form. What fraction of the test images is classified correctly now?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
_, moved = fit(few, few_labels, STEPS, augmented=True)
print(f"training images {moved[-1, 1]:.0%}, test images {moved[-1, 2]:.0%}")


def curves(ax, history, title):
    """Accuracy on training and on test images."""
    ax.plot(history[:, 0], 100 * history[:, 1], "o--", markersize=4, label="training images")
    ax.plot(history[:, 0], 100 * history[:, 2], "s-", markersize=4, label="test images")
    ax.set(title=title, xlabel="step", ylim=(0, 103))


fig, (left, right) = show.subplots(
    1, 2, size=(8, 3), sharey=True,
    alt="10.4", guess=guess,
)
curves(left, memorized, "a thousand images")
curves(right, moved, "a thousand images, augmented")
left.set_ylabel("correct, %")
left.legend(loc="lower right")
fig

# %% [markdown]
# On the right it learns more slowly, and gets further. On the left, note where the test curve stops
# rising: where every training image is right. From then on the loss is near 0, so are the
# gradients, and nothing is left to learn from.
#
# ## More pictures
#
# > **Predict:** what works better than pretending to have more pictures?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
model, more = fit(data.train_images, data.train_labels, 2 * STEPS, augmented=True)
print(f"training images {more[-1, 1]:.0%}, test images {more[-1, 2]:.0%}")

# %%
fig, ax = show.subplots(
    alt="10.5",
    size=(6.5, 3),
)
curves(ax, more, f"{len(data.train_images):,} images, augmented")
ax.set_ylabel("correct, %")
ax.legend(loc="lower right")
fig

# %% [markdown]
# The two curves stay together: the network learns what the pictures show. (When this was written,
# the three runs ended at 56, 65 and 97 % of the test images with shapes10, and at 43, 52 and 65 %
# with CIFAR-10, which is a much harder subject for two minutes.)
#
# Compare the curve with the picture at the top of the lesson. Up to two fifths of the way the
# learning rate rises, and the curve climbs, but not smoothly. Then the rate falls, and the noise of
# the large steps dies away. In the last fifth hardly anything changes. If you stop in the middle,
# because "it no longer improves", you have seen only the noise of large steps.
#
# And a habit of honesty: the result is the *last* point. The best of all points was chosen with the
# help of the test images, and so is a little too good.
#
# ## Reading the mistakes
#
# A single number hides which classes are confused.
#
# ### Exercise 5 · `confusion`
#
# `confusion(labels, guesses, n)` returns an (n, n) array of integers whose entry [i, j] is the
# number of images of class i that were classified as class j.

# %%
def confusion(labels, guesses, n):
    """How many images of class i (row) were classified as class j.   (N,), (N,) -> (n, n)"""
    ### BEGIN SOLUTION
    counts = np.zeros((n, n), int)
    for label, guess in zip(labels, guesses):
        counts[label, guess] += 1
    return counts
    ### END SOLUTION

# %% hints [markdown]
# 1. Start with zeros, go through the images, add 1 in the right place.
# 2. `zip(labels, guesses)` gives pairs; rows are the true classes, columns the predicted ones.
# 3. `counts[label, guess] += 1` in a loop. (All at once, `counts[labels, guesses] += 1` looks
#    right and is not: a pair that comes twice is counted once.
#    `np.add.at(counts, (labels, guesses), 1)` counts.)

# %%
check("10.confusion", confusion)

# %% folded
with mx.no_grad():
    logits = model.eval()(mx.Tensor(normalize(test_images)))
probability = F.softmax(logits).array  # (N, n_classes)
guesses = probability.argmax(axis=1)
counts = confusion(test_labels, guesses, data.n_classes)

fig, ax = show.subplots(
    size=(5.2, 4.6), alt="10.6",
)
ax.imshow(np.sqrt(counts), cmap="Blues", vmax=np.sqrt(counts.max()) * 1.7)
for (i, j), count in np.ndenumerate(counts):
    if count:
        ax.text(j, i, count, ha="center", va="center", fontsize=8)
ax.set_xticks(range(len(names)), names, rotation=60, ha="right")
ax.set_yticks(range(len(names)), names)
ax.set(xlabel="predicted class", ylabel="true class")
ax.spines[:].set_visible(False)
ax.tick_params(length=0)
fig

# %%
wrong = counts * (1 - np.eye(len(names), dtype=int))
i, j = np.unravel_index(wrong.argmax(), wrong.shape)
print(f"{counts.trace() / counts.sum():.1%} right")
mistake = f"{names[i]} predicted as {names[j]}"
print(f"most common mistake: {mistake}, {wrong[i, j]} of {counts[i].sum()}")

# %% [markdown]
# Now look at the pictures themselves: not at random ones, but at those where the network was
# **most confident**. In a set like CIFAR-10 there are pictures among them that nobody could
# recognize, and labels that are wrong. In any set they show what the network really looks at.

# %% folded
mistakes = np.flatnonzero(guesses != test_labels)
worst = mistakes[np.argsort(-probability[mistakes, guesses[mistakes]])[:12]]

fig, axes = show.subplots(2, 6, size=(8, 3.4), alt="10.7")
for ax in axes.flat:
    ax.axis("off")
for ax, i in zip(axes.flat, worst):
    sure = probability[i, guesses[i]]
    title = f"{names[guesses[i]]} ({sure:.0%})\nis {names[test_labels[i]]}"
    show.image(ax, test_images[i], title)
fig

# %% [markdown]
# ## Yours and the library's

# %%
rng = np.random.default_rng(0)
images, top, left = test_images[:50], rng.integers(0, 9, 50), rng.integers(0, 9, 50)
which = rng.random(50) < 0.5

print("flip:         ", np.array_equal(flip(images, which)[which], geometry.flip(images[which])))
theirs = geometry.pad_crop(images, top, left, 4, "reflect")
print("crop:         ", np.array_equal(crop(images, top, left), theirs))
steps = range(0, 1001, 7)
theirs = schedules.official(0.05, 1000)
print("learning_rate:", np.allclose([learning_rate(t, 1000, 0.05) for t in steps],
                                    [theirs(t - 1) for t in steps]))
theirs = evaluate(model, test_images, test_labels, data.n_classes).confusion
print("confusion:    ", np.array_equal(counts, theirs))

# %% [markdown]
# (The authors take the rate at the end of a step, so theirs is one step ahead of yours, and no step
# has rate 0 at the start.)
#
# The library's loop is **`minimix/train/loop.py`**: yours, plus what a long run needs: it can be
# stopped and resumed, it says which layer broke first if numbers diverge, it averages weights.
# `flip` and `crop` are in **`minimix/data/augment/reference/geometry.py`** (and compiled, pixel by
# pixel, in `compiled/` beside it), schedules in **`minimix/optim/schedules.py`**. And on the
# command line it is a single command:
#
#     minimix train
#
# **Go further.** Train without a schedule, at 0.01 and at 0.001: which part of the curve gets
# worse? · Give every image a random *label* and train: does it still reach 100 %? What has it
# learned? · Which augmentation would ruin *shapes10*, and which would ruin CIFAR-10?
#
# Next: **11 · Is it attention, or is it patches?** The network learns. Which of its parts matter?

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("10", flip, crop, learning_rate, train_step, confusion)
