"""Convolution with 3×3 and 5×5 kernels in fewer multiplications (Winograd 1980; Lavin & Gray 2016).

F(m×m, k×k) computes an m×m tile of outputs from a t×t tile of inputs, t = m + k - 1, with t² products a
pair of channels where the definition takes k²m²: for 3×3 16 for 36 with m = 2, 36 for 144 with m = 4, 64 for
324 with m = 6; for 5×5 36 for 100 with m = 2, 64 for 400 with m = 4. It does so as one does with long products
of polynomials: evaluate both factors at t points, multiply there, interpolate. With d a tile of the image and
w a kernel,

    V = Bᵀ d B     U = G w Gᵀ     M = Σ over channels of V · U     y = Aᵀ M A

Everything here is a matrix product: three transforms, small matrices times arrays whose columns are tiles ×
channels, and in the middle, for each of the t² points, (tiles, C) @ (C, F). (Additions of whole arrays, as the
transforms are usually written, take half of the arithmetic and three times as long: each of NumPy's passes
reads and writes memory.)

The derivative is the same chain transposed:

    dM = A dy Aᵀ     dU = Σ over tiles of Vᵀ · dM     dV = dM · Uᵀ     dd = B dV Bᵀ     dw = Gᵀ dU G

Layouts, with P = TH·N·TW tiles in a part: V (t², P, C), U (t², C, F), M (t², P, F), y (m², P, F). (Lines of
tiles come first: what one adds to the next is then a long run.)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from ..geometry import Pads, Pair, output_size
from . import threads
from .elementwise import rectify, relu_grad
from .images import bands, crop, strided
from .matmul import SMALL_PRODUCT
from .memory import empty
from .pool import four_masks, four_maximum
from .summation import Sums, add_up

PART_BYTES = 3 << 20  # what V and M of the tiles in work at one time may take together
APART = 48  # numbers between two planes


class Transform(dict):
    """A matrix a (R, K), by dtype, that acts on both sides of tiles: x (K², …) → a x aᵀ (R², …)."""

    def __init__(self, a: np.ndarray) -> None:
        super().__init__()
        self.a = a
        r, k = a.shape
        self.work = r * k * (r + k)  # multiplications for one tile

    def __missing__(self, dtype: np.dtype) -> np.ndarray:
        self[dtype] = self.a.astype(dtype)
        return self[dtype]

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        """First along one axis, then along the other, in products small enough for the BLAS not to copy them."""
        a = self[x.dtype]
        r, k = a.shape
        x, out = x.reshape(k, k, -1), out.reshape(r, r, -1)
        columns = x.shape[2]
        width = max(1, min(columns, SMALL_PRODUCT // a.size))
        half = _planes((k * r, width, 1), x.dtype).reshape(k, r, width)
        for first in range(0, columns, width):
            block = slice(first, min(first + width, columns))
            points = half[:, :, : block.stop - first]
            np.matmul(a, x[:, :, block], out=points)
            np.matmul(a, points.swapaxes(0, 1), out=out[:, :, block].swapaxes(0, 1))


class Tile:
    """F(m×m, k×k): its three transforms, and those of the way back.

    Of the t = m + k - 1 points one is infinity, where a polynomial's value is its leading coefficient. With the
    others a_j, and m_j(z) = Π over l ≠ j of (z - a_l), Lagrange's interpolation makes row j

        of A 1, a_j, a_j², …    of G 1, a_j, a_j², … over m_j(a_j)    of Bᵀ m_j's coefficients

    and the last rows 0 … 0 1, the same, and the coefficients of Π (z - a_l).
    """

    def __init__(self, m: int, k: int) -> None:
        self.m, self.k, self.t = m, k, m + k - 1
        points = POINTS[: self.t - 1]
        a, g, bt = np.zeros((self.t, m)), np.zeros((self.t, k)), np.zeros((self.t, self.t))
        a[-1, -1] = g[-1, -1] = 1
        bt[-1] = np.poly(points)[::-1]
        for j, point in enumerate(points):
            others = np.poly(points[:j] + points[j + 1 :])
            a[j] = point ** np.arange(m)
            g[j] = point ** np.arange(k) / np.polyval(others, point)
            bt[j, :-1] = others[::-1]
        self.image, self.kernel, self.output = Transform(bt), Transform(g), Transform(a.T)
        self.image_grad, self.kernel_grad, self.output_grad = Transform(bt.T), Transform(g.T), Transform(a)


POINTS = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5]  # the more of them, and the larger, the more rounding error
TILES = {(k, k): [Tile(m, k) for m in sizes] for k, sizes in ((3, (2, 4, 6)), (5, (2, 4)))}  # for each kernel


class Plan(NamedTuple):
    """One layer's work: `size` is the output that is computed, without the lines that a pool drops."""

    tile: Tile
    size: Pair
    tiles: Pair
    padding: Pads
    pool: bool
    relu: bool
    groups: int

    @property
    def covered(self) -> Pair:
        """The lines and columns that the tiles read, of the image with its padding."""
        m, beyond = self.tile.m, self.tile.k - 1
        return m * self.tiles[0] + beyond, m * self.tiles[1] + beyond


def plan(tile: Tile, x: np.ndarray, padding: Pads, relu: bool, pool: bool, groups: int = 1) -> Plan:
    oh, ow = output_size(x.shape[1:3], (tile.k, tile.k), (1, 1), padding)
    if pool:
        oh, ow = oh // 2 * 2, ow // 2 * 2
    return Plan(tile, (oh, ow), (-(-oh // tile.m), -(-ow // tile.m)), padding, pool, relu, groups)


# ---- transforms -----------------------------------------------------------------------------------------


def _planes(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array of `shape` (count, P, C). Its planes lie some lines of the cache further apart than they are long:
    a transform reads all of them at once, and those a power of two apart would displace each other there."""
    count, tiles, channels = shape
    flat = empty((count, tiles * channels + APART), dtype)
    return flat[:, : tiles * channels].reshape(shape)


def _stretches(size: int, r: int, tiles: int) -> list[tuple[int, int, slice, slice, slice]]:
    """How `size` lines of an image come from tiles that begin every r lines: (count, lines of each, the tiles, the
    lines in a tile, the lines of the image), first of all whole tiles, then of what is left or sticks out."""
    whole = min(tiles, size // r)
    rest = size - r * whole
    if whole == 0:
        return [(1, rest, slice(0, 1), slice(0, rest), slice(0, rest))]
    main = (whole, r, slice(0, whole), slice(0, r), slice(0, r * whole))
    if rest == 0:
        return [main]
    tile, first = (whole - 1, r) if whole == tiles else (whole, 0)
    return [main, (1, rest, slice(tile, tile + 1), slice(first, first + rest), slice(r * whole, size))]


def _matched(tiles: np.ndarray, image: np.ndarray, r: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of views that stand for the same values, of tiles (t, t, TH, N, TW, C), of which one begins every r
    lines and columns, and of the image (N, H, W, C)."""
    n, h, w, c = image.shape
    for count_h, of_h, tiles_h, inner_h, lines in _stretches(h, r, tiles.shape[2]):
        for count_w, of_w, tiles_w, inner_w, columns in _stretches(w, r, tiles.shape[4]):
            place = image[:, lines, columns].reshape(n, count_h, of_h, count_w, of_w, c)
            yield tiles[inner_h, inner_w, tiles_h, :, tiles_w], place.transpose(2, 4, 1, 0, 3, 5)


def _image_tiles(x: np.ndarray, tile: Tile, th: int, tw: int) -> np.ndarray:
    """x (N, m·TH + k - 1, m·TW + k - 1, C) → V (t², P, C).

    First along lines: t points for each window of t columns, which the product reads from the image itself; then,
    again overlapping, across lines, of which those results are long ones: (t, N, lines, TW·C).
    """
    m, t, bt = tile.m, tile.t, tile.image[x.dtype]
    n, _, _, c = x.shape
    sn, sh, sw, sc = x.strides
    lines = empty((t, n, m * th + tile.k - 1, tw * c + APART), x.dtype)
    across = lines[..., : tw * c].reshape(*lines.shape[:3], tw, c)
    windows = strided(x, (n, lines.shape[2], tw, t, c), (sn, sh, m * sw, sw, sc))
    np.matmul(bt, windows, out=across.transpose(1, 2, 3, 0, 4))
    v = _planes((t * t, n * th * tw, c), x.dtype)
    sj, sn, sh, sc = lines.strides
    tiles = strided(lines, (t, th, n, t, tw * c), (sj, m * sh, sn, sh, sc))
    np.matmul(bt, tiles, out=v.reshape(t, t, th, n, tw * c).transpose(1, 2, 3, 0, 4))
    return v


def _image_tiles_grad(dv: np.ndarray, tile: Tile, dx: np.ndarray, th: int, tw: int, first: bool) -> None:
    """What dV (t², P, C) gives to lines of dx (N, m·TH + k - 1, m·TW + k - 1, C); adds to those that it shares with
    the lines above unless `first`.

    A tile's lines and columns from m on are its neighbours' first ones: those are added while all are long runs,
    m at a time and the last first, so that each carries on what it got; only the sums are dealt out to the image.
    """
    m, t = tile.m, tile.t
    dd = _planes(dv.shape, dv.dtype)
    tile.image_grad(dv, dd)
    dd = dd.reshape(t, t, th, dx.shape[0], tw, -1)
    for i in reversed(range(m, t, m)):
        if th > 1:
            dd[i - m : min(i, t - m), :, 1:] += dd[i : i + m, :, :-1]
        if tw > 1:
            dd[:, i - m : min(i, t - m), :, :, 1:] += dd[:, i : i + m, :, :, :-1]
    above = None if first else dx[:, : tile.k - 1].copy()
    for values, place in _matched(dd, dx, m):
        np.copyto(place, values)
    if above is not None:
        dx[:, : tile.k - 1] += above


def _retile(g: np.ndarray, r: int, th: int, tw: int) -> np.ndarray:
    """g (N, ≤ r·TH, ≤ r·TW, F) → (r², P, F), zeros where g ends."""
    n, h, w, f = g.shape
    planes = _planes((r * r, n * th * tw, f), g.dtype)
    tiles = planes.reshape(r, r, th, n, tw, f)
    tiles[h - r * (th - 1) :, :, -1] = 0
    tiles[:, w - r * (tw - 1) :, :, :, -1] = 0
    for place, values in _matched(tiles, g, r):
        np.copyto(place, values)
    return planes


def _pool_members(y: np.ndarray, m: int) -> list[np.ndarray]:
    """The four members of all pool windows in tiles y (m², P, F): views (m/2, m/2, P, F)."""
    windows = y.reshape(m // 2, 2, m // 2, 2, *y.shape[1:])
    return [windows[:, i, :, j] for i in (0, 1) for j in (0, 1)]


def _by_group(a: np.ndarray, groups: int) -> np.ndarray:
    """(t², R, K) → (t², groups, R, K / groups), a view: as many matrices, each of a part of the columns."""
    return a.reshape(*a.shape[:2], groups, -1).swapaxes(1, 2)


# ---- the convolution --------------------------------------------------------------------------------------


def _parts(x: np.ndarray, f: int, p: Plan) -> list[tuple[slice, slice]]:
    """(images, lines of tiles) worked on at one time."""
    line_bytes = p.tile.t**2 * p.tiles[1] * (x.shape[3] + f) * x.itemsize
    return list(bands(x.shape[0], p.tiles[0], line_bytes, PART_BYTES))


def shares(parts: list[tuple[slice, slice]]) -> list[slice]:
    """Runs of parts for threads, with all parts of an image in one, as neighbours overlap in dx."""
    starts = [i for i, (_, lines) in enumerate(parts) if lines.start == 0]
    cuts = [run[0] for run in threads.shares(starts)]
    return [slice(a, b) for a, b in pairwise([*cuts, len(parts)])]


def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, p: Plan) -> tuple[np.ndarray, Any]:
    """y (N, OH, OW, F), or (N, OH // 2, OW // 2, F) of it pooled, and what `backward` needs."""
    tile, tw = p.tile, p.tiles[1]
    m, t = tile.m, tile.t
    c, f = w.shape[2:]
    r = m // 2 if p.pool else m  # outputs that a tile gives along an axis
    u = empty((t * t, c, f), w.dtype)
    tile.kernel(w.reshape(-1, c, f), u)
    y = empty((x.shape[0], p.size[0] * r // m, p.size[1] * r // m, f), x.dtype)

    def work(share: list[tuple[slice, slice]]) -> list[tuple]:
        kept = []
        for images, lines in share:
            count = lines.stop - lines.start
            first, left = lines.start * m - p.padding[0][0], p.padding[1][0]
            seen = crop(x[images], (first, first + count * m + tile.k - 1), (-left, p.covered[1] - left))
            v = _image_tiles(seen, tile, count, tw)
            products = _planes((t * t, v.shape[1], f), x.dtype)
            np.matmul(_by_group(v, p.groups), _by_group(u, p.groups), out=_by_group(products, p.groups))
            if b is not None:
                products[t + 1] += b  # the points (1, 1): they count once in every output
            tiles = _planes((m * m, v.shape[1], f), x.dtype)
            tile.output(products, tiles)
            del products
            marks = None
            if p.pool:
                members = _pool_members(tiles, m)
                marks = empty((4, *members[0].shape), np.bool_)
                tiles = empty(members[0].shape, x.dtype)
                four_maximum(members, marks, tiles)
            result = y[images, lines.start * r : lines.stop * r]
            for values, place in _matched(tiles.reshape(r, r, count, result.shape[0], tw, f), result, r):
                np.copyto(place, values)
            if p.relu:
                rectify(result, result)
            kept.append((marks, v))
        return kept

    kept = list(chain.from_iterable(threads.each(work, threads.shares(_parts(x, f, p)))))
    return y, (x, w, b is not None, p, y, kept)


def backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    """(dx, dw, db), None where need[i] is False."""
    x, w, has_bias, p, y, kept = saved
    tile, (th, tw) = p.tile, p.tiles
    m, t = tile.m, tile.t
    c, f = w.shape[2:]
    r = m // 2 if p.pool else m
    dx = empty(x.shape, x.dtype) if need[0] else None
    ut = empty((t * t, f, c), w.dtype)
    tile.kernel(np.ascontiguousarray(w.transpose(0, 1, 3, 2)).reshape(-1, f, c), ut)
    ut = ut.reshape(t * t, p.groups, f // p.groups, c)
    parts = _parts(x, f, p)

    def work(share: slice) -> tuple[Sums, Sums]:
        """Some images' dx; gives what they add to dU and db."""
        du, db = Sums(), Sums()
        frame: np.ndarray = np.zeros(0)
        for (marks, v), (images, lines) in zip(kept[share], parts[share], strict=True):
            count = lines.stop - lines.start
            part = images, slice(lines.start * r, lines.stop * r)
            dm = _products_grad(g[part], y[part] if p.relu else None, marks, tile, count, tw)
            if has_bias and need[2]:
                db.add(add_up(dm[t + 1], (0,)))  # again the points (1, 1)
            if need[1]:
                product = empty((t * t, c, f), x.dtype)
                transposed = _by_group(v, p.groups).swapaxes(2, 3)
                np.matmul(transposed, _by_group(dm, p.groups), out=_by_group(product, p.groups))
                du.add(product)
            if dx is None:
                continue
            if lines.start == 0:
                frame = _frame_grad(dx[images], p)
            dv = _planes(v.shape, x.dtype)
            np.matmul(_by_group(dm, p.groups), ut, out=_by_group(dv, p.groups))
            _image_tiles_grad(
                dv, tile, frame[:, lines.start * m : lines.stop * m + tile.k - 1], count, tw, lines.start == 0
            )
            if lines.stop == th and not np.may_share_memory(frame, dx):
                (top, left), (_, h, wide, _) = (p.padding[0][0], p.padding[1][0]), x.shape
                inner = frame[:, top : top + h, left : left + wide]
                dx[images, : inner.shape[1], : inner.shape[2]] = inner
        return du, db

    dus, dbs = Sums.joined(threads.each(work, shares(parts)))
    db = dbs.total(np.zeros(f, x.dtype)) if has_bias and need[2] else None
    if not need[1]:
        return dx, None, db
    du = dus.total(np.zeros((t * t, c, f), x.dtype))
    dw = empty((tile.k**2, c, f), x.dtype)
    tile.kernel_grad(du, dw)
    return dx, dw.reshape(w.shape), db


def _frame_grad(dx: np.ndarray, p: Plan) -> np.ndarray:
    """Where the gradient of what the tiles see is written: dx itself if nothing comes before its first line and
    column. What the tiles do not cover of dx becomes 0."""
    n, _, _, c = dx.shape
    top, left = p.padding[0][0], p.padding[1][0]
    lines, width = p.covered
    dx[:, lines - top :] = 0
    dx[:, :, width - left :] = 0
    if top == left == 0:
        return dx[:, :lines, :width]
    return empty((n, lines, width, c), dx.dtype)


def _products_grad(
    g: np.ndarray, y: np.ndarray | None, marks: np.ndarray | None, tile: Tile, th: int, tw: int
) -> np.ndarray:
    """g, through pool and relu, to the gradient dM (t², P, F) of the products."""
    m, t = tile.m, tile.t
    if marks is None:
        dy = _retile(g if y is None else relu_grad(g, y), m, th, tw)
    else:
        pooled = _retile(g, m // 2, th, tw)
        pooled = pooled.reshape(m // 2, m // 2, *pooled.shape[1:])
        dy = _planes((m * m, *pooled.shape[2:]), g.dtype)
        for place, mask in zip(_pool_members(dy, m), four_masks(marks), strict=True):
            np.multiply(pooled, mask, out=place)
    dm = _planes((t * t, *dy.shape[1:]), g.dtype)
    tile.output_grad(dy, dm)
    return dm
