"""Pooling layers."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..backends.geometry import Pair
from ..ops.conv import pair
from ..ops.pool import pool_windows
from ..tensor import Tensor
from .fields import ALL, Field, windowed
from .module import Module


class _Pool2d(Module):
    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, *, padding: int | Pair | str = 0):
        name = type(self).__name__
        self.kernel_size = pair(name, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair(name, "stride", stride)
        self.padding = padding

    def output_size(self, shape: tuple) -> tuple:
        *_, size = pool_windows(type(self).__name__, (1, *shape), self.kernel_size, self.stride, self.padding)
        return (*size, shape[2])

    def receptive(self, field: Field) -> Field:
        return windowed(field, self.kernel_size, self.stride)


class MaxPool2d(_Pool2d):
    """(N, H, W, C) → (N, OH, OW, C): the maximum of each window; stride = kernel_size by default."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class AvgPool2d(_Pool2d):
    """(N, H, W, C) → (N, OH, OW, C): the mean of each window; stride = kernel_size by default.

    count_include_pad: whether padded zeros count in the divisor.
    """

    input_dtype = np.float32

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        *,
        padding: int | Pair | str = 0,
        count_include_pad: bool = True,
    ):
        super().__init__(kernel_size, stride=stride, padding=padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding, count_include_pad=self.count_include_pad
        )


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
