"""What a training run shows: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from ..console import Bar, is_terminal, say

PAUSE = 30.0  # seconds between the plain lines of a long epoch
REFRESH = 0.1  # seconds between two states of a bar


class Display:
    """The progress of a run, on `stream` (standard output).

    On a terminal each epoch has a bar with the running loss and accuracy, images a second and the time left, and
    leaves one line behind. Elsewhere there are only lines, without any control character: one an epoch, and in
    long epochs one each half minute. A stream that is closed, or whose reader has gone, ends the display and not the
    training.
    """

    def __init__(self, epochs: int, samples: int, *, verbose: bool = True, stream: TextIO | None = None):
        self.epochs, self.samples = epochs, samples
        self.stream: Any = sys.stdout if stream is None else stream
        self.verbose = verbose and self.stream is not None  # a process may have no standard output
        self.terminal = self.verbose and is_terminal(self.stream)
        self.bar: Bar | None = None

    def start(self, epoch: int, seen: int) -> None:
        """Epoch number `epoch`, from 0, begins, or goes on after `seen` samples."""
        self.title, self.began, self.first, self.last = f"epoch {epoch + 1}/{self.epochs}", time.monotonic(), seen, 0.0
        self.shown = self.began
        if self.terminal:
            with self._drawing():
                self.bar = Bar(
                    total=self.samples,
                    initial=seen,
                    desc=self.title,
                    leave=False,
                    dynamic_ncols=True,
                    file=self.stream,
                    bar_format="{desc} {percentage:3.0f}% |{bar}| {remaining} left{postfix}",
                )

    def due(self) -> bool:
        """Whether `step` would show something now."""
        now = time.monotonic()
        if self.bar is not None:
            return now - self.shown >= REFRESH
        return self.verbose and now - self.began - self.last >= PAUSE

    def step(self, seen: int, loss: float, accuracy: float | None) -> None:
        """After a step: samples of this epoch so far, and their mean loss and accuracy."""
        if self.bar is not None:
            self.shown = time.monotonic()
            rate = (seen - self.first) / max(time.monotonic() - self.began, 1e-9)
            text = f"{metrics({'loss': loss, 'accuracy': accuracy})}, {rate:,.0f} images/s"
            with self._drawing():
                self.bar.set_postfix_str(text, refresh=False)
                self.bar.update(seen - self.bar.n)
        elif self.verbose and (spent := time.monotonic() - self.began) - self.last >= PAUSE:
            self.last, rate = spent, (seen - self.first) / spent
            self.line(
                f"{self.title}  {seen:,}/{self.samples:,}  {metrics({'loss': loss, 'accuracy': accuracy})}  "
                f"{rate:,.0f} images/s  {(self.samples - seen) / rate:.0f} s left"
            )

    def note(self, text: str) -> None:
        """What the bar says where it is not training that takes the time."""
        if self.bar is not None:
            with self._drawing():
                self.bar.set_postfix_str(text)

    def end(self, row: Mapping[str, Any]) -> None:
        """The epoch's row of the history."""
        self.close()
        self.line(f"{self.title}  {metrics(row)}  {row['seconds']:.1f} s  {row['images_per_second']:,.0f} images/s")

    def line(self, text: str) -> None:
        """A line of text, above the bar if there is one."""
        if not self.verbose:
            return
        with self._drawing():
            if self.bar is not None:
                with self.bar.external_write_mode(file=self.stream):
                    say(text, self.stream)
            else:
                say(text, self.stream)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            with self._drawing():
                self.bar.close()
            self.bar = None

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Show nothing from now on where the stream cannot be written."""
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.verbose = self.terminal = False
            if self.bar is not None:
                self.bar.disable = True  # it would draw itself once more as it is freed
                self.bar = None


def metrics(row: Mapping[str, Any]) -> str:
    """'loss 0.4123  accuracy 86.91%  …' of those that there are."""
    parts = []
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        if (value := row.get(name)) is not None:
            parts.append(f"{name} {value:.2%}" if name.endswith("accuracy") else f"{name} {value:.4f}")
    return "  ".join(parts)
