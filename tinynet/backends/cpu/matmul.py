"""Matrix products, in NumPy: BLAS does the work.

OpenBLAS copies the operands of a large product into an order of its own first. A thin product, a small batch
through a wide layer, has nothing to gain from that: the copy costs as much as the arithmetic. It is cut along its
long axis into pieces that are computed where they lie. (1.3 to 1.8 times as fast for 16 × 7200 @ 7200 × 64 and its
two derivatives.)
"""

from __future__ import annotations

import numpy as np

from .elementwise import rectify, relu_grad
from .memory import empty
from .summation import Sums, add_up

SMALL_PRODUCT = 1_000_000  # up to so many multiplications OpenBLAS works on its operands where they lie
THIN = 32  # rows (of a batch) that count as few
LONG = 8  # how many times as long as the others the long axis is
DEEP = 1 << 12  # so many products BLAS adds up at one time; its rounding errors grow with their number


def matmul(x, y, transpose_x=False, transpose_y=False, *, out=None):
    x = x.swapaxes(-1, -2) if transpose_x else x
    y = y.swapaxes(-1, -2) if transpose_y else y
    if x.ndim != 2 or y.ndim != 2 or x.dtype != y.dtype or x.shape[1] != y.shape[0]:
        return _in_depth(x, y, out)
    (m, k), n = x.shape, y.shape[1]
    if out is None:
        out = empty((m, n), x.dtype)
    elif not out.flags.c_contiguous or np.may_share_memory(x, out) or np.may_share_memory(y, out):
        return _in_depth(x, y, out)
    if k == 1:  # BLAS is slow at this
        return np.multiply(x, y, out=out)
    if m * k * n > SMALL_PRODUCT and x.dtype.kind == "f":
        if m >= LONG * max(k, n):
            return product(x, y, out)
        if m <= THIN and n >= LONG * max(m, k):
            return _turned(x, y, out)
        if m <= THIN and k >= LONG * max(m, n):
            return _sum_of_products(x, y, out)
    return np.matmul(x, y, out=out) if k <= DEEP else _in_depth(x, y, out)


def product(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out (M, N) = x (M, K) @ y (K, N), by rows few enough for the BLAS not to copy its operands first."""
    rows = SMALL_PRODUCT // y.size
    count = len(x) // rows if rows >= 8 else 0
    whole = count * rows
    if count:
        np.matmul(x[:whole].reshape(count, rows, -1), y, out=out[:whole].reshape(count, rows, -1))
    if whole < len(x):
        np.matmul(x[whole:], y, out=out[whole:])
    return out


def _turned(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The same, likewise, as yᵀ @ xᵀ, by parts of N that are turned back while they are in the cache."""
    columns = np.ascontiguousarray(x.T)
    part = max(1, SMALL_PRODUCT // columns.size)
    for first in range(0, y.shape[1], part):
        block = slice(first, first + part)
        np.copyto(out[:, block], np.matmul(y.T[block], columns).T)
    return out


def _sum_of_products(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The same, likewise, by parts of K: shorter ones, as where they lie some CPUs' BLAS adds one after another."""
    part = min(SMALL_PRODUCT // out.size, DEEP // 4)
    count = x.shape[1] // part
    whole = count * part
    products = np.matmul(x[:, :whole].reshape(len(x), count, part).swapaxes(0, 1), y[:whole].reshape(count, part, -1))
    add_up(products, (0,), out=out)
    if whole < x.shape[1]:
        out += x[:, whole:] @ y[whole:]
    return out


def _in_depth(x: np.ndarray, y: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """np.matmul; of a very long K by parts, whose sums are added in pairs."""
    depth = x.shape[-1]
    if depth <= DEEP or x.dtype.kind != "f" or y.shape[-2] != depth:
        return np.matmul(x, y, out=out)
    sums = Sums()
    for first in range(0, depth, DEEP):
        sums.add(np.matmul(x[..., first : first + DEEP], y[..., first : first + DEEP, :]))
    z = sums.total(sums.parts[0])
    if out is None:
        return z
    np.copyto(out, z, casting="same_kind")
    return out


def dense(x, w, b, relu=False, *, out=None):
    y = matmul(x, w, out=out)
    if b is not None:
        y += b
    if relu:
        rectify(y, y)
    return y


def dense_grad(g, x, w, y, need):
    g = g if y is None else relu_grad(g, y)
    home = need[1].take_home() if hasattr(need[1], "take_home") else None
    return (
        matmul(g, w, transpose_y=True) if need[0] else None,
        matmul(x, g, transpose_x=True, out=home) if need[1] else None,
        add_up(g, (0,)) if need[2] else None,
    )
