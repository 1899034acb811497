"""Max and average pooling over windows, by one strided slice of the image for each place in the window.

A window of KH×KW has KH·KW places; all windows' values at one place are a slice of the image with the
pooling's stride. So pooling is a loop over places, each a whole-array operation. What lies outside the
image is never read: the slice of a place is cut to the windows for which that place is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..geometry import NO_PADS, Pads, Pair, output_size, places
from .images import bands, quadrants
from .memory import empty
from .summation import FEW

PART_BYTES = 1 << 19  # of the images, what max_pool2d works on at one time: it stays in the cache


# ---- maximum ----------------------------------------------------------------------------------------


def max_pool2d(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pads) -> tuple[np.ndarray, Any]:
    """x (N, H, W, C) → (y (N, OH, OW, C), saved). Padding never wins; of equal values the first does."""
    if kernel == (2, 2) and stride == (2, 2) and padding == NO_PADS:
        return _max_pool_2x2(x)
    y, winner = _max_pool_any(x, kernel, stride, padding)
    return y, (winner, x.shape, kernel, stride, padding)


def max_pool2d_grad(g: np.ndarray, saved: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """g (N, OH, OW, C) → (N, H, W, C): g at each window's winner, added where windows overlap."""
    if len(saved) == 2:
        return _max_pool_2x2_grad(g, saved[0], saved[1], out)
    winner, shape, kernel, stride, padding = saved
    dx = empty(shape, g.dtype) if out is None else out
    total = _total(dx, kernel)
    for number, (rows, cols), (image_rows, image_cols) in places(shape[1:3], kernel, stride, padding):
        total[:, image_rows, image_cols] += g[:, rows, cols] * (winner[:, rows, cols] == number)
    return _cast(total, dx)


def _total(out: np.ndarray, kernel: Pair) -> np.ndarray:
    """Zeros to which a window's values are added one by one: `out`, or for a large window an array that rounds less."""
    total = out if kernel[0] * kernel[1] <= FEW or out.dtype.kind != "f" else np.empty(out.shape, np.float64)
    total[...] = 0
    return total


def _cast(total: np.ndarray, out: np.ndarray) -> np.ndarray:
    if total is not out:
        np.copyto(out, total, casting="same_kind")
    return out


def _max_pool_any(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pads) -> tuple[np.ndarray, np.ndarray]:
    """(y, the number of each window's winning place) for any window."""
    n, h, w, c = x.shape
    oh, ow = output_size((h, w), kernel, stride, padding)
    y = empty((n, oh, ow, c), x.dtype)
    y[...] = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    # A window of nothing but -inf is won by its first place inside the image, which is known beforehand:
    # along each axis the place that meets the image's first row, or 0 where the window starts inside.
    top = np.maximum(padding[0][0] - np.arange(oh) * stride[0], 0)
    left = np.maximum(padding[1][0] - np.arange(ow) * stride[1], 0)
    winner = empty((n, oh, ow, c), np.uint8 if kernel[0] * kernel[1] <= 256 else np.int32)
    winner[...] = (top[:, None] * kernel[1] + left)[:, :, None]
    nan = x.size and np.isnan(x.max())
    for number, (rows, cols), (image_rows, image_cols) in places((h, w), kernel, stride, padding):
        value, best, won = x[:, image_rows, image_cols], y[:, rows, cols], winner[:, rows, cols]
        better = value > best
        if nan:
            better |= (value != value) & (best == best)  # the first NaN wins over all
        np.maximum(won, np.multiply(better, won.dtype.type(number)), out=won)  # numbers grow; a masked copy is slow
        np.maximum(best, value, out=best)
    return y, winner


def _max_pool_2x2(x: np.ndarray) -> tuple[np.ndarray, Any]:
    """The common window: three maxima, and three comparisons that tell who won. Its four places are copied apart
    first, part by part: pixels are short runs, and each is read twice."""
    oh, ow = output_size(x.shape[1:3], (2, 2), (2, 2), NO_PADS)
    n, _, w, c = x.shape
    y, marks = empty((n, oh, ow, c), x.dtype), empty((3, n, oh, ow, c), np.bool_)
    for images, lines in bands(n, oh, 2 * w * c * x.itemsize, PART_BYTES):
        result = y[images, lines]
        members = empty((4, *result.shape), x.dtype)
        for member, place in zip(members, quadrants(x[images, 2 * lines.start : 2 * lines.stop]), strict=True):
            np.copyto(member, place)
        four_maximum(members, marks[:, images, lines], result)
    if y.size and np.isnan(y.max()):  # comparisons do not see NaN: let the general way find it
        y, winner = _max_pool_any(x, (2, 2), (2, 2), NO_PADS)
        return y, (winner, x.shape, (2, 2), (2, 2), NO_PADS)
    return y, (marks, x.shape)


def _max_pool_2x2_grad(g: np.ndarray, marks: np.ndarray, shape: tuple, out: np.ndarray | None) -> np.ndarray:
    """g times each place's mask, written to its quadrant."""
    dx = empty(shape, g.dtype) if out is None else out
    dx[:, g.shape[1] * 2 :] = 0  # what the windows do not reach
    dx[:, :, g.shape[2] * 2 :] = 0
    for place, mask in zip(quadrants(dx), four_masks(marks), strict=True):
        np.multiply(g, mask, out=place)
    return dx


# ---- the maximum of four arrays, for the fused convolutions too ------------------------------------------


def four_maximum(
    z: Sequence[np.ndarray] | np.ndarray, marks: np.ndarray, out: np.ndarray, bias: np.ndarray | None = None
) -> None:
    """out = max(z[0], …, z[3]) + bias, overwriting z; marks (4, …) bool are for `four_masks`: who won, and
    whether relu will let it through. Where no relu follows there are three."""
    np.greater_equal(z[0], z[1], out=marks[0])
    np.greater_equal(z[2], z[3], out=marks[1])
    np.maximum(z[0], z[1], out=z[0])
    np.maximum(z[2], z[3], out=z[2])
    np.greater_equal(z[0], z[2], out=marks[2])
    np.maximum(z[0], z[2], out=out)
    if bias is not None:
        np.add(out, bias, out=out)
    if len(marks) == 4:
        np.greater(out, 0, out=marks[3])


def four_masks(marks: np.ndarray) -> np.ndarray:
    """(4, …) bool: where each of the four was the first maximum and, if `marks` say so, positive.

    `z == max` would be wrong: of equal values it names them all, and a gradient would be counted twice.
    """
    left, right, upper = marks[:3]
    masks = empty((4, *left.shape), np.bool_)
    top, low = masks[0], masks[2]
    if len(marks) == 4:
        np.greater(marks[3], upper, out=low)
        np.logical_and(marks[3], upper, out=top)
    else:
        np.logical_not(upper, out=low)
        np.copyto(top, upper)
    np.greater(top, left, out=masks[1])
    np.logical_and(top, left, out=masks[0])
    np.greater(low, right, out=masks[3])
    np.logical_and(low, right, out=masks[2])
    return masks


# ---- average ----------------------------------------------------------------------------------------


def _window_counts(size: Pair, kernel: Pair, stride: Pair, padding: Pads, include_pad: bool) -> np.ndarray:
    """(OH, OW, 1): what each window's sum is divided by."""
    oh, ow = output_size(size, kernel, stride, padding)
    counts = np.full((oh, ow, 1), kernel[0] * kernel[1] if include_pad else 0)
    if not include_pad:
        for _, (rows, cols), _ in places(size, kernel, stride, padding):
            counts[rows, cols] += 1
    return np.maximum(counts, 1)  # a window of padding alone sums to 0, and 0 is its mean


def avg_pool2d(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pads, count_include_pad: bool, *, out: np.ndarray | None = None
) -> np.ndarray:
    """x (N, H, W, C) → (N, OH, OW, C), the mean of each window; the divisor counts padding or not."""
    n, h, w, c = x.shape
    counts = _window_counts((h, w), kernel, stride, padding, count_include_pad)
    y = empty((n, *counts.shape[:2], c), x.dtype) if out is None else out
    total = _total(y, kernel)
    for _, (rows, cols), (image_rows, image_cols) in places((h, w), kernel, stride, padding):
        total[:, rows, cols] += x[:, image_rows, image_cols]
    total /= counts.astype(total.dtype)
    return _cast(total, y)


def avg_pool2d_grad(
    g: np.ndarray,
    shape: tuple,
    kernel: Pair,
    stride: Pair,
    padding: Pads,
    count_include_pad: bool,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """g (N, OH, OW, C) → (N, H, W, C): g spread evenly over each window, added where windows overlap."""
    share = g / _window_counts(shape[1:3], kernel, stride, padding, count_include_pad).astype(g.dtype)
    dx = empty(shape, g.dtype) if out is None else out
    total = _total(dx, kernel)
    for _, (rows, cols), (image_rows, image_cols) in places(shape[1:3], kernel, stride, padding):
        total[:, image_rows, image_cols] += share[:, rows, cols]
    return _cast(total, dx)
