"""Launches for rows of a table."""

from __future__ import annotations

import numpy as np

from .arrays import Array, Arrays


class Embedding(Arrays):
    def take_rows(self, x: Array, index: Array, *, out: Array | None = None) -> Array:
        a, rows, width = x.shape
        count = index.shape[0]
        x, index = self.contiguous(x), self.contiguous(self.asarray(index, np.int64))
        return self.into(
            out,
            (a, count, width),
            x.dtype,
            lambda y: self.launch("take_rows", x, index, y, rows, count, width, y.size),
        )

    def take_rows_grad(self, g: Array, index: Array, count: int, *, out: Array | None = None) -> Array:
        a, numbers, width = g.shape
        g, index = self.contiguous(g), self.contiguous(self.asarray(index, np.int64))
        return self.into(
            out,
            (a, count, width),
            g.dtype,
            lambda dx: self.launch("take_rows_grad", g, index, dx, count, numbers, width, a * count),
        )
