"""Sums of many values, in NumPy, with an error that does not grow with their number.

NumPy adds in pairs only along the axis that lies innermost in memory. Down any other axis it adds one value after
another, and each addition rounds: of 17.5 million float32 ones the mean came out as 0.96. Here such a sum is cut into
short ones, and their results are added likewise, in float64, so that only the short ones round. (N. J. Higham, "The
accuracy of floating point summation", 1993.) It takes no longer: rows of few channels are seen as long lines, which
NumPy adds forty times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

FEW = 128  # so many values are added as they come, as NumPy does within its pairs
BLOCK = 64  # of more, so many rows become one
LINE = 4096  # elements of the lines that rows are seen as
SQUARES = 1024  # of a vector, added at one time


def add_up(x: np.ndarray, axes: tuple, keepdims: Any = False, out: Any = None) -> np.ndarray:
    """The sum of x over axes (ascending, not negative), in x's dtype."""
    shape, count = x.shape, 1
    for i in axes:
        count *= shape[i]
    if x.dtype.char == "e":
        y = add_up(x.astype(np.float32), axes, keepdims)
    elif count <= FEW or x.dtype.kind != "f" or _adjoin(x, axes):
        return np.add.reduce(x, axes, x.dtype, out, keepdims=keepdims)  # np.sum takes twice as long to come to this
    else:
        if axes[-1] == len(axes) - 1 and x.flags.c_contiguous:
            y = _along(x.reshape(count, -1), 0).reshape(shape[len(axes) :])
        else:
            y = _in_blocks(x, axes)
        if keepdims:
            y = y.reshape([1 if i in axes else n for i, n in enumerate(shape)])
    if out is None:
        return y.astype(x.dtype)
    np.copyto(out, y, casting="same_kind")
    return out


def _adjoin(x: np.ndarray, axes: tuple) -> bool:
    """Whether the values of each sum lie side by side: then NumPy adds them in pairs."""
    return x.flags.c_contiguous and axes == tuple(range(x.ndim - len(axes), x.ndim))


def _in_blocks(x: np.ndarray, axes: tuple) -> np.ndarray:
    """`add_up` in float64 for many values: the axes that are kept, in their order.

    Axes are taken in the order in which they lie in memory. Neighbours that are both reduced, or both kept, become one;
    where x repeats itself along an axis, its size is a factor.
    """
    repeated = [i for i in axes if x.strides[i] == 0]
    times = math.prod(x.shape[i] for i in repeated)
    x = x[tuple(slice(0, 1) if i in repeated else slice(None) for i in range(x.ndim))]
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    runs: list[tuple] = []  # (size, stride, whether it is reduced)
    for i in order:
        n, stride, reduced = x.shape[i], x.strides[i], i in axes
        if runs and runs[-1][1:] == (n * stride, reduced):
            runs[-1] = runs[-1][0] * n, stride, reduced
        elif n != 1:
            runs.append((n, stride, reduced))
    y = x.transpose(order).reshape([n for n, _, _ in runs])
    for axis in reversed(range(len(runs))):
        if runs[axis][2]:
            y = _along(y, axis).astype(np.result_type(y, np.float64), copy=False)
    kept = [i for i in order if i not in axes]
    return (y if times == 1 else y * times).reshape([x.shape[i] for i in kept]).transpose(np.argsort(kept))


def _along(x: np.ndarray, axis: int) -> np.ndarray:
    """The sum of x along one axis, behind which all are kept."""
    n, outer, inner = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    if n <= FEW or not inner:
        return np.add.reduce(x, axis, x.dtype)
    rows = min(max(LINE // math.prod(inner), 1), n // BLOCK)  # seen as one line
    count = n // (BLOCK * rows)
    whole = count * BLOCK * rows
    before = (slice(None),) * axis
    head, tail, last = (*before, slice(whole)), (*before, slice(whole, n)), (*before, slice(-1, None))
    blocks = x[head].reshape((*outer, count, BLOCK, rows, *inner))
    sums = np.add.reduce(blocks, axis + 1, x.dtype).reshape((*outer, count * rows, *inner))
    if whole < n:
        sums[last] += np.expand_dims(_along(x[tail], axis), axis)
    return _along(sums.astype(np.result_type(x, np.float64), copy=False), axis)


def sum_of_squares(x: np.ndarray) -> float:
    """Σ x² of a vector. (BLAS's dot adds as NumPy does down a column: of 2²⁵ values it is a hundredth off.)"""
    rows = x[: len(x) // SQUARES * SQUARES].reshape(-1, SQUARES)
    rest = x[rows.size :]
    return float(np.add.reduce(np.einsum("ij,ij->i", rows, rows), dtype=np.float64) + np.dot(rest, rest))


class Sums:
    """The sum of arrays that come one after another, added in pairs: each goes through log₂ of their number additions.

    `add` and `join` take arrays over, to write into them; `total` returns the sum, or `nothing` where none came.
    """

    def __init__(self) -> None:
        self.count = 0
        self.parts: list[np.ndarray] = []  # sums of ever fewer arrays: the powers of two that make up `count`

    def add(self, x: np.ndarray) -> None:
        self.count = times = self.count + 1
        while times % 2 == 0:
            times //= 2
            x = np.add(self.parts.pop(), x, out=x)
        self.parts.append(x)

    def join(self, other: Sums) -> None:
        if other.parts:
            self.add(other.total(other.parts[0]))

    @staticmethod
    def joined(pairs: Iterable[tuple[Sums, Sums]]) -> tuple[Sums, Sums]:
        """The two sums of all, of the two that each thread has made."""
        first, second = Sums(), Sums()
        for a, b in pairs:
            first.join(a)
            second.join(b)
        return first, second

    def total(self, nothing: np.ndarray) -> np.ndarray:
        while len(self.parts) > 1:
            x = self.parts.pop()
            self.parts[-1] = np.add(self.parts[-1], x, out=x)
        return self.parts[0] if self.parts else nothing
