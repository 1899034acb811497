"""Learning-rate schedules: functions from the number of a step (or epoch), from 0, to a factor of the base rate.

>>> tn.fit(model, train, schedule=schedules.cosine(total=1000, warmup=100))

Called with its options a schedule returns that function; called with a step, too, the factor itself:

>>> optimizer.lr = 1e-3 * schedules.cosine(step, total=1000, warmup=100)
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


def schedule(rule: Callable[..., float]) -> Callable[..., Any]:
    """Let `rule(step, *, …)` be called without a step: it checks its options and returns the function of the step."""
    signature = inspect.signature(rule)

    @functools.wraps(rule)
    def schedule(step: Any = None, **options: Any) -> Any:
        if step is None:
            signature.bind(0, **options)  # a TypeError for options that it does not have, or lacks
            return functools.partial(schedule, **options)
        return rule(_plain(step), **{name: _plain(value) for name, value in options.items()})

    first, *rest = signature.parameters.values()
    schedule.__signature__ = signature.replace(parameters=[first.replace(default=None), *rest])  # type: ignore[attr-defined]
    return schedule


@schedule
def step_decay(step: int, *, every: int, factor: float = 0.1) -> float:
    """factor ** (step // every): PyTorch's StepLR."""
    return factor ** (step // every)


@schedule
def multi_step(step: int, *, milestones: Sequence[int], factor: float = 0.1) -> float:
    """The factor once more from each milestone on: PyTorch's MultiStepLR."""
    return factor ** sum(step >= milestone for milestone in milestones)


@schedule
def exponential(step: int, *, rate: float) -> float:
    """rate ** step"""
    return rate**step


@schedule
def cosine(step: int, *, total: int, warmup: int = 0, final: float = 0.0) -> float:
    """Rises linearly over `warmup` steps, then falls as half a cosine to `final` at `total`.

    (Loshchilov & Hutter, "SGDR", 2017.)
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min((step - warmup) / max(total - warmup, 1), 1.0)
    return _fall(1.0, final, done)


@schedule
def polynomial(step: int, *, total: int, power: float = 1.0, final: float = 0.0) -> float:
    """Falls from 1 to `final` at `total` as (1 - step / total) ** power does; power 1: linearly."""
    return final + (1 - final) * (1 - min(step / total, 1.0)) ** power


@schedule
def warmup(step: int, *, over: int, start: float = 1 / 3, after: Callable[[int], float] | None = None) -> float:
    """Rises linearly from `start` to 1 over `over` steps; then `after`, a schedule that begins there, or 1.

    >>> warmup(over=500, after=cosine(total=10_000))
    """
    if step < over:
        return start + (1 - start) * step / over
    return 1.0 if after is None else after(step - over)


@schedule
def one_cycle(
    step: int, *, total: int, rise: float = 0.3, start: float = 1 / 25, final: float = 4e-6, three_phase: bool = False
) -> float:
    """Up from `start` to 1 during the share `rise` of `total` steps, down to `final` at the last; each half a cosine.

    With three_phase, down to `start` as fast as it rose, then on to `final`. As PyTorch's OneCycleLR has it, whose
    max_lr is the learning rate here. (Smith & Topin, "Super-convergence", 2019.)
    """
    ends = [(rise * total - 1, 1.0), *[(2 * rise * total - 2, start)] * three_phase, (total - 1, final)]
    first, low = 0.0, start
    for end, high in ends[:-1]:
        if step <= end:
            return _fall(low, high, (step - first) / (end - first))
        first, low = end, high
    return _fall(low, final, min((step - first) / (total - 1 - first), 1.0))


def _fall(begin: float, end: float, done: float) -> float:
    """Half a cosine from `begin` to `end`."""
    return end + (begin - end) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class plateau:
    """A factor that falls, by `factor`, where a metric has not improved for more than `patience` epochs: PyTorch's
    ReduceLROnPlateau.

    >>> tn.fit(model, train, validation=held_out, schedule=schedules.plateau(patience=3))

    `fit` shows it each epoch's row, by on_epoch_end(row); a loop of one's own does so itself.

    Args:
        monitor: the name of the metric in the epoch's row.
        mode: "max" where it shall rise, "min" where it shall fall; None: an accuracy, or top_k, rises, any other falls.
        threshold: the least improvement, as a share of the best value (or itself, where relative=False).
        cooldown: epochs after each fall in which nothing is counted.
        least: the lowest factor.
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    relative: bool = True
    cooldown: int = 0
    least: float = 0.0
    mode: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in (None, "min", "max"):
            raise ValueError(f"plateau: mode={self.mode!r} must be 'min', 'max' or None")
        if not (0 < self.factor < 1 and self.patience >= 0 and self.cooldown >= 0 and 0 <= self.least <= 1):
            raise ValueError(f"plateau: {self} needs 0 < factor < 1, patience and cooldown >= 0, 0 <= least <= 1")
        named = self.monitor.endswith("accuracy") or re.fullmatch(r"(val_)?top_\d+", self.monitor)
        self._sign = -1 if self.mode == "max" or (self.mode is None and named) else 1  # of what shall fall
        self.on_begin()

    def on_begin(self, model: Any = None) -> None:
        """Begin anew, as `fit` has it at the start of each training."""
        self._best, self._bad, self._cooling, self._now = math.inf, 0, 0, 1.0

    def __call__(self, step: int) -> float:
        """The factor now, whatever the step."""
        return self._now

    def on_epoch_end(self, row: dict[str, Any]) -> None:
        """Look at the epoch's metric. ValueError where there is none."""
        if row.get(self.monitor) is None:
            raise ValueError(f"plateau: there is no {self.monitor!r} to watch; the epoch has {', '.join(row)}")
        value = self._sign * row[self.monitor]
        needed = self.threshold * (abs(self._best) if self.relative and math.isfinite(self._best) else 1)
        if value < self._best - (needed if math.isfinite(self._best) else 0):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._cooling:
            self._cooling, self._bad = self._cooling - 1, 0
        if self._bad > self.patience:
            self._now, self._cooling, self._bad = max(self._now * self.factor, self.least), self.cooldown, 0


def _plain(number: Any) -> Any:
    """A NumPy number as Python's: its small integers wrap around."""
    return number.item() if hasattr(number, "item") else number
