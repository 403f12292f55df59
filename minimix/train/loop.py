"""The training loop."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np

from .. import functional as F
from ..autograd import Tensor
from ..data import Loader, Plain
from ..kernels import set_num_threads
from ..optim import clip_grad_norm
from ..runs import RunFolder
from .divergence import divergence, first_not_finite
from .evaluation import Evaluation, evaluate, fastest
from .interrupt import Interrupt
from .metrics import TrainingLog
from .progress import Progress
from .state import Tally, TrainingState


def train(
    state: TrainingState, run: RunFolder, *, save_every: float = 60.0, quiet: bool = False
) -> Evaluation:
    """Train from `state` to the last epoch of its settings.

    state       a new one, or the one in `run.checkpoint`; it is changed
    run         where logs and checkpoints go
    save_every  seconds between checkpoints; one follows each epoch in any case
    quiet       whether to leave out the progress bar and the lines

    Returns the test of the last epoch. Errors: DivergenceError where something is no longer finite,
    DiskError where the disk refuses, CheckpointError where the logs were changed since the
    checkpoint, Interrupted where a signal asked to stop and everything has been saved.
    """
    config, data, model, optimizer = state.config, state.data, state.model, state.optimizer
    images, labels, average = data.train_images, data.train_labels, state.average
    if config.threads:
        set_num_threads(config.threads)
    fast = fastest(model)  # the same parameters, fewer passes over memory
    learning_rate = config.learning_rate(config.epochs * state.n_steps)
    averaged = average.applied if average else nullcontext

    def save() -> None:
        state.check_finite(run.saved)
        run.save(state.step, state.arrays(), state.facts())

    def test_now(last: bool) -> Evaluation:
        with averaged():
            return evaluate(
                fast,
                data.test_images,
                data.test_labels,
                data.n_classes,
                transform=Plain(data.mean, data.std),
                mirror=last and config.mirror,
                shuffled=config.shuffle_patches,
            )

    run.rewind()
    if run.saved is None:  # so that there is always a checkpoint, and a full disk is noticed now
        save()

    test = None
    with (
        np.errstate(all="ignore"),  # what NumPy would warn of stops the training by name
        Interrupt() as interrupt,
        Progress(config.epochs * len(images), state.images_seen, quiet) as progress,
    ):
        log = TrainingLog(run, state, progress)
        for epoch in range(state.epoch, config.epochs):
            batches = Loader(
                images,
                labels,
                config.batch_size,
                seed=config.seed,
                epoch=epoch,
                transform=config.augment(data.n_classes, epoch, data.mean, data.std),
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
                    what = first_not_finite(model, x, targets, config.label_smoothing)
                    raise divergence(config, f"at step {state.step + 1}", what, run.saved)
                optimizer.step()
                if average and state.step % config.ema_every == 0:
                    average.update()

                # Mixed images have several labels: the largest target is theirs.
                label = targets if targets.ndim == 1 else targets.argmax(axis=1)
                correct = int((logits.array.argmax(axis=1) == label).sum())
                state.tally.add(len(x), loss.item(), correct)
                log.step(epoch, len(x), loss.item(), correct, norm)
                if state.step % state.n_steps and (interrupt.signal or run.unsaved() > save_every):
                    save()
                    interrupt.obey()

            test = test_now(last=epoch == config.epochs - 1)
            if not math.isfinite(test.loss):
                when = f"in the test after epoch {epoch + 1}"
                raise divergence(config, when, "the loss", run.saved)
            line = log.epoch(epoch, test)
            state.tally = Tally()
            save()
            progress.say(line)
            interrupt.obey()

    test = test or test_now(last=True)  # a run that was stopped between its last epoch and here
    with averaged():
        run.finish(
            model.state_dict(),
            {**state.description(), f"{config.tested_on}_accuracy": test.accuracy},
        )
    return test
