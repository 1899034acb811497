"""Activations as layers, and by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ops
from ..tensor import Tensor
from .fields import Field
from .module import Module

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "leaky_relu": ops.leaky_relu,
    "gelu": ops.gelu,
    "sigmoid": ops.sigmoid,
    "softplus": ops.softplus,
    "tanh": ops.tanh,
    "softmax": ops.softmax,
}


def get(activation: str | Callable | None) -> Callable[[Tensor], Tensor] | None:
    """An activation by name; a function or None as it is."""
    if activation is None or callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation {activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}, or pass a function"
        )
    return ACTIVATIONS[activation]


class SameSize(Module):
    """Base of the layers whose output has the input's shape."""

    input_dtype = np.float32

    def output_size(self, shape: tuple) -> tuple:
        return shape

    def receptive(self, field: Field) -> Field:
        return field


class ReLU(SameSize):
    """max(x, 0)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class LeakyReLU(SameSize):
    """x where x > 0, else slope·x."""

    def __init__(self, slope: float = 0.01):
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)


class GELU(SameSize):
    """x·Φ(x)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x)


class Sigmoid(SameSize):
    """1 / (1 + e⁻ˣ)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(SameSize):
    """tanh x"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Softmax(SameSize):
    """exp(x) / Σ exp(x) over the last axis. Leave it out before softmax_cross_entropy, which takes logits."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x)
