"""Convolution as one matrix product, in tiles: each output's window becomes a row, and col2im, the transpose of im2col,
adds rows back where they came from.

A tile has a few megabytes of columns, so that a window's row is still in the cache when it is multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..geometry import NO_PADS, Geometry, Pads, Pair, output_size
from .elementwise import rectify, relu_grad
from .images import bands, crop, pad, quadrants, strided, window_slice
from .matmul import matmul, product
from .memory import empty
from .pool import four_masks, four_maximum
from .summation import Sums, add_up

COLUMNS_BYTES = 6 << 20
KEPT_COLUMNS = 2.5  # times the image: columns up to so large (a stride of 2) are kept for the way back, too
KEPT_BYTES = 10 << 20  # columns up to so large are kept for the way back

# ---- im2col and its transpose ---------------------------------------------------------------------------


def im2col(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, *, out: np.ndarray | None = None
) -> np.ndarray:
    """(N, H, W, C) → (N, OH, OW, KH, KW, C): each output's window, zeros outside the image."""
    oh, ow = output_size(x.shape[1:3], kernel, stride, padding, dilation)
    x = pad(x, padding)
    n, _, _, c = x.shape
    sn, sh, sw, sc = x.strides
    strides = (sn, sh * stride[0], sw * stride[1], sh * dilation[0], sw * dilation[1], sc)
    windows = strided(x, (n, oh, ow, *kernel, c), strides)
    columns = empty(windows.shape, x.dtype) if out is None else out
    np.copyto(columns, windows)
    return columns


def col2im(
    cols: np.ndarray, shape: tuple, stride: Pair, padding: Pads, dilation: Pair, *, out: np.ndarray | None = None
) -> np.ndarray:
    """The transpose of im2col: each window's values added back into an image of `shape`."""
    n, h, w, c = shape
    _, oh, ow, kh, kw, _ = cols.shape
    (top, bottom), (left, right) = padding
    image = np.zeros((n, h + top + bottom, w + left + right, c), cols.dtype)
    for i in range(kh):
        for j in range(kw):
            place = window_slice((i * dilation[0], j * dilation[1]), (oh, ow), stride)
            image[place] += cols[:, :, :, i, j]
    result = empty(shape, cols.dtype) if out is None else out
    np.copyto(result, image[:, top : top + h, left : left + w])
    return result


# ---- in tiles ---------------------------------------------------------------------------------------------------


def weights_by_group(w: np.ndarray, groups: int) -> np.ndarray:
    """(KH, KW, C / groups, F) → (groups, KH·KW·C / groups, F / groups)."""
    kh, kw, c, f = w.shape
    return w.reshape(kh * kw * c, groups, f // groups).transpose(1, 0, 2)


def _columns(x: np.ndarray, kernel: Pair, lines: slice, at: Geometry) -> np.ndarray:
    """(groups, N·lines·OW, KH·KW·C / groups) for some output lines of x, of which no more is padded than they see."""
    kh, kw = kernel
    (top, _), (left, right) = at.padding
    first = lines.start * at.stride[0] - top
    last = (lines.stop - 1) * at.stride[0] - top + (kh - 1) * at.dilation[0] + 1
    band = crop(x, (first, last), (-left, x.shape[2] + right))
    n, c = band.shape[0], band.shape[3]
    if kernel == at.stride == (1, 1) and at.groups == 1:
        return np.ascontiguousarray(band).reshape(1, -1, c)
    if at.groups == 1:
        return im2col(band, kernel, at.stride, NO_PADS, at.dilation).reshape(1, -1, kh * kw * c)
    oh, ow = output_size(band.shape[1:3], kernel, at.stride, NO_PADS, at.dilation)
    sn, sh, sw, sc = band.strides
    per = c // at.groups
    strides = (per * sc, sn, sh * at.stride[0], sw * at.stride[1], sh * at.dilation[0], sw * at.dilation[1], sc)
    windows = strided(band, (at.groups, n, oh, ow, kh, kw, per), strides)
    columns = empty(windows.shape, x.dtype)
    np.copyto(columns, windows)
    return columns.reshape(at.groups, -1, kh * kw * per)


def _parts(x: np.ndarray, kernel: Pair, size: Pair, pool: bool) -> Iterator[tuple[slice, slice]]:
    """(images, output lines) worked on at one time: the same forward and backward, which share their columns."""
    column_bytes = kernel[0] * kernel[1] * x.shape[3] * x.itemsize
    return bands(x.shape[0], size[0], size[1] * column_bytes, COLUMNS_BYTES, 2 if pool else 1)


def forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, relu: bool, pool: bool
) -> tuple[np.ndarray, Any]:
    kh, kw, _, f = w.shape
    n = x.shape[0]
    oh, ow = output_size(x.shape[1:3], (kh, kw), at.stride, at.padding, at.dilation)
    if pool:
        oh, ow_used = oh // 2 * 2, ow // 2 * 2
    dtype = np.result_type(x, w)
    y = empty((n, oh // 2, ow_used // 2, f) if pool else (n, oh, ow, f), dtype)
    marks = empty((4, *y.shape), np.bool_) if pool else None
    matrices = np.ascontiguousarray(weights_by_group(w, at.groups))
    kept: list[np.ndarray] = []
    times = kh * kw * oh * ow / max(x.shape[1] * x.shape[2], 1)
    keep = times <= KEPT_COLUMNS or times * x.nbytes <= KEPT_BYTES
    for images, lines in _parts(x, (kh, kw), (oh, ow), pool):
        columns = _columns(x[images], (kh, kw), lines, at)
        if keep:
            kept.append(columns)
        count = lines.stop - lines.start
        z = y[images, lines] if not pool else empty((images.stop - images.start, count, ow, f), dtype)
        flat = z.reshape(-1, at.groups, f // at.groups)
        if at.groups == 1:
            product(columns[0], matrices[0], flat[:, 0])
        else:
            np.copyto(flat, np.matmul(columns, matrices).transpose(1, 0, 2))
        if not pool and b is not None:
            z += np.tile(b, (ow, 1))  # NumPy adds long lines faster than many short rows
        if pool and marks is not None:
            half = slice(lines.start // 2, lines.stop // 2)
            z, members = y[images, half], quadrants(z)
            four_maximum(members, marks[:, images, half], z, b)
        if relu:
            rectify(z, z)
    return y, (x, w, b is not None, at, relu, y, marks, kept)


def backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    x, w, has_bias, at, relu, y, marks, kept = saved
    kh, kw, per, f = w.shape
    h, wide, c = x.shape[1:]
    oh, ow = output_size((h, wide), (kh, kw), at.stride, at.padding, at.dilation)
    if marks is not None:
        oh = oh // 2 * 2
    (top, _), (left, _) = at.padding
    dx = empty(x.shape, x.dtype) if need[0] else None
    by_tap = weights_by_group(w, at.groups).reshape(at.groups, kh * kw, per, f // at.groups)
    by_tap = np.ascontiguousarray(by_tap.transpose(1, 0, 3, 2))  # (taps, groups, F / groups, C / groups)
    dws, dbs = Sums(), Sums()
    frame: np.ndarray = np.zeros(0)
    for number, (images, lines) in enumerate(_parts(x, (kh, kw), (oh, ow), marks is not None)):
        count = lines.stop - lines.start
        if marks is not None:
            half = slice(lines.start // 2, lines.stop // 2)
            dz = empty((images.stop - images.start, count, ow, f), g.dtype)
            dz[:, :, ow // 2 * 2 :] = 0
            for place, mask in zip(quadrants(dz), four_masks(marks[:, images, half]), strict=True):
                np.multiply(g[images, half], mask, out=place)
        else:
            dz = relu_grad(g[images, lines], y[images, lines]) if relu else g[images, lines]
        flat = dz.reshape(-1, f)
        rows = flat.reshape(-1, at.groups, f // at.groups).transpose(1, 0, 2)
        if need[1]:
            columns = kept[number] if kept else _columns(x[images], (kh, kw), lines, at)
            dws.add(matmul(columns, rows, transpose_x=True))
        if has_bias and need[2]:
            dbs.add(add_up(flat, (0,)))
        if dx is not None and (kh, kw, oh, c) == (1, 1, h, per) and (at.stride, at.padding) == ((1, 1), NO_PADS):
            product(flat, by_tap[0, 0], dx[images, lines].reshape(-1, c))
        elif dx is not None:
            if lines.start == 0:
                (top, bottom), (left, right) = at.padding
                shape = (images.stop - images.start, h + top + bottom, wide + left + right, c)
                frame = np.zeros(shape, x.dtype)
            _add_windows(frame, rows, by_tap, (len(dz), count, ow), (kh, kw), lines.start, at)
            if lines.stop == oh:
                dx[images] = frame[:, top : top + h, left : left + wide]
    dw = dws.total(np.zeros((at.groups, kh * kw * per, f // at.groups), w.dtype)) if need[1] else None
    dw = None if dw is None else dw.transpose(1, 0, 2).reshape(w.shape)
    return dx, dw, dbs.total(np.zeros(f, w.dtype)) if has_bias and need[2] else None


def _add_windows(
    frame: np.ndarray, rows: np.ndarray, by_tap: np.ndarray, shape: tuple, kernel: Pair, first: int, at: Geometry
) -> None:
    """frame += each row's window, rows @ wᵀ, one tap at a time: both sides run over whole lines."""
    n, oh, ow = shape
    per = by_tap.shape[3]
    values = empty((*rows.shape[:2], per), frame.dtype)
    for tap, weights in enumerate(by_tap):
        if at.groups == 1:
            product(rows[0], weights[0], values[0])
        else:
            np.matmul(rows, weights, out=values)
        i, j = divmod(tap, kernel[1])
        start = (first * at.stride[0] + i * at.dilation[0], j * at.dilation[1])
        place = frame[window_slice(start, (oh, ow), at.stride)]
        for group, value in enumerate(values):
            part = place[..., group * per : (group + 1) * per]
            np.add(part, value.reshape(n, oh, ow, per), out=part)
