"""Layers made of layers: Residual, Concatenate. (Sequential has a file of its own.)"""

from __future__ import annotations

from typing import Any

from .. import ops
from ..tensor import Tensor
from .fields import Field, joined
from .functions import layer
from .module import Module
from .patterns import takes_relu
from .sequential import Sequential


@takes_relu
class Residual(Module):
    """x + layers(x), or shortcut(x) + layers(x) (He et al. 2016). Put the activation after it, or into `layers`.

    In Sequential the sum and a ReLU after it are one step; a Module of one's own calls ops.add_relu(x, y).

    Args:
        layers: applied in turn, as in Sequential, whose fusion they have.
        shortcut: a layer or function for the way around, where the layers change the shape, such as a 1×1 convolution
            with a stride; None: x itself.

    >>> block = nn.Residual(nn.Conv2d(16, 3, padding="same", activation="relu"), nn.Conv2d(16, 3, padding="same"))
    """

    def __init__(self, *layers: Any, shortcut: Any = None):
        self.body = Sequential(*layers)
        self.shortcut = None if shortcut is None else layer("Residual", shortcut)

    @property
    def input_dtype(self) -> Any:  # type: ignore[override]
        return self.body.input_dtype

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """The layer, and with `relu` what a ReLU behind it returns."""
        y, around = self.body(x), x if self.shortcut is None else self.shortcut(x)
        self._check(around.shape[1:], y.shape[1:])
        return ops.add_relu(around, y) if relu else around + y

    def output_size(self, shape: tuple) -> tuple:
        size = self.body.output_size(shape)  # in the order of forward, in which parameters are made
        return self._check(shape if self.shortcut is None else self.shortcut.output_size(shape), size)

    def receptive(self, field: Field) -> Field:
        around = field if self.shortcut is None else self.shortcut.receptive(field)
        return joined(self.body.receptive(field), around)

    @staticmethod
    def _check(around: tuple, size: tuple) -> tuple:
        """The size of the sum, where both ways give the same."""
        if around != size:
            raise ValueError(
                f"Residual: the layers' output has shape {('N', *size)}, the shortcut's {('N', *around)}; pass "
                "shortcut=, such as nn.Conv2d(channels, 1, stride=2), or padding and channels that keep the shape"
            )
        return size


class Concatenate(Module):
    """The outputs of several branches for one input, side by side in the last axis (channels, features).

    >>> inception = nn.Concatenate(nn.Conv2d(64, 1), nn.Conv2d(128, 3, padding="same"))
    """

    def __init__(self, *branches: Any):
        if not branches:
            raise ValueError("Concatenate: there must be one branch at least")
        self.branches = [layer("Concatenate", branch) for branch in branches]

    @property
    def input_dtype(self) -> Any:  # type: ignore[override]
        """That of the first branch that says one."""
        return next((b.input_dtype for b in self.branches if b.input_dtype is not None), None)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in self.branches]
        self._check([y.shape[1:] for y in outputs])
        return ops.concatenate(outputs, -1)

    def output_size(self, shape: tuple) -> tuple:
        return self._check([branch.output_size(shape) for branch in self.branches])

    def receptive(self, field: Field) -> Field:
        return joined(*(branch.receptive(field) for branch in self.branches))

    @staticmethod
    def _check(shapes: list[tuple]) -> tuple:
        """The size of them side by side. ValueError where they differ in another axis than the last."""
        if len({shape[:-1] for shape in shapes}) > 1 or not all(shapes):
            raise ValueError(
                f"Concatenate: the branches' outputs {', '.join(str(('N', *shape)) for shape in shapes)} may differ in "
                "the last axis only"
            )
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
