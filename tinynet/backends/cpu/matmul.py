"""Matrix products, in NumPy: BLAS does the work."""

from __future__ import annotations

import numpy as np

from .memory import empty


def matmul(x, y, transpose_x=False, transpose_y=False, *, out=None):
    x = x.swapaxes(-1, -2) if transpose_x else x
    y = y.swapaxes(-1, -2) if transpose_y else y
    if out is None and x.ndim == y.ndim == 2 and x.dtype == y.dtype:
        out = empty((x.shape[0], y.shape[1]), x.dtype)
    return np.matmul(x, y, out=out)


def dense(x, w, b, relu=False, *, out=None):
    y = matmul(x, w, out=out)
    if b is not None:
        y += b
    if relu:
        np.maximum(y, 0, out=y)
    return y
