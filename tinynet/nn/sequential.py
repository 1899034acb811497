"""Sequential: layers one after the other, neighbours fused as `patterns.py` says."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import door
from .fields import Field
from .functions import layer
from .fusion import fusing
from .module import Module
from .patterns import fused


class Sequential(Module):
    """Layers, and functions of tensors, applied in turn. `input_shape` (without the batch axis) builds them at once.

    `model[2]` is a layer, `model[:3]` a Sequential of the same layers.

    >>> model = nn.Sequential(nn.Conv2d(32, 3), ops.relu, nn.MaxPool2d(2), nn.Flatten(), nn.Dense(10),
    ...                       input_shape=(28, 28, 1))
    """

    def __init__(self, *layers: Any, input_shape: int | tuple | None = None):
        if len(layers) == 1 and isinstance(layers[0], list | tuple):
            layers = tuple(layers[0])
        self.layers = [layer("Sequential", part) for part in layers]
        if input_shape is not None:
            self.build(input_shape)

    @property
    def input_dtype(self) -> Any:  # type: ignore[override]
        """That of the first layer that says one."""
        return next((layer.input_dtype for layer in self.layers if layer.input_dtype is not None), None)

    def children(self) -> Any:
        yield from ((str(i), layer) for i, layer in enumerate(self.layers))
        yield from ((name, module) for name, module in super().children() if not name.startswith("layers."))

    def forward(self, x: Any) -> Any:
        i = 0
        while i < len(self.layers):
            floats = isinstance(x, Tensor) and x.data.dtype.kind == "f"  # others become floats at a layer's own door
            run, length = fused(self.layers, i) if floats and fusing() else (None, 1)
            try:
                x = run(x) if run else self.layers[i](x)
            except (ValueError, TypeError, IndexError, AttributeError) as error:
                if run:
                    door.explain(error, self.layers[i], (x,))
                elif i and isinstance(x, tuple | dict):
                    door.refuse_several(error, self.layers[i - 1], self.layers[i], x)
                raise
            i += length
        return x

    def output_size(self, shape: tuple) -> tuple:
        for part in self.layers:
            shape = part.output_size(shape)
        return shape

    def receptive(self, field: Field) -> Field:
        for part in self.layers:
            field = part.receptive(field)
        return field

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int | slice) -> Any:
        if not isinstance(i, slice):
            return self.layers[i]
        part = Sequential(*self.layers[i])
        part.training = self.training
        if part.layers and part.layers[0].built is not None:
            part.built, part.output_shape = part.layers[0].built, part.layers[-1].output_shape
        return part

    def __setitem__(self, i: int, value: Any) -> None:
        self.layers[i] = layer("Sequential", value)
        self.output_shape = None  # the next call says

    def __iter__(self) -> Any:
        return iter(self.layers)
