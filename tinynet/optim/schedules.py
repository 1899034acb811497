"""Learning-rate schedules: functions from the step (or epoch) number to a factor of the base rate.

>>> optimizer.lr = 1e-3 * schedules.cosine(step, total=1000, warmup=100)
"""

from __future__ import annotations

import math
from typing import Any


def step_decay(step: int, *, every: int, factor: float = 0.1) -> float:
    """factor ** (step // every)"""
    return factor ** (_plain(step) // _plain(every))


def exponential(step: int, *, rate: float) -> float:
    """rate ** step"""
    return rate ** _plain(step)


def cosine(step: int, *, total: int, warmup: int = 0, final: float = 0.0) -> float:
    """Rises linearly over `warmup` steps, then falls as half a cosine to `final` at `total`.

    (Loshchilov & Hutter, "SGDR", 2017.)
    """
    step, total, warmup = map(_plain, (step, total, warmup))
    if step < warmup:
        return (step + 1) / warmup
    done = min((step - warmup) / max(total - warmup, 1), 1.0)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def _plain(number: Any) -> Any:
    """A NumPy number as Python's: its small integers wrap around."""
    return number.item() if hasattr(number, "item") else number
