"""Dropout and noise."""

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


class Dropout2d(Dropout):
    """x (N, …, C): in training, zero whole channels of a sample with probability `rate`, scale the rest by
    1 / (1 - rate) (Tompson et al. 2015)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if x.ndim < 3:
            raise ValueError(f"Dropout2d: the input {x.shape} must be (N, …, C); Dropout is for single values")
        channels = x.backend.full((len(x), *(1,) * (x.ndim - 2), x.shape[-1]), 1, x.dtype)
        return x * ops.dropout(Tensor(channels, x.backend), self.rate)


class GaussianNoise(SameSize):
    """In training, add normal noise of mean 0 and standard deviation `std`."""

    def __init__(self, std: float):
        if not std >= 0:
            raise ValueError(f"GaussianNoise: std={std!r} must be 0 or more")
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return ops.gaussian_noise(x, self.std, training=self.training)
