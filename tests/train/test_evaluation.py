"""evaluate: what it counts, and the model that it leaves as it was."""

import numpy as np
import pytest

import minimix as mx
from minimix.train import evaluate


class Brightest(mx.Module):
    """Logits are the mean red, green and blue of the left half: known without training."""

    def forward(self, x):
        return x[:, :, : x.shape[2] // 2].mean(axis=(1, 2))


def colored(*left_and_right):
    images = np.zeros((len(left_and_right), 4, 4, 3), np.uint8)
    for image, (left, right) in zip(images, left_and_right, strict=True):
        image[:, :2, left] = 200
        image[:, 2:, right] = 250
    return images


def test_known_answers():
    images = colored((0, 0), (1, 1), (2, 1), (2, 2))
    labels = np.array([0, 1, 1, 0])
    result = evaluate(Brightest(), images, labels, 3, batch_size=3, mirror=True)
    assert result.confusion.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert result.accuracy == 0.5
    assert result.per_class == [0.5, 0.5, None]
    assert result.mirrored == 0.75  # the third is seen to be of class 1 from the other side
    assert evaluate(Brightest(), images, labels, 3).mirrored is None
    whole = evaluate(Brightest(), images, labels, 3, batch_size=4)
    assert result.loss == pytest.approx(whole.loss, rel=1e-6)  # a short last batch counts as such


def test_what_does_not_fit():
    images, labels = colored((0, 0), (1, 1)), np.array([0, 1])
    with pytest.raises(ValueError, match=r"logits of shape \(2, 3\) for 2 images of 4 classes"):
        evaluate(Brightest(), images, labels, 4)
    with pytest.raises(ValueError, match="images"):
        evaluate(Brightest(), images[:0], labels[:0], 3)


def modes(model):
    return [module.training for _, module in model.named_modules()]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("fused", [False, True])
def test_every_module_is_left_in_its_mode(error, fused, monkeypatch):
    model = mx.ConvMixer(8, 1, 3, 4, 10, rng=0)
    run = mx.fuse(model) if fused else model
    model.stem[2].eval()  # a frozen batch norm
    model.blocks[0].training = False
    before = modes(model)
    seen = []

    def head(x):
        seen.append(any(modes(model)))
        if error:
            raise error
        return mx.functional.linear(x, model.head.weight, model.head.bias)

    monkeypatch.setattr(model.head, "forward", head)
    images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    if error:
        with pytest.raises(error):
            evaluate(run, images, labels, 10)
    else:
        evaluate(run, images, labels, 10)
    assert seen == [False]
    assert modes(model) == before
