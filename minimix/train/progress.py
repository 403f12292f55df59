"""What is printed during training: a progress bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

EVERY = 30.0  # seconds from one line to the next where there is no bar


class Progress:
    """Use it in a `with` block; `step` after each step, `say` for lines that stay.

    total, done  images in the whole training, and how many a resumed one has already seen
    """

    def __init__(self, total: int, done: int = 0, quiet: bool = False) -> None:
        self.total, self.done, self.quiet = total, done, quiet
        self.bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self.quiet:
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.total,
                initial=self.done,
                unit=" images",
                unit_scale=True,
                dynamic_ncols=True,
                bar_format="{desc}{percentage:3.0f} % |{bar}| {rate_fmt}, {remaining} left",
            )
        self.started = self.told = time.monotonic()
        self.begun_at = self.done
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, images: int, loss: float, accuracy: float) -> None:
        """Another step of that many images; loss and accuracy are those of the epoch so far."""
        self.done += images
        state = f"loss {loss:.3f}  accuracy {100 * accuracy:.2f} %"
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_description_str(f"{state}  ", refresh=False)
            self.bar.update(images)
        elif not self.quiet and now - self.told > EVERY:
            self.told = now
            rate = (self.done - self.begun_at) / (now - self.started)
            left = (self.total - self.done) / rate
            print(
                f"{self.done / self.total:4.0%}  {state}  {rate:.0f} images/s  {clock(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.write(line, file=sys.stdout)
        else:
            print(line, flush=True)


def clock(seconds: float) -> str:
    """75 -> 1:15"""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
