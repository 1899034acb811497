"""What ends a run before its last epoch: a callback's STOP, early stopping, Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from .metrics import higher_is_better

STOP = "stop"  # what a callback returns to end the training after this epoch


@dataclass
class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs in a row.

    monitor: a column of the history: "loss", a metric's name, or one of them with "val_" before it. mode: "max" where
    more is better, "min" where less is; by default "max" for accuracies, "min" for losses and errors, and needed for a
    metric of your own. restore_best: the model ends with the weights of its best epoch.
    """

    patience: int = 3
    monitor: str = "val_loss"
    min_delta: float = 0.0
    restore_best: bool = True
    mode: str | None = None

    def __post_init__(self) -> None:
        fine = isinstance(self.patience, int | np.integer) and self.patience >= 1
        fine = fine and isinstance(self.min_delta, Real) and isinstance(self.monitor, str)
        if not fine or self.mode not in (None, "min", "max"):
            raise ValueError(
                f"EarlyStopping: patience={self.patience!r} must be an int >= 1, min_delta={self.min_delta!r} a "
                f"number, monitor={self.monitor!r} a column of the history, such as val_loss, val_accuracy or loss, "
                f'and mode={self.mode!r} "min" or "max"'
            )
        self.patience, self.min_delta = int(self.patience), float(self.min_delta)

    @property
    def highest(self) -> bool | None:
        """Whether more is better; None where that must be said."""
        return higher_is_better(self.monitor) if self.mode is None else self.mode == "max"

    def improved(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than the best so far."""
        gain = math.inf if best is None else (value - best if self.highest else best - value)
        return gain > self.min_delta or (best is not None and math.isnan(best) and not math.isnan(value))


class Interrupts:
    """Ctrl-C waits for the end of the step, so that no update is left half done; a second one does not wait."""

    noticed = False
    installed = False

    def __enter__(self) -> Interrupts:
        self.installed = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self.installed:
            signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        if self.installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _notice(self, number: int, frame: Any) -> None:
        self.noticed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
