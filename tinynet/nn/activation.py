"""Activations as layers, and by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ops
from ..tensor import Tensor
from .fields import Field
from .module import Module, Parameter

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "leaky_relu": ops.leaky_relu,
    "gelu": ops.gelu,
    "sigmoid": ops.sigmoid,
    "softplus": ops.softplus,
    "tanh": ops.tanh,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
    "elu": ops.elu,
    "selu": ops.selu,
    "silu": ops.silu,
    "mish": ops.mish,
    "hardtanh": ops.hardtanh,
    "hardsigmoid": ops.hardsigmoid,
    "hardswish": ops.hardswish,
    "softsign": ops.softsign,
    "log_sigmoid": ops.log_sigmoid,
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


class LogSoftmax(SameSize):
    """log of Softmax, over the last axis; for ops.nll_loss."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x)


class ELU(SameSize):
    """x where x > 0, else alpha·(eˣ - 1) (Clevert et al. 2016)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)


class SELU(SameSize):
    """ELU whose outputs keep mean 0 and variance 1 (Klambauer et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.selu(x)


class SiLU(SameSize):
    """x·sigmoid(x), also called swish (Ramachandran et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class Mish(SameSize):
    """x·tanh(log(1 + eˣ)) (Misra 2019)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.mish(x)


class ReLU6(SameSize):
    """min(max(x, 0), 6)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu6(x)


class Hardtanh(SameSize):
    """x limited to [low, high]"""

    def __init__(self, low: float = -1.0, high: float = 1.0):
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardtanh(x, self.low, self.high)


class Hardsigmoid(SameSize):
    """min(max(x / 6 + 1/2, 0), 1)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardsigmoid(x)


class Hardswish(SameSize):
    """x·Hardsigmoid(x) (Howard et al. 2019)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardswish(x)


class Softplus(SameSize):
    """log(1 + eˣ)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x)


class Softsign(SameSize):
    """x / (1 + |x|)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softsign(x)


class LogSigmoid(SameSize):
    """log(1 / (1 + e⁻ˣ))"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_sigmoid(x)


class PReLU(SameSize):
    """x where x > 0, else weight·x, with a slope for each feature that is learnt (He et al. 2015).

    Args: slope: what the slopes begin with. Parameters: weight (C,).
    """

    weight: Parameter

    def __init__(self, slope: float = 0.25):
        self.slope = slope

    def create(self, shape: tuple) -> None:
        self.weight = self.parameter(shape[-1:], lambda size, rng: np.full(size, self.slope, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)
