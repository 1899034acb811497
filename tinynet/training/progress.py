"""What a training run shows: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from ..console import bar, columns, in_notebook, is_terminal, say
from .metrics import shown

PAUSE = 30.0  # seconds between the plain lines of a long epoch
REFRESH = 0.1  # seconds between two states of a bar
LEAST_BAR, LONGEST_BAR, NARROW = 8, 40, 60  # columns
COLUMNS = ("epoch", "lr", "seconds", "images_per_second")  # of the history, that are not measured on the model


class Display:
    """The progress of a run, on `stream` (standard output).

    On a terminal and in a notebook each epoch has a bar with the time left, the running loss and metrics and the
    samples a second, as far as the width allows, and leaves one line behind. Elsewhere there are only lines, without
    any control character: one an epoch, and in long epochs one each half minute. A stream that is closed, or whose
    reader has gone, ends the display and not the training.

    Args: samples: in an epoch; None where that is not known, and then there is no bar but a count. unit: what they are.
    """

    def __init__(
        self,
        epochs: int,
        samples: int | None,
        *,
        unit: str = "images",
        verbose: bool = True,
        stream: TextIO | None = None,
    ):
        self.epochs, self.samples, self.unit = epochs, samples, unit
        self.stream: Any = sys.stdout if stream is None else stream
        self.verbose = verbose and self.stream is not None  # a process may have no standard output
        self.moving = self.verbose and (is_terminal(self.stream) or (stream is None and in_notebook()))
        self.bar: Any = None
        self.title, self.began, self.skipped, self.told, self.drawn = "", 0.0, 0, 0.0, 0.0

    def start(self, epoch: int, seen: int) -> None:
        """Epoch number `epoch`, from 0, begins, or goes on after `seen` samples."""
        self.title, self.began, self.skipped = f"epoch {epoch + 1}/{self.epochs}", time.monotonic(), seen
        self.told = self.drawn = self.began
        if self.moving:
            with self._drawing():
                self.bar = bar(
                    self.stream, total=self.samples, initial=seen, leave=False, bar_format=self._format(seen, {})
                )

    def due(self) -> bool:
        """Whether `step` would show something now."""
        now = time.monotonic()
        if self.bar is not None:
            return now - self.drawn >= REFRESH
        return self.verbose and now - self.told >= PAUSE

    def step(self, seen: int, values: Mapping[str, float | None]) -> None:
        """After a step: samples of this epoch so far, and their mean loss and metrics."""
        now = time.monotonic()
        if self.bar is not None:
            self.drawn = now
            with self._drawing():
                self.bar.bar_format = self._format(seen, values)
                self.bar.update(seen - self.bar.n)
        elif self.verbose and now - self.told >= PAUSE:
            self.told = now
            of = "" if self.samples is None else f"/{self.samples:,}"
            left = "" if self.samples is None else f"  {(self.samples - seen) / self._rate(seen):.0f} s left"
            self.line(f"{self.title}  {seen:,}{of}  {measured(values)}  {self._rate(seen):,.0f} {self.unit}/s{left}")

    def _rate(self, seen: int) -> float:
        """Samples a second."""
        return max(seen - self.skipped, 1) / max(time.monotonic() - self.began, 1e-9)

    def _format(self, seen: int, values: Mapping[str, float | None]) -> str:
        """tqdm's format of the bar: of all that could be said, in the order of its weight, as much as leaves the bar
        some width."""
        rate, width = self._rate(seen), columns(self.stream)
        said = [shown(name, value) for name, value in values.items() if value is not None]
        if self.samples is None:
            return "  ".join([self.title, f"{seen:,} {self.unit}", *said, f"{rate:,.0f}/s"])[: width - 1]
        began = seen > self.skipped
        timed = [f"{seconds((self.samples - seen) / rate)} left", f"{rate:,.0f}/s"] if began else ["", ""]
        weighed = [*said[:1], timed[0], *said[1:], timed[1]]
        title = self.title if width >= NARROW else self.title.removeprefix("epoch ")
        room = width - len(f"{title} 100% || ") - 1
        kept: list[str] = []
        for text in weighed:
            if sum(len(k) + 2 for k in [*kept, text]) + LEAST_BAR > room:
                break
            kept.append(text)
        kept.sort(key=lambda text: not text.endswith("left"))  # the time stands beside the bar
        size = min(room - sum(len(text) + 2 for text in kept), LONGEST_BAR)
        rest = "  ".join(kept).replace("{", "{{").replace("}", "}}")
        return f"{title} {{percentage:3.0f}}% |{{bar:{size}}}| {rest}" if size >= 1 else title[: width - 1]

    def note(self, text: str) -> None:
        """What the bar says where it is not training that takes the time."""
        if self.bar is not None:
            with self._drawing():
                done = "" if self.samples is None else f" {{percentage:3.0f}}% |{{bar:{LEAST_BAR}}}|"
                self.bar.bar_format = f"{self.title}{done} {text}"
                self.bar.refresh()

    def end(self, row: Mapping[str, Any]) -> None:
        """The epoch's row of the history."""
        self.close()
        self.line(
            f"{self.title}  {measured(row)}  {row['seconds']:.1f} s  {row['images_per_second']:,.0f} {self.unit}/s"
        )

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
            self.verbose = self.moving = False
            if self.bar is not None:
                self.bar.disable = True  # it would draw itself once more as it is freed
                self.bar = None


def measured(row: Mapping[str, Any]) -> str:
    """'loss 0.4123  accuracy 86.91%  …' of the losses and metrics that there are."""
    return "  ".join(shown(name, row[name]) for name in row if name not in COLUMNS and row[name] is not None)


def seconds(count: float) -> str:
    """'0:05', '12:30', '1:02:03'."""
    minutes, rest = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
