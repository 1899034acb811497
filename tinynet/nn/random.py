"""Dropout."""

from __future__ import annotations

from .. import ops
from ..tensor import Tensor
from .activation import SameSize


class Dropout(SameSize):
    """In training, zero each value with probability `rate` and scale the rest by 1 / (1 - rate)."""

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: rate={rate!r} must be in [0, 1): the share of values that are dropped")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.rate, training=self.training)
