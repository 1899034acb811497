"""Functions of tensors as layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import backends
from ..autograd import no_grad
from ..tensor import Tensor
from .activation import ACTIVATIONS
from .fields import Field
from .module import Module

LARGEST = 1 << 24  # values of one sample on which a function is run to learn its output's size


class Lambda(Module):
    """A function of tensors as a layer: `nn.Lambda(lambda x: x[:, ::2])`. All inputs and keywords go to it."""

    def __init__(self, function: Callable):
        if not callable(function) or isinstance(function, type):
            hint = f"; write {function.__name__}() with its parentheses" if isinstance(function, type) else ""
            raise TypeError(f"Lambda: {function!r:.60} is not a function of tensors{hint}")
        self.function = function

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.function(*inputs, **options)

    @property
    def by_arithmetic(self) -> bool:
        return self.function in ACTIVATIONS.values()

    def output_size(self, shape: tuple) -> tuple:
        """Activations keep the shape; any other function is run once, on zeros."""
        if self.by_arithmetic:
            return shape
        if math.prod(shape) > LARGEST:
            raise ValueError(f"Lambda: an input of shape {shape} is too large to be run for its output's size alone")
        be = backends.current()
        with no_grad():
            y = self.function(Tensor(be.full((1, *shape), 0, self.input_dtype or "float32"), be))
        return y.shape[1:]

    def receptive(self, field: Field) -> Field:
        return field if self.by_arithmetic else None

    def __repr__(self) -> str:
        return f"Lambda({getattr(self.function, '__name__', self.function)})"


def layer(owner: str, value: Any) -> Module:
    """A layer, or a function as a layer. TypeError for anything else."""
    if isinstance(value, Module):
        return value
    if isinstance(value, type) and issubclass(value, Module):
        raise TypeError(f"{owner}: {value!r} is not a layer; write nn.{value.__name__}() with its parentheses")
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"{owner}: {value!r:.60} is not a layer or a function of tensors")
    return Lambda(value)
