"""Pooling: a sliding window reduced to its maximum or mean, channels last."""

from __future__ import annotations

from typing import Any

from ..autograd import op
from ..backends.geometry import Pair
from ..tensor import Tensor
from .conv import pair, windows
from .reduce import mean

__all__ = ["avg_pool2d", "global_avg_pool2d", "max_pool2d"]


@op(integers="kept")
def _max_pool2d(be, x, kernel, stride, padding):
    y, saved = be.max_pool2d(x, kernel, stride, padding)
    return y, lambda g, need: (be.max_pool2d_grad(g, saved),)


@op(integers="float64")
def _avg_pool2d(be, x, kernel, stride, padding, count_include_pad):
    shape = x.shape
    y = be.avg_pool2d(x, kernel, stride, padding, count_include_pad)
    return y, lambda g, need: (be.avg_pool2d_grad(g, shape, kernel, stride, padding, count_include_pad),)


def max_pool2d(
    x: Tensor, kernel_size: int | Pair, *, stride: int | Pair | None = None, padding: int | Pair | str = 0
) -> Tensor:
    """x (N, H, W, C) → (N, OH, OW, C): the maximum of each window, stride = kernel_size by default.

    Padding never wins; of equal values the first in the window, row by row, gets the gradient.

    Returns: a Tensor of x's dtype.
    Raises: ValueError where the window does not fit the image.
    """
    if x.dtype.kind == "b":
        raise TypeError("max_pool2d: the input has dtype bool; it must be numbers, as in x.astype(np.float32)")
    return _max_pool2d(x, *pool_windows("max_pool2d", x.shape, kernel_size, stride, padding)[:3])


def avg_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair | str = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """x (N, H, W, C) → (N, OH, OW, C): the mean of each window, stride = kernel_size by default.

    count_include_pad: whether padded zeros count in the divisor (as in PyTorch's default).

    Returns: a Tensor; float64 of integers.
    Raises: ValueError where the window does not fit the image.
    """
    return _avg_pool2d(x, *pool_windows("avg_pool2d", x.shape, kernel_size, stride, padding)[:3], count_include_pad)


def global_avg_pool2d(x: Tensor) -> Tensor:
    """x (N, H, W, C) → (N, C): the mean of each image's channel.

    Returns: a Tensor; float64 of integers.
    Raises: ValueError where x has not 4 axes.
    """
    if x.ndim != 4:
        raise ValueError(f"global_avg_pool2d: input {x.shape} must be (N, H, W, C)")
    return mean(x, (1, 2))


def pool_windows(name: str, shape: tuple, kernel_size: Any, stride: Any, padding: Any) -> tuple:
    """The kernel, stride and padding as pairs, and the output's (OH, OW), for an input of `shape` (N, H, W, C)."""
    if len(shape) != 4:
        raise ValueError(f"{name}: input {shape} must be (N, H, W, C)")
    kernel = pair(name, "kernel_size", kernel_size)
    stride = kernel if stride is None else pair(name, "stride", stride)
    pads, size = windows(name, shape[1:3], kernel, stride, padding)
    if any(p >= k for edge, k in zip(pads, kernel, strict=True) for p in edge):
        raise ValueError(
            f"{name}: padding={padding!r} must be smaller than the kernel {kernel}: "
            "a window must hold at least one pixel"
        )
    return kernel, stride, pads, size
