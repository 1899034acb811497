"""Winograd's convolution down the columns of an image alone: for few channels, where it beats both directions.

In two directions (`winograd.py`) products become four times fewer, but of 16 channels the transforms then take three
times as long as the products. Here F(m, k) acts on whole lines: its transforms are products of small matrices with long
rows, and nothing is dealt out to tiles. Along a line the KW taps stay, and are not gathered either: pixels lie side by
side, so the window from pixel p on is KW·C numbers as they lie in memory, and every KW-th window begins where one ends.
KW matrices, a pixel apart, hold all windows.

    V = Bᵀ d     U = G w     M[p] = V[p … p + KW - 1] · U     y = Aᵀ M

The last KW - 1 windows of a line run over into the next; they are computed with the others and left out. The derivative
is the same chain transposed, where the taps meet the pixels in reverse:

    dM = A dy     dU = Σ Vᵀ · dM     dV[p] = dM[p - KW + 1 … p] · Uᵀ     dd = B dV     dw = Gᵀ dU

Layouts, with P = N·TH·W' pixels in a part and W' = W + padding: V (t, P, C), U (t, KW·C, F), M (t, P, F).
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..geometry import Geometry, output_size
from . import threads
from .elementwise import rectify, relu_grad
from .images import bands, crop, strided
from .memory import empty
from .summation import Sums, add_up
from .winograd import APART, PART_BYTES, Tile, shares


class Lines(NamedTuple):
    """The tile of a convolution that is computed here."""

    tile: Tile


class Planes:
    """t planes of `pixels` pixels (c numbers each), behind and before KW - 1 pixels of zeros."""

    def __init__(self, t: int, pixels: int, c: int, kw: int, dtype: np.dtype):
        self.pixels, self.c, self.kw = pixels, c, kw
        first, size = (kw - 1) * c, (-(-pixels // kw) * kw + 2 * (kw - 1)) * c
        self.array = empty((t, size + APART), dtype)
        self.array[:, :first] = 0
        self.array[:, first + pixels * c : size] = 0

    def view(self, shape: tuple, strides: tuple, pixel: int) -> np.ndarray:
        """A view from that pixel on (the first is KW - 1), with strides in numbers; None: from plane to plane."""
        a = self.array
        steps = tuple(a.strides[0] if s is None else s * a.itemsize for s in strides)
        return np.ndarray(shape, a.dtype, a, pixel * self.c * a.itemsize, steps)

    def windows(self, wide: int, pixel: int) -> np.ndarray:
        """(t, KW, ⌈P / KW⌉, wide·C): `wide` pixels, from pixel + r + KW·i on."""
        shape = len(self.array), self.kw, -(-self.pixels // self.kw), wide * self.c
        return self.view(shape, (None, self.c, self.kw * self.c, 1), pixel)

    def lines(self, n: int, th: int, width: int) -> np.ndarray:
        """(N, TH, t, width·C): the first `width` pixels of each line."""
        row = self.pixels // (n * th) * self.c
        return self.view((n, th, len(self.array), width * self.c), (th * row, row, None, 1), self.kw - 1)


def forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, relu: bool, tile: Tile
) -> tuple[np.ndarray, Any]:
    """y (N, OH, OW, F) and what `backward` needs."""
    kh, kw, c, f = w.shape
    m, t = tile.m, tile.t
    (top, _), (left, right) = at.padding
    x = np.ascontiguousarray(x)
    oh, ow = output_size(x.shape[1:3], (kh, kw), (1, 1), at.padding)
    wide = ow + kw - 1
    y = empty((x.shape[0], oh, ow, f), x.dtype)
    u = (tile.kernel[w.dtype] @ w.reshape(kh, -1)).reshape(t, 1, kw * c, f)
    bias = None if b is None else np.tile(b, ow)

    def work(share: list[tuple[slice, slice]]) -> list[Planes]:
        kept = []
        for images, lines in share:
            n, count = images.stop - images.start, lines.stop - lines.start
            first = lines.start * m - top
            seen = crop(x[images], (first, first + count * m + kh - 1), (-left, x.shape[2] + right))
            sn, sh, _, sc = seen.strides
            v = Planes(t, n * count * wide, c, kw, x.dtype)
            tiles = strided(seen, (n, count, t, wide * c), (sn, m * sh, sh, sc))
            np.matmul(tile.image[x.dtype], tiles, out=v.lines(n, count, wide))
            products = Planes(t, v.pixels, f, kw, x.dtype)
            np.matmul(v.windows(kw, kw - 1), u, out=products.windows(1, kw - 1))
            values, result = products.lines(n, count, ow), y[images, lines.start * m : lines.stop * m]
            if bias is not None:
                values[:, :, 1] += bias  # the point 1: it counts once in every output
            for place, some, a in _tiles(result, values, tile.output[x.dtype]):
                np.matmul(a, some, out=place)
            if relu:
                rectify(result, result)
            kept.append(v)
        return kept

    parts = threads.shares(_parts(x, f, -(-oh // m), tile, wide))
    return y, (x, w, b is not None, at, tile, relu, y, list(chain.from_iterable(threads.each(work, parts))))


def backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    """(dx, dw, db), None where need[i] is False."""
    x, w, has_bias, at, tile, relu, y, kept = saved
    kh, kw, c, f = w.shape
    m, t = tile.m, tile.t
    (top, _), (left, _) = at.padding
    oh, ow = y.shape[1:3]
    th, wide = -(-oh // m), ow + kw - 1
    g = np.ascontiguousarray(g)
    dx = empty(x.shape, x.dtype) if need[0] else None
    u = (tile.kernel[w.dtype] @ w.reshape(kh, -1)).reshape(t, kw, c, f)
    ut = np.ascontiguousarray(u[:, ::-1].swapaxes(2, 3)).reshape(t, 1, kw * f, c)
    parts = _parts(x, f, th, tile, wide)

    def work(share: slice) -> tuple[Sums, Sums]:
        """Some images' dx; gives what they add to dU and db."""
        du, db = Sums(), Sums()
        frame: np.ndarray = np.zeros(0)
        for v, (images, lines) in zip(kept[share], parts[share], strict=True):
            n, count = images.stop - images.start, lines.stop - lines.start
            part = images, slice(lines.start * m, lines.stop * m)
            dy = relu_grad(g[part], y[part]) if relu else g[part]
            dm = Planes(t, v.pixels, f, kw, x.dtype)
            dm.lines(n, count, wide)[..., ow * f :] = 0  # no output is there
            for place, slopes, a in _tiles(dy, dm.lines(n, count, ow), tile.output[x.dtype]):
                np.matmul(a.T, place, out=slopes)
            if has_bias and need[2]:
                db.add(add_up(dm.array[1].reshape(-1)[: (kw - 1 + dm.pixels) * f].reshape(-1, f), (0,)))
            if need[1]:
                of_residues = np.matmul(v.windows(kw, kw - 1).swapaxes(2, 3), dm.windows(1, kw - 1))
                du.add(add_up(of_residues, (1,)))
            if dx is None:
                continue
            dv = Planes(t, v.pixels, c, kw, x.dtype)
            np.matmul(dm.windows(kw, 0), ut, out=dv.windows(1, kw - 1))
            if lines.start == 0:
                frame = empty((n, th * m + kh - 1, wide, c), x.dtype)
            _add_lines(frame[:, lines.start * m : lines.stop * m + kh - 1], dv, tile, lines.start == 0)
            if lines.stop == th:
                dx[images] = frame[:, top : top + x.shape[1], left : left + x.shape[2]]
        return du, db

    dus, dbs = Sums.joined(threads.each(work, shares(parts)))
    db = dbs.total(np.zeros(f, x.dtype)) if has_bias and need[2] else None
    if not need[1]:
        return dx, None, db
    du = dus.total(np.zeros((t, kw * c, f), x.dtype))
    return dx, (tile.kernel_grad[w.dtype] @ du.reshape(t, -1)).reshape(w.shape), db


def _parts(x: np.ndarray, f: int, th: int, tile: Tile, wide: int) -> list[tuple[slice, slice]]:
    """(images, lines of tiles) worked on at one time."""
    return list(bands(x.shape[0], th, tile.t * wide * (x.shape[3] + f) * x.itemsize, PART_BYTES))


def _tiles(y: np.ndarray, values: np.ndarray, a: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What belongs together of lines y (N, lines, OW, F) and the points (N, TH, t, OW·F) of their tiles: whole tiles
    as (N, TH, m, OW·F), points, Aᵀ; then likewise a last one of fewer lines."""
    n, lines, ow, f = y.shape
    m = len(a)
    whole, rest = divmod(lines, m)
    main = y[:, : whole * m].reshape(n, whole, m, ow * f), values[:, :whole], a
    return [main, (y[:, whole * m :].reshape(n, 1, rest, ow * f), values[:, whole:], a[:rest])] if rest else [main]


def _add_lines(frame: np.ndarray, dv: Planes, tile: Tile, first: bool) -> None:
    """What dV gives to lines of dx (N, m·TH + k - 1, W', C): of a tile's lines the first m are its own, those beyond
    its neighbours'; adds to those that it shares with the lines above unless `first`."""
    n, lines, wide, c = frame.shape
    m, beyond, b = tile.m, tile.k - 1, tile.image_grad[frame.dtype]
    th = (lines - beyond) // m
    values = dv.lines(n, th, wide)
    above = None if first else frame[:, :beyond].copy()
    np.matmul(b[:m], values, out=frame[:, : th * m].reshape(n, th, m, wide * c))
    frame[:, th * m :] = 0
    if above is not None:
        frame[:, :beyond] += above
    over = np.matmul(b[m:], values).reshape(n, th, beyond, wide, c)
    for k in range(th):
        frame[:, (k + 1) * m : (k + 1) * m + beyond] += over[:, k]
