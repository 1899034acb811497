"""Pooling: a sliding window reduced to its maximum or mean, channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..backends.geometry import Pair, ceil_padding, output_size
from ..tensor import Tensor, tensor
from .conv import along, pair, windows
from .reduce import max as largest
from .reduce import mean
from .shape import concatenate, getitem

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "global_avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]


@op(integers="kept")
def _max_pool2d(be, x, kernel, stride, padding, dilation):
    y, saved = be.max_pool2d(x, kernel, stride, padding, dilation)
    return y, lambda g, need: (be.max_pool2d_grad(g, saved),)


@op(integers="float64")
def _avg_pool2d(be, x, kernel, stride, padding, count_include_pad):
    shape = x.shape
    y = be.avg_pool2d(x, kernel, stride, padding, count_include_pad)
    return y, lambda g, need: (be.avg_pool2d_grad(g, shape, kernel, stride, padding, count_include_pad),)


def max_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """x (N, H, W, C) → (N, OH, OW, C): the maximum of each window, stride = kernel_size by default.

    Padding never wins; of equal values the first in the window, row by row, gets the gradient.
    dilation: how far a window's pixels lie apart. ceil_mode: a last window that hangs over the border counts.

    Returns: a Tensor of x's dtype.
    Raises: ValueError where the window does not fit the image.
    """
    if x.dtype.kind == "b":
        raise TypeError("max_pool2d: the input has dtype bool; it must be numbers, as in x.astype(np.float32)")
    kernel, stride, pads, _ = pool_windows("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool2d(x, kernel, stride, pads, pair("max_pool2d", "dilation", dilation))


def avg_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair | str = 0,
    count_include_pad: bool = True,
    ceil_mode: bool = False,
) -> Tensor:
    """x (N, H, W, C) → (N, OH, OW, C): the mean of each window, stride = kernel_size by default.

    count_include_pad: whether padded zeros count in the divisor (as in PyTorch's default).
    ceil_mode: a last window that hangs over the border counts, by what of it lies inside image and padding.

    Returns: a Tensor; float64 of integers.
    Raises: ValueError where the window does not fit the image.
    """
    window = pool_windows("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode)[:3]
    inside = pool_windows("avg_pool2d", x.shape, kernel_size, stride, padding)[2]
    if window[2] == inside or not count_include_pad:
        return _avg_pool2d(x, *window, count_include_pad)
    y = _avg_pool2d(x, *window, False)  # by the pixels of the image; then by those of the padding, too
    shares = np.array(1.0)
    for n, k, s, pads, given in zip(x.shape[1:3], *window, inside, strict=True):
        start = np.arange(0, n + sum(pads) - k + 1, s) - pads[0]
        pixels = np.minimum(start + k, n) - np.maximum(start, 0)
        shares = np.multiply.outer(shares, pixels / (np.minimum(start + k, n + given[1]) - start))
    return y * tensor(shares[:, :, None], dtype=y.dtype, backend=y.backend)


def max_pool1d(
    x: Tensor,
    kernel_size: int,
    *,
    stride: int | None = None,
    padding: int | Pair | str = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """x (N, L, C) → (N, OL, C): max_pool2d along one axis; padding: an int, (before, after), "same" or "valid".

    Returns: a Tensor of x's dtype.
    Raises: ValueError where the window does not fit.
    """
    options = along("max_pool1d", kernel_size if stride is None else stride, padding, dilation)
    return max_pool2d(_line("max_pool1d", x), (1, kernel_size), ceil_mode=ceil_mode, **options)[:, 0]


def avg_pool1d(
    x: Tensor,
    kernel_size: int,
    *,
    stride: int | None = None,
    padding: int | Pair | str = 0,
    count_include_pad: bool = True,
    ceil_mode: bool = False,
) -> Tensor:
    """x (N, L, C) → (N, OL, C): avg_pool2d along one axis; padding: an int, (before, after), "same" or "valid".

    Returns: a Tensor; float64 of integers.
    Raises: ValueError where the window does not fit.
    """
    options = along("avg_pool1d", kernel_size if stride is None else stride, padding)
    del options["dilation"]
    options |= {"count_include_pad": count_include_pad, "ceil_mode": ceil_mode}
    return avg_pool2d(_line("avg_pool1d", x), (1, kernel_size), **options)[:, 0]


def _line(name: str, x: Tensor) -> Tensor:
    if x.ndim != 3:
        raise ValueError(f"{name}: input {x.shape} must be (N, L, C)")
    return x[:, None]


def adaptive_avg_pool2d(x: Tensor, output_size: int | Pair) -> Tensor:
    """x (N, H, W, C) → (N, OH, OW, C): the means of OH × OW windows that cover the image, each from ⌊i H / OH⌋ to
    ⌈(i + 1) H / OH⌉, as PyTorch's.

    Returns: a Tensor; float64 of integers.
    Raises: ValueError where x is no batch of images.
    """
    whole, size = _adaptive("adaptive_avg_pool2d", x, output_size)
    if whole is not None:
        return avg_pool2d(x, whole)
    for axis, n in enumerate(size, 1):
        index = (slice(None),) * axis
        x = concatenate([mean(getitem(x, (*index, part)), axis, True) for part in _spans(x.shape[axis], n)], axis)
    return x


def adaptive_max_pool2d(x: Tensor, output_size: int | Pair) -> Tensor:
    """x (N, H, W, C) → (N, OH, OW, C): the maxima of the windows of `adaptive_avg_pool2d`; the first of equals wins.

    Returns: a Tensor of x's dtype.
    Raises: ValueError where x is no batch of images.
    """
    whole, (oh, ow) = _adaptive("adaptive_max_pool2d", x, output_size)
    if whole is not None:
        return max_pool2d(x, whole)
    h, w = x.shape[1:3]
    windows = [largest(x[:, rows, columns], (1, 2), True) for rows in _spans(h, oh) for columns in _spans(w, ow)]
    return concatenate(windows, 1).reshape(x.shape[0], oh, ow, x.shape[3])


def _adaptive(name: str, x: Tensor, output_size: Any) -> tuple[Pair | None, Pair]:
    """(the kernel of plain pooling where that is the same, else None; the output's size)."""
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"{name}: input {x.shape} must be (N, H, W, C) and hold pixels")
    size = pair(name, "output_size", output_size)
    whole = all(n % m == 0 for n, m in zip(x.shape[1:3], size, strict=True))
    return ((x.shape[1] // size[0], x.shape[2] // size[1]) if whole else None), size


def _spans(size: int, count: int) -> list[slice]:
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def global_avg_pool2d(x: Tensor) -> Tensor:
    """x (N, H, W, C) → (N, C): the mean of each image's channel.

    Returns: a Tensor; float64 of integers.
    Raises: ValueError where x has not 4 axes.
    """
    if x.ndim != 4:
        raise ValueError(f"global_avg_pool2d: input {x.shape} must be (N, H, W, C)")
    return mean(x, (1, 2))


def pool_windows(
    name: str,
    shape: tuple,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple:
    """The kernel, stride and padding as pairs, and the output's (OH, OW), for an input of `shape` (N, H, W, C)."""
    if len(shape) != 4:
        raise ValueError(f"{name}: input {shape} must be (N, H, W, C)")
    kernel = pair(name, "kernel_size", kernel_size)
    stride = kernel if stride is None else pair(name, "stride", stride)
    dilation = pair(name, "dilation", dilation)
    pads, size = windows(name, shape[1:3], kernel, stride, padding, dilation)
    if any(p >= k for edge, k in zip(pads, kernel, strict=True) for p in edge):
        raise ValueError(
            f"{name}: padding={padding!r} must be smaller than the kernel {kernel}: "
            "a window must hold at least one pixel"
        )
    if ceil_mode:
        pads = ceil_padding(shape[1:3], kernel, stride, pads, dilation)
        size = output_size(shape[1:3], kernel, stride, pads, dilation)
    return kernel, stride, pads, size
