"""The training loop."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np

from .. import functional as F
from ..autograd import Tensor
from ..data import Dataset, Loader
from ..fuse import fuse
from ..kernels.threads import set_num_threads
from ..optim import WeightAverage, clip_grad_norm
from .config import Config
from .divergence import diverged
from .evaluation import Evaluation, evaluate
from .interrupt import Interrupt
from .progress import Progress
from .record import Record
from .run import Run
from .state import State
from .whitening import whiten


def train(
    config: Config, data: Dataset, run: Run, *, save_every: float = 60.0, quiet: bool = False
) -> Evaluation:
    """Train as `config` says, from where `run` was last saved, or else from the beginning.

    save_every  seconds from one checkpoint to the next; one follows each epoch in any case
    quiet       whether to leave out the bar and the lines

    Returns the test of the last epoch. Errors: DivergenceError where something stops being finite,
    CheckpointError where the disk refuses or what was saved is of another model or data set,
    Interrupted where a signal asked to stop and everything has been saved.
    """
    if config.threads:
        set_num_threads(config.threads)
    data = config.limited(data)
    images, labels = data.train_images, data.train_labels

    model = config.model(data.n_classes)
    if config.whiten:
        whiten(model, images, config.seed)
    optimizer = config.optimizer_of(model)
    average = WeightAverage(model, config.ema) if config.ema else None
    state = State(config, data, model, optimizer, average)
    run.restore(state)

    fast = fuse(model)  # the same parameters, fewer passes over memory
    learning_rate = config.learning_rate(config.epochs * state.n_steps)
    averaged = average.applied if average else nullcontext

    def test_now(last: bool) -> Evaluation:
        with averaged():
            return evaluate(
                fast, data.test_images, data.test_labels, data.n_classes,
                mirror=last and config.mirror,
            )  # fmt: skip

    test = None
    with (
        np.errstate(all="ignore"),  # what NumPy would warn of stops the training by name
        Interrupt() as interrupt,
        Progress(config.epochs * len(images), state.images_seen, quiet) as progress,
    ):
        record = Record(run, state, progress)
        for epoch in range(state.epoch, config.epochs):
            batches = Loader(
                images,
                labels,
                config.batch_size,
                seed=config.seed,
                epoch=epoch,
                transform=config.augment(data.n_classes, epoch),
                skip=state.step % state.n_steps,  # of a run that was stopped within the epoch
                n_classes=data.n_classes,
            )
            for x, targets in batches:
                optimizer.lr = learning_rate(state.step)
                logits = fast(Tensor(x))  # (N, n_classes)
                loss = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                norm = clip_grad_norm(model.parameters(), config.clip_norm or math.inf)
                if not math.isfinite(loss.item() + norm):
                    raise diverged(state, x, targets, run.saved)
                optimizer.step()
                if average and state.step % config.ema_every == 0:
                    average.update()

                record.step(epoch, logits, targets, loss, norm)
                if state.step % state.n_steps and (interrupt.signal or run.unsaved() > save_every):
                    run.save(state)
                    interrupt.obey()

            test = test_now(last=epoch == config.epochs - 1)
            record.epoch(epoch, test)
            run.save(state)
            interrupt.obey()

    test = test or test_now(last=True)  # a run that was stopped between its last epoch and here
    with averaged():
        run.finish(state, test.accuracy)
    return test
