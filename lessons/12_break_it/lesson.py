# %% [markdown]
# # 12 · Break it
#
# **You build** five tests, and find twenty-four bugs with them.<br>
# **You need** lesson 03, and lessons 06 to 10, which build the parts.<br>
# **It takes** an hour to work through, 15 seconds to run.
#
# Bugs in a network do not make it crash. Here are six depthwise convolutions, A to F, each in the
# same small ConvMixer, learning the same pictures. **Five of the six are broken.**

# %%
import numpy as np

import minimix as mx
from lessons import broken, show
from lessons.check import check
from minimix import functional as F
from minimix import gradcheck, nn
from minimix.data import normalize, shapes10

# %%
data = shapes10.load(n_train=60, n_test=10)
pictures, labels = mx.Tensor(normalize(data.train_images)), data.train_labels


class Depthwise(nn.DepthwiseConv2d):
    """The layer, with another operation inside."""

    def __init__(self, operation, *sizes, rng):
        super().__init__(*sizes, rng=rng)
        self.operation = operation

    def forward(self, x):
        return self.operation(x, self.weight, self.bias)


def network(operation, h=16, rng=0):
    """A ConvMixer-16/2 with this depthwise convolution."""
    rng = np.random.default_rng(rng)
    layers = [nn.Patchify(3, h, 4, rng=rng), nn.GELU(), nn.BatchNorm(h)]
    for _ in range(2):
        places = [Depthwise(operation, h, 4, rng=rng), nn.GELU(), nn.BatchNorm(h)]
        layers += [nn.Residual(nn.Sequential(*places))]
        layers += [nn.PointwiseConv2d(h, h, rng=rng), nn.GELU(), nn.BatchNorm(h)]
    return nn.Sequential(*layers, nn.GlobalAvgPool(), nn.Linear(h, 10, rng=rng))

# %%
def losses_with(operation, steps=40):
    """The loss in every step."""
    model = network(operation)
    optimizer = mx.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


fig, ax = show.subplots(
    size=(7, 3), alt="12.1",
)
styles = ["-", "--", ":", "-.", "-", "--"]
for (letter, operation), style in zip(broken.depthwise.items(), styles):
    ax.plot(losses_with(operation), style, label=letter)
ax.set(xlabel="step", title="loss: five of these are broken", ylim=(0, None))
ax.legend(ncols=2)
fig

# %% [markdown]
# The network works around the bug: it learns a kernel that compensates. A falling loss tells you
# that *something* learns. It does not tell you that you have built what you think you have built.
#
# `lessons.broken` contains such line-ups: `broken.depthwise`, `broken.batch_norm`, `broken.adamw`,
# `broken.classifiers` and `broken.steps`, each a dict of suspects named by letters, one of which is
# correct. (Do not read the file yet!) You will write a test for each: a function that does nothing
# when the suspect is correct, and raises an `AssertionError` when it is not, as `assert` does.
#
# ## What a gradient check cannot see
#
# Lesson 03 gave you the best tool there is.
#
# > **Predict:** how many of the five broken ones does `gradcheck` find?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
rng = np.random.default_rng(0)
x, w, b = rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(2, 2, 2)), rng.normal(size=2)
for letter, operation in broken.depthwise.items():
    report = gradcheck(operation, [x, w, b], raise_on_failure=False)
    print(letter, "passes" if report.ok else f"fails: the gradient of {report.argument!r}")

# %% [markdown]
# Two. A gradient check asks whether *backward belongs to forward*. Three of the suspects compute
# something other than a depthwise convolution, and their gradients of that are perfectly correct.
#
# Something has to say what the forward pass should be. The formula does (lesson 06), with zeros
# outside the image and $a = \lfloor (k-1)/2 \rfloor$:
#
# $$ y_{nhvc} = \sum_{i,j} x_{n,\,h+i-a,\,v+j-a,\,c}\; w_{ijc} + b_c $$
#
# Written literally it is far too slow to use, and so simple that you can see whether it is right.
# That makes it an **oracle**:

# %%
def by_formula(x, w, b):
    """Depthwise convolution, literally.   (N, H, W, C), (k, k, C), (C,) -> (N, H, W, C)"""
    (n, height, width, c), k = x.shape, len(w)
    a = (k - 1) // 2
    y = np.zeros_like(x) + b
    for h, v, i, j in np.ndindex(height, width, k, k):
        if 0 <= h + i - a < height and 0 <= v + j - a < width:
            y[:, h, v] += x[:, h + i - a, v + j - a] * w[i, j]
    return y

# %% [markdown]
# ### Exercise 1 · `test_depthwise`
#
# `test_depthwise(op)` raises an `AssertionError` if `op(x, w, b)` is not the depthwise convolution
# or its backward pass is wrong. Give `op` arrays; it returns a Tensor, whose `.array` you can
# inspect. Nobody tells you which sizes to try, and that is the difficult part: **a test only sees
# what its inputs can show.**

# %%
def test_depthwise(op):
    """Raise AssertionError unless op(x, w, b) is depthwise convolution, forward and backward."""
    rng = np.random.default_rng(0)
    ### BEGIN SOLUTION
    for k in (2, 3):
        x, w, b = rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(k, k, 2)), rng.normal(size=2)
        assert np.allclose(op(x, w, b).array, by_formula(x, w, b))
        gradcheck(op, [x, w, b])
    ### END SOLUTION

# %% hints [markdown]
# 1. Forward against the oracle, backward with `gradcheck`, which raises an `AssertionError` itself.
# 2. What can go wrong that your inputs hide? A kernel without symmetry shows whether it was
#    flipped; an even one shows on which side it is padded; several images show how sums over the
#    batch are taken. Random numbers and axes of different lengths are a good start.
# 3. For k = 2 and k = 3: draw `x` (2, 3, 4, 2), `w` (k, k, 2) and `b` (2,);
#    `assert np.allclose(op(x, w, b).array, by_formula(x, w, b))`; `gradcheck(op, [x, w, b])`.

# %%
check("12.test_depthwise", test_depthwise)

# %%
def line_up(test, suspects):
    """What a test says about each suspect: letter -> None, or in a few words why it fails."""
    verdicts = {}
    for letter, suspect in suspects.items():
        try:
            test(suspect)
            verdicts[letter] = None
        except AssertionError as error:
            verdicts[letter] = str(error).strip().split("\n")[0][:60] or "an assertion failed"
    return verdicts


for letter, why in line_up(test_depthwise, broken.depthwise).items():
    print(letter, f"caught: {why}" if why else "passes")

# %% [markdown]
# ## Two modes
#
# Batch norm is harder to test, since it has two modes: it normalizes with the statistics of the
# batch in training, and with its running statistics in evaluation. Most of its bugs show only in
# evaluation.
#
# > **Predict:** one of the suspects divides by $\sqrt{\sigma^2} + \varepsilon$ instead of
# > $\sqrt{\sigma^2 + \varepsilon}$, with $\varepsilon = 10^{-5}$. In which digit does the result
# > differ when $\sigma = 1$? Would `np.allclose` notice?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
sigma, eps = 1.0, 1e-5
right, wrong = 1 / np.sqrt(sigma**2 + eps), 1 / (sigma + eps)
print(f"{right:.8f} and {wrong:.8f}: allclose says {np.allclose(right, wrong)}")

# %% [markdown]
# It would not: `allclose` accepts relative differences of $10^{-5}$. A small effect has to be
# **made large** to be seen. Fortunately $\varepsilon$ is an argument.
#
# ### Exercise 2 · `test_batch_norm`
#
# `op(x, gamma, beta, running_mean=…, running_var=…, training=True, momentum=0.1, eps=1e-5)` does
# what it does in lesson 07: it normalizes, and in training it updates the two running arrays *in
# place*,
#
# $$ \text{running} \leftarrow 0.9\,\text{running} + 0.1 \cdot \big(\mu \;\text{ or }\;
#    \tfrac{M}{M-1}\sigma^2\big), $$
#
# with $M$ numbers per channel. Check four things: the result in training, the updated running
# arrays, the result in evaluation, and the gradients.

# %%
def test_batch_norm(op):
    """Raise AssertionError unless op is batch normalization in both modes, and its gradient."""
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.normal(2, 3, (2, 3, 2, 2)), np.array([1.5, -0.5]), np.array([10, 20.0])
    mean, var, rows = np.zeros(2), np.ones(2), x.reshape(-1, 2)

    def normal(mean, var, eps):
        return gamma * (x - mean) / np.sqrt(var + eps) + beta

    ### BEGIN SOLUTION
    options = {"running_mean": mean, "running_var": var, "eps": 0.5}
    y = op(x, gamma, beta, **options)
    assert np.allclose(y.array, normal(rows.mean(0), rows.var(0), 0.5))
    assert np.allclose(mean, 0.1 * rows.mean(0))
    assert np.allclose(var, 0.9 + 0.1 * rows.var(0, ddof=1))
    y = op(x, gamma, beta, **options, training=False)
    assert np.allclose(y.array, normal(mean, var, 0.5))
    gradcheck(lambda x, gamma, beta: op(x, gamma, beta, eps=0.5), [x, gamma, beta])
    ### END SOLUTION

# %% hints [markdown]
# 1. Call it once in training mode, with `mean` and `var` as running arrays, and compare three
#    things; then once with `training=False` and compare again. Choose an `eps` that matters, such
#    as 0.5.
# 2. In training `normal(rows.mean(0), rows.var(0), 0.5)` is right, in evaluation
#    `normal(mean, var, 0.5)`. The unbiased variance is `rows.var(0, ddof=1)`.
# 3. The running arrays start at 0 and 1, so they should become `0.1 * rows.mean(0)` and
#    `0.9 + 0.1 * rows.var(0, ddof=1)`. At the end
#    `gradcheck(lambda x, gamma, beta: op(x, gamma, beta, eps=0.5), [x, gamma, beta])`.

# %%
check("12.test_batch_norm", test_batch_norm)

# %%
for letter, why in line_up(test_batch_norm, broken.batch_norm).items():
    print(letter, "caught" if why else "passes")

# %% [markdown]
# ## Properties
#
# An oracle for AdamW would be AdamW written again, with the same misunderstandings. There is
# another way: think of something that **must be true**, whatever the numbers are. In the formula
#
# $$ \theta \leftarrow (1 - \eta\lambda)\,\theta, \qquad
#    \theta \leftarrow \theta - \eta\, \frac{\hat m}{\sqrt{\hat v} + \epsilon}, \qquad
#    \hat m = \frac{m}{1 - \beta_1^t}, \quad \hat v = \frac{v}{1 - \beta_2^t} $$
#
# look at the very first step.
#
# > **Predict:** without decay, $\lambda = 0$, and with a learning rate $\eta = 0.1$: how far does
# > the first step move a weight whose gradient is 3? And one whose gradient is 0.001?

# %%
guess = ...  # your prediction: a number, or a few words

# %%
show.guessed(guess)
weights = mx.Tensor([5.0, 5.0], requires_grad=True)
optimizer = mx.AdamW([weights], lr=0.1, weight_decay=0.0)
weights.grad = np.array([3.0, 0.001], np.float32)
optimizer.step()
print(weights.array)

# %% [markdown]
# Both by 0.1! At $t = 1$ the corrections undo $1 - \beta$ exactly: $\hat m = g$, $\hat v = g^2$,
# and $g / |g|$ is a sign. And a second property: where the gradient is **zero**, only the decay is
# left of the formula.
#
# ### Exercise 3 · `test_adamw`
#
# `make(parameters, lr=…, weight_decay=…)` returns an optimizer. Test both properties: the first
# step without decay moves **every** parameter by η against its gradient's sign, and a step with
# gradient 0 multiplies it by $1 - \eta\lambda$. `first_step(make, gradient, lr, decay)` does a
# first step for you.

# %%
def first_step(make, gradient, lr, decay, n=2):
    """n parameters of three numbers, before and after the first step: two (n, 3) arrays."""
    before = np.random.default_rng(0).normal(size=(n, 3))
    parameters = [mx.Tensor(row.copy(), requires_grad=True) for row in before]
    for p in parameters:
        p.grad = np.full(3, float(gradient))
    make(parameters, lr=lr, weight_decay=decay).step()
    return before, np.array([p.array for p in parameters])


def test_adamw(make):
    """Raise AssertionError unless the first step has the properties of AdamW."""
    ### BEGIN SOLUTION
    for gradient in (-30.0, 1e-4):
        before, after = first_step(make, gradient, lr=0.1, decay=0.0)
        assert np.allclose(after, before - 0.1 * np.sign(gradient), atol=1e-4)
    before, after = first_step(make, 0.0, lr=0.1, decay=0.2)
    assert np.allclose(after, before * (1 - 0.1 * 0.2))
    ### END SOLUTION

# %% hints [markdown]
# 1. Two calls of `first_step`: one with a gradient and `decay=0`, one with gradient 0 and a decay.
#    Compare `after` with what the property says.
# 2. `before - lr * np.sign(gradient)`, and `before * (1 - lr * decay)`. With a learning rate of 1
#    the second would not notice if the learning rate were missing.
# 3. A misplaced $\epsilon = 10^{-8}$ shows only where gradients are small: try `gradient=1e-4`,
#    too. There the correct step is 0.09999, so allow `atol=1e-4`.

# %%
check("12.test_adamw", test_adamw)

# %%
for letter, why in line_up(test_adamw, broken.adamw).items():
    print(letter, "caught" if why else "passes")

# %% [markdown]
# Six lines, no oracle, and they can test any AdamW, in any language.
#
# ## What must not matter
#
# Now a whole application: `classify(images)` runs pictures, uint8 (N, H, W, 3), through a trained
# network and returns scores (N, 10). You do not know the right scores; nobody does. But some things
# **must not matter**: which other pictures are classified at the same time, and whether anything
# was classified before.
#
# > **Predict:** lesson 09 showed what the middle of image 0 sees of image 1. What bug is that, if
# > it happens to the users of a trained network?

# %%
guess = ...  # your prediction: a number, or a few words

# %% [markdown]
# ### Exercise 4 · `test_classifier`
#
# Every picture must get the same scores alone as together with others, and `classify` must leave
# the pictures unchanged. How many pictures do you classify?

# %%
def test_classifier(classify):
    """Raise AssertionError if scores depend on what they must not, or pictures are changed."""
    rng = np.random.default_rng(0)
    ### BEGIN SOLUTION
    images = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    kept = images.copy()
    together = classify(images)
    assert np.array_equal(images, kept)
    alone = np.concatenate([classify(images[i : i + 1]) for i in range(6)])
    assert together.shape == alone.shape
    assert np.allclose(together, alone, atol=1e-4)
    ### END SOLUTION

# %% hints [markdown]
# 1. Random pictures, `rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)`; classify all of them,
#    then each by itself, and compare.
# 2. `images[i : i + 1]` is a batch of one. Compare shapes first: `np.allclose` of two shapes that
#    do not fit raises something else.
# 3. Keep a copy of the pictures before the first call. And use a number of pictures that is not a
#    multiple of 4 or 8: batches have such sizes, and the last one may be incomplete. (6 will do.)

# %%
check("12.test_classifier", test_classifier)

# %%
show.guessed(guess)
for letter, why in line_up(test_classifier, broken.classifiers).items():
    print(letter, "caught" if why else "passes")

# %% [markdown]
# ## Memorize one batch
#
# The last line-up consists of whole training steps, `step(model, optimizer, x, labels)` → loss,
# like yours in lesson 10. Here is something small to try them on:

# %%
def tiny():
    """A small network, its optimizer, and sixteen pictures to learn, with their labels."""
    rng = np.random.default_rng(0)
    model = mx.ConvMixer(12, 1, kernel_size=3, patch_size=2, n_classes=10, rng=1)
    x = mx.Tensor(rng.normal(size=(16, 8, 8, 3)).astype(np.float32))
    return model, mx.AdamW(model.parameters(), lr=0.02), x, np.arange(16) % 10


model, *_ = tiny()
print(f"{model.n_parameters():,} parameters, 16 pictures of pure noise")

# %% [markdown]
# > **Predict:** noise has no pattern to learn. If everything is right, how far does the loss fall
# > when the network sees the *same* sixteen pictures sixty times?

# %%
guess = ...  # your prediction: a number, or a few words

# %% [markdown]
# ### Exercise 5 · `test_learning`
#
# Write that as a test. No other test finds so much for so little work: before every long run, let
# the network memorize one batch.

# %%
def test_learning(step):
    """Raise AssertionError unless this step can memorize a batch."""
    model, optimizer, x, labels = tiny()
    ### BEGIN SOLUTION
    for _ in range(60):
        loss = step(model, optimizer, x, labels)
    assert loss < 0.1
    ### END SOLUTION

# %% hints [markdown]
# 1. Sixty steps on the same batch; then look at the last loss. That it *fell* is not enough.
# 2. Where should you draw the line? Print the last loss of each suspect: there is a wide gap.
# 3. `loss = step(model, optimizer, x, labels)` in a loop, then `assert loss < 0.1`.

# %%
check("12.test_learning", test_learning)

# %%
fig, ax = show.subplots(
    size=(7, 3), alt="12.2", guess=guess,
)
for (letter, step), style in zip(broken.steps.items(), styles):
    batch = tiny()
    ax.plot([step(*batch) for _ in range(60)], style, label=letter)
ax.axhline(0.1, color=show.GRAY, linestyle=":")
ax.set(xlabel="step", title="loss on the same sixteen pictures", ylim=(0, 2.6))
ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 0.08))
fig

# %% [markdown]
# One goes all the way down. Of the others, most have a loss that falls, if slowly, and one stops at
# 1.46 for good. That number is a fingerprint: $\ln(e + 9) - 1$. Which bug leaves it? (Ten classes;
# what is the lowest loss with scores between 0 and 1?)
#
# ## The line-up
#
# All of it in one picture: what gradient checks find, where there is a gradient to check, and what
# your tests find.

# %%
def gradients_of_batch_norm(op):
    gradcheck(lambda x, gamma, beta: op(x, gamma, beta), [x, b, b])


GROUPS = {
    "depthwise": (broken.depthwise, lambda op: gradcheck(op, [x, w, b]), test_depthwise),
    "batch norm": (broken.batch_norm, gradients_of_batch_norm, test_batch_norm),
    "AdamW": (broken.adamw, None, test_adamw),
    "classifier": (broken.classifiers, None, test_classifier),
    "training step": (broken.steps, None, test_learning),
}

fig, axes = show.subplots(
    1, 2, size=(7.5, 2.9), sharey=True,
    alt="12.3",
)
caught = {}
for row, (group, (suspects, gradient_check, test)) in enumerate(GROUPS.items()):
    for ax, tried in zip(axes, (gradient_check, test)):
        verdicts = line_up(tried, suspects) if tried else {}
        for column, why in enumerate(verdicts.values()):
            marker, color, size = ("X", show.RED, 11) if why else (".", show.GRAY, 6)
            ax.plot(column, row, marker=marker, color=color, markersize=size)
    caught[group] = sum(why is not None for why in verdicts.values())
for ax, title in zip(axes, ("gradcheck", f"your tests: {sum(caught.values())} caught")):
    ax.set_xticks(range(6), "ABCDEF")
    ax.set_yticks(range(len(GROUPS)), GROUPS)
    ax.set(title=title, xlim=(-0.7, 5.7), ylim=(4.6, -0.6))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
fig.get_layout_engine().set(wspace=0.1)
fig

# %% [markdown]
# Now the suspects confess.

# %%
for name, (suspects, *_) in GROUPS.items():
    print(name)
    for letter, suspect in suspects.items():
        print(f"    {letter}: {suspect.__doc__}")

# %% [markdown]
# None of the twenty-four crashes, and with most of them a network learns. That is why such bugs
# live long. These tests find them:
#
# | the test | asks | is blind to |
# |---|---|---|
# | the loss falls | does something learn? | nearly everything |
# | gradient check | does backward belong to forward? | a wrong forward |
# | oracle | is forward what the formula says? | inputs you did not try; errors in the formula |
# | property | does what must be true hold? | everything else |
# | memorizing one batch | is the loop connected, end to end? | small errors, and evaluation |
#
# ## Yours and the library's
#
# Your tests, and the library itself:

# %%
def library_step(model, optimizer, x, labels):
    loss = F.cross_entropy(mx.fuse(model.train())(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


LIBRARY = {
    "depthwise": {"F.depthwise_conv2d": F.depthwise_conv2d},
    "batch norm": {"F.batch_norm": F.batch_norm},
    "AdamW": {"mx.AdamW": mx.AdamW},
    "training step": {"with mx.fuse": library_step},
}
for group, library in LIBRARY.items():
    for name, why in line_up(GROUPS[group][2], library).items():
        print(f"{name:20}", why or "passes")

# %% [markdown]
# It passes. Its own tests are in the folder **`tests/`**, and you know all their ideas by now: the
# same oracles, properties and gradient checks, with inputs generated by *hypothesis*, a library
# that searches for those that fail. **`minimix/gradcheck/check.py`** is `gradcheck`, and
# **`lessons/broken.py`** contains the suspects.
#
# **Go further.** What would your `test_adamw` not notice? ($\beta_1$ and $\beta_2$ swapped, for
# one. Which property shows that?) · Write one more suspect for a group, one that passes your own
# test; then improve the test. · Change one character in a file of the library, run its tests, and
# see whether they notice. That tests the tests.
#
# Next: **13 · Why residuals, why norms**. Two parts of every deep network that you have used so far
# without asking.

# %% [markdown]
# **Keep it.** This cell writes what you have built to a small package of your own, `mymix/`, beside
# the notebooks. Later lessons can use it in place of ours.

# %%
from lessons.keep import keep

keep("12", test_depthwise, test_batch_norm, test_adamw, test_classifier, test_learning)
