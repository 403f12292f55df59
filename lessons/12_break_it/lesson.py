# %% [markdown]
# # 12 · Break it
#
# **You build** five tests, and find twenty-four bugs with them.<br>
# **You need** lesson 03, and what the parts do: lessons 06 to 10.<br>
# **It takes** an hour to work through, 15 seconds to run.
#
# Bugs in a network do not crash. Here are six depthwise convolutions, A to F, each in the same
# small ConvMixer, learning the same pictures. **Five of the six are broken.**

# %%
import numpy as np

import minimix as mx
from lessons import broken, show
from lessons.check import check
from minimix import functional as F
from minimix import gradcheck, nn
from minimix.data import normalize, shapes10

data = shapes10.load(n_train=60, n_test=10)
pictures, labels = mx.Tensor(normalize(data.train_images)), data.train_labels


class Depthwise(nn.DepthwiseConv2d):
    """The layer, with somebody else's operation inside."""

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
    size=(7, 3), alt="Six losses falling from 2.3 to near 0 in 40 steps, one for each suspect. "
    "Five lie on top of each other, B is a little slower.",
)  # fmt: skip
styles = ["-", "--", ":", "-.", "-", "--"]
for (letter, operation), style in zip(broken.depthwise.items(), styles):
    ax.plot(losses_with(operation), style, label=letter)
ax.set(xlabel="step", title="loss: five of these are broken", ylim=(0, None))
ax.legend(ncols=2)
fig

# %% [markdown]
# The network works around what is wrong: it learns a kernel that fits. A falling loss says that
# *something* learns. It does not say that you have built what you think you have built.
#
# `lessons.broken` holds such line-ups: `broken.depthwise`, `broken.batch_norm`,
# `broken.adamw`, `broken.classifiers` and `broken.steps`, each a dict of suspects under letters,
# one of them right. (Do not read the file yet!) You will write a test for each: a function that
# does nothing when the suspect is right, and raises an `AssertionError` when it is not, as `assert`
# does.
#
# ## What a gradient check cannot see
#
# Lesson 03 gave you the best tool there is.
#
# > **Predict:** how many of the five does `gradcheck` find?

# %%
rng = np.random.default_rng(0)
x, w, b = rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(2, 2, 2)), rng.normal(size=2)
for letter, operation in broken.depthwise.items():
    report = gradcheck(operation, [x, w, b], raise_on_failure=False)
    print(letter, "passes" if report.ok else f"fails: the gradient of {report.argument!r}")

# %% [markdown]
# Two. A gradient check asks whether *backward belongs to forward*. Three of the suspects compute
# something else than a depthwise convolution, and its gradients are perfectly right.
#
# Somebody has to say what forward should be. The formula does (lesson 06), with zeros outside the
# image and $a = \lfloor (k-1)/2 \rfloor$:
#
# $$ y_{nhvc} = \sum_{i,j} x_{n,\,h+i-a,\,v+j-a,\,c}\; w_{ijc} + b_c $$
#
# Written as it stands it is far too slow to use, and so plain that you can see whether it is right.
# That makes it an **oracle**:

# %%
def by_formula(x, w, b):
    """Depthwise convolution as it is written.   (N, H, W, C), (k, k, C), (C,) -> (N, H, W, C)"""
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
# `test_depthwise(op)` raises an `AssertionError` where `op(x, w, b)` is not the depthwise
# convolution or its backward is wrong. Give `op` arrays; it returns a Tensor, whose `.array` you
# can look at. Nobody tells you which sizes to try, and that is the difficult part: **a test only
# sees what its inputs can show.**

# %%
def test_depthwise(op):
    """Raise AssertionError unless op(x, w, b) is depthwise convolution, there and back."""
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
#    turned; an even one shows on which side it is padded; several images show how sums over the
#    batch are taken. Random numbers in odd shapes are a good start.
# 3. For k = 2 and k = 3: draw `x` (2, 3, 4, 2), `w` (k, k, 2) and `b` (2,);
#    `assert np.allclose(op(x, w, b).array, by_formula(x, w, b))`; `gradcheck(op, [x, w, b])`.

# %%
check("12.test_depthwise", test_depthwise)

# %%
def line_up(test, suspects):
    """What a test says of each suspect: letter -> None, or in a few words why it fails."""
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
# ## Two lives
#
# Batch norm is harder to test, since it lives twice: it normalises with the batch in training, and
# with its memory in evaluation. Most of its bugs show only in the other life.
#
# > **Predict:** one of the suspects divides by $\sqrt{\sigma^2} + \varepsilon$ instead of
# > $\sqrt{\sigma^2 + \varepsilon}$, with $\varepsilon = 10^{-5}$. In which digit does the result
# > differ when $\sigma = 1$? Would `np.allclose` notice?

# %%
sigma, eps = 1.0, 1e-5
right, wrong = 1 / np.sqrt(sigma**2 + eps), 1 / (sigma + eps)
print(f"{right:.8f} and {wrong:.8f}: allclose says {np.allclose(right, wrong)}")

# %% [markdown]
# It would not: `allclose` lets differences of $10^{-5}$ pass. What is small has to be **made
# large** to be seen. Fortunately $\varepsilon$ is an argument.
#
# ### Exercise 2 · `test_batch_norm`
#
# `op(x, gamma, beta, running_mean=…, running_var=…, training=True, momentum=0.1, eps=1e-5)` is as
# in lesson 07: it normalises, and in training it moves the two running arrays *in place*,
#
# $$ \text{running} \leftarrow 0.9\,\text{running} + 0.1 \cdot \big(\mu \;\text{ or }\;
#    \tfrac{M}{M-1}\sigma^2\big), $$
#
# with $M$ numbers a channel. Check four things: the result in training, what has become of the
# running arrays, the result in evaluation, and the gradients.

# %%
def test_batch_norm(op):
    """Raise AssertionError unless op is batch normalisation in both its lives, and back."""
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
# 1. Call it once in training, with `mean` and `var` as running arrays, and compare three things;
#    then once with `training=False` and compare again. Choose an `eps` that matters, such as 0.5.
# 2. In training `normal(rows.mean(0), rows.var(0), 0.5)` is right, in evaluation
#    `normal(mean, var, 0.5)`. The unbiased variance is `rows.var(0, ddof=1)`.
# 3. The running arrays begin at 0 and 1, so they should be `0.1 * rows.mean(0)` and
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
# An oracle for AdamW would be AdamW once more, with the same misunderstandings in it. There is
# another way: think of something that **must be true**, whatever the numbers. In the formula
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
weights = mx.Tensor([5.0, 5.0], requires_grad=True)
optimizer = mx.AdamW([weights], lr=0.1, weight_decay=0.0)
weights.grad = np.array([3.0, 0.001], np.float32)
optimizer.step()
print(weights.array)

# %% [markdown]
# Both by 0.1! At $t = 1$ the corrections undo $1 - \beta$ exactly: $\hat m = g$, $\hat v = g^2$,
# and $g / |g|$ is a sign. And a second property: where the gradient is **zero**, nothing is left
# of the formula but the decay.
#
# ### Exercise 3 · `test_adamw`
#
# `make(parameters, lr=…, weight_decay=…)` returns an optimizer. Test both properties: the first
# step without decay moves **every** parameter by η against its gradient's sign, and a step with
# gradient 0 multiplies it by $1 - \eta\lambda$. `first_step(make, gradient, lr, decay)` does a
# first step for you.

# %%
def first_step(make, gradient, lr, decay, n=2):
    """n parameters of three numbers, and what the first step makes of them: two (n, 3) arrays."""
    before = np.random.default_rng(0).normal(size=(n, 3))
    parameters = [mx.Tensor(row.copy(), requires_grad=True) for row in before]
    for p in parameters:
        p.grad = np.full(3, float(gradient))
    make(parameters, lr=lr, weight_decay=decay).step()
    return before, np.array([p.array for p in parameters])


def test_adamw(make):
    """Raise AssertionError unless a first step is what AdamW's must be."""
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
#    the second would not notice if somebody forgot it.
# 3. A wrong place of $\epsilon = 10^{-8}$ shows only where gradients are small: try
#    `gradient=1e-4`, too. There the right one moves by 0.09999, so allow `atol=1e-4`.

# %%
check("12.test_adamw", test_adamw)

# %%
for letter, why in line_up(test_adamw, broken.adamw).items():
    print(letter, "caught" if why else "passes")

# %% [markdown]
# Six lines, no oracle, and they would test anybody's AdamW, in any language.
#
# ## What must not matter
#
# Now a whole application: `classify(images)` takes pictures, uint8 (N, H, W, 3), through a trained
# network and returns scores (N, 10). You do not know the right scores; nobody does. But some
# things **must not matter**: which other pictures are asked about at the same time, and whether
# somebody asks at all.
#
# > **Predict:** lesson 09 showed what the middle of image 0 sees of image 1. Which bug is that, if
# > it happens to the users of a trained network?
#
# ### Exercise 4 · `test_classifier`
#
# Every picture gets the same scores alone as in company, and `classify` leaves the pictures as they
# were. How many pictures do you ask about?

# %%
def test_classifier(classify):
    """Raise AssertionError where scores depend on what they must not, or pictures are changed."""
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
# 1. Random pictures, `rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)`; ask about all of them,
#    then about each by itself, and compare.
# 2. `images[i : i + 1]` is a batch of one. Compare shapes first: `np.allclose` of two shapes that
#    do not fit raises something else.
# 3. Keep a copy of the pictures before the first call. And take a number of them that is no
#    multiple of 2 or 4 or 8: batches have sizes like that, and the last one may be incomplete. (6
#    will do.)

# %%
check("12.test_classifier", test_classifier)

# %%
for letter, why in line_up(test_classifier, broken.classifiers).items():
    print(letter, "caught" if why else "passes")

# %% [markdown]
# ## Learn one batch by heart
#
# The last line-up are whole training steps, `step(model, optimizer, x, labels)` → loss, as yours in
# lesson 10. Here is something small to try them on:

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
# > **Predict:** there is nothing to understand in noise. If everything is right, how far down does
# > the loss go when the network sees the *same* sixteen pictures sixty times?
#
# ### Exercise 5 · `test_learning`
#
# Write that as a test. It is the best test for the least work that there is: before every long
# training, let the network learn one batch by heart.

# %%
def test_learning(step):
    """Raise AssertionError unless this step can learn a batch by heart."""
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
    size=(7, 3), alt="Five losses over sixty steps. B falls from 2.3 to 0. A stops at 1.46, C is "
    "at 1 and falls slowly, D and E stay above 2.",
)  # fmt: skip
for (letter, step), style in zip(broken.steps.items(), styles):
    batch = tiny()
    ax.plot([step(*batch) for _ in range(60)], style, label=letter)
ax.axhline(0.1, color=show.GREY, linestyle=":")
ax.set(xlabel="step", title="loss on the same sixteen pictures", ylim=(0, 2.6))
ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 0.08))
fig

# %% [markdown]
# One goes all the way. Of the others, most have a loss that falls, if slowly, and one stops at 1.46
# for good. That number is a fingerprint: $\ln(e + 9) - 1$. Which bug leaves it? (Ten classes;
# what is the best that scores between 0 and 1 can do?)
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
    alt="Two tables of crosses and dots, a row for each group, a column for each suspect. On the "
    "left gradcheck finds two of five convolutions and one of five batch norms. On the right your "
    "tests find all; one suspect in each row passes.",
)  # fmt: skip
caught = {}
for row, (group, (suspects, gradient_check, test)) in enumerate(GROUPS.items()):
    for ax, tried in zip(axes, (gradient_check, test)):
        verdicts = line_up(tried, suspects) if tried else {}
        for column, why in enumerate(verdicts.values()):
            marker, color, size = ("X", show.RED, 11) if why else (".", show.GREY, 6)
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
# Now they may speak.

# %%
for name, (suspects, *_) in GROUPS.items():
    print(name)
    for letter, suspect in suspects.items():
        print(f"    {letter}: {suspect.__doc__}")

# %% [markdown]
# None of the twenty-four crashes, and with most of them a network learns. That is why such bugs
# live long. What finds them:
#
# | the test | asks | is blind to |
# |---|---|---|
# | the loss falls | does something learn? | nearly everything |
# | gradient check | does backward belong to forward? | a wrong forward |
# | oracle | is forward what the formula says? | inputs you did not try; errors in the formula |
# | property | does what must be true hold? | everything else |
# | one batch by heart | is the loop connected, end to end? | small errors, and evaluation |
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
# same oracles, properties and gradient checks, with sizes drawn by a machine that looks for the
# unlucky ones (*hypothesis*). **`minimix/gradcheck/check.py`** is `gradcheck`; and
# **`lessons/broken.py`** is where the suspects live.
#
# **Go further.** What would your `test_adamw` not notice? ($\beta_1$ and $\beta_2$ exchanged, for
# one. Which property shows that?) · Write one more suspect for a group, one that your own test
# passes; then mend the test. · Change one character in a file of the library, run its tests, and
# see whether they notice. That is the test of tests.
#
# That was the last lesson. There is no part of this library now that you could not have written. Go
# and build something that is not in it.
