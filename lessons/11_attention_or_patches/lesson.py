# %% [markdown]
# # 11 · Is it attention, or is it patches?
#
# **You build** an experiment that can answer such a question: networks whose parts can be removed or
# replaced, error bars, and a verdict that says "cannot tell" when it cannot.<br>
# **You need** lessons 09 and 10. No statistics: everything needed is explained.<br>
# **It takes** 90 minutes to work through, 5 minutes to run.
#
# Vision transformers cut images into patches, and then do a hundred other things. Which of these
# makes them good: the other things, attention above all, or the patches? The authors of ConvMixer kept the
# patches, threw out the rest, and asked this in the title of their paper: "Patches Are All You
# Need?" Here is the question on a small scale, in three parts: which parts of a ConvMixer matter;
# what happens to three families of networks when the patches of every image are shuffled; and how
# large a patch should be.

# %%
import numpy as np

import minimix as mx
from lessons import show
from lessons.check import check
from minimix import functional as F
from minimix import nn
from minimix.data import normalize, shapes10
from minimix.optim import clip_grad_norm, schedules

# %%
data = shapes10.load(n_train=6000, n_test=2000)
KEPT = (0, 1, 3, 7, 9)  # half of the shapes, so that small networks learn them in seconds


def kept(images, labels):
    """The images of these shapes, normalized, and their labels renumbered."""
    which = np.isin(labels, KEPT)
    return normalize(images[which]), np.searchsorted(KEPT, labels[which])


images, labels = kept(data.train_images, data.train_labels)
test_images, test_labels = kept(data.test_images, data.test_labels)

# %% folded
star = data.train_images[9]
order = np.random.default_rng(0).permutation(64)
patches = star.reshape(8, 4, 8, 4, 3).swapaxes(1, 2).reshape(64, 4, 4, 3)
shuffled = patches[order].reshape(8, 8, 4, 4, 3).swapaxes(1, 2).reshape(32, 32, 3)

fig, axes = show.subplots(
    1, 2, size=(5, 2.6), alt="11.1",
)
show.image(axes[0], star, "patches in their places")
show.image(axes[1], shuffled, "a bag of patches")
fig

# %% [markdown]
# ## A network with removable parts
#
# ### Exercise 1 · `block`
#
# This is your block from lesson 09, with three more arguments:
#
# - `residual` is `"places"` (as in the paper, around the depthwise half), `"none"`, or `"both"`:
#   one connection around each half;
# - `norm` and `activation` make the layers: `norm(h)` instead of `nn.BatchNorm(h)`, `activation()`
#   instead of `nn.GELU()`.

# %%
def block(h, k, rng=None, residual="places", norm=nn.BatchNorm, activation=nn.GELU):
    """A block with exchangeable parts.   (N, H, W, h) -> the same"""
    ### BEGIN SOLUTION
    places = [nn.DepthwiseConv2d(h, k, rng=rng), activation(), norm(h)]
    channels = [nn.PointwiseConv2d(h, h, rng=rng), activation(), norm(h)]
    places, channels = nn.Sequential(*places), nn.Sequential(*channels)
    if residual != "none":
        places = nn.Residual(places)
    if residual == "both":
        channels = nn.Residual(channels)
    return nn.Sequential(places, channels)
    ### END SOLUTION

# %% hints [markdown]
# 1. Make the two halves first, each a Sequential of three layers; then decide what to wrap.
# 2. `nn.Residual(places)` unless `residual` is `"none"`; `nn.Residual(channels)` only if it is
#    `"both"`.
# 3. Each half is `nn.Sequential(convolution, activation(), norm(h))`, with `activation` and `norm`
#    called anew each time: every layer has its own.

# %%
check("11.block", block)

# %%
COMPILED = mx.kernels.backend_name() == "numba"
H, STEPS, SEEDS = (32, 300, (0, 1, 2, 3)) if COMPILED else (8, 10, (0, 1))


def mixer(h, k, p, rng, d=3, **parts):
    """A ConvMixer-h/3 with these parts, for five classes."""
    norm, activation = parts.get("norm", nn.BatchNorm), parts.get("activation", nn.GELU)
    stem = [nn.Patchify(3, h, p, rng=rng), activation(), norm(h)]
    blocks = [block(h, k, rng, **parts) for _ in range(d)]
    return nn.Sequential(*stem, *blocks, nn.GlobalAvgPool(), nn.Linear(h, len(KEPT), rng=rng))


def learned(model, lr, batches, x_test):
    """Train a model on STEPS batches: the fraction of test images classified correctly."""
    optimizer, rate = mx.AdamW(model.parameters()), schedules.one_cycle(lr, STEPS)
    for step, (x, target) in enumerate(batches):
        loss = F.cross_entropy(model(mx.Tensor(x)), target)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.lr = rate(step)
        optimizer.step()
    with mx.no_grad():
        scores = model.eval()(mx.Tensor(x_test)).array
    return float((scores.argmax(axis=1) == test_labels).mean())


def accuracy_of(seed, h=H, k=5, p=4, lr=0.03, **parts):
    """Train such a network: the fraction of test images that it then classifies correctly."""
    model = mixer(h, k, p, np.random.default_rng(seed), **parts)
    rng = np.random.default_rng(seed + 1000)  # the same order, however many weights were drawn
    order = np.concatenate([rng.permutation(len(images)) for _ in range(4)]).reshape(-1, 32)
    batches = (  # half of them mirrored
        (images[batch][:, :, :: rng.choice([-1, 1])], labels[batch]) for batch in order[:STEPS]
    )
    return learned(model, lr, batches, test_images)

# %% [markdown]
# With kernels of 1×1 the depthwise convolution looks at its own place and nowhere else: patches
# never meet until the pool takes their mean. That is the bag of patches in the picture.
#
# > **Predict:** there are five shapes, so guessing gets 20 %. What does the bag of patches get, and
# > what does the ConvMixer get?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
print(f"bag of patches, k = 1: {accuracy_of(0, k=1):.0%}")
print(f"ConvMixer, k = 5:      {accuracy_of(0):.0%}")
if not COMPILED:
    print("(much smaller networks, for the NumPy back end; the text describes the full ones)")

# %% [markdown]
# So patches are **not** all you need: they have to exchange information. (The title of the paper
# ends with a question mark, too, and its answer is: patches *and* plain convolutions, without
# attention, the operation by which a transformer mixes its patches.)
#
# ## One number is no result
#
# That difference was huge. Most are small, and then the first question is how much the same network
# differs from itself.
#
# > **Predict:** train the *same* network four times; only the random numbers differ, those for the
# > initial weights and for the order of the images. How far apart are the four accuracies?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
results = {"baseline": [accuracy_of(seed) for seed in SEEDS]}
print("baseline: ", "  ".join(f"{a:.1%}" for a in results["baseline"]))

# %% [markdown]
# A change that improves the network by one point would be lost in that. More runs help, since the
# mean of $n$ runs varies less than a single run, by a factor of $\sqrt n$. How certain you can be
# of the mean of a few runs was worked out in 1908 by a brewer, W. S. Gosset, who published as
# "Student":
#
# $$ \text{mean} \pm t_n \frac{s}{\sqrt n}, \qquad
#    s = \sqrt{\frac{1}{n-1}\sum_i (a_i - \text{mean})^2} $$
#
# contains the true mean in 95 of 100 experiments. The factor $t_n$ accounts for not knowing the
# spread either: it is enormous for two runs.

# %%
# n: tₙ
T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}

# %% [markdown]
# ### Exercise 2 · `interval`
#
# `interval(accuracies)` takes a list of $n$ numbers and returns `(mean, half)`: the mean, and the
# half width $t_n\, s/\sqrt n$. The spread $s$ divides by $n - 1$.

# %%
def interval(accuracies):
    """The mean of n runs, and the half width of its 95 % interval: two floats."""
    ### BEGIN SOLUTION
    n = len(accuracies)
    s = np.std(accuracies, ddof=1)
    return float(np.mean(accuracies)), float(T[n] * s / np.sqrt(n))
    ### END SOLUTION

# %% hints [markdown]
# 1. `np.mean`, `np.std` and `np.sqrt` are all you need.
# 2. `np.std(a)` divides by $n$; with `ddof=1` it divides by $n - 1$.
# 3. `T[n] * np.std(accuracies, ddof=1) / np.sqrt(n)` is the half width.

# %%
check("11.interval", interval)

# %%
mean, half = interval(results["baseline"])
print(f"baseline: {mean:.1%} ± {half:.1%}")
best = max(results["baseline"])
above = 100 * (best - mean)
print(f"the best of {len(SEEDS)} is {above:.1f} above: what choosing it would gain")

# %% [markdown]
# ## The ablation
#
# Now remove or replace one part at a time.
#
# > **Predict:** rank these from harmless to fatal: no residual, a residual around both halves, no
# > norm, LayerNorm, ReLU, no activation at all, kernels of 3×3, kernels of 9×9.

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
CHANGES = {
    "kernel 1 (bag of patches)": {"k": 1},
    "kernel 3": {"k": 3},
    "kernel 9": {"k": 9},
    "no residual": {"residual": "none"},
    "residual around both": {"residual": "both"},
    "no norm": {"norm": lambda h: nn.Identity()},
    "LayerNorm": {"norm": nn.LayerNorm},
    "LayerNorm, smaller steps": {"norm": nn.LayerNorm, "lr": 0.003},
    "ReLU": {"activation": nn.ReLU},
    "no activation": {"activation": nn.Identity},
}
for name, change in CHANGES.items():
    results[name] = [accuracy_of(seed, **change) for seed in SEEDS]
    print(f"{name:26}", "  ".join(f"{a:.1%}" for a in results[name]), flush=True)

# %%
def picture(results, alt):
    """A dot per run, a diamond with its interval per mean; the band: the baseline's interval."""
    fig, ax = show.subplots(size=(7.5, 0.36 * len(results) + 0.9), alt=alt)
    mean, half = interval(results["baseline"])
    ax.axvspan(100 * (mean - half), 100 * (mean + half), color=show.PALE)
    ax.axvline(100 / len(KEPT), color=show.GRAY, linestyle=":")
    for row, runs in enumerate(results.values()):
        mean, half = interval(runs)
        ax.errorbar(100 * mean, row - 0.12, xerr=100 * half, fmt="D", color=show.BLUE, capsize=4)
        ax.plot(100 * np.array(runs), np.full(len(runs), row + 0.2), ".", color=show.RED)
    ax.set_yticks(range(len(results)), results)
    ax.set_xlabel("test accuracy, % (dots: runs; diamonds: means, 95 %; line: guessing)")
    ax.set(xlim=(0, 100), ylim=(len(results) - 0.4, -0.6))
    return fig


picture(
    results,
    alt="11.2",
)

# %% [markdown]
# ## Which differences are real?
#
# If two intervals overlap, does that mean there is no difference? **No.** Seed 2 may have drawn a
# favorable order of images, and then *every* variant profits. We used the same seeds for all, so
# compare run with run: what varies from seed to seed cancels in the **difference**.
#
# ### Exercise 3 · `verdict`
#
# `verdict(variant, baseline)` takes two lists of accuracies, one per seed and in the same order,
# and returns `"better"`, `"worse"`, or `"cannot tell"`, which is the answer when the 95 % interval
# of the differences contains zero.

# %%
def verdict(variant, baseline):
    """What n paired runs say about a variant: "better", "worse" or "cannot tell"."""
    ### BEGIN SOLUTION
    mean, half = interval(np.array(variant) - np.array(baseline))
    if abs(mean) <= half:
        return "cannot tell"
    return "better" if mean > 0 else "worse"
    ### END SOLUTION

# %% hints [markdown]
# 1. Take the differences first, one per seed; then the interval of *them*.
# 2. `interval(np.array(variant) - np.array(baseline))`. Zero is inside if `abs(mean) <= half`.
# 3. If it is: `"cannot tell"`; otherwise the sign of the mean decides.

# %%
check("11.verdict", verdict)

# %%
baseline = results["baseline"]
for name, runs in results.items():
    if name != "baseline":
        mean, half = interval(np.array(runs) - np.array(baseline))
        print(f"{name:26} {100 * mean:+6.1f} ± {100 * half:4.1f}   {verdict(runs, baseline)}")

# %% [markdown]
# Some results are beyond doubt. Without an activation the whole network is a single linear map, and
# no linear map can tell a star from a ring at any place and any angle. Without a norm it hardly
# starts to learn in 300 steps. Patches that never meet remain a bag. Interpret the rest with care:
#
# - **"Cannot tell" does not mean "makes no difference".** It means that four runs of this length do
#   not show one. If it matters to you, do more runs.
# - **Settings were chosen for the baseline.** Look at the two rows for LayerNorm: one network, two
#   learning rates, and twice the accuracy. If you want to be fair, tune for each variant; if you
#   want to win, you tune only for your own.
# - **It holds for this toy problem**: five shapes, small networks, 300 steps. Here kernels of 3×3
#   do well; the authors, whose networks are far larger and trained for far longer, chose 7×7 and
#   9×9. An effect in a toy problem may be smaller on a real one, larger, or reversed.
# - All runs share the same thousand test images. With other images *all* of the results would
#   shift, at 70 % by about $\sqrt{0.7 \cdot 0.3 / 1000}$, 1.4 points. That is in none of the error
#   bars.
#
# The authors made the same ablation with a large network and much time: ConvMixer-256/8 with patches
# of 1 and kernels of 9×9, 200 epochs of CIFAR-10. (No error bars are given; what would you ask? The
# figures are from notes on the paper's appendix: look them up there before you quote them.)
#
# | | accuracy, % | difference |
# |---|---|---|
# | baseline | 95.88 | |
# | no residual | 95.37 | −0.51 |
# | residual around both halves | 94.78 | −1.10 |
# | LayerNorm instead of BatchNorm | 94.44 | −1.44 |
# | ReLU instead of GELU | 95.51 | −0.37 |
#
# Compare the signs with yours, and then the sizes. After 200 epochs all variants have come close to
# what they can reach, and little is left between them; your 300 steps measure above all how *fast* a
# variant learns. LayerNorm loses far more here than in the paper, and small kernels, which have less
# to learn, look better than large ones: both are what you would expect of short training.
#
# > **Predict:** suppose that none of the ten changes made any difference at all. In how many out of
# > a hundred such studies would at least one be called "better" or "worse"?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
rng = np.random.default_rng(0)
spread = np.std(baseline, ddof=1)
false_alarms = 0
for _ in range(1000):  # studies in which every network is the baseline
    runs = rng.normal(0.7, spread, (11, len(SEEDS)))
    false_alarms += any(verdict(variant, runs[0]) != "cannot tell" for variant in runs[1:])
print(f"{false_alarms / 10:.0f} of 100")

# %% [markdown]
# About one in three! Ten questions, each with a chance of one in twenty of a false answer. So
# believe the large effects; and repeat a surprising small one, with new seeds, before you tell
# anybody.
#
# ## Attention, or patches?
#
# Now the question in the title. Vision transformers do well; they use attention, and they use
# patches. Which of the two is it? Here are three networks of about equal size. All begin in the same
# way, with patches of 4×4, and differ in how the patches then exchange information: by convolution
# (your ConvMixer); by attention, in which each patch decides by its content which others it reads (a
# vision transformer, **ViT**); or by one trained matrix over places (a **ResMLP**). Lesson 14 builds
# attention and such a matrix; here it is enough that they take images and return logits.

# %%
from minimix.models import ResMLP, ViT

RIVALS = {  # each with the best learning rate of a few that were tried
    "ConvMixer": (lambda rng: mixer(H, 5, 4, rng), 0.03),
    "ViT": (lambda rng: ViT(24, 1, 4, 4, len(KEPT), image_size=32, mlp_ratio=2,
                            pool="average", rng=rng), 0.01),
    "ResMLP": (lambda rng: ResMLP(16, 1, 4, len(KEPT), image_size=32, rng=rng), 0.03),
}
for name, (make, lr) in RIVALS.items():
    print(f"{name:10} {make(0).n_parameters():6,} parameters, learning rate {lr}")

# %% [markdown]
# An experiment that tells them apart: **shuffle the patches** of every image, always in the same
# order, as in the picture at the top. Nothing is lost; every pixel is still there. But what was side
# by side no longer is.
#
# ### Exercise 4 · `shuffle_patches`
#
# `shuffle_patches(images, order, p)` cuts images `(N, H, W, C)` into patches of p×p, numbered row by
# row, and puts patch `order[i]` where patch `i` was. It returns images of the same shape.

# %%
def shuffle_patches(images, order, p):
    """The same patches in another order, the same for all images.   (N, H, W, C) -> the same"""
    ### BEGIN SOLUTION
    n, height, width, c = images.shape
    grid = images.reshape(n, height // p, p, width // p, p, c).swapaxes(2, 3)
    patches = grid.reshape(n, -1, p, p, c)[:, order].reshape(grid.shape)
    return patches.swapaxes(2, 3).reshape(images.shape)
    ### END SOLUTION

# %% hints [markdown]
# 1. Cut as in lesson 05: a reshape to (N, H/p, p, W/p, p, C), and a swap of two axes, gives a grid
#    of patches. The same two steps in reverse put an image together again.
# 2. Between the two, make the grid one axis, (N, number of patches, p, p, C), and index it with
#    `order`.
# 3. `grid.reshape(n, -1, p, p, c)[:, order].reshape(grid.shape)`

# %%
check("11.shuffle_patches", shuffle_patches)

# %%
order = np.random.default_rng(0).permutation(64)
plain = images, test_images
shuffled = tuple(shuffle_patches(part, order, 4) for part in plain)


def rival_accuracy(name, view, seed):
    """Train a rival on such images: its accuracy on test images of the same kind."""
    make, lr = RIVALS[name]
    rng = np.random.default_rng(seed)
    model, (x, x_test) = make(rng), view
    chosen = (rng.integers(len(x), size=32) for _ in range(STEPS))
    return learned(model, lr, ((x[batch], labels[batch]) for batch in chosen), x_test)

# %% [markdown]
# > **Predict:** each network is trained *and* tested on images that are all shuffled in the same
# > way. How many points does each lose against the images as they are? Give a number for each, such
# > as `{"ConvMixer": 10, "ViT": 10, "ResMLP": 10}`.

# %%
guess = ...  # your prediction: a number, or a few words

# %%
rivals = {}
for name in RIVALS:
    for kind, view in {"plain": plain, "shuffled": shuffled}.items():
        runs = rivals[name, kind] = [rival_accuracy(name, view, seed) for seed in SEEDS]
        print(f"{name:10} {kind:9}", "  ".join(f"{a:.1%}" for a in runs), flush=True)

# %%
differences = {}
for name in RIVALS:
    runs, unshuffled = rivals[name, "shuffled"], rivals[name, "plain"]
    differences[name] = 100 * (np.array(runs) - np.array(unshuffled))
    mean, half = interval(differences[name])
    print(f"{name:10} shuffled {mean:+6.1f} ± {half:4.1f}   {verdict(runs, unshuffled)}")

# %% folded
fig, ax = show.subplots(size=(7.5, 2.2), alt="11.3", guess=guess)
ax.axvline(0, color=show.GRAY, linestyle=":")
for row, runs in enumerate(differences.values()):
    mean, half = interval(runs)
    ax.errorbar(mean, row - 0.12, xerr=half, fmt="D", color=show.BLUE, capsize=4)
    ax.plot(runs, np.full(len(runs), row + 0.2), ".", color=show.RED)
ax.set_yticks(range(len(differences)), differences)
ax.set_xlabel("accuracy, shuffled − plain, in points (dots: seeds; diamonds: means, 95 %)")
ax.set_ylim(len(differences) - 0.4, -0.6)
fig

# %% [markdown]
# The ConvMixer loses some 20 points, and keeps more than the bag of patches gets: it still reads
# *some* order, though not one that was made for convolutions. For the other two the verdict is
# "cannot tell". Of the ViT that says little by itself: after 300 steps it has hardly learned
# anything (guessing gets 20 %); with four times as many steps it reached 38 % in a run of ours. But
# here something better than seeds is at hand, a proof.
#
# A ViT adds a trainable vector to each token, its position embedding, and attention itself does not
# care about the order of its tokens. So for every ViT that reads plain images there is one that
# gives the same scores for shuffled images: the one whose position embeddings are
# shuffled in the same way.
# (For a ResMLP, shuffle the rows and the columns of its matrices, and their biases.) Initial weights
# are drawn alike for all places, so both are equally likely, before training and after it: on
# average a shuffle changes *nothing* for these two. What the seeds show is luck. A check, with
# random weights:

# %%
vit, rng = RIVALS["ViT"][0](0), np.random.default_rng(1)
for w in vit.parameters():
    w.array = rng.normal(0, 0.5, w.array.shape).astype(np.float32)
scores = vit(mx.Tensor(plain[1][:5])).array
other = vit(mx.Tensor(shuffled[1][:5])).array
print("shuffled images, the same scores:      ", np.allclose(scores, other, atol=1e-3))
vit.pos_embed.array = vit.pos_embed.array[:, order]
other = vit(mx.Tensor(shuffled[1][:5])).array
print("positions shuffled too, the same scores:", np.allclose(scores, other, atol=1e-3))

# %% [markdown]
# So what is it, attention or patches? A ConvMixer *assumes* that near patches belong together. Where
# that is true it learns from fewer images and in fewer steps, and where you make it false, it pays.
# A transformer has to find out from data which patches are neighbors. It can, given far more data
# and time than five minutes (the first vision transformers were trained on up to 300 million
# images). Patches alone were the bag at the beginning, which hardly beats guessing. What makes the
# difference is that they meet, and *which* way of meeting is best depends on how much there is to
# learn from. These runs cannot say which is best after long training: 300 steps measure who learns
# fastest. Nor is the comparison quite fair: a handful of learning rates was tried for each rival,
# with one block of a ViT against three of a ConvMixer, so that all have 7,000 to 8,000 parameters.
#
# The same question about photographs, with five families of networks of equal size (0.15 to 0.17
# million parameters) and ten epochs of CIFAR-10, is one command (about four hours on two cores):
#
#     minimix compare attention-or-patches
#
# It was run for this library, with three seeds. Test accuracy in percent, mean ± standard error
# ($s/\sqrt n$, the interval without its factor $t_n$):
#
# | | images as they are | patches shuffled |
# |---|---|---|
# | ResNet (convolutions of 3×3 pixels) | 86.13 ± 0.04 | 69.45 ± 0.41 |
# | ConvMixer | 84.26 ± 0.29 | 75.95 ± 0.21 |
# | MLP-Mixer | 73.89 ± 0.12 | 73.94 ± 0.10 |
# | ResMLP | 73.12 ± 0.15 | 73.46 ± 0.37 |
# | ViT | 65.19 ± 0.28 | 65.45 ± 0.69 |
#
# The two that look at neighbors are ahead by ten points and more, and lose 16.7 and 8.3 points when
# patches are shuffled. The three that read all patches alike cannot tell the two kinds of images
# apart. And having no patches costs the ResNet nothing.
#
# After long training on ImageNet the gap is gone: the paper reports 81.37 % for ConvMixer-1536/20
# (51.6 million parameters), 81.8 % for DeiT-B, a ViT (86 million), 81.0 % for ResMLP-B24/8 (129
# million), and 79.64 % for a ResNet-152 (60 million), quoted from notes on its first table. It shows
# that patches and convolutions do as well as attention. It does not show that patches are what makes
# any of these good, and neither does the table above.
#
# ## Patch size, at the same cost
#
# Finally, the patches themselves. Smaller patches show more detail, and there are more of them:
# with the same $h$, patches of 2×2 cost four times as much as 4×4. It would be no surprise if they
# won. A fair question is: *what is the best use of the same amount of work?*

# %%
def multiply_adds(h, p, k=5, d=3, n=len(KEPT), size=32):
    """The multiply-adds of one image, as you counted them in lesson 09."""
    places = (size // p) ** 2
    return places * h * 3 * p * p + d * places * h * (k * k + h) + h * n

# %% [markdown]
# ### Exercise 5 · `affordable`
#
# `affordable(p, budget)` returns the largest $h$ for which `multiply_adds(h, p)` is at most
# `budget`.

# %%
def affordable(p, budget):
    """The largest width h with patches p×p that costs at most budget: an int."""
    ### BEGIN SOLUTION
    h = 1
    while multiply_adds(h + 1, p) <= budget:
        h += 1
    return h
    ### END SOLUTION

# %% hints [markdown]
# 1. The cost grows with h. Begin with h = 1 and go up as long as you can afford the next.
# 2. The question is not whether you can afford `h`, but whether you can still afford `h + 1`.
# 3. `while multiply_adds(h + 1, p) <= budget: h += 1`

# %%
check("11.affordable", affordable)

# %% [markdown]
# > **Predict:** the baseline has $p = 4$ and $h = 32$. How wide can a network with $p = 2$ be at
# > the same cost, and one with $p = 8$? Which of the three wins?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
budget = multiply_adds(H, p=4)
sizes = {"baseline": results["baseline"]}
for p in (2, 8):
    h = affordable(p, budget)
    sizes[f"p = {p}, h = {h}"] = [accuracy_of(seed, h=h, p=p) for seed in SEEDS]
    print(f"p = {p}, h = {h}:", verdict(sizes[f"p = {p}, h = {h}"], results["baseline"]))

picture(
    sizes,
    alt="11.4",
)

# %% [markdown]
# Patches of 8×8 leave a grid of 4×4 places, too coarse for a star. At the other end, patches of 2×2
# leave a budget for only a few channels: more detail, but less capacity to use it. Between
# 2×2 and 4×4 these runs cannot decide; the best trade-off depends on the budget.
#
# ## Yours and the library's
#
# The library's ConvMixer is your block with every part as in the paper. With the same seed the
# weights are the same, since they are drawn in the same order:

# %%
rng = np.random.default_rng(5)
yours = mixer(16, 5, 4, rng)
library = mx.ConvMixer(16, 3, kernel_size=5, patch_size=4, n_classes=len(KEPT), rng=5)
x = mx.Tensor(test_images[:10])
print("the same scores:", np.allclose(yours(x).array, library(x).array, atol=1e-5))

# %% [markdown]
# Read **`minimix/models/convmixer.py`** again, now that you know what each line is worth. For
# serious measurements, `minimix train --help` lists an option for each of these settings, `--seed`
# among them, and every run records its settings.
#
# **Go further.** Is a kernel of 3×3 really better here? Run it again, with eight new seeds. ·
# Shuffle the patches for the network with $k = 1$: does it notice? · "No norm" gets as far as
# LayerNorm with `lr=0.003` and four times the steps. What was the norm good for, then?
#
# Next: **12 · Break it**. Everything works. How would you know if it did not?

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("11", block, interval, verdict, shuffle_patches, affordable)
