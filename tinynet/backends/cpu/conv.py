"""Convolution: the definition as one matrix product, and the choice among faster ways to the same result.

im2col lays every output's window out as a row, so that `columns @ w` is the convolution; its transpose,
col2im, adds rows back where they came from. Both derivatives are then those of a matrix product. That is
all there is to know, and `reference_conv2d` says it in ten lines. The algorithms that run by default:

- **im2col**: the same in tiles of a few megabytes, so that a window's row is still in the cache when it is
  multiplied. Any stride, padding, dilation and groups.
- **taps** (`taps.py`): stride 1 and few channels, the first layer of most networks; and depthwise filters.
- **winograd** (`winograd.py`): 3×3 and 5×5 with stride 1 in 2.25 to 6.25 times fewer multiplications.

`set_conv_algorithm` chooses; "auto" estimates each one's time from the shapes. Largest errors of float32
results against float64, relative to the largest element (2 × 22 × 22 × 32 → 64 filters, normal values, the most of
four draws):

                 y        dx       dw       db
    im2col    7.7e-7   2.0e-7   6.3e-7   4.5e-7
    taps      7.7e-7   1.6e-7   3.0e-7   2.2e-7
    F(2×2)    3.0e-7   3.0e-7   5.5e-7   2.9e-7     Winograd, 2×2 outputs a tile
    F(4×4)    4.7e-6   4.2e-6   4.9e-6   3.0e-7     4×4
    F(6×6)    7.9e-6   6.3e-6   5.1e-6   1.8e-7     6×6
    5×5       3.1e-6   3.0e-6   1.5e-5   4.7e-7     2×2 outputs of a 5×5 filter
    5×5       6.4e-6   4.7e-6   8.4e-6   2.6e-7     4×4

Winograd's rounding errors do not vanish where the true value is an exact zero, and an optimiser that divides
by a gradient's size (Adam) moves a weight for a gradient of 1e-9 as for one of 1; and a NaN or an infinity
spreads over its tile. "exact" (no Winograd) is for those who need zeros to be zeros. In float64 "auto" is exact:
that is what gradient checks use.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..switches import Switch
from . import taps, winograd
from .elementwise import rectify, relu_grad
from .matmul import matmul, product
from .memory import empty
from .pool import (
    KEPT_BYTES,
    NO_PADS,
    Geometry,
    Pads,
    Pair,
    bands,
    crop,
    four_masks,
    four_maximum,
    max_pool2d,
    max_pool2d_grad,
    output_size,
    pad,
    quadrants,
    strided,
    window_slice,
)
from .summation import Sums, add_up

COLUMNS_BYTES = 6 << 20
KEPT_COLUMNS = 2.5  # times the image: columns up to so large (a stride of 2) are kept for the way back, too


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


# ---- the reference ------------------------------------------------------------------------------------------


def _by_group(columns: np.ndarray, groups: int) -> np.ndarray:
    """(N, OH, OW, KH, KW, C) → (groups, N·OH·OW, KH·KW·C / groups): a batch of matrices."""
    n, oh, ow, kh, kw, c = columns.shape
    split = columns.reshape(n * oh * ow, kh * kw, groups, c // groups)
    return split.transpose(2, 0, 1, 3).reshape(groups, n * oh * ow, kh * kw * (c // groups))


def _weights_by_group(w: np.ndarray, groups: int) -> np.ndarray:
    """(KH, KW, C / groups, F) → (groups, KH·KW·C / groups, F / groups)."""
    kh, kw, c, f = w.shape
    return w.reshape(kh * kw * c, groups, f // groups).transpose(1, 0, 2)


def reference_conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry) -> np.ndarray:
    """y (N, OH, OW, F): all of it at once, for a reader and for the tests."""
    columns = im2col(x, w.shape[:2], at.stride, at.padding, at.dilation)
    y = np.matmul(_by_group(columns, at.groups), _weights_by_group(w, at.groups))
    y = y.transpose(1, 0, 2).reshape(*columns.shape[:3], w.shape[3])
    return y if b is None else y + b


def reference_conv2d_grad(g: np.ndarray, x: np.ndarray, w: np.ndarray, at: Geometry) -> tuple:
    """(dx, dw, db)."""
    columns = im2col(x, w.shape[:2], at.stride, at.padding, at.dilation)
    rows = g.reshape(-1, at.groups, w.shape[3] // at.groups).transpose(1, 0, 2)
    dw = np.matmul(_by_group(columns, at.groups).transpose(0, 2, 1), rows)
    dcolumns = np.matmul(rows, _weights_by_group(w, at.groups).transpose(0, 2, 1))
    dcolumns = dcolumns.reshape(at.groups, rows.shape[1], -1, w.shape[2]).transpose(1, 2, 0, 3)
    dx = col2im(dcolumns.reshape(columns.shape), x.shape, at.stride, at.padding, at.dilation)
    return dx, dw.transpose(1, 0, 2).reshape(w.shape), add_up(g, (0, 1, 2))


# ---- im2col in tiles ------------------------------------------------------------------------------------------


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


def _im2col_forward(
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
    matrices = np.ascontiguousarray(_weights_by_group(w, at.groups))
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


def _im2col_backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    x, w, has_bias, at, relu, y, marks, kept = saved
    kh, kw, per, f = w.shape
    h, wide, c = x.shape[1:]
    oh, ow = output_size((h, wide), (kh, kw), at.stride, at.padding, at.dilation)
    if marks is not None:
        oh = oh // 2 * 2
    (top, _), (left, _) = at.padding
    dx = empty(x.shape, x.dtype) if need[0] else None
    by_tap = _weights_by_group(w, at.groups).reshape(at.groups, kh * kw, per, f // at.groups)
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


# ---- the choice ---------------------------------------------------------------------------------------------

ALGORITHMS = ("auto", "im2col", "winograd", "taps", "exact")
_algorithm = "auto"


class set_conv_algorithm(Switch):
    """Chooses how convolutions are computed, from now on or within a `with` block.

    "auto" estimates times from shapes; "winograd" and "taps" are used wherever they apply, im2col elsewhere;
    "exact" is anything but Winograd, so that true zeros stay zeros; "im2col" is im2col always.
    """

    def __init__(self, name: str) -> None:
        if name not in ALGORITHMS:
            raise ValueError(f"set_conv_algorithm: {name!r} is none of {', '.join(ALGORITHMS)}")
        super().__init__(name)

    @staticmethod
    def put(name: str) -> str:
        global _algorithm
        before, _algorithm = _algorithm, name
        return before


# Measured on one core: multiply-adds a second in large products and in small ones, elements a second in all else.
PRODUCT_RATE, TRANSFORM_RATE, ELEMENT_RATE = 40e9, 15e9, 2e9


def _im2col_seconds(taps: int, n: int, oh: int, ow: int, c: int, f: int, groups: int) -> float:
    """Forward and backward: three products, three passes over the columns, about twelve over the outputs."""
    pixels, k = n * oh * ow, taps * c
    return 3 * pixels * k * f / groups / PRODUCT_RATE + pixels * (3 * k + 12 * f) / ELEMENT_RATE


def _winograd_seconds(tile: winograd.Tile, n: int, oh: int, ow: int, c: int, f: int, groups: int) -> float:
    """Likewise: products (those of few rows run below the usual rate, as if they had 32 more), transforms, passes."""
    tiles, m2, t2 = n * -(-oh // tile.m) * -(-ow // tile.m), tile.m**2, tile.t**2
    products = 3 * t2 * (tiles + 32) * c * f / groups
    transforms = 2 * tiles * (tile.image.work * c + tile.output.work * f)
    passes = tiles * (t2 * (3 * c + 2 * f) + 8 * m2 * f)
    return products / PRODUCT_RATE + transforms / TRANSFORM_RATE + passes / ELEMENT_RATE


def _choose(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, size: Pair) -> Any:
    """ "im2col", "taps" or the Winograd tile to use, from shapes alone."""
    uniform = x.dtype == w.dtype and (b is None or b.dtype == x.dtype) and x.dtype.kind == "f"
    algorithm = "exact" if _algorithm == "auto" and x.dtype != np.float32 else _algorithm
    return _fastest(algorithm if uniform else "im2col", x.shape[0], w.shape, at, size)


@functools.lru_cache(maxsize=1024)
def _fastest(algorithm: str, n: int, kernel: tuple, at: Geometry, size: Pair) -> Any:
    """`_choose` for n images and a kernel of shape (KH, KW, C / groups, F); worked out once for each layer."""
    kh, kw, c, f = kernel
    if algorithm != "im2col" and at.groups == f > 1 and c == 1:
        return "depthwise"
    if not at.stride == at.dilation == (1, 1) or algorithm == "im2col":
        return "im2col"
    if at.groups == 1 and (algorithm == "taps" or (algorithm != "winograd" and kw * c < 16)):
        return "taps"
    if (kh, kw) not in winograd.TILES or algorithm in ("exact", "taps"):
        return "im2col"
    work = n, *size, c * at.groups, f, at.groups
    seconds = {tile: _winograd_seconds(tile, *work) for tile in winograd.TILES[kh, kw]}
    tile = min(seconds, key=lambda tile: seconds[tile])
    if algorithm == "auto" and _im2col_seconds(kh * kw, *work) <= seconds[tile]:
        return "im2col"
    return tile


# ---- what the contract names --------------------------------------------------------------------------------


def _forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, relu: bool, pool: bool
) -> tuple[np.ndarray, Any]:
    size = output_size(x.shape[1:3], w.shape[:2], at.stride, at.padding, at.dilation)
    if pool:
        output_size(size, (2, 2), (2, 2), NO_PADS)  # raises where no window fits
        size = size[0] // 2 * 2, size[1] // 2 * 2
    how = _choose(x, w, b, at, size)
    if how == "im2col":
        y, saved = _im2col_forward(x, w, b, at, relu, pool)
        return y, (_im2col_backward, saved)
    if how == "depthwise":
        y, saved = taps.depthwise_forward(x, w, b, at, relu, output_size(x.shape[1:3], w.shape[:2], *at[:3]))
        return _then_pool(y, (taps.depthwise_backward, saved)) if pool else (y, (taps.depthwise_backward, saved))
    if how == "taps":
        y, saved = taps.forward(x, w, b, taps.layout(x, w, at.padding, pool), relu, pool)
        return y, (taps.backward, saved)
    y, saved = winograd.forward(x, w, b, winograd.plan(how, x, at.padding, relu, pool, at.groups))
    return y, (winograd.backward, saved)


def _then_pool(z: np.ndarray, saved: Any) -> tuple[np.ndarray, Any]:
    y, pooled = max_pool2d(z, (2, 2), (2, 2), NO_PADS)
    return y, (_then_pool_backward, (pooled, saved))


def _then_pool_backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    # the arrays lie in tuples, not in a closure, so that the tape can see whether they were changed in place
    pooled, rest = saved
    return conv2d_grad(max_pool2d_grad(g, pooled), rest, need)


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> tuple[np.ndarray, Any]:
    """(y (N, OH, OW, F), saved): cross-correlation of x (N, H, W, C) with w (KH, KW, C // groups, F)."""
    return _forward(x, w, b, Geometry(stride, padding, dilation, groups), False, False)


def conv2d_grad(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    """(dx, dw, db), None where need[i] is False."""
    backward, rest = saved
    return backward(g, rest, need)


def conv_relu_pool(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    stride: Pair,
    padding: Pads,
    dilation: Pair,
    groups: int,
    pool: bool,
) -> tuple[np.ndarray, Any]:
    """(y, saved): conv2d, relu and, if `pool`, a 2×2 maximum of stride 2."""
    return _forward(x, w, b, Geometry(stride, padding, dilation, groups), True, pool)


conv_relu_pool_grad = conv2d_grad


def reference_conv_relu_pool(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, pool: bool
) -> tuple[np.ndarray, Any]:
    """The three operations one after another: what the fused ones are held to."""
    z = np.maximum(reference_conv2d(x, w, b, at), 0)
    if not pool:
        return z, (x, w, at, z, None)
    y, pooled = max_pool2d(z, (2, 2), (2, 2), NO_PADS)
    return y, (x, w, at, z, pooled)


def reference_conv_relu_pool_grad(g: np.ndarray, saved: Any) -> tuple:
    """(dx, dw, db)."""
    x, w, at, z, pooled = saved
    if pooled is not None:
        g = max_pool2d_grad(g, pooled)
    return reference_conv2d_grad(g * (z > 0), x, w, at)
