"""Learning-rate schedules: functions from the step (or epoch) number to a factor of the base rate.

>>> optimizer.lr = 1e-3 * schedules.cosine(step, total=1000, warmup=100)
"""

from __future__ import annotations

import math


def step_decay(step: int, *, every: int, factor: float = 0.1) -> float:
    """factor ** (step // every)"""
    return factor ** (step // every)


def exponential(step: int, *, rate: float) -> float:
    """rate ** step"""
    return rate**step


def cosine(step: int, *, total: int, warmup: int = 0, final: float = 0.0) -> float:
    """Rises linearly over `warmup` steps, then falls as half a cosine to `final` at `total`.

    (Loshchilov & Hutter, "SGDR", 2017.)
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min((step - warmup) / max(total - warmup, 1), 1.0)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
