"""Matrix products: how operands, batches and slices of the depth reach the tile loop of `gemm.cuh`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array, Arrays, computed_in

TILE = 64  # as in gemm.cuh
ENOUGH_BLOCKS = 512  # keep the largest device busy
LEAST_SLICE = 256  # of the depth: below, adding the slices up costs more than it saves


def slices_of(rows: int, columns: int, depth: int, batches: int) -> tuple[int, int]:
    """(how many blocks share a tile, the depth that each of them sums): from the sizes alone, so results repeat."""
    tiles = -(-rows // TILE) * -(-columns // TILE) * batches
    slices = max(1, min(ENOUGH_BLOCKS // max(tiles, 1), depth // LEAST_SLICE))
    slice = max(1, -(-depth // slices))
    return max(1, -(-depth // slice)), slice


def product(
    be: Arrays,
    kernel: str,
    x: Array,
    y: Array,
    bias: Array | None,
    z: Array,
    rows: int,
    columns: int,
    depth: int,
    batches: int,
    relu: bool,
    *more: Any,
    **template: bool,
) -> None:
    """Launch a kernel of the tile loop, and a second pass where several blocks shared each tile."""
    slices, slice = slices_of(rows, columns, depth, batches)
    if slices == 1:
        be.launch(kernel, x, y, bias, z, rows, columns, depth, batches, slice, relu, *more, **template)
        return
    partial = be.empty((slices, *z.shape), z.dtype)
    be.launch(kernel, x, y, None, partial, rows, columns, depth, batches, slice, False, *more, **template)
    be.launch("add_slices", partial, bias, z, None, slices, z.shape[-1], relu, z.size, z.size)


def weight_product(
    be: Arrays, kernel: str, x: Array, g: Array, need: tuple, shape: tuple, depth: int, groups: int, *more: Any
) -> tuple[Array, Array | None]:
    """(dw of `shape`, db where need[1] holds) by a kernel whose last line is the bias's gradient, in one launch, or two
    where several blocks shared each tile."""
    dw = be.home(need[0], shape, x.dtype)
    db = be.home(need[1], shape[-1:], x.dtype) if need[1] else None
    rows, columns = math.prod(shape[:-1]) + (db is not None), shape[-1] // groups
    slices, slice = slices_of(rows, columns, depth, groups)
    if slices == 1:
        be.launch(kernel, x, g, None, dw, db, rows, columns, depth, groups, slice, *more)
        return dw, db
    partial = be.empty((slices, rows, shape[-1]), x.dtype)
    be.launch(kernel, x, g, None, partial, None, rows, columns, depth, groups, slice, *more)
    be.launch("add_slices", partial, None, dw, db, slices, shape[-1], False, dw.size, rows * shape[-1])
    return dw, db


class Matmul(Arrays):
    def matmul(
        self, x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False, *, out: Array | None = None
    ) -> Array:
        dtype = computed_in(np.result_type(x.dtype, y.dtype))
        x, y = self.asarray(x, dtype), self.asarray(y, dtype)
        rows, depth = x.shape[-2:][::-1] if transpose_x else x.shape[-2:]
        columns = y.shape[-2] if transpose_y else y.shape[-1]
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        (x, x_step), (y, y_step) = self._batched(x, batch), self._batched(y, batch)
        return self.into(
            out,
            (*batch, rows, columns),
            dtype,
            lambda z: product(
                self,
                "gemm",
                x,
                y,
                None,
                z,
                rows,
                columns,
                depth,
                math.prod(batch),
                False,
                x_step,
                y_step,
                TX=bool(transpose_x),
                TY=bool(transpose_y),
            ),
        )

    def dense(self, x: Array, w: Array, b: Array | None, relu: bool = False, *, out: Array | None = None) -> Array:
        dtype = computed_in(np.result_type(x.dtype, w.dtype))
        x, w = self.contiguous(self.asarray(x, dtype)), self.contiguous(self.asarray(w, dtype))
        bias = None if b is None else self.contiguous(self.asarray(b, dtype))
        return self.into(
            out,
            (len(x), w.shape[1]),
            dtype,
            lambda z: product(self, "gemm", x, w, bias, z, *z.shape, len(w), 1, relu, 0, 0, TX=False, TY=False),
        )

    def dense_grad(self, g: Array, x: Array, w: Array, y: Array | None, need: tuple) -> tuple:
        g = g if y is None else self.relu_grad(g, y)
        x, w, g = (self.contiguous(self.asarray(z, g.dtype)) for z in (x, w, g))
        dx = self.matmul(g, w, transpose_y=True) if need[0] else None
        if not need[1]:
            return dx, None, self.sum(g, (0,), out=self.home(need[2], g.shape[1:], g.dtype)) if need[2] else None
        more = (w.shape[0],)
        return dx, *weight_product(self, "dense_weight_grad", x, g, need[1:], w.shape, len(x), 1, *more)

    def _batched(self, x: Array, batch: tuple) -> tuple[Array, int]:
        """(x in memory, the elements from one matrix of the batch to the next: 0 where all use the same)."""
        if math.prod(x.shape[:-2]) == 1:
            return self.contiguous(x), 0
        if x.shape[:-2] != batch:
            x = self.broadcast_to(x, (*batch, *x.shape[-2:]))
        return self.contiguous(x), math.prod(x.shape[-2:])
