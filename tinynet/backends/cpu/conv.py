"""Convolution: the definition as one matrix product, and the choice among faster ways to the same result.

im2col lays every output's window out as a row, so that `columns @ w` is the convolution; its transpose,
col2im, adds rows back where they came from. Both derivatives are then those of a matrix product. That is
all there is to know, and `reference_conv2d` says it in ten lines. The algorithms that run by default:

- **im2col** (`columns.py`): the same in tiles of a few megabytes, so that a window's row is still in the cache when
  it is multiplied. Any stride, padding, dilation and groups.
- **taps** (`taps.py`): stride 1 and few channels, the first layer of most networks; and depthwise filters.
- **winograd** (`winograd.py`): 3×3 and 5×5 with stride 1 in 2.25 to 6.25 times fewer multiplications.
- **lines** (`lines.py`): the same down the columns of the image alone, for few channels.

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
    F(4)      1.9e-6   1.7e-6   8.6e-7   2.2e-7     down the columns alone, 4 outputs a tile of a 3×3 filter
    F(6)      2.3e-6   2.5e-6   9.2e-7   1.7e-7     6 outputs

Winograd's rounding errors do not vanish where the true value is an exact zero, and an optimiser that divides
by a gradient's size (Adam) moves a weight for a gradient of 1e-9 as for one of 1; and a NaN or an infinity
spreads over its tile. "exact" (neither of the last two) is for those who need zeros to be zeros. In float64 "auto" is
exact: that is what gradient checks use.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..geometry import NO_PADS, Geometry, Pads, Pair, output_size
from ..switches import Switch
from . import columns, lines, taps, winograd
from .columns import col2im, im2col, weights_by_group
from .pool import max_pool2d, max_pool2d_grad
from .summation import add_up

# ---- the reference ------------------------------------------------------------------------------------------


def _by_group(windows: np.ndarray, groups: int) -> np.ndarray:
    """(N, OH, OW, KH, KW, C) → (groups, N·OH·OW, KH·KW·C / groups): a batch of matrices."""
    n, oh, ow, kh, kw, c = windows.shape
    split = windows.reshape(n * oh * ow, kh * kw, groups, c // groups)
    return split.transpose(2, 0, 1, 3).reshape(groups, n * oh * ow, kh * kw * (c // groups))


def reference_conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry) -> np.ndarray:
    """y (N, OH, OW, F): all of it at once, for a reader and for the tests."""
    windows = im2col(x, w.shape[:2], at.stride, at.padding, at.dilation)
    y = np.matmul(_by_group(windows, at.groups), weights_by_group(w, at.groups))
    y = y.transpose(1, 0, 2).reshape(*windows.shape[:3], w.shape[3])
    return y if b is None else y + b


def reference_conv2d_grad(g: np.ndarray, x: np.ndarray, w: np.ndarray, at: Geometry) -> tuple:
    """(dx, dw, db)."""
    windows = im2col(x, w.shape[:2], at.stride, at.padding, at.dilation)
    rows = g.reshape(-1, at.groups, w.shape[3] // at.groups).transpose(1, 0, 2)
    dw = np.matmul(_by_group(windows, at.groups).transpose(0, 2, 1), rows)
    dcolumns = np.matmul(rows, weights_by_group(w, at.groups).transpose(0, 2, 1))
    dcolumns = dcolumns.reshape(at.groups, rows.shape[1], -1, w.shape[2]).transpose(1, 2, 0, 3)
    dx = col2im(dcolumns.reshape(windows.shape), x.shape, at.stride, at.padding, at.dilation)
    return dx, dw.transpose(1, 0, 2).reshape(w.shape), add_up(g, (0, 1, 2))


# ---- the choice ---------------------------------------------------------------------------------------------

ALGORITHMS = ("auto", "im2col", "winograd", "lines", "taps", "exact")


class set_conv_algorithm(Switch, title="conv_algorithm"):
    """Chooses how convolutions are computed, from now on or within a `with` block.

    "auto" estimates times from shapes; "winograd", "lines" and "taps" are used wherever they apply, im2col elsewhere;
    "exact" is anything but the first two, so that true zeros stay zeros; "im2col" is im2col always.
    """

    now = "auto"

    def __init__(self, name: str) -> None:
        if name not in ALGORITHMS:
            raise ValueError(f"set_conv_algorithm: {name!r} is none of {', '.join(ALGORITHMS)}")
        super().__init__(name)


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


def _lines_seconds(tile: winograd.Tile, n: int, oh: int, ow: int, c: int, f: int, kw: int) -> float:
    """Likewise, of pixels in the lines of tiles."""
    pixels, m, t = n * -(-oh // tile.m) * (ow + kw - 1), tile.m, tile.t
    products, transforms = 3 * t * pixels * kw * c * f, 2 * pixels * t * (t * c + m * f)
    passes = pixels * (t * (3 * c + 2 * f) + 6 * m * f)
    return products / PRODUCT_RATE + transforms / TRANSFORM_RATE + passes / ELEMENT_RATE


def _choose(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, size: Pair, pool: bool = False) -> Any:
    """ "im2col", "taps", the Winograd tile to use or that for lines, from shapes alone."""
    uniform = x.dtype == w.dtype and (b is None or b.dtype == x.dtype) and x.dtype.kind == "f"
    algorithm = set_conv_algorithm.now
    if algorithm == "auto" and x.dtype != np.float32:
        algorithm = "exact"
    return _fastest(algorithm if uniform else "im2col", x.shape[0], w.shape, at, size, pool)


@functools.lru_cache(maxsize=1024)
def _fastest(algorithm: str, n: int, kernel: tuple, at: Geometry, size: Pair, pool: bool) -> Any:
    """`_choose` for n images and a kernel of shape (KH, KW, C / groups, F); worked out once for each layer."""
    kh, kw, c, f = kernel
    if algorithm != "im2col" and at.groups == f > 1 and c == 1:
        return "depthwise"
    if not at.stride == at.dilation == (1, 1) or algorithm == "im2col":
        return "im2col"
    small = kw * c < 16 and algorithm not in ("winograd", "lines")
    if at.groups == 1 and (algorithm == "taps" or small):
        return "taps"
    work = n, *size, c * at.groups, f
    seconds: dict[Any, float] = {}
    if algorithm in ("auto", "winograd"):
        seconds = {tile: _winograd_seconds(tile, *work, at.groups) for tile in winograd.TILES.get((kh, kw), ())}
    if at.groups == 1 and (algorithm == "lines" or (algorithm == "auto" and not pool)):  # lines pool afterwards
        tiles = map(lines.Lines, winograd.TILES.get((kh, kh), ()))
        seconds |= {way: _lines_seconds(way.tile, *work, kw) for way in tiles}
    if not seconds:
        return "im2col"
    fastest = min(seconds, key=lambda way: seconds[way])
    if algorithm == "auto" and _im2col_seconds(kh * kw, *work, at.groups) <= seconds[fastest]:
        return "im2col"
    return fastest


# ---- what the contract names --------------------------------------------------------------------------------


def _forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, relu: bool, pool: bool
) -> tuple[np.ndarray, Any]:
    size = output_size(x.shape[1:3], w.shape[:2], at.stride, at.padding, at.dilation)
    if pool:
        output_size(size, (2, 2), (2, 2), NO_PADS)  # raises where no window fits
        size = size[0] // 2 * 2, size[1] // 2 * 2
    how = _choose(x, w, b, at, size, pool)
    if how == "im2col":
        y, saved = columns.forward(x, w, b, at, relu, pool)
        return y, (columns.backward, saved)
    if how == "depthwise":
        y, saved = taps.depthwise_forward(x, w, b, at, relu, output_size(x.shape[1:3], w.shape[:2], *at[:3]))
        return _then_pool(y, (taps.depthwise_backward, saved)) if pool else (y, (taps.depthwise_backward, saved))
    if isinstance(how, lines.Lines):
        y, saved = lines.forward(x, w, b, at, relu, how.tile)
        return _then_pool(y, (lines.backward, saved)) if pool else (y, (lines.backward, saved))
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


def conv2d_input_grad(g, w, shape, stride, padding, dilation, groups):
    at = Geometry(stride, padding, dilation, groups)
    x = np.broadcast_to(g.dtype.type(0), shape)  # of which only the shape is looked at
    return columns.backward(g, (x, w, False, at, False, None, None, []), (True, False, False))[0]


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
