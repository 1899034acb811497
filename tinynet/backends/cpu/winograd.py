"""Convolution with 3×3 kernels in fewer multiplications (Winograd 1980; Lavin & Gray 2016).

F(m×m, 3×3) computes an m×m tile of outputs from a t×t tile of inputs, t = m + 2, with t² products a
pair of channels where the definition takes 9m²: 36 for 144 with m = 4, 16 for 36 with m = 2. It does
so as one does with long products of polynomials: evaluate both factors at t points, multiply there,
interpolate. With d a tile of the image and w a kernel,

    V = Bᵀ d B     U = G w Gᵀ     M = Σ over channels of V · U     y = Aᵀ M A

The sum over channels makes t² matrix products, (tiles, C) @ (C, F), of M. Everything around them is
additions of whole arrays; layouts are chosen such that these run over contiguous memory:
V is (t, t, N, TH, TW, C), M is (t, t, N, TH, TW, F), where TH × TW tiles cover an image's output.

A and B are written as products of sparse matrices, so that common sums are taken once. The
transposed chain of the transposed factors is the transposed transform, which is all that the
derivative needs:

    dM = A dy Aᵀ     dU = Σ over tiles of Vᵀ · dM     dV = dM · Uᵀ     dd = B dV Bᵀ     dw = Gᵀ dU G

Errors against float64, relative to the largest output, for unit normal inputs: see `conv.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .memory import empty
from .pool import four_masks, four_maximum, rectify

Pads = tuple[tuple[int, int], tuple[int, int]]
Factor = tuple[tuple[float, ...], ...]
CHUNK_BYTES = 3 << 20  # what V and M of the images in work at one time may take together


class Tile(NamedTuple):
    """The matrices of F(m×m, 3×3): `bt` and `at` hold Bᵀ's and Aᵀ's factors, the first to apply first."""

    m: int
    bt: tuple[Factor, ...]
    g: Factor
    at: tuple[Factor, ...]


# Points 0, 1, -1 and infinity.
F2 = Tile(
    m=2,
    bt=(((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),),
    g=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    at=(((1, 1, 1, 0), (0, 1, -1, -1)),),
)

# Points 0, 1, -1, 2, -2 and infinity.
F4 = Tile(
    m=4,
    bt=(
        (
            (1, 0, -1, 0, 0, 0),
            (0, 0, -4, 0, 1, 0),
            (0, -4, 0, 1, 0, 0),
            (0, 0, -1, 0, 1, 0),
            (0, -2, 0, 2, 0, 0),
            (0, 0, 0, -1, 0, 1),
        ),
        (
            (4, 0, 0, 1, 0, 0),
            (0, 1, 1, 0, 0, 0),
            (0, 1, -1, 0, 0, 0),
            (0, 0, 0, 1, 1, 0),
            (0, 0, 0, 1, -1, 0),
            (0, 0, 0, 0, -2, 1),
        ),
    ),
    g=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    at=(
        (
            (1, 0, 0, 0, 0, 0),
            (0, 1, 1, 0, 0, 0),
            (0, 1, -1, 0, 0, 0),
            (0, 0, 0, 1, 1, 0),
            (0, 0, 0, 1, -1, 0),
            (0, 0, 0, 0, 0, 1),
        ),
        ((1, 1, 0, 1, 0, 0), (0, 0, 1, 0, 2, 0), (0, 1, 0, 4, 0, 0), (0, 0, 1, 0, 8, 1)),
    ),
)


def _transpose(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """The factors of the transposed product."""
    return tuple(tuple(zip(*f, strict=True)) for f in reversed(factors))


# ---- transforms: a small matrix applied to a list of arrays ---------------------------------------------

Program = list[list[tuple[int, float]]]


def _combine(row: Sequence[float], arrays: list[np.ndarray], out: np.ndarray, scratch: np.ndarray,
             add: bool = False) -> None:
    """out = Σ row[i] · arrays[i] (or out += that), a pass over memory for each term and each factor."""
    terms = sorted(((c, a) for c, a in zip(row, arrays, strict=True) if c), key=lambda term: term[0] != 1)
    # Of terms with one coefficient (2a - 2b) the factor is taken out; a first term with factor 1 is free.
    common = abs(terms[0][0]) if not add and len(terms) > 1 and len({abs(c) for c, _ in terms}) == 1 else 1.0
    if not add:
        (c0, first), terms = terms[0], terms[1:]
        c0 /= common
        if terms and c0 == 1:
            c1, second = terms[0]
            if abs(c1 / common) != 1:
                second = np.multiply(second, abs(c1), out=out)
            (np.add if c1 > 0 else np.subtract)(first, second, out=out)
            terms = terms[1:]
        elif c0 == 1:
            np.copyto(out, first)
        else:
            np.multiply(first, c0, out=out)
    for c, array in terms:
        if abs(c / common) != 1:
            array = np.multiply(array, abs(c), out=scratch)
        (np.add if c > 0 else np.subtract)(out, array, out=out)
    if common != 1:
        np.multiply(out, common, out=out)


def _transform(factors: tuple[Factor, ...], arrays: list[np.ndarray], outs: list[np.ndarray],
               adds: Sequence[bool] = ()) -> None:
    """Applies the factors in turn to arrays of one shape; the last writes (where adds[i]: adds) to outs[i]."""
    shape, dtype = arrays[0].shape, arrays[0].dtype
    scratch = empty(shape, dtype)
    for factor in factors[:-1]:
        results = []
        for row in factor:
            if sum(map(abs, row)) == 1 and max(row) == 1:  # it only passes an array on
                results.append(arrays[row.index(1)])
            else:
                results.append(empty(shape, dtype))
                _combine(row, arrays, results[-1], scratch)
        arrays = results
    for i, row in enumerate(factors[-1]):
        _combine(row, arrays, outs[i], scratch, bool(adds) and adds[i])


# ---- the pieces -------------------------------------------------------------------------------------------


def _kron(tile: Tile, dtype: Any) -> np.ndarray:
    """(t², 9): G ⊗ G, which takes a flattened kernel to its t² values."""
    g = np.array(tile.g)
    return np.kron(g, g).astype(dtype)


def weights(tile: Tile, w: np.ndarray) -> np.ndarray:
    """w (3, 3, C, F) → U (t², C, F)."""
    _, _, c, f = w.shape
    return (_kron(tile, w.dtype) @ w.reshape(9, c * f)).reshape(-1, c, f)


def weights_grad(tile: Tile, du: np.ndarray) -> np.ndarray:
    """dU (t², C, F) → dw (3, 3, C, F)."""
    _, c, f = du.shape
    return (_kron(tile, du.dtype).T @ du.reshape(-1, c * f)).reshape(3, 3, c, f)


def _framed(x: np.ndarray, top: int, left: int, h: int, w: int) -> np.ndarray:
    """x with `top` and `left` zeros before, cut or filled to (N, h, w, C); x itself where that is it."""
    n, xh, xw, c = x.shape
    if top == left == 0 and xh >= h and xw >= w:
        return x[:, :h, :w]
    frame = empty((n, h, w, c), x.dtype)
    bottom, right = min(h, top + xh), min(w, left + xw)
    frame[:, :top] = 0
    frame[:, bottom:] = 0
    frame[:, top:bottom, :left] = 0
    frame[:, top:bottom, right:] = 0
    frame[:, top:bottom, left:right] = x[:, : bottom - top, : right - left]
    return frame


def image_tiles(tile: Tile, x: np.ndarray, th: int, tw: int) -> np.ndarray:
    """x (N, m·TH + 2, m·TW + 2, C) → V (t, t, N, TH, TW, C)."""
    m, t = tile.m, tile.m + 2
    n, h, _, c = x.shape
    columns = empty((t, n, h, tw, c), x.dtype)
    for j in range(t):
        np.copyto(columns[j], x[:, :, j : j + m * (tw - 1) + 1 : m])
    half = empty((t, n, h, tw, c), x.dtype)
    _transform(tile.bt, list(columns), list(half))
    del columns
    v = empty((t, t, n, th, tw, c), x.dtype)
    _transform(tile.bt, [half[:, :, i : i + m * (th - 1) + 1 : m] for i in range(t)], list(v))
    return v


def image_tiles_grad(tile: Tile, dv: np.ndarray, dx: np.ndarray) -> None:
    """dV (t, t, N, TH, TW, C) → dx (N, m·TH + 2, m·TW + 2, C): tiles overlap by two, so some are added."""
    m, t = tile.m, tile.m + 2
    _, _, n, th, tw, c = dv.shape
    h = m * th + 2
    backwards = _transpose(tile.bt)
    half = empty((t, n, h, tw, c), dv.dtype)
    half[:, :, m * th :] = 0
    rows = [half[:, :, i : i + m * (th - 1) + 1 : m] for i in range(t)]
    _transform(backwards, list(dv), rows, [i >= m for i in range(t)])
    columns = empty((t, n, h, tw, c), dv.dtype)
    _transform(backwards, list(half), list(columns))
    dx[:, :, m * tw :] = 0
    for j in range(t):
        place = dx[:, :, j : j + m * (tw - 1) + 1 : m]
        if j < m:
            np.copyto(place, columns[j])
        else:
            np.add(place, columns[j], out=place)


def outputs(tile: Tile, products: np.ndarray) -> np.ndarray:
    """M (t, t, N, TH, TW, F) → y (m, m, N, TH, TW, F)."""
    half = empty((tile.m, *products.shape[1:]), products.dtype)
    _transform(tile.at, list(products), list(half))
    y = empty((tile.m, tile.m, *products.shape[2:]), products.dtype)
    _transform(tile.at, [half[:, j] for j in range(tile.m + 2)], [y[:, j] for j in range(tile.m)])
    return y


def outputs_grad(tile: Tile, dy: np.ndarray) -> np.ndarray:
    """dy (m, m, N, TH, TW, F) → dM (t, t, N, TH, TW, F)."""
    t, backwards = tile.m + 2, _transpose(tile.at)
    half = empty((t, *dy.shape[1:]), dy.dtype)
    _transform(backwards, list(dy), list(half))
    dm = empty((t, t, *dy.shape[2:]), dy.dtype)
    _transform(backwards, [half[:, j] for j in range(tile.m)], [dm[:, j] for j in range(t)])
    return dm


# ---- the convolution -----------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What forward and backward share: sizes of one layer's work."""

    tile: Tile
    size: tuple[int, int]  # of the output that is computed: without the rows that a pool drops
    tiles: tuple[int, int]
    padding: Pads
    chunk: int  # images worked on at one time


def plan(tile: Tile, x: np.ndarray, w: np.ndarray, padding: Pads, pool: bool) -> Plan:
    n, h, wide, c = x.shape
    (top, bottom), (left, right) = padding
    size = (h + top + bottom - 2, wide + left + right - 2)
    if pool:
        size = (size[0] // 2 * 2, size[1] // 2 * 2)
    th, tw = -(-size[0] // tile.m), -(-size[1] // tile.m)
    bytes_each = (tile.m + 2) ** 2 * th * tw * (c + w.shape[3]) * x.itemsize
    return Plan(tile, size, (th, tw), padding, max(1, min(n, CHUNK_BYTES // max(bytes_each, 1))))


def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, p: Plan, relu: bool,
            pool: bool) -> tuple[np.ndarray, Any]:
    """y (N, OH, OW, F), or (N, OH // 2, OW // 2, F) of it pooled, and what `backward` needs."""
    tile, (oh, ow), (th, tw) = p.tile, p.size, p.tiles
    m, t = tile.m, tile.m + 2
    n, f = x.shape[0], w.shape[3]
    u = weights(tile, w)
    s = 2 if pool else 1
    y = empty((n, oh // s, ow // s, f), x.dtype)
    kept = []
    for start in range(0, n, p.chunk):
        part = slice(start, min(start + p.chunk, n))
        v = image_tiles(tile, _frame_of(x[part], p), th, tw)
        k = v.shape[2]
        products = empty((t, t, k, th, tw, f), x.dtype)
        np.matmul(v.reshape(t * t, -1, v.shape[-1]), u, out=products.reshape(t * t, -1, f))
        if b is not None:
            products[1, 1] += b  # the point 1 counts once in every output: b is added to all of them
        tiles = outputs(tile, products)
        del products
        marks = None
        if pool:
            half = tiles.reshape(m // 2, 2, m // 2, 2, k, th, tw, f)
            quadrants = [half[:, i, :, j] for i in (0, 1) for j in (0, 1)]
            marks = empty((4, *quadrants[0].shape), np.bool_)
            tiles = empty(quadrants[0].shape, x.dtype)
            four_maximum(quadrants, marks, tiles)
        elif relu:
            rectify(tiles, tiles)
        kept.append((marks, v))
        _untile(tiles, y[part])
    return y, (x, w, b is not None, p, relu, pool, y, kept)


def _frame_of(x: np.ndarray, p: Plan) -> np.ndarray:
    m = p.tile.m
    return _framed(x, p.padding[0][0], p.padding[1][0], p.tiles[0] * m + 2, p.tiles[1] * m + 2)


def _untile(tiles: np.ndarray, y: np.ndarray) -> None:
    """tiles (r, r, N, TH, TW, F) → y (N, ≤ r·TH, ≤ r·TW, F)."""
    r = tiles.shape[0]
    for i in range(r):
        for j in range(r):
            place = y[:, i::r, j::r]
            np.copyto(place, tiles[i, j][:, : place.shape[1], : place.shape[2]])


def _tile(g: np.ndarray, r: int, th: int, tw: int) -> np.ndarray:
    """g (N, ≤ r·TH, ≤ r·TW, F) → (r, r, N, TH, TW, F), zeros where g ends."""
    n, h, w, f = g.shape
    tiles = empty((r, r, n, th, tw, f), g.dtype)
    if (h, w) != (r * th, r * tw):
        tiles[...] = 0
    for i in range(r):
        for j in range(r):
            place = g[:, i::r, j::r]
            np.copyto(tiles[i, j][:, : place.shape[1], : place.shape[2]], place)
    return tiles


def backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    """(dx, dw, db), None where need[i] is False."""
    x, w, has_bias, p, relu, pool, y, kept = saved
    tile, (th, tw) = p.tile, p.tiles
    m, t = tile.m, tile.m + 2
    n, h, wide, c = x.shape
    f = w.shape[3]
    top, left = p.padding[0][0], p.padding[1][0]
    ut = weights(tile, w.transpose(0, 1, 3, 2).copy()) if need[0] else None
    du = np.zeros((t * t, c, f), x.dtype) if need[1] else None
    dx = empty(x.shape, x.dtype) if need[0] else None
    db = np.zeros(f, x.dtype) if has_bias and need[2] else None
    for index, start in enumerate(range(0, n, p.chunk)):
        part = slice(start, min(start + p.chunk, n))
        marks, v = kept[index]
        k = v.shape[2]
        if pool:
            gp = _tile(g[part], m // 2, th, tw)
            dy = empty((m, m, k, th, tw, f), x.dtype)
            halves = dy.reshape(m // 2, 2, m // 2, 2, k, th, tw, f)
            masks = four_masks(marks)
            for q in range(4):
                place = halves[:, q // 2, :, q % 2]
                np.copyto(place, masks[q])
                np.multiply(place, gp, out=place)
        else:
            dy = _tile(g[part] * (y[part] > 0) if relu else g[part], m, th, tw)
        dm = outputs_grad(tile, dy)
        del dy
        dm = dm.reshape(t * t, -1, f)
        if db is not None:
            db += dm[t + 1].sum(axis=0)
        if need[1]:
            du += np.matmul(v.reshape(t * t, -1, c).transpose(0, 2, 1), dm)
        if need[0]:
            dv = empty(v.shape, x.dtype)
            np.matmul(dm, ut, out=dv.reshape(t * t, -1, c))
            frame = empty((k, m * th + 2, m * tw + 2, c), x.dtype)
            image_tiles_grad(tile, dv, frame)
            dx[part] = _framed(frame[:, top:, left:], 0, 0, h, wide)
    dw = weights_grad(tile, du) if need[1] else None
    return dx, dw, db
