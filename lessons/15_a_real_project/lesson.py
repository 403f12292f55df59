# %% [markdown]
# # 15 · From here to a real project
#
# **You build** what surrounds the network in a project of your own: a data set from picture files,
# a report on its errors, the input of the finished model, its weights for another program, and the
# gradient of a batch that is spread over several machines.<br>
# **You need** lessons 05 to 07 and 10.<br>
# **It takes** an hour to work through, 60 seconds to run.
#
# A network is a small part of a project. Somebody collects pictures and sorts them into folders;
# the network is trained, tested and handed over; and then another program, on another machine, has
# to get the same answers from it. Most bugs are in these steps, not in the network, and few of them
# raise an error. So here they all are, from a folder of pictures to a file of weights. Everything
# is done by the commands of `minimix`, which you could as well type in a terminal.

# %%
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import minimix as mx
from lessons import show
from lessons.check import check
from lessons.terminal import terminal

# %% [markdown]
# ## A data set is a folder of folders
#
# Nearly every tool reads pictures of your own in this form, and so does `minimix train`: one folder
# for each class, named after it, with the pictures of that class inside.
#
#     shapes/pictures/disc/0.png
#     shapes/pictures/star/1.png
#     …
#
# Let us pretend that the pictures of `shapes10` are photographs of yours, and write five of its ten
# classes to disk.
#
# ### Exercise 1 · `to_folders`
#
# `to_folders(images, labels, names, folder)` writes each image, uint8 `(H, W, 3)`, to a PNG file of
# its own in `folder/NAME/`, where `NAME` is the name of its class: `names[label]`. What the files
# are called is up to you. It makes the folders that do not exist yet.

# %%
def to_folders(images, labels, names, folder):
    """Write images to folder/NAME/….png.   uint8 (N, H, W, 3), labels (N,), names: a list"""
    ### BEGIN SOLUTION
    for i, (image, label) in enumerate(zip(images, labels)):
        place = Path(folder) / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    ### END SOLUTION

# %% hints [markdown]
# 1. A loop over images and labels together. You need a different file name for each image: its
#    number, for example.
# 2. `Image.fromarray(image).save(path)` writes one file; the ending of its name says in which
#    format. `Path(folder) / names[label]` is the folder it belongs to.
# 3. `(Path(folder) / names[label]).mkdir(parents=True, exist_ok=True)` makes that folder, and does
#    nothing if it exists.

# %%
check("15.to_folders", to_folders)

# %%
from minimix.data import shapes10

COMPILED = mx.kernels.backend_name() == "numba"
drawn = shapes10.load(n_train=6000 if COMPILED else 600, n_test=10, seed=5)
NAMES = ["disc", "ring", "square", "star", "triangle"]
which = [drawn.class_names.index(name) for name in NAMES]
chosen = np.isin(drawn.train_labels, which)
labels = [which.index(label) for label in drawn.train_labels[chosen]]

shutil.rmtree("shapes/pictures", ignore_errors=True)  # what an earlier run of this cell has left
to_folders(drawn.train_images[chosen], labels, NAMES, "shapes/pictures")
Path("shapes/pictures/star/notes.txt").write_text("The blurred ones are from the old camera.")
Path("shapes/pictures/disc/broken.png").write_bytes(b"\x89PNG, and then the disk was full")
for folder in sorted(Path("shapes/pictures").iterdir()):
    print(f"{folder}: {len(list(folder.iterdir()))} files")

# %% [markdown]
# Real folders are never clean, so two files were added that are not pictures. You will see what
# becomes of them.
#
# ## Training
#
# In a terminal, or in a cell after an exclamation mark, you would type just this command. (The
# preset `plain` is the ConvMixer of lesson 09. A fifth of each class is kept for testing; without
# `--test-fraction` it is a tenth.)

# %%
full, tiny = "--hidden-dim 48 --depth 4 --epochs 20", "--hidden-dim 8 --depth 1 --epochs 1"
shutil.rmtree("shapes/run", ignore_errors=True)  # the run folder of an earlier run of this cell
terminal(
    "minimix train --data shapes/pictures --test-fraction 0.2 --preset plain --batch-size 32 "
    "--out shapes/run " + (full if COMPILED else tiny)
)

# %% [markdown]
# The pictures were read once, cropped and resized to 32×32 pixels (`--image-size` chooses another
# size), and kept in a cache. Both files that are not pictures were reported and left out.
# The **run folder** `shapes/run` now has everything: the settings, a log of every
# step, the trained weights, and checkpoints, from which `minimix train --resume shapes/run`
# continues after a power failure. Nothing in it depends on this notebook: this is the architecture,
# made again from the file.

# %%
trained = mx.load("shapes/run")
print(mx.summary(trained.model, (1, *trained.image_size, 3)))

# %% [markdown]
# A warning before you trust the number in the last line of the training. **Near-duplicates** of a
# picture, such as frames of one video or photographs of one dog, must be on one side: all in the
# training set or all in the test set. If they are divided at random, the test rewards memorizing.
# Put the test pictures in `pictures/test/` yourself (and the others in `pictures/train/`) when
# yours are like that. And whatever you choose by its test accuracy, such as the best of ten
# settings, has to be tested on other pictures in the end: `--validation 300` holds out 300 training
# pictures to choose by.
#
# ## What does it get wrong?
#
# `minimix evaluate` tests a run again and writes the **confusion matrix**: one row for each true
# class, one column for each predicted class.
#
# > **Predict:** which two of the five shapes does the network confuse most often?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
terminal("minimix evaluate shapes/run --csv shapes/confusion.csv")
table = np.loadtxt("shapes/confusion.csv", str, delimiter=",")  # with names around the numbers
confusion = table[1:, 1:].astype(int)

# %% folded
fig, ax = show.subplots(size=(4.6, 3.6), alt="15.1")
ax.imshow(confusion, cmap="Blues")
for (row, column), n in np.ndenumerate(confusion):
    color = "white" if n > confusion.max() / 2 else "black"
    ax.text(column, row, n, ha="center", va="center", color=color)
ax.set_xticks(range(5), NAMES, rotation=30)
ax.set_yticks(range(5), NAMES)
ax.set(xlabel="predicted class", ylabel="true class")
fig

# %% [markdown]
# Discs and squares: a small square has few pixels that tell it from a disc. After these come stars
# and triangles. One number, the accuracy, hides all of this. Two numbers for each class say more:
#
# - **recall**: of the pictures that *are* of this class, the fraction that was predicted correctly;
# - **precision**: of the pictures that were *predicted* as this class, the fraction that are.
#
# ### Exercise 2 · `recall_and_precision`
#
# `recall_and_precision(confusion)` takes a confusion matrix `(n, n)`, with a row for each true
# class and a column for each predicted class, and returns two arrays `(n,)`. Every class occurs,
# but one may never have been predicted: its precision is 0 then, not 0/0.

# %%
def recall_and_precision(confusion):
    """Two fractions for each class.   confusion (n, n), rows: true class -> (n,), (n,)"""
    ### BEGIN SOLUTION
    right = np.diag(confusion)
    return right / confusion.sum(axis=1), right / np.maximum(1, confusion.sum(axis=0))
    ### END SOLUTION

# %% hints [markdown]
# 1. The pictures classified correctly are on the diagonal: `np.diag(confusion)`.
# 2. All pictures *of* a class are in its row; all that were *predicted* as it are in its column.
#    `sum(axis=1)` adds up each row.
# 3. Where a column is empty, divide by 1 instead of 0: `np.maximum(1, confusion.sum(axis=0))`.

# %%
check("15.recall_and_precision", recall_and_precision)

# %%
for name, recall, precision in zip(NAMES, *recall_and_precision(confusion)):
    print(f"{name:9} recall {recall:4.0%}   precision {precision:4.0%}")

# %% [markdown]
# Which of the two matters depends on what is done with the answer. If a star means an alarm, low
# recall means missed alarms and low precision means false ones.
#
# Before you change the network, *look at its mistakes*: `minimix report shapes/run` writes a page
# with the curves, this matrix, and the pictures on which the network was most confidently wrong.
# Wrong labels, too, are found there.
#
# ## Predictions, and what they are worth
#
# `minimix predict` classifies picture files, of any size. From Python it is `trained.predict`, for
# images uint8 `(N, H, W, 3)`: the probabilities of the classes. (It also returns
# the input of the last layer, if you ask for it.)

# %%
some = sorted(Path("shapes/pictures/star").glob("*.png"))[0]
terminal(f"minimix predict {some} --model shapes/run")
probabilities, _ = trained.predict(np.array(Image.open(some))[None])
print("from Python:", *(f"{name} {p:.1%}" for name, p in zip(NAMES, probabilities[0])))

# %% [markdown]
# > **Predict:** now show it something that is none of the five shapes: pictures of the other five
# > classes, such as crosses and bars. How confident will it be, on average, in its best guess?
# > (A fifth would be "no idea".)

# %%
guess = ...  # your prediction, in percent

# %%
def confidence(images):
    """The highest probability for each image, on average, in percent."""
    return 100 * trained.predict(images)[0].max(axis=1).mean()


noise = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), dtype=np.uint8)
show.bars(
    {"the five shapes": confidence(drawn.train_images[chosen][:500]),
     "the other five": confidence(drawn.train_images[~chosen][:500]),
     "noise": confidence(noise)},
    unit="%", title="mean confidence (guessing: 20 %)", alt="15.2", guess=guess,
)

# %% [markdown]
# About 75 %, against 88 % for shapes that it knows, and far from 20 %. Softmax divides 100 % among the five classes, and "none
# of these" is not one of them. A confident answer about a strange picture is a common and expensive
# surprise. If strange pictures will come, collect some, make them a class of their own, and train
# again.
#
# ## The same input as in training
#
# The finished model will be called by a program that somebody else writes. That program must turn a
# picture into exactly what the network saw in training:
#
# $$ x = \frac{\text{pixels}/255 - \text{mean}}{\text{std}} $$
#
# with the mean and the standard deviation of each channel *over the training set*. They are kept
# with the weights: `trained.mean`, `trained.std`.
#
# ### Exercise 3 · `prepare`
#
# `prepare(pixels, mean, std)` takes one picture, uint8 `(H, W, 3)`, and three numbers each for mean
# and std, on the scale from 0 to 1. It returns a batch of one, float32 `(1, H, W, 3)`.

# %%
def prepare(pixels, mean, std):
    """What the network expects.   pixels uint8 (H, W, 3) -> float32 (1, H, W, 3)"""
    ### BEGIN SOLUTION
    x = (pixels / 255 - np.array(mean)) / np.array(std)
    return x[None].astype(np.float32)
    ### END SOLUTION

# %% hints [markdown]
# 1. Three steps: to the scale from 0 to 1; minus the mean; divided by std. The channels are the
#    last axis, so three numbers broadcast over them.
# 2. `mean` and `std` may be tuples: `np.array(mean)`. `x[None]` adds an axis in front.
# 3. `.astype(np.float32)` at the end.

# %%
check("15.prepare", prepare)

# %%
pixels = np.array(Image.open(some))
x = prepare(pixels, trained.mean, trained.std)
with mx.no_grad():
    logits = trained.model(mx.Tensor(x))
same = np.allclose(mx.functional.softmax(logits).array, probabilities, atol=1e-5)
print("the probabilities that `predict` gives:", same)

# %% [markdown]
# > **Predict:** four programs prepare their pictures wrongly: one forgets mean and std; one forgets
# > the 255 as well; one reads the colors in the order blue, green, red, as OpenCV does; one resizes
# > to 32×32 by way of 16×16. What is the accuracy of each? None of them raises an error.

# %%
guess = ...  # your prediction, such as {"no 255": 20, "blue, green, red": 50}: % right

# %%
fresh = shapes10.load(n_train=10, n_test=2000, seed=6)  # pictures that it has never seen
among = np.isin(fresh.test_labels, which)
seen = fresh.test_images[among]
truth = np.array([which.index(label) for label in fresh.test_labels[among]])
small = seen.reshape(-1, 16, 2, 16, 2, 3).mean(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)
mean, std, none, one = trained.mean, trained.std, np.zeros(3), np.ones(3)
inputs = {
    "as in training": [prepare(p, mean, std) for p in seen],
    "no mean, no std": [prepare(p, none, one) for p in seen],
    "no 255": [p[None].astype(np.float32) for p in seen],
    "blue, green, red": [prepare(p[:, :, ::-1], mean, std) for p in seen],
    "by way of 16×16": [prepare(p, mean, std) for p in small],
}


def accuracy(batches):
    with mx.no_grad():
        logits = trained.model(mx.Tensor(np.concatenate(batches))).array
    return 100 * (logits.argmax(axis=1) == truth).mean()


show.bars({name: accuracy(x) for name, x in inputs.items()}, unit="% right",
          title="guessing gets 20 %", mark=["as in training"], alt="15.3", guess=guess)

# %% [markdown]
# A wrong input does not look like a bug; it looks like a bad network. Colors in the wrong order
# even pass unnoticed here, since our shapes come in all colors; with photographs they may cost a
# few points, which are then blamed on something else. So keep a handful of pictures with the
# probabilities that the training program gave them, and compare: that test costs nothing.
#
# ## The weights, in another program
#
# `minimix export` writes three kinds of files. The first is for NumPy: arrays under their names.

# %%
terminal("minimix export shapes/run --to npz --out shapes/model.npz")
with np.load("shapes/model.npz") as file:
    arrays = dict(file)
print(*(f"{name:23} {arrays[name].shape}" for name in list(arrays)[:8]), sep="\n")

# %% [markdown]
# With the functions that you wrote in lessons 05 to 07, nothing else is needed to run it: this is a
# ConvMixer without any framework. (`mine` takes yours from `mymix/`; where there is none, it says
# so and takes ours. At test time batch normalization uses its running mean and variance.)

# %%
from lessons.keep import mine

patchify, depthwise = mine("05.patchify"), mine("06.depthwise")
pointwise, gelu = mine("06.pointwise"), mine("07.gelu")


def in_numpy(x):
    """Logits of images (N, H, W, 3), normalized, from nothing but the arrays in the file."""
    def norm(x, name):
        mean, var = arrays[f"{name}.running_mean"], arrays[f"{name}.running_var"]
        scale = arrays[f"{name}.weight"] / np.sqrt(var + 1e-5)
        return (gelu(x)[0] - mean) * scale + arrays[f"{name}.bias"]

    def weights(name):
        return arrays[f"{name}.weight"], arrays[f"{name}.bias"]

    x = norm(patchify(x, *weights("stem.0"))[0], "stem.2")
    depth = sum(name.endswith(".1.weight") for name in arrays)
    for i in range(depth):
        w, b = weights(f"blocks.{i}.0.fn.0")
        x = x + norm(depthwise(x, w) + b, f"blocks.{i}.0.fn.2")
        x = norm(pointwise(x, *weights(f"blocks.{i}.1"))[0], f"blocks.{i}.3")
    w, b = weights("head")
    return x.mean(axis=(1, 2)) @ w + b


logits = trained.model(mx.Tensor(x)).array
print("the same logits:", np.allclose(in_numpy(x), logits, atol=1e-3))

# %% [markdown]
# The second kind is for PyTorch: the same numbers under timm's names. But PyTorch keeps channels
# first, and the axes of its weights are in another order:
#
# | layer | here | PyTorch |
# |---|---|---|
# | linear | (in, out) | (out, in) |
# | pointwise convolution | (in, out) | (out, in, 1, 1) |
# | depthwise convolution | (k, k, C) | (C, 1, k, k) |
# | patch embedding | (p, p, in, out) | (out, in, p, p) |
#
# ### Exercise 4 · `to_pytorch`
#
# `to_pytorch(kind, w)` returns a weight in PyTorch's order. `kind` is `"linear"`, `"pointwise"`,
# `"depthwise"` or `"patchify"`. The rows of a kernel stay rows: no kernel is flipped or transposed.

# %%
def to_pytorch(kind, w):
    """A weight in the order of PyTorch's axes.   see the table"""
    ### BEGIN SOLUTION
    if kind == "linear":
        return w.T
    if kind == "pointwise":
        return w.T[:, :, None, None]
    if kind == "depthwise":
        return w.transpose(2, 0, 1)[:, None]
    return w.transpose(3, 2, 0, 1)
    ### END SOLUTION

# %% hints [markdown]
# 1. `w.transpose(2, 0, 1)` puts the last axis first and keeps the order of the other two. Which
#    axis of yours becomes which axis of theirs?
# 2. `w.T` reverses *all* axes, which is right for a matrix only. An axis of length 1 is added by
#    `None` in an index: `w[:, None]`.
# 3. In the order of the table: `w.T`; `w.T[:, :, None, None]`; `w.transpose(2, 0, 1)[:, None]`;
#    `w.transpose(3, 2, 0, 1)`.

# %%
check("15.to_pytorch", to_pytorch)

# %%
from safetensors.numpy import load_file

terminal("minimix export shapes/run --to timm --out shapes/model.safetensors")
theirs = load_file("shapes/model.safetensors")
for kind, name in {"patchify": "stem.0", "depthwise": "blocks.0.0.fn.0",
                   "pointwise": "blocks.0.1", "linear": "head"}.items():
    turned, other = to_pytorch(kind, arrays[f"{name}.weight"]), theirs[f"{name}.weight"]
    print(f"{name:16} {other.shape!s:16} the same: {np.array_equal(turned, other)}")

# %% [markdown]
# Where PyTorch and timm are installed, the model then runs there:
#
#     import safetensors.torch
#     from timm.models.convmixer import ConvMixer
#     model = ConvMixer(dim=48, depth=4, kernel_size=5, patch_size=4, num_classes=5)
#     model.load_state_dict(safetensors.torch.load_file("shapes/model.safetensors"))
#
# The third kind, **ONNX**, holds the operations as well as the weights, so that the program that
# runs it need not know what a ConvMixer is. With `--normalize` the file even takes uint8 images and
# normalizes them itself, and the wrong inputs above cannot happen.

# %%
from importlib.util import find_spec

if find_spec("onnx") and find_spec("onnxruntime"):
    import onnxruntime

    terminal("minimix export shapes/run --to onnx --normalize --out shapes/model.onnx")
    session = onnxruntime.InferenceSession("shapes/model.onnx")
    (logits,) = session.run(None, {"images": seen[:100]})
    with mx.no_grad():
        ours = trained.model(mx.Tensor(np.concatenate(inputs["as in training"][:100]))).array
    print(f"100 pictures, largest difference of a logit: {np.abs(logits - ours).max():.0e}")
else:
    print("to try this: python -m pip install onnx onnxruntime, and restart the notebook")

# %% [markdown]
# ## Several machines
#
# When one computer is too slow, the usual way out is **data parallelism**. Every computer holds the
# whole model and looks at its own part of each batch; then the gradients are added up over the
# network (an *all-reduce*), and all take the same step. With MPI installed (`python -m pip install
# mpi4py mpich`), four processes on one machine are started by
#
#     mpiexec -n 4 minimix train --data shapes/pictures --out shapes/run
#
# and those of two machines by `mpiexec -n 8 --hosts first,second minimix train …`, if both have the
# same packages and the same pictures. `--batch-size` is still that of the whole batch.
#
# Why may you add gradients up? The loss is a mean over N images, and the gradient of a mean is the
# mean of the gradients. If rank r (a process is called a **rank**) has $n_r$ of the N images, and
# $\nabla L_r$ is the gradient of the *mean* loss over these:
#
# $$ \nabla L = \sum_r \frac{n_r}{N}\, \nabla L_r $$
#
# ### Exercise 5 · `combine`
#
# `combine(gradients, counts)` takes a list with one array per rank, all of one shape, and a list
# with the number of images that each rank had. It returns the gradient of the whole batch, and
# leaves the arrays as they are.

# %%
def combine(gradients, counts):
    """The whole batch's gradient, from one per rank.   arrays, ints -> an array"""
    ### BEGIN SOLUTION
    return sum(n / sum(counts) * g for g, n in zip(gradients, counts))
    ### END SOLUTION

# %% hints [markdown]
# 1. A weighted mean: with equal counts it is the plain mean, otherwise a rank with more images
#    counts for more.
# 2. N is `sum(counts)`. The weights `n / N` add up to 1.
# 3. `sum(n / N * g for g, n in zip(gradients, counts))`

# %%
check("15.combine", combine)

# %%
def gradient(model, images, labels):
    """The gradient of the mean loss, all parameters in one vector."""
    model.zero_grad()
    mx.functional.cross_entropy(model(mx.Tensor(images)), labels).backward()
    return np.concatenate([p.grad.ravel() for p in model.parameters()])


def error(norm, parts, n=60):
    """How far the combined gradient is from the whole batch's, relative to the length of that.

    parts: which of the n images each rank has
    """
    model = mx.ConvMixer(16, 2, kernel_size=5, patch_size=4, n_classes=5, norm=norm, rng=0)
    images = np.concatenate([prepare(p, mean, std) for p in seen[:n]])
    whole = gradient(model, images, truth[:n])
    each = [gradient(model, images[part], truth[part]) for part in parts]
    combined = combine(each, [len(part) for part in parts])
    return np.linalg.norm(combined - whole) / np.linalg.norm(whole)


print(f"LayerNorm, 20 + 40 images: {error('layer', np.split(np.arange(60), [20])):.0e}")

# %% [markdown]
# Only rounding is left: the two computers take the same step as one. That was with layer
# normalization.
#
# > **Predict:** does it also hold with *batch* normalization, as in the ConvMixer of the paper?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
for size in (2, 6, 20):
    parts = np.split(np.arange(60), size)
    each = f"{size:2} ranks with {60 // size:2} images each"
    print(f"BatchNorm, {each}: {error('batch', parts):.0%}")

# %% [markdown]
# It does not. Batch norm computes mean and variance *of the batch*, and every rank has only its own
# part of it, so an image is normalized differently in a small part than in the whole. The fewer
# images per rank, the worse. `minimix` has the ranks compute these statistics together, which takes
# a second exchange (`--no-sync-batch-norm` turns that off), and then a training with four processes
# differs from one with a single process by rounding alone.
#
# ## Yours and the library's
#
# Your `combine` is split in two: in **`minimix/train/loop.py`** each rank multiplies its loss by
# $n_r/N$, and `Ranks.sum_gradients` in **`minimix/parallel/ranks.py`** adds up; `prepare` is
# `normalize` in **`minimix/data/loader.py`**; the folders are read by
# **`minimix/data/folders.py`**, most of which is about what can be wrong with a folder; the axes
# are reordered in **`minimix/interop.py`**.

# %%
from minimix.data import normalize

library = normalize(pixels[None], mean, std)
print("the same:", np.allclose(prepare(pixels, mean, std), library, atol=1e-6))

# %% [markdown]
# **Go further.** Photograph three kinds of things in your kitchen, thirty pictures of each, from
# every side; what does a ConvMixer make of them? · Give the network a sixth class, "none of these",
# of the other five shapes. How confident is it about noise now? · A network of your own: write a
# class with the layers of `minimix.nn` to `my_net.py`, and train it with
# `minimix train --model my_net.py:Net`.
#
# That was the last lesson. There is no part of this library that you could not have written
# yourself. Go and build something that is not in it.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("15", to_folders, recall_and_precision, prepare, to_pytorch, combine)
