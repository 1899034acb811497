"""Initial weights that layers do not draw themselves."""

from __future__ import annotations

from ..autograd import no_grad
from ..nn import Parameter, init
from ..ops import random


def normal(p: Parameter, std: float, mean: float = 0.0) -> None:
    """Give a parameter new values, from N(mean, std²)."""
    with no_grad():
        p[...] = mean + std * init.normal(p.shape, random.state.generator("init"))
