"""Convolution of images with few channels: the columns matrix transposed, a row for each tap and channel.

im2col writes KH·KW·C numbers for an output pixel; with one or three channels these are scattered in
memory, and gathering them costs more than the matrix product. Here the image is first laid out as
planes (C, N, H, W). Then a tap's values at *all* pixels are the plane itself, read from a shifted start:
one copy of a long run. What such a run takes from the wrong line, where a window would leave the image,
gives outputs that do not exist; they are computed with the others and left out.

With a 2×2 maximum behind the convolution, the image is dealt into its four parities (even and odd lines,
even and odd columns) first. A shift by one is then a change of plane, the four members of each pool window
come from four matrix products at the same pixel, and their maximum is taken of whole arrays.

    planes (C, q, q, N·H'·W')    columns (KH + q - 1, KW, C, N·H'·W'), one for each parity of the column

with q = 2 where it pools, else 1; lines H' and W' are the image's, padded and divided by q. The q products
of one column parity start at lines 0 … q-1 of the same columns, so these are not gathered twice.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..geometry import Geometry, Pads, Pair, output_size
from . import threads
from .columns import KEPT_BYTES
from .elementwise import rectify, relu_grad
from .images import bands, pad, strided, window_slice
from .matmul import DEEP, SMALL_PRODUCT, matmul
from .memory import empty
from .pool import four_masks, four_maximum
from .summation import Sums, add_up

COLUMNS_BYTES = 3 << 20  # of the columns worked on at one time
MEMBERS_BYTES = 800 << 10  # of the products for a pool's members at one time: they stay in the cache


class Layout(NamedTuple):
    """The sizes of one layer's work."""

    q: int
    kernel: tuple[int, int]
    padding: Pads
    lines: int  # H'
    width: int  # W'
    output: tuple[int, int]  # after pooling
    images: int  # worked on at one time
    block: int  # pixels in one matrix product
    keep: bool  # the columns of a small batch, which are not gathered again on the way back


def layout(x: np.ndarray, w: np.ndarray, padding: Pads, pool: bool) -> Layout:
    n, h, wide, c = x.shape
    kh, kw, _, f = w.shape
    (top, bottom), (left, right) = padding
    q = 2 if pool else 1
    lines, width = -(-(h + top + bottom) // q), -(-(wide + left + right) // q)
    oh, ow = output_size((h, wide), (kh, kw), (1, 1), padding)
    columns = q * (kh + q - 1) * kw * c * lines * width * x.itemsize
    images = max(1, min(n, COLUMNS_BYTES // max(columns, 1)))
    pixels = images * lines * width
    product, members = pixels * (kh * kw * c + 1) * f, q * q * pixels * f * x.itemsize
    parts = max(1, -(-product // SMALL_PRODUCT), -(-members // MEMBERS_BYTES))
    output = oh // q, ow // q
    return Layout(q, (kh, kw), padding, lines, width, output, images, -(-pixels // parts), n * columns <= KEPT_BYTES)


def _planes_shape(x: np.ndarray, p: Layout) -> tuple[int, ...]:
    """(C, q, q, N·H'·W' + what the last shifts read beyond it)."""
    beyond = (p.kernel[0] // p.q + 1) * p.width + p.kernel[1]
    return x.shape[3], p.q, p.q, x.shape[0] * p.lines * p.width + beyond


def _by_parity(planes: np.ndarray, frame: np.ndarray, p: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The planes, without what is beyond, and the padded images that they stand for (N, q·H', q·W', C), as views of
    one shape (C, q, q, N, H', W')."""
    n, _, _, c = frame.shape
    inside = planes[..., : n * p.lines * p.width].reshape(c, p.q, p.q, n, p.lines, p.width)
    return inside, frame.reshape(n, p.lines, p.q, p.width, p.q, c).transpose(5, 2, 4, 0, 1, 3)


def _planes(x: np.ndarray, p: Layout) -> np.ndarray:
    """x (N, H, W, C) → its planes, zeros around the images and after the last."""
    n, h, wide, _ = x.shape
    (top, _), (left, _) = p.padding
    frame = pad(x, ((top, p.q * p.lines - top - h), (left, p.q * p.width - left - wide)))
    planes = empty(_planes_shape(x, p), x.dtype)
    planes[..., n * p.lines * p.width :] = 0
    np.copyto(*_by_parity(planes, frame, p))
    return planes


def _from_planes(planes: np.ndarray, x: np.ndarray, p: Layout) -> None:
    """The transpose of `_planes`: write x (N, H, W, C) from its planes."""
    n, h, wide, c = x.shape
    (top, _), (left, _) = p.padding
    frame = empty((n, p.q * p.lines, p.q * p.width, c), x.dtype)
    source, place = _by_parity(planes, frame, p)
    np.copyto(place, source)
    np.copyto(x, frame[:, top : top + h, left : left + wide])


def _columns(planes: np.ndarray, p: Layout, pixels: int, parity: int) -> np.ndarray:
    """(1 + (KH + q - 1)·KW·C + 1, pixels): the planes, shifted, between two rows of ones."""
    (kh, kw), q, c = p.kernel, p.q, len(planes)
    height = kh + q - 1
    rows = empty((height * kw * c + 2, pixels), planes.dtype)
    rows[0] = rows[-1] = 1
    columns = rows[1:-1].reshape(height, kw, c, pixels)
    sc, si, sj, sp = planes.strides
    for i in range(q):  # taps of every q-th line come from the same plane, each a line of it further on
        for j in range(kw):
            shift, plane = divmod(parity + j, q)
            shape = len(range(i, height, q)), c, pixels
            shifted = strided(planes, shape, (p.width * sp, sc, sp), i * si + plane * sj + shift * sp)
            np.copyto(columns[i::q, j], shifted)
    return rows


def _add_columns(dplanes: np.ndarray, dcolumns: np.ndarray, p: Layout, member: int, first: int) -> None:
    """The transpose of `_columns` for one member of the pool window and the pixels from `first` on."""
    (kh, kw), q = p.kernel, p.q
    a, b = divmod(member, q)
    taps = dcolumns.reshape(kh, kw, dplanes.shape[0], -1)
    for i in range(kh):
        for j in range(kw):
            start = first + (a + i) // q * p.width + (b + j) // q
            place = dplanes[:, (a + i) % q, (b + j) % q, start : start + taps.shape[3]]
            np.add(place, taps[i, j], out=place)


def _matrices(planes: np.ndarray, p: Layout, pixels: int, bias: bool) -> list[np.ndarray]:
    """The q² columns matrices, in the order of the pool's members: (KH·KW·C + bias, pixels), where a row of ones
    meets the bias in the product and its gradient on the way back. It comes first for the members of even lines,
    last for the others: a member's columns begin, or end, where those of the parity do."""
    step = p.kernel[1] * len(planes)
    size = p.kernel[0] * step
    rows = [slice(1 - bias, 1 + size), slice(1 + step, 1 + step + size + bias)]
    columns = [_columns(planes, p, pixels, b) for b in range(p.q)]
    return [columns[b][rows[a]] for a in range(p.q) for b in range(p.q)]


def _with_bias(w: np.ndarray, b: np.ndarray | None, q: int) -> list[np.ndarray]:
    """The weights as matrices (KH·KW·C + bias, F), one for each member of the pool window: views of one matrix."""
    f = w.shape[3]
    matrix = np.empty((w.size // f + 2, f), w.dtype)
    matrix[1:-1] = w.reshape(-1, f)
    if b is None:
        return [matrix[1:-1]] * (q * q)
    matrix[0] = matrix[-1] = b
    return [matrix[1:] if a else matrix[:-1] for a in range(q) for _ in range(q)]


def forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, p: Layout, relu: bool, pool: bool
) -> tuple[np.ndarray, Any]:
    """y (N, OH, OW, F), pooled or not, and what `backward` needs."""
    n, f = x.shape[0], w.shape[3]
    (oh, ow), members = p.output, p.q * p.q
    y = empty((n, oh, ow, f), x.dtype)
    weights = _with_bias(w, b, p.q)

    def work(starts: range) -> list[tuple]:
        z = empty((members, p.block, f), x.dtype)
        kept = []
        for start in starts:
            part = slice(start, min(start + p.images, n))
            pixels = (part.stop - start) * p.lines * p.width
            columns = _matrices(_planes(x[part], p), p, pixels, b is not None)
            result = empty((pixels, f), x.dtype)
            marks = empty((4, pixels, f), np.bool_) if pool else None
            for first in range(0, pixels, p.block):
                block = slice(first, min(first + p.block, pixels))
                zs = [z[i, : block.stop - first] for i in range(members)] if pool else [result[block]]
                for member, matrix, weight in zip(zs, columns, weights, strict=True):
                    np.matmul(matrix[:, block].T, weight, out=member)
                if marks is not None:
                    four_maximum(zs, marks[:, block], result[block])
            np.copyto(y[part], result.reshape(-1, p.lines, p.width, f)[:, :oh, :ow])
            if relu:
                rectify(y[part], y[part])
            kept.append((marks, columns if p.keep else None))
        return kept

    kept = list(chain.from_iterable(threads.each(work, threads.shares(range(0, n, p.images)))))
    return y, (x, w, b is not None, p, relu, pool, y, kept)


def backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    """(dx, dw, db), None where need[i] is False."""
    x, w, has_bias, p, relu, pool, y, kept = saved
    n, f = x.shape[0], w.shape[3]
    (oh, ow), q = p.output, p.q
    size = w.size // f
    dx = empty(x.shape, x.dtype) if need[0] else None
    wanted = need[1] or (has_bias and need[2])
    matrix_w = np.ascontiguousarray(w).reshape(-1, f)

    def work(starts: range) -> list[Sums]:
        """Some images' dx; gives what they add to dw and db, for even and for odd lines."""
        sums = [Sums() for _ in range(q)]
        product = np.matmul if p.block <= DEEP else matmul  # the same, but for the time it takes to choose
        z = empty((q * q, p.block, f), x.dtype)
        for start in starts:
            marks, columns = kept[start // p.images]
            part = slice(start, min(start + p.images, n))
            pixels = (part.stop - start) * p.lines * p.width
            spread = empty((pixels, f), x.dtype)  # g where an output exists, 0 elsewhere
            image = spread.reshape(-1, p.lines, p.width, f)
            image[:, oh:] = 0
            image[:, :oh, ow:] = 0
            if relu and not pool:
                np.copyto(image[:, :oh, :ow], relu_grad(g[part], y[part]))
            else:
                np.copyto(image[:, :oh, :ow], g[part])
            if wanted and columns is None:
                columns = _matrices(_planes(x[part], p), p, pixels, has_bias)
            dplanes = np.zeros(_planes_shape(x[part], p), x.dtype) if dx is not None else None
            for first in range(0, pixels, p.block):
                block = slice(first, min(first + p.block, pixels))
                if marks is not None:
                    dz = z[:, : block.stop - first]
                    np.copyto(dz, four_masks(marks[:, block]))
                    np.multiply(dz, spread[block], out=dz)
                else:
                    dz = spread[None, block]
                if wanted:
                    for index, (matrix, member) in enumerate(zip(columns, dz, strict=True)):
                        sums[index // q].add(product(matrix[:, block], member))
                if dplanes is not None:
                    for index, member in enumerate(dz):
                        _add_columns(dplanes, matrix_w @ member.T, p, index, first)
            if dx is not None and dplanes is not None:
                _from_planes(dplanes, dx[part], p)
        return sums

    sums = [Sums() for _ in range(q)]
    for added in threads.each(work, threads.shares(range(0, n, p.images))):
        for total, other in zip(sums, added, strict=True):
            total.join(other)
    if not wanted:
        return dx, None, None
    totals = [part.total(np.zeros((size + has_bias, f), x.dtype)) for part in sums]
    dw, db = totals[0][has_bias:], totals[0][0]
    if q == 2:
        dw, db = dw + totals[1][:size], db + totals[1][-1]
    return dx, dw.reshape(w.shape) if need[1] else None, db if has_bias and need[2] else None


# ---- one filter a channel -------------------------------------------------------------------------------------


def _depthwise_taps(w: np.ndarray, size: Pair, at: Geometry) -> list[tuple]:
    """(i, j, where its pixels are in the padded x (N, OH, OW, C), its weights as a line of them (OW, C))."""
    return [
        (
            i,
            j,
            window_slice((i * at.dilation[0], j * at.dilation[1]), size, at.stride),
            np.tile(w[i, j, 0], (size[1], 1)),
        )
        for i in range(w.shape[0])
        for j in range(w.shape[1])
    ]


def depthwise_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, at: Geometry, relu: bool, size: Pair
) -> tuple[np.ndarray, Any]:
    """groups = C = F: nothing is summed over channels, so a tap is a multiplication of whole lines."""
    y = empty((x.shape[0], *size, w.shape[3]), x.dtype)
    taps = _depthwise_taps(w, size, at)
    bias = None if b is None else np.tile(b, (size[1], 1))
    for images in _image_groups(y):
        part, product = y[images], empty(y[images].shape, y.dtype)
        padded = pad(x[images], at.padding)
        for i, j, place, weights in taps:
            np.multiply(padded[place], weights, out=product if i or j else part)
            if i or j:
                np.add(part, product, out=part)
        if bias is not None:
            np.add(part, bias, out=part)
        if relu:
            rectify(part, part)
    return y, (x, w, b is not None, at, relu, y)


def depthwise_backward(g: np.ndarray, saved: Any, need: tuple) -> tuple:
    x, w, has_bias, at, relu, y = saved
    h, wide, c = x.shape[1:]
    size = y.shape[1:3]
    (top, bottom), (left, right) = at.padding
    dx = empty(x.shape, x.dtype) if need[0] else None
    dws, dbs = Sums(), Sums()
    taps = _depthwise_taps(w, size, at)
    for images in _image_groups(y):
        dz = relu_grad(g[images], y[images]) if relu else np.ascontiguousarray(g[images])
        product = empty(dz.shape, dz.dtype)
        dw = empty(w.shape, w.dtype)
        if has_bias and need[2]:
            dbs.add(add_up(dz, (0, 1, 2)))
        padded = pad(x[images], at.padding)
        frame = np.zeros((len(dz), h + top + bottom, wide + left + right, c), dz.dtype)
        for i, j, place, weights in taps:
            if need[1]:
                np.multiply(padded[place], dz, out=product)
                add_up(product, (0, 1, 2), out=dw[i, j, 0])
            if dx is not None:
                np.multiply(dz, weights, out=product)
                np.add(frame[place], product, out=frame[place])
        if dx is not None:
            dx[images] = frame[:, top : top + h, left : left + wide]
        dws.add(dw)
    return (
        dx,
        dws.total(np.zeros(w.shape, w.dtype)) if need[1] else None,
        dbs.total(np.zeros(c, w.dtype)) if has_bias and need[2] else None,
    )


def _image_groups(y: np.ndarray) -> list[slice]:
    """Images of y whose arrays stay in the cache together."""
    return [images for images, _ in bands(y.shape[0], 1, y[:1].nbytes, 1 << 18)]
