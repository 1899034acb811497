"""Pooling layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..backends.geometry import Pair
from ..integers import count
from ..ops.conv import along, pair
from ..ops.pool import pool_windows
from ..tensor import Tensor
from .fields import ALL, Field, windowed
from .module import Module


class _Pool2d(Module):
    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        *,
        padding: int | Pair | str = 0,
        ceil_mode: bool = False,
    ):
        name = type(self).__name__
        self.kernel_size = pair(name, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair(name, "stride", stride)
        self.padding, self.ceil_mode, self.dilation = padding, bool(ceil_mode), (1, 1)

    def output_size(self, shape: tuple) -> tuple:
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        *_, size = pool_windows(type(self).__name__, (1, *shape), *window)
        return (*size, shape[2])

    def receptive(self, field: Field) -> Field:
        return windowed(field, self.kernel_size, self.stride, self.dilation)


class MaxPool2d(_Pool2d):
    """(N, H, W, C) → (N, OH, OW, C): the maximum of each window; stride = kernel_size by default.

    dilation: how far a window's pixels lie apart. ceil_mode: a last window that hangs over the border counts.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        *,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        ceil_mode: bool = False,
    ):
        super().__init__(kernel_size, stride, padding=padding, ceil_mode=ceil_mode)
        self.dilation = pair("MaxPool2d", "dilation", dilation)

    def forward(self, x: Tensor) -> Tensor:
        window: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return ops.max_pool2d(x, self.kernel_size, ceil_mode=self.ceil_mode, **window)


class AvgPool2d(_Pool2d):
    """(N, H, W, C) → (N, OH, OW, C): the mean of each window; stride = kernel_size by default.

    count_include_pad: whether padded zeros count in the divisor. ceil_mode: as MaxPool2d's.
    """

    input_dtype = np.float32

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        *,
        padding: int | Pair | str = 0,
        count_include_pad: bool = True,
        ceil_mode: bool = False,
    ):
        super().__init__(kernel_size, stride, padding=padding, ceil_mode=ceil_mode)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        window: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}
        return ops.avg_pool2d(x, self.kernel_size, count_include_pad=self.count_include_pad, **window)


class _Pool1d(Module):
    def __init__(self, kernel_size: int, stride: int | None = None, *, padding: int | Pair | str = 0):
        name = type(self).__name__
        self.kernel_size = count(name, "kernel_size", kernel_size, 1)
        self.stride, self.padding = self.kernel_size if stride is None else count(name, "stride", stride, 1), padding

    def output_size(self, shape: tuple) -> tuple:
        name = type(self).__name__
        if len(shape) != 2:
            raise ValueError(f"{name}: inputs must be (N, L, C), got {('N', *shape)}")
        at = along(name, self.stride, self.padding)
        size = pool_windows(name, (1, 1, *shape), (1, self.kernel_size), at["stride"], at["padding"])[3]
        return size[1], shape[1]


class MaxPool1d(_Pool1d):
    """(N, L, C) → (N, OL, C): the maximum of each window; stride = kernel_size by default."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool1d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class AvgPool1d(_Pool1d):
    """(N, L, C) → (N, OL, C): the mean of each window; stride = kernel_size by default."""

    input_dtype = np.float32

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool1d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class _Adaptive(Module):
    """Base. `size`: of the output, an int or (vertical, horizontal)."""

    input_dtype = np.float32

    def __init__(self, size: int | Pair):
        self.size = pair(type(self).__name__, "size", size)

    def output_size(self, shape: tuple) -> tuple:
        if len(shape) != 3:
            raise ValueError(f"{type(self).__name__}: inputs must be (N, H, W, C), got {('N', *shape)}")
        return (*self.size, shape[2])


class AdaptiveAvgPool2d(_Adaptive):
    """(N, H, W, C) → (N, OH, OW, C) for `size` = (OH, OW): means of windows that cover the image, as PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.size)


class AdaptiveMaxPool2d(_Adaptive):
    """(N, H, W, C) → (N, OH, OW, C) for `size` = (OH, OW): maxima of windows that cover the image, as PyTorch's."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool2d(x, self.size)


class GlobalAvgPool2d(Module):
    """(N, H, W, C) → (N, C): the mean of each image's channel."""

    input_dtype = np.float32

    def forward(self, x: Tensor) -> Tensor:
        return ops.global_avg_pool2d(x)

    def output_size(self, shape: tuple) -> tuple:
        if len(shape) != 3:
            raise ValueError(f"GlobalAvgPool2d: inputs must be (N, H, W, C), got {('N', *shape)}")
        return shape[2:]

    def receptive(self, field: Field) -> Field:
        return ALL
