"""The convolution layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..backends.geometry import Pair
from ..integers import count
from ..ops.conv import pair, windows
from ..tensor import Tensor
from . import activation as activations
from . import init
from .fields import Field, windowed
from .fusion import fusing
from .module import Module, Parameter


class Conv2d(Module):
    """x (N, H, W, C) → (N, OH, OW, out_channels). The input's channels are inferred.

    Args:
        out_channels: the number of filters.
        kernel_size, stride, dilation: an int or (vertical, horizontal).
        padding: an int, (vertical, horizontal), "same" (surplus after, as Keras) or "valid".
        padding_mode: "zeros", or "edge" to repeat the border's values.
        groups: channels are split into so many groups that do not see each other.
        activation: a name such as "relu", a function, or None.
        kernel_init: the weights' initialiser, by name or as a function (shape, rng); the bias starts at 0.
    Parameters: weight (KH, KW, C // groups, out_channels), bias (out_channels,).
    """

    input_dtype = np.float32
    weight: Parameter
    bias: Parameter | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) > 1 and "kernel_size" in kwargs:
            _refuse_channels(args[0], args[1], kwargs["kernel_size"])
        return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | Pair,
        *extra: Any,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        padding_mode: str = "zeros",
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | Callable | None = None,
        kernel_init: str | Callable = "glorot_uniform",
    ):
        if extra:
            _refuse_channels(out_channels, kernel_size, extra[0])
        if padding_mode not in ("zeros", "edge"):
            raise ValueError(f'Conv2d: padding_mode={padding_mode!r} must be "zeros" or "edge"')
        self.out_channels = count("Conv2d", "out_channels", out_channels, 1)
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size)
        self.stride, self.dilation = pair("Conv2d", "stride", stride), pair("Conv2d", "dilation", dilation)
        self.padding, self.padding_mode, self.has_bias = padding, padding_mode, bias
        self.groups = count("Conv2d", "groups", groups)
        self.activation, self.kernel_init = activations.get(activation), init.get(kernel_init)

    def create(self, shape: tuple) -> None:
        if len(shape) != 3:
            raise ValueError(f"Conv2d: inputs must be (N, H, W, C), got (N, {', '.join(map(str, shape))})")
        if self.groups < 1 or shape[2] % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"Conv2d: groups={self.groups} must divide the input's {shape[2]} channels and the "
                f"{self.out_channels} filters"
            )
        windows("Conv2d", shape[:2], self.kernel_size, self.stride, self.padding, self.dilation)
        self.weight = self.parameter((*self.kernel_size, shape[2] // self.groups, self.out_channels), self.kernel_init)
        if self.has_bias:
            self.bias = self.parameter((self.out_channels,), init.zeros)

    def output_size(self, shape: tuple) -> tuple:
        if len(shape) != 3 or (self.built is not None and shape[2] != self.weight.shape[2] * self.groups):
            raise ValueError(f"Conv2d: inputs must be (N, H, W, C), C as the layer was built for, got {('N', *shape)}")
        return (
            *windows("Conv2d", shape[:2], self.kernel_size, self.stride, self.padding, self.dilation)[1],
            self.out_channels,
        )

    def multiply_adds(self, shape: tuple) -> int:
        return math.prod(self.output_size(shape)[:2]) * self.weight.size

    def receptive(self, field: Field) -> Field:
        return windowed(field, self.kernel_size, self.stride, self.dilation)

    def forward(self, x: Tensor) -> Tensor:
        relu = self.activation is ops.relu and fusing()
        y = self.conv(x, ops.conv_relu_pool, pool=False) if relu else self.conv(x, ops.conv2d)
        return y if relu or self.activation is None else self.activation(y)

    def conv(self, x: Tensor, function: Callable, **options: Any) -> Tensor:
        """The convolution alone, by ops.conv2d or by its fused form ops.conv_relu_pool."""
        padding = self.padding
        if self.padding_mode == "edge" and x.ndim == 4:
            pads, _ = windows("Conv2d", x.shape[1:3], self.kernel_size, self.stride, padding, self.dilation)
            x, padding = ops.pad(x, ((0, 0), *pads, (0, 0)), mode="edge"), 0
        return function(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
            **options,
        )


def _refuse_channels(inputs: Any, outputs: Any, kernel: Any) -> None:
    """Explain PyTorch's order of arguments."""
    raise TypeError(
        "Conv2d takes (out_channels, kernel_size): the input's channels are inferred, all else is named. "
        f"Write nn.Conv2d({outputs}, {kernel}) for PyTorch's nn.Conv2d({inputs}, {outputs}, {kernel})."
    )
