"""Convolution as one matrix product: im2col, and its derivative (phase one; the fast ways follow).

im2col lays every output's window out as a row, so that `cols @ w` is the convolution; its transpose,
col2im, adds the rows back where they came from. Both derivatives are then those of a matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .memory import empty
from .pool import Pads, Pair, max_pool2d, max_pool2d_grad, output_size


def im2col(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair,
           *, out: np.ndarray | None = None) -> np.ndarray:
    """(N, H, W, C) → (N, OH, OW, KH, KW, C): each output's window, zeros outside the image."""
    n, h, w, c = x.shape
    oh, ow = output_size((h, w), kernel, stride, padding, dilation)
    x = pad(x, padding)
    sn, sh, sw, sc = x.strides
    windows = as_strided(
        x,
        (n, oh, ow, *kernel, c),
        (sn, sh * stride[0], sw * stride[1], sh * dilation[0], sw * dilation[1], sc),
        writeable=False,
    )
    cols = empty(windows.shape, x.dtype) if out is None else out
    np.copyto(cols, windows)
    return cols


def col2im(cols: np.ndarray, shape: tuple, stride: Pair, padding: Pads, dilation: Pair,
           *, out: np.ndarray | None = None) -> np.ndarray:
    """The transpose of im2col: each window's values added back into an image of `shape`."""
    n, h, w, c = shape
    _, oh, ow, kh, kw, _ = cols.shape
    (top, bottom), (left, right) = padding
    padded = bool(top or bottom or left or right)
    if out is None or padded:
        image = empty((n, h + top + bottom, w + left + right, c), cols.dtype)
    else:
        image = out
    image[...] = 0
    for i in range(kh):
        rows = slice(i * dilation[0], i * dilation[0] + (oh - 1) * stride[0] + 1, stride[0])
        for j in range(kw):
            columns = slice(j * dilation[1], j * dilation[1] + (ow - 1) * stride[1] + 1, stride[1])
            image[:, rows, columns] += cols[:, :, :, i, j]
    if not padded:
        return image
    inner = image[:, top : top + h, left : left + w]
    result = empty(shape, cols.dtype) if out is None else out
    np.copyto(result, inner)
    return result


def pad(x: np.ndarray, padding: Pads) -> np.ndarray:
    """x (N, H, W, C) with zeros around its images; x itself where there are none to add."""
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    n, h, w, c = x.shape
    padded = empty((n, h + top + bottom, w + left + right, c), x.dtype)
    padded[:, :top] = 0
    padded[:, top + h :] = 0
    padded[:, top : top + h, :left] = 0
    padded[:, top : top + h, left + w :] = 0
    padded[:, top : top + h, left : left + w] = x
    return padded


def _by_group(rows: np.ndarray, groups: int) -> np.ndarray:
    """(N, OH, OW, KH, KW, C) → (groups, N·OH·OW, KH·KW·C // groups): a batch of matrices."""
    n, oh, ow, kh, kw, c = rows.shape
    split = rows.reshape(n * oh * ow, kh * kw, groups, c // groups)
    return split.transpose(2, 0, 1, 3).reshape(groups, n * oh * ow, kh * kw * (c // groups))


def _weights_by_group(w: np.ndarray, groups: int) -> np.ndarray:
    """(KH, KW, C // groups, F) → (groups, KH·KW·C // groups, F // groups)."""
    kh, kw, cg, f = w.shape
    return w.reshape(kh * kw * cg, groups, f // groups).transpose(1, 0, 2)


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pads,
           dilation: Pair, groups: int) -> tuple[np.ndarray, Any]:
    """(y (N, OH, OW, F), saved): cross-correlation of x (N, H, W, C) with w (KH, KW, C // groups, F)."""
    kh, kw, _, f = w.shape
    cols = im2col(x, (kh, kw), stride, padding, dilation)
    n, oh, ow = cols.shape[:3]
    y = empty((n, oh, ow, f), np.result_type(x, w))
    product = np.matmul(_by_group(cols, groups), _weights_by_group(w, groups))
    np.copyto(y.reshape(n * oh * ow, groups, f // groups), product.transpose(1, 0, 2))
    if b is not None:
        y += b
    return y, (x, w, b is not None, stride, padding, dilation, groups)


def conv2d_grad(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    """(dx, dw, db), None where need[i] is False."""
    x, w, has_bias, stride, padding, dilation, groups = saved
    kh, kw, cg, f = w.shape
    n, oh, ow, _ = g.shape
    pixels = n * oh * ow
    rows = g.reshape(pixels, groups, f // groups).transpose(1, 0, 2)
    dx = dw = db = None
    if need[0]:
        dcols = np.matmul(rows, _weights_by_group(w, groups).transpose(0, 2, 1))
        dcols = dcols.reshape(groups, pixels, kh * kw, cg).transpose(1, 2, 0, 3)
        dx = col2im(dcols.reshape(n, oh, ow, kh, kw, groups * cg), x.shape, stride, padding, dilation)
    if need[1]:
        cols = _by_group(im2col(x, (kh, kw), stride, padding, dilation), groups)
        dw = np.matmul(cols.transpose(0, 2, 1), rows).transpose(1, 0, 2).reshape(w.shape)
    if has_bias and need[2]:
        db = g.reshape(pixels, f).sum(axis=0)
    return dx, dw, db


def conv_relu_pool(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pads,
                   dilation: Pair, groups: int, pool: bool) -> tuple[np.ndarray, Any]:
    """(y, saved): conv2d, relu and, if `pool`, a 2×2 maximum of stride 2."""
    z, saved = conv2d(x, w, b, stride, padding, dilation, groups)
    np.maximum(z, 0, out=z)
    if not pool:
        return z, (saved, z, None)
    y, pooled = max_pool2d(z, (2, 2), (2, 2), ((0, 0), (0, 0)))
    return y, (saved, z, pooled)


def conv_relu_pool_grad(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    """(dx, dw, db), None where need[i] is False."""
    conv_saved, z, pooled = saved
    if pooled is not None:
        g = max_pool2d_grad(g, pooled)
    return conv2d_grad(g * (z > 0), conv_saved, need)
