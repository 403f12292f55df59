"""The training loop."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np

from .. import functional as F
from ..autograd import Array, Tensor
from ..data import Loader, Plain
from ..kernels import using_threads
from ..optim import clip_grad_norm
from ..parallel import ALONE, Ranks, early_sums, synchronized
from ..runs import RunFolder
from .divergence import ONLY_THE_NORM, divergence, first_not_finite
from .evaluation import Evaluation, evaluate, fastest
from .interrupt import Interrupt, Interrupted
from .metrics import TrainingLog
from .progress import Progress
from .state import Tally, TrainingState


def train(
    state: TrainingState,
    run: RunFolder,
    *,
    save_every: float = 60.0,
    quiet: bool = False,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Train from `state` to the last epoch of its settings.

    state       a new one, or the one in `run.checkpoint`; it is changed
    run         where logs and checkpoints go
    save_every  seconds between checkpoints; one follows each epoch in any case
    quiet       whether to leave out the progress bar and the lines
    ranks       the processes that train together, each with its shard of every batch; the run is
                rank 0's (`minimix.runs.hold`)

    Returns the test of the last epoch. Errors: DivergenceError where something is no longer finite,
    DiskError where the disk refuses, CheckpointError where the logs were changed since the
    checkpoint, Interrupted where a signal asked to stop and everything has been saved.
    """
    with using_threads(state.config.threads):
        return _train(state, run, save_every, quiet, ranks)


def _train(
    state: TrainingState, run: RunFolder, save_every: float, quiet: bool, ranks: Ranks
) -> Evaluation:
    config, data, model, optimizer = state.config, state.data, state.model, state.optimizer
    images, labels, average = data.train_images, data.train_labels, state.average
    fast = fastest(model)  # the same parameters, fewer passes over memory
    parameters = list(model.parameters())
    together = ranks if config.sync_batch_norm else ALONE
    ema_every = min(config.ema_every, state.n_steps)  # so that no test is of the initial weights
    learning_rate = config.learning_rate(config.epochs * state.n_steps)
    averaged = average.applied if average else nullcontext

    def save() -> None:
        state.check_finite(run.saved)
        ranks.check_alike(state.arrays(), f"after step {state.step}")
        run.save(state.step, state.arrays(), state.facts(ranks))

    def obey(signal: float) -> None:
        if signal:
            raise Interrupted(int(signal))

    def apart() -> list[Array]:
        """Running statistics that differ from rank to rank."""
        if config.sync_batch_norm:
            return []
        buffers = (b for _, module in model.named_modules() for b in module._buffers.values())
        return [b for b in buffers if b.dtype.kind == "f"]

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
                ranks=ranks,
            )

    state.share(ranks)
    run.rewind()
    if run.saved is None:  # so that there is always a checkpoint, and a full disk is noticed now
        save()

    test = None
    with (
        np.errstate(all="ignore"),  # what NumPy would warn of stops the training by name
        Interrupt(quiet=not ranks.first) as interrupt,
        Progress(
            config.epochs * len(images), state.images_seen, quiet or not ranks.first
        ) as progress,
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
                ranks=(ranks.rank, ranks.size),
            )
            for x, targets in batches:
                optimizer.lr = learning_rate(state.step)
                n, part = state.part(ranks)  # of the batch of n images, x are this rank's
                optimizer.zero_grad()
                with synchronized(together, part.copies), early_sums(ranks) as early:
                    logits = fast(Tensor(x))  # (N, n_classes)
                    loss = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
                    loss.backward(part.weight)

                # Mixed images have several labels: the largest target is theirs.
                label = targets if targets.ndim == 1 else targets.argmax(axis=1)
                hits = float((logits.array.argmax(axis=1) == label).sum())
                numbers = loss.item() * part.weight, hits / part.copies
                summed = early.finish()
                mean_loss, correct = ranks.sum_gradients(
                    parameters, numbers, averages=apart(), weight=part.weight, early=summed
                )
                norm = clip_grad_norm(parameters, config.clip_norm or math.inf)
                if not math.isfinite(mean_loss + norm):
                    found = first_not_finite(model, x, targets, config.label_smoothing)
                    what = min(ranks.gather(found), key=ONLY_THE_NORM.__eq__)
                    raise divergence(config, f"at step {state.step + 1}", what, run.saved)
                optimizer.step()
                if average and state.step % ema_every == 0:
                    average.update()

                state.tally.add(n, mean_loss, round(correct))
                log.step(epoch, n, mean_loss, round(correct), norm)
                signal, late = ranks.highest(interrupt.signal, run.unsaved() > save_every)
                if state.step % state.n_steps and (signal or late):
                    save()
                    obey(signal)

            test = test_now(last=epoch == config.epochs - 1)
            if not math.isfinite(test.loss):
                when = f"in the test after epoch {epoch + 1}"
                raise divergence(config, when, "the loss", run.saved)
            line = log.epoch(epoch, test)
            state.tally = Tally()
            save()
            progress.say(line)
            obey(*ranks.highest(interrupt.signal))

    test = test or test_now(last=True)  # a run that was stopped between its last epoch and here
    with averaged():
        run.finish(
            model.state_dict(),
            {**state.description(), f"{config.tested_on}_accuracy": test.accuracy},
        )
    return test
