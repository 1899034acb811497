"""Reductions: any axes become the columns of a matrix, whose rows (or columns) the kernels reduce."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array, Arrays

SHORT = 256  # columns: a warp is enough for such a row


class Reduce(Arrays):
    def sum(self, x: Array, axes: tuple, keepdims: bool = False, *, out: Array | None = None) -> Array:
        if x.dtype.kind in "biu":
            x = self.astype(x, np.int64)
        shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else shape
        rows, columns = math.prod(shape), math.prod(x.shape[i] for i in axes)

        def write(y: Array) -> None:
            if not columns:
                self.fill(y, 0)
            elif axes == tuple(range(len(axes))) and shape and x.flags.c_contiguous:
                self._column_sum(x, y, columns, rows)  # leading axes, as a bias gradient's
            else:
                kernel = "row_sum" if columns > SHORT else "row_sum_warp"
                self.launch(kernel, self._matrix(x, axes), y, rows, columns)

        return self.into(out, kept, x.dtype, write)

    def _column_sum(self, x: Array, y: Array, rows: int, columns: int) -> None:
        """y = the sums down the columns of x (rows, columns), in two launches where one would not fill the device."""
        slices = max(1, min(rows // 256, 256 // max(1, -(-columns // 32))))
        partial = y if slices == 1 else self.empty((slices, columns), y.dtype)
        self.launch(
            "column_sum", x, partial, rows, columns, -(-rows // slices), grid=(-(-columns // 32), slices), block=(32, 8)
        )
        if slices > 1:
            self._column_sum(partial, y, slices, columns)

    def sum_to(self, x: Array, shape: tuple, *, out: Array | None = None) -> Array:
        extra = x.ndim - len(shape)
        axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1))
        y = self.sum(x, axes).reshape(shape)
        return y if out is None else self.copy(y, out=out)

    def max(self, x: Array, axes: tuple, keepdims: bool = False) -> tuple[Array, Any]:
        return self._winner("Largest", x, axes, keepdims)

    def min(self, x: Array, axes: tuple, keepdims: bool = False) -> tuple[Array, Any]:
        return self._winner("Smallest", x, axes, keepdims)

    def _winner(self, op: str, x: Array, axes: tuple, keepdims: bool) -> tuple[Array, Any]:
        matrix = self._matrix(x, axes)
        shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        y, winner = self.empty(shape, x.dtype), self.empty(shape, np.int64)
        self.launch("row_winner", matrix, y, winner, y.size, math.prod(x.shape[i] for i in axes), Op=op)
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else shape
        return y.reshape(kept), (winner, x.shape, axes)

    def max_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        winner, shape, axes = saved
        columns = math.prod(shape[i] for i in axes)
        matrix = self.empty((winner.size, columns), g.dtype)
        self.launch("row_winner_grad", self.contiguous(g), winner, matrix, columns, matrix.size)
        return self._unmatrix(matrix, shape, axes, out)

    def logsumexp(self, x: Array, axes: tuple, keepdims: bool = False, *, out: Array | None = None) -> Array:
        shape = tuple((1,) if i in axes else (n,) for i, n in enumerate(x.shape))
        kept = sum((s for i, s in enumerate(shape) if keepdims or i not in axes), ())
        return self.into(
            out,
            kept,
            x.dtype,
            lambda y: self.launch(
                "row_logsumexp", self._matrix(x, axes), y, y.size, math.prod(x.shape[i] for i in axes)
            ),
        )

    def softmax(self, x: Array, axes: tuple, *, out: Array | None = None) -> Array:
        return self._rowwise("row_softmax", axes, out, x)

    def softmax_grad(self, g: Array, y: Array, axes: tuple, *, out: Array | None = None) -> Array:
        return self._rowwise("row_softmax_grad", axes, out, g, y)

    def log_softmax(self, x: Array, axes: tuple, *, out: Array | None = None) -> Array:
        return self._rowwise("row_log_softmax", axes, out, x)

    def log_softmax_grad(self, g: Array, y: Array, axes: tuple, *, out: Array | None = None) -> Array:
        return self._rowwise("row_log_softmax_grad", axes, out, g, y)

    def _rowwise(self, kernel: str, axes: tuple, out: Array | None, *inputs: Array) -> Array:
        """A kernel whose result has the shape of its inputs, each row on its own."""
        shape = inputs[0].shape
        matrices = [self._matrix(x, axes) for x in inputs]
        result = self.empty(matrices[0].shape, inputs[0].dtype)
        columns = math.prod(shape[i] for i in axes)
        if result.size:
            self.launch(kernel, *matrices, result, result.size // columns, columns)
        return self._unmatrix(result, shape, axes, out)

    # ---- axes to columns and back ---------------------------------------------------------------------
    def _matrix(self, x: Array, axes: tuple) -> Array:
        """x with `axes` last, in memory; its columns are those axes in C order."""
        order = (*(i for i in range(x.ndim) if i not in axes), *axes)
        return self.contiguous(x.transpose(order))

    def _unmatrix(self, matrix: Array, shape: tuple, axes: tuple, out: Array | None) -> Array:
        order = (*(i for i in range(len(shape)) if i not in axes), *axes)
        back = tuple(int(i) for i in np.argsort(order))
        view = matrix.reshape(tuple(shape[i] for i in order)).transpose(back)
        return self.copy(view, out=out) if out is not None or not view.flags.c_contiguous else view
