"""Sequential: layers one after the other, with conv → relu → max-pool run as one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..tensor import Tensor
from . import door
from .activation import ReLU
from .conv import Conv2d
from .dense import Dense
from .fusion import fusing
from .module import Module
from .pool import MaxPool2d


class Sequential(Module):
    """Layers applied in turn. `input_shape` (without the batch axis) builds them at once.

    >>> model = nn.Sequential(nn.Conv2d(32, 3, activation="relu"), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(10),
    ...                       input_shape=(28, 28, 1))
    """

    def __init__(self, *layers: Module, input_shape: int | tuple | None = None):
        if len(layers) == 1 and isinstance(layers[0], list | tuple):
            layers = tuple(layers[0])
        for layer in layers:
            if not isinstance(layer, Module):
                hint = "; write nn.ReLU() with its parentheses" if isinstance(layer, type) else ""
                raise TypeError(f"Sequential: {layer!r} is not a layer{hint}")
        self.layers = list(layers)
        if input_shape is not None:
            self.build(input_shape)

    @property
    def input_dtype(self) -> Any:  # type: ignore[override]
        """That of the first layer that says one."""
        return next((layer.input_dtype for layer in self.layers if layer.input_dtype is not None), None)

    def children(self) -> Any:
        yield from ((str(i), layer) for i, layer in enumerate(self.layers))
        yield from ((name, module) for name, module in super().children() if not name.startswith("layers."))

    def forward(self, x: Tensor) -> Tensor:
        i = 0
        while i < len(self.layers):
            fused, length = self._fused(i) if fusing() and isinstance(x, Tensor) else (None, 1)
            try:
                x = fused(x) if fused else self.layers[i](x)
            except (ValueError, TypeError, IndexError) as error:
                if fused:
                    door.explain(error, self.layers[i], (x,))
                raise
            i += length
        return x

    def output_size(self, shape: tuple) -> tuple:
        for layer in self.layers:
            shape = layer.output_size(shape)
        return shape

    def _fused(self, i: int) -> tuple[Callable | None, int]:
        """The operation that does layers i, i+1, … in one step, and how many; (None, 1) where there is none."""
        first: Any = self.layers[i]
        length = 1
        if first.built is None or first._hooks or not _is(first, Conv2d, Dense):
            return None, 1
        rest: list[Any] = self.layers[i + 1 : i + 3]
        relu = first.activation is ops.relu
        if first.activation is None and rest and _is(rest[0], ReLU) and rest[0].built and not rest[0]._hooks:
            relu, length, rest = True, 2, rest[1:]
        if not relu:
            return None, 1
        if isinstance(first, Dense):
            return (lambda x: ops.dense(x, first.weight, first.bias, relu=True)), length
        pool = (
            bool(rest)
            and _is(rest[0], MaxPool2d)
            and rest[0].built is not None
            and not rest[0]._hooks
            and (rest[0].kernel_size == rest[0].stride == (2, 2) and rest[0].padding in (0, (0, 0), "valid"))
        )
        return (lambda x: first.conv(x, ops.conv_relu_pool, pool=pool)), length + pool

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Module:
        return self.layers[i]

    def __setitem__(self, i: int, layer: Module) -> None:
        self.layers[i] = layer

    def __iter__(self) -> Any:
        return iter(self.layers)


def _is(layer: Any, *kinds: type) -> bool:
    """Whether the layer is of one of these classes itself; what a subclass does is its own."""
    return type(layer) in kinds
