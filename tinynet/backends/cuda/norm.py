"""Normalisation launches: columns of a batch in slices, each sample's statistics a warp each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array, Arrays


class Norm(Arrays):
    def moments(self, x: Array, centered: bool = True) -> tuple:
        n, length, g, k = x.shape
        mean = self.empty((n, g), x.dtype) if centered else None
        var = self.empty((n, g), x.dtype)
        x = self.contiguous(x)
        if centered and n == k == 1 and length:
            slices, grid = _column_blocks(length, g)
            part = self.empty((3, slices, g), np.dtype(np.float64))
            self.launch("column_moments", x, part, length, g, -(-length // slices), grid=grid, block=(32, 8))
            self.launch("merge_moments", part, mean, var, slices, g)
        else:
            self.launch("moments", x, mean, var, [length, g, k], centered, n * g)
        return mean, var

    def normalize(
        self,
        x: Array,
        mean: Array | None,
        var: Array,
        gamma: Array | None,
        beta: Array | None,
        eps: float,
        relu: bool = False,
        *,
        out: Array | None = None,
    ) -> Array:
        inputs = [self._given(v) for v in (x, mean, var, gamma, beta)]
        return self.into(
            out, x.shape, x.dtype, lambda y: self.launch("normalize", *inputs, y, x.shape[1:], eps, relu, y.size)
        )

    def normalize_grad(
        self,
        g: Array,
        x: Array,
        mean: Array | None,
        var: Array,
        gamma: Array | None,
        eps: float,
        g_mean: Array | None,
        gx_mean: Array | None,
        *,
        out: Array | None = None,
    ) -> Array:
        inputs = [self._given(v) for v in (g, x, mean, var, gamma)]
        if gx_mean is None:
            g_mean, gx_mean = self.empty(var.shape, x.dtype), self.empty(var.shape, x.dtype)
            self.launch("normalize_means", *inputs, g_mean, gx_mean, x.shape[1:], eps, math.prod(var.shape))
        inputs += [self._given(g_mean), self._given(gx_mean)]
        return self.into(
            out, x.shape, x.dtype, lambda dx: self.launch("normalize_grad", *inputs, dx, x.shape[1:], eps, dx.size)
        )

    def normalize_scale_grad(self, g: Array, x: Array, mean: Array | None, var: Array, eps: float) -> tuple:
        n, length, groups, k = x.shape
        rows, columns = n * length, groups * k
        slices, grid = _column_blocks(rows, columns)
        part = self.empty((2, slices, columns), x.dtype)
        inputs = [self._given(v) for v in (g, x, mean, var)]
        slice = max(1, -(-rows // slices))
        self.launch(
            "normalize_scale_grad", *inputs, part, x.shape[1:], eps, rows, columns, slice, grid=grid, block=(32, 8)
        )
        sums = part if slices == 1 else self.sum(part, (1,))
        return tuple(sums[i].reshape((groups, k)) for i in range(2))

    def _given(self, x: Array | None) -> Any:
        return None if x is None else self.contiguous(x)


def _column_blocks(rows: int, columns: int) -> tuple[int, tuple[int, int]]:
    """(slices of the rows, the grid of 32 columns × slices), as many as fill a device."""
    across = max(1, -(-columns // 32))
    slices = max(1, min(rows // 256, 256 // across))
    return slices, (across, slices)
