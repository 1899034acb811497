"""Pooling launches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry import output_size
from .arrays import Array, Arrays


def _sizes(shape: tuple, kernel: tuple, stride: tuple, padding: tuple) -> tuple[tuple, list[int]]:
    """(the output's shape, the eleven sizes that `pool.cu` takes)."""
    n, h, w, c = shape
    oh, ow = output_size((h, w), kernel, stride, padding)
    return (n, oh, ow, c), [h, w, c, oh, ow, *kernel, *stride, padding[0][0], padding[1][0]]


def max_pool(
    be: Arrays, x: Array, kernel: tuple, stride: tuple, padding: tuple, positive: bool = False
) -> tuple[Array, Any]:
    """max_pool2d; with `positive`, x is the output of a relu whose derivative max_pool2d_grad shall take, too."""
    shape, sizes = _sizes(x.shape, kernel, stride, padding)
    y, winner = be.empty(shape, x.dtype), be.empty(shape, np.int32)
    be.launch("max_pool", be.contiguous(x), y, winner, sizes, positive, y.size)
    return y, (winner, x.shape, sizes)


class Pool(Arrays):
    def max_pool2d(self, x: Array, kernel: tuple, stride: tuple, padding: tuple) -> tuple[Array, Any]:
        return max_pool(self, x, kernel, stride, padding)

    def max_pool2d_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        winner, shape, sizes = saved
        return self.into(
            out, shape, g.dtype, lambda dx: self.launch("max_pool_grad", self.contiguous(g), winner, dx, sizes, dx.size)
        )

    def avg_pool2d(
        self,
        x: Array,
        kernel: tuple,
        stride: tuple,
        padding: tuple,
        count_include_pad: bool,
        *,
        out: Array | None = None,
    ) -> Array:
        shape, sizes = _sizes(x.shape, kernel, stride, padding)
        return self.into(
            out,
            shape,
            x.dtype,
            lambda y: self.launch("avg_pool", self.contiguous(x), y, sizes, count_include_pad, y.size),
        )

    def avg_pool2d_grad(
        self,
        g: Array,
        shape: tuple,
        kernel: tuple,
        stride: tuple,
        padding: tuple,
        count_include_pad: bool,
        *,
        out: Array | None = None,
    ) -> Array:
        _, sizes = _sizes(shape, kernel, stride, padding)
        return self.into(
            out,
            shape,
            g.dtype,
            lambda dx: self.launch("avg_pool_grad", self.contiguous(g), dx, sizes, count_include_pad, dx.size),
        )
