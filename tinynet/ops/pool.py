"""Pooling: a sliding window reduced to its maximum or mean, channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..backends.geometry import NO_PADS, Pads, Pair, ceil_padding, output_size
from ..tensor import Tensor, tensor
from .conv import along, pair, windows
from .elementwise import maximum
from .index import scatter
from .reduce import argmax, computed, mean
from .reduce import max as largest
from .shape import concatenate, getitem

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "global_avg_pool2d",
    "max_pool1d",
    "max_pool2d",
    "max_unpool2d",
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
    return_indices: bool = False,
) -> Any:
    """x (N, H, W, C) → (N, OH, OW, C): the maximum of each window, stride = kernel_size by default.

    Padding never wins; of equal values the first in the window, row by row, gets the gradient, and so does the first
    NaN. dilation: how far a window's pixels lie apart. ceil_mode: a last window that hangs over the border counts.

    Returns: a Tensor of x's dtype; with return_indices also where each maximum lies, h·W + w of its image, int64.
    Raises: ValueError where the window does not fit the image.
    """
    if x.dtype.kind == "b":
        raise TypeError("max_pool2d: the input has dtype bool; it must be numbers, as in x.astype(np.float32)")
    kernel, steps, pads, _ = pool_windows("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    spread = pair("max_pool2d", "dilation", dilation)
    y = _max_pool2d(x, kernel, steps, pads, spread)
    return (y, _places(x, kernel, steps, pads, spread)) if return_indices else y


def _places(x: Tensor, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair) -> Tensor:
    """h·W + w of each window's maximum: by way of all windows side by side, as it is asked for seldom."""
    x = computed("max_pool2d", x, "kept").detach()
    be, lowest = x.backend, -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    framed = be.pad(x.data, ((0, 0), *pads, (0, 0)), "constant", lowest)
    windows = Tensor(be.im2col(framed, kernel, stride, NO_PADS, dilation), be)
    n, oh, ow, kh, kw, c = windows.shape
    winner = argmax(windows.reshape(n, oh, ow, kh * kw, c), 3)
    place: Any = 0
    for taps, count, s, (before, _), d, shape, size in (
        (winner // kw, oh, stride[0], pads[0], dilation[0], (-1, 1, 1), x.shape[1]),
        (winner % kw, ow, stride[1], pads[1], dilation[1], (-1, 1), x.shape[2]),
    ):
        first = tensor((np.arange(count) * s - before).reshape(shape), backend=be)  # where the window begins
        place = place * size + maximum(taps, -(first // d)) * d + first  # of -inf alone the first inside wins
    return place


def max_unpool2d(
    x: Tensor,
    indices: Tensor,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: Pair | None = None,
) -> Tensor:
    """x (N, OH, OW, C), each value where its index says, of max_pool2d(…, return_indices=True), zeros elsewhere.

    output_size: (H, W) of the image; else the smallest that max_pool2d of these options pools to (OH, OW).

    Returns: a Tensor (N, H, W, C) of x's dtype.
    Raises: ValueError where shapes do not fit, IndexError where an index lies outside.
    """
    if x.ndim != 4 or indices.shape != x.shape:
        raise ValueError(f"max_unpool2d: input {x.shape} must be (N, OH, OW, C), the indices {indices.shape} likewise")
    x = computed("max_unpool2d", x, "kept")
    kernel, inside = (
        pair("max_unpool2d", n, v, k) for n, v, k in (("kernel_size", kernel_size, 1), ("padding", padding, 0))
    )
    stride = kernel if stride is None else pair("max_unpool2d", "stride", stride)
    if output_size is None:
        size = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[1:3], stride, inside, kernel, strict=True)]
    else:
        size = list(pair("max_unpool2d", "output_size", output_size))
    n, c = x.shape[0], x.shape[3]
    blank = tensor(np.zeros((n, size[0] * size[1], c)), dtype=x.dtype, backend=x.backend)
    return scatter(blank, indices.reshape(n, -1, c), x.reshape(n, -1, c), 1).reshape(n, *size, c)


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
    return_indices: bool = False,
) -> Any:
    """x (N, L, C) → (N, OL, C): max_pool2d along one axis; padding: an int, (before, after), "same" or "valid".

    Returns: a Tensor of x's dtype; with return_indices also where in L each maximum lies, int64.
    Raises: ValueError where the window does not fit.
    """
    options = along("max_pool1d", kernel_size if stride is None else stride, padding, dilation)
    options |= {"ceil_mode": ceil_mode, "return_indices": return_indices}
    y = max_pool2d(_line("max_pool1d", x), (1, kernel_size), **options)
    return (y[0][:, 0], y[1][:, 0]) if return_indices else y[:, 0]


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


def adaptive_max_pool2d(x: Tensor, output_size: int | Pair, *, return_indices: bool = False) -> Any:
    """x (N, H, W, C) → (N, OH, OW, C): the maxima of the windows of `adaptive_avg_pool2d`; the first of equals wins.

    Returns: a Tensor of x's dtype; with return_indices also where each maximum lies, h·W + w of its image, int64.
    Raises: ValueError where x is no batch of images.
    """
    whole, (oh, ow) = _adaptive("adaptive_max_pool2d", x, output_size)
    if whole is not None:
        return max_pool2d(x, whole, return_indices=return_indices)
    n, h, w, c = x.shape
    spans = [(rows, columns) for rows in _spans(h, oh) for columns in _spans(w, ow)]
    y = concatenate([largest(x[:, rows, columns], (1, 2), True) for rows, columns in spans], 1).reshape(n, oh, ow, c)
    if not return_indices:
        return y
    places = []
    for rows, columns in spans:
        winner = argmax(x[:, rows, columns].reshape(n, -1, c), 1, True)
        wide = columns.stop - columns.start
        places.append((winner // wide + rows.start) * w + winner % wide + columns.start)
    return y, concatenate(places, 1).reshape(n, oh, ow, c)


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
