"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..backends.geometry import Pair
from ..integers import count
from ..ops.conv import along, pair, transposed_windows, windows
from ..tensor import Tensor
from . import activation as activations
from . import init
from .fields import Field, windowed
from .fusion import fusing
from .module import Module, Parameter

BORDERS = {"zeros": "constant", "edge": "edge", "reflect": "reflect", "circular": "wrap"}  # as ops.pad calls them


class Conv2d(Module):
    """x (N, H, W, C) → (N, OH, OW, out_channels). The input's channels are inferred.

    Args:
        out_channels: the number of filters.
        kernel_size, stride, dilation: an int or (vertical, horizontal).
        padding: an int, (vertical, horizontal), ((top, bottom), (left, right)), "same" (surplus after, as Keras) or
            "valid".
        padding_mode: "zeros"; "edge" to repeat the border's values, "reflect" to mirror the image in them, "circular"
            to go on at the opposite border.
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
        if padding_mode not in BORDERS:
            raise ValueError(f"Conv2d: padding_mode={padding_mode!r} must be one of {', '.join(BORDERS)}")
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

    def conv(self, x: Tensor, function: Callable, weights: tuple | None = None, **options: Any) -> Tensor:
        """The convolution alone, by ops.conv2d or by its fused form ops.conv_relu_pool; with other (weight, bias)."""
        weight, bias = weights or (self.weight, self.bias)
        padding = self.padding
        if self.padding_mode != "zeros" and x.ndim == 4:
            pads, _ = windows("Conv2d", x.shape[1:3], self.kernel_size, self.stride, padding, self.dilation)
            x, padding = ops.pad(x, ((0, 0), *pads, (0, 0)), mode=BORDERS[self.padding_mode]), 0
        return function(
            x,
            weight,
            bias,
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


class Conv1d(Module):
    """x (N, L, C) → (N, OL, out_channels): a convolution along one axis. The input's channels are inferred.

    Args: as Conv2d's, each for one axis; padding: an int, (before, after), "same" or "valid".
    Parameters: weight (K, C // groups, out_channels), bias (out_channels,).
    """

    input_dtype = np.float32
    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | Pair | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | Callable | None = None,
        kernel_init: str | Callable = "glorot_uniform",
    ):
        self.out_channels = count("Conv1d", "out_channels", out_channels, 1)
        self.kernel_size = count("Conv1d", "kernel_size", kernel_size, 1)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, self.has_bias = count("Conv1d", "groups", groups, 1), bias
        self.activation, self.kernel_init = activations.get(activation), init.get(kernel_init)
        along("Conv1d", stride, padding, dilation)

    def create(self, shape: tuple) -> None:
        if len(shape) != 2 or shape[1] % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"Conv1d: inputs must be (N, L, C), got {('N', *shape)}; groups={self.groups} must divide C and the "
                f"{self.out_channels} filters"
            )
        self.weight = self.parameter((self.kernel_size, shape[1] // self.groups, self.out_channels), self.kernel_init)
        if self.has_bias:
            self.bias = self.parameter((self.out_channels,), init.zeros)

    def output_size(self, shape: tuple) -> tuple:
        if len(shape) != 2 or (self.built is not None and shape[1] != self.weight.shape[1] * self.groups):
            raise ValueError(f"Conv1d: inputs must be (N, L, C), C as the layer was built for, got {('N', *shape)}")
        at = along("Conv1d", self.stride, self.padding, self.dilation)
        size = windows("Conv1d", (1, shape[0]), (1, self.kernel_size), at["stride"], at["padding"], at["dilation"])[1]
        return size[1], self.out_channels

    def multiply_adds(self, shape: tuple) -> int:
        return self.output_size(shape)[0] * self.weight.size

    def forward(self, x: Tensor) -> Tensor:
        at: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        y = ops.conv1d(x, self.weight, self.bias, groups=self.groups, **at)
        return y if self.activation is None else self.activation(y)


class ConvTranspose2d(Module):
    """x (N, H, W, C) → (N, OH, OW, out_channels): the transpose of a convolution, which enlarges images.

    Args: as ops.conv_transpose2d's; activation, kernel_init: as Conv2d's.
    Parameters: weight (KH, KW, out_channels // groups, C), bias (out_channels,).
    """

    input_dtype = np.float32
    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | Callable | None = None,
        kernel_init: str | Callable = "glorot_uniform",
    ):
        name = "ConvTranspose2d"
        self.out_channels, self.kernel_size = (
            count(name, "out_channels", out_channels, 1),
            pair(name, "kernel_size", kernel_size),
        )
        self.stride, self.dilation = pair(name, "stride", stride), pair(name, "dilation", dilation)
        self.padding, self.output_padding, self.has_bias = padding, output_padding, bias
        self.groups = count(name, "groups", groups, 1)
        self.activation, self.kernel_init = activations.get(activation), init.get(kernel_init)

    def create(self, shape: tuple) -> None:
        if len(shape) != 3 or shape[2] % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"ConvTranspose2d: inputs must be (N, H, W, C), got {('N', *shape)}; groups={self.groups} must divide "
                f"C and the {self.out_channels} filters"
            )
        self.weight = self.parameter((*self.kernel_size, self.out_channels // self.groups, shape[2]), self.kernel_init)
        if self.has_bias:
            self.bias = self.parameter((self.out_channels,), init.zeros)

    def output_size(self, shape: tuple) -> tuple:
        name = "ConvTranspose2d"
        if len(shape) != 3 or (self.built is not None and shape[2] != self.weight.shape[3]):
            raise ValueError(f"{name}: inputs must be (N, H, W, C), C as the layer was built for, got {('N', *shape)}")
        at = self.stride, self.padding, self.output_padding, self.dilation
        return (*transposed_windows(name, shape[:2], self.kernel_size, *at)[1], self.out_channels)

    def multiply_adds(self, shape: tuple) -> int:
        return math.prod(shape[:2]) * self.weight.size

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if self.activation is None else self.activation(y)


class SeparableConv2d(Module):
    """x (N, H, W, C) → (N, OH, OW, out_channels): each channel by itself through a kernel, then all through a 1×1
    convolution (Chollet, "Xception", 2017).

    Args: stride, padding, dilation: of the first; bias and activation: after the second, as in Keras.
    Parameters: depthwise (KH, KW, 1, C), pointwise (1, 1, C, out_channels), bias (out_channels,).
    """

    input_dtype = np.float32
    depthwise: Parameter
    pointwise: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        bias: bool = True,
        activation: str | Callable | None = None,
        kernel_init: str | Callable = "glorot_uniform",
    ):
        name = "SeparableConv2d"
        self.out_channels, self.kernel_size = (
            count(name, "out_channels", out_channels, 1),
            pair(name, "kernel_size", kernel_size),
        )
        self.stride, self.dilation = pair(name, "stride", stride), pair(name, "dilation", dilation)
        self.padding, self.has_bias = padding, bias
        self.activation, self.kernel_init = activations.get(activation), init.get(kernel_init)

    def create(self, shape: tuple) -> None:
        if len(shape) != 3:
            raise ValueError(f"SeparableConv2d: inputs must be (N, H, W, C), got {('N', *shape)}")
        self.depthwise = self.parameter((*self.kernel_size, 1, shape[2]), self.kernel_init)
        self.pointwise = self.parameter((1, 1, shape[2], self.out_channels), self.kernel_init)
        if self.has_bias:
            self.bias = self.parameter((self.out_channels,), init.zeros)

    def output_size(self, shape: tuple) -> tuple:
        name = "SeparableConv2d"
        if len(shape) != 3 or (self.built is not None and shape[2] != self.depthwise.shape[3]):
            raise ValueError(f"{name}: inputs must be (N, H, W, C), C as the layer was built for, got {('N', *shape)}")
        size = windows(name, shape[:2], self.kernel_size, self.stride, self.padding, self.dilation)[1]
        return (*size, self.out_channels)

    def multiply_adds(self, shape: tuple) -> int:
        return math.prod(self.output_size(shape)[:2]) * (self.depthwise.size + self.pointwise.size)

    def receptive(self, field: Field) -> Field:
        return windowed(field, self.kernel_size, self.stride, self.dilation)

    def forward(self, x: Tensor) -> Tensor:
        at: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        y = ops.conv2d(ops.conv2d(x, self.depthwise, groups=x.shape[-1], **at), self.pointwise, self.bias)
        return y if self.activation is None else self.activation(y)
