"""The dense layer, and Flatten, which usually stands before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..integers import count
from ..tensor import Tensor
from . import activation as activations
from . import init
from .fields import ALL, Field
from .fusion import fusing
from .module import Module, Parameter


class Dense(Module):
    """x (…, in) → (…, out_features): x @ weight + bias. The input's features are inferred.

    Args: activation: a name such as "relu", a function, or None. kernel_init: the weights' initialiser.
    Parameters: weight (in, out_features), bias (out_features,).
    """

    input_dtype = np.float32
    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        out_features: int,
        *extra: Any,
        bias: bool = True,
        activation: str | Callable | None = None,
        kernel_init: str | Callable = "glorot_uniform",
    ):
        if extra:
            raise TypeError(
                f"Dense takes (out_features): the input's features are inferred, and all else is named. "
                f"Write nn.Dense({extra[0]!r}) for PyTorch's nn.Linear({out_features}, {extra[0]!r})."
            )
        self.out_features, self.has_bias = count("Dense", "out_features", out_features, 1), bias
        self.activation, self.kernel_init = activations.get(activation), init.get(kernel_init)

    def create(self, shape: tuple) -> None:
        if not shape:
            raise ValueError("Dense: inputs must be (N, features), got (N,); add an axis with x[:, None]")
        if len(shape) == 3:
            raise ValueError(
                f"Dense: the input is an image {shape}; put nn.Flatten() or nn.GlobalAvgPool2d() before it"
            )
        self.weight = self.parameter((shape[-1], self.out_features), self.kernel_init)
        if self.has_bias:
            self.bias = self.parameter((self.out_features,), init.zeros)

    def output_size(self, shape: tuple) -> tuple:
        features: Any = "features" if self.built is None else self.weight.shape[0]
        if not shape or (self.built is not None and shape[-1] != features):
            raise ValueError(f"Dense: inputs must be (N, …, {features}), got {('N', *shape)}")
        return (*shape[:-1], self.out_features)

    def multiply_adds(self, shape: tuple) -> int:
        return math.prod(shape[:-1]) * self.weight.size

    def receptive(self, field: Field) -> Field:
        return field

    def forward(self, x: Tensor) -> Tensor:
        together = in_one_step(self.activation) if self.activation and fusing() else None
        y = self.dense(x, together)
        return y if self.activation is None or together else self.activation(y)

    def dense(self, x: Tensor, activation: str | None = None) -> Tensor:
        """The product and the bias, and in the same step the named activation."""
        return ops.dense(x, self.weight, self.bias, activation=activation)


def in_one_step(activation: Callable | None) -> str | None:
    """The name of an activation that a dense layer computes in the same step."""
    return next((name for name in ("relu", "tanh", "sigmoid") if getattr(ops, name) is activation), None)


class Flatten(Module):
    """(N, …) → (N, the product of the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x)

    def output_size(self, shape: tuple) -> tuple:
        return (math.prod(shape),)

    def receptive(self, field: Field) -> Field:
        return ALL
