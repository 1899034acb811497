"""Convolution and pooling as their definitions read: one Python loop for each index, nothing clever.

Slow on purpose, and independent of the kernels: no windows, no slices with steps, no matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np


def places(
    size: tuple, outputs: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple = (1, 1)
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(oh, ow, i, j, h, w) of each pair of an output and an image pixel inside its window, in C order."""
    for oh, ow, i, j in product(*map(range, (*outputs, *kernel))):
        h = oh * stride[0] + i * dilation[0] - padding[0][0]
        w = ow * stride[1] + j * dilation[1] - padding[1][0]
        if 0 <= h < size[0] and 0 <= w < size[1]:
            yield oh, ow, i, j, h, w


def output_size(size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple = (1, 1)) -> tuple:
    """Counts the starts of windows that end inside the padded image."""
    result = []
    for n, k, s, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True):
        result.append(sum(1 for a in range(0, n + before + after, s) if a + (k - 1) * d < n + before + after))
    return tuple(result)


def conv2d(
    x: np.ndarray, w: np.ndarray, b: Any, stride: tuple, padding: tuple, dilation: tuple, groups: int
) -> np.ndarray:
    n, c, f = x.shape[0], w.shape[2], w.shape[3]
    outputs = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = np.zeros((n, *outputs, f))
    for oh, ow, i, j, h, v in places(x.shape[1:3], outputs, w.shape[:2], stride, padding, dilation):
        for m, k, q in product(range(n), range(f), range(c)):
            y[m, oh, ow, k] += x[m, h, v, k // (f // groups) * c + q] * w[i, j, q, k]
    return y if b is None else y + b


def conv2d_grad(
    g: np.ndarray, x: np.ndarray, w: np.ndarray, stride: tuple, padding: tuple, dilation: tuple, groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, c, f = x.shape[0], w.shape[2], w.shape[3]
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(f)
    for oh, ow, i, j, h, v in places(x.shape[1:3], g.shape[1:3], w.shape[:2], stride, padding, dilation):
        for m, k, q in product(range(n), range(f), range(c)):
            channel = k // (f // groups) * c + q
            dx[m, h, v, channel] += g[m, oh, ow, k] * w[i, j, q, k]
            dw[i, j, q, k] += g[m, oh, ow, k] * x[m, h, v, channel]
    for m, oh, ow, k in product(*map(range, g.shape)):
        db[k] += g[m, oh, ow, k]
    return dx, dw, db


def max_pool2d(x: np.ndarray, kernel: tuple, stride: tuple, padding: tuple) -> tuple[np.ndarray, dict]:
    """(y, which pixel won each window): the first NaN if there is one, else the first maximum."""
    n, h, w, c = x.shape
    outputs = output_size((h, w), kernel, stride, padding)
    y, winners = np.full((n, *outputs, c), np.nan), {}
    for oh, ow, _, _, i, j in places((h, w), outputs, kernel, stride, padding):
        for m, q in product(range(n), range(c)):
            place, value = (m, oh, ow, q), x[m, i, j, q]
            if place not in winners or value > y[place] or (np.isnan(value) and not np.isnan(y[place])):
                y[place], winners[place] = value, (m, i, j, q)
    return y, winners


def max_pool2d_grad(g: np.ndarray, winners: dict, shape: tuple) -> np.ndarray:
    dx = np.zeros(shape)
    for place, winner in winners.items():
        dx[winner] += g[place]
    return dx


def avg_pool2d(x: np.ndarray, kernel: tuple, stride: tuple, padding: tuple, count_include_pad: bool) -> np.ndarray:
    n, h, w, c = x.shape
    outputs = output_size((h, w), kernel, stride, padding)
    y, counts = np.zeros((n, *outputs, c)), np.zeros(outputs)
    for oh, ow, _, _, i, j in places((h, w), outputs, kernel, stride, padding):
        counts[oh, ow] += 1
        for m, q in product(range(n), range(c)):
            y[m, oh, ow, q] += x[m, i, j, q]
    for oh, ow in product(*map(range, outputs)):
        y[:, oh, ow] /= kernel[0] * kernel[1] if count_include_pad else counts[oh, ow]
    return y


def conv_relu_pool(x: np.ndarray, w: np.ndarray, b: Any, at: tuple, pool: bool, g: np.ndarray | None = None) -> Any:
    """y; with g (dx, dw, db) as well: the three definitions one after another."""
    z = np.maximum(conv2d(x, w, b, *at), 0)
    two = ((2, 2), (2, 2), ((0, 0), (0, 0)))
    y, winners = max_pool2d(z, *two) if pool else (z, {})
    if g is None:
        return y
    gz = max_pool2d_grad(g, winners, z.shape) if pool else g
    return y, conv2d_grad(np.where(z > 0, gz, 0), x, w, *at)
