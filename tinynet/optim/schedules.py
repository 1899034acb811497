"""Learning-rate schedules: functions from the number of a step (or epoch), from 0, to a factor of the base rate.

>>> tn.fit(model, train, schedule=schedules.cosine(total=1000, warmup=100))

Called with its options a schedule returns that function; called with a step, too, the factor itself:

>>> optimizer.lr = 1e-3 * schedules.cosine(step, total=1000, warmup=100)
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
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
    """factor ** (step // every)"""
    return factor ** (step // every)


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
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def _plain(number: Any) -> Any:
    """A NumPy number as Python's: its small integers wrap around."""
    return number.item() if hasattr(number, "item") else number
