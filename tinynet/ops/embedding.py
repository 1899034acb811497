"""Rows of a table by their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor, tensor
from .reduce import floating

__all__ = ["embedding"]


@op
def _embedding(be, ids, w):
    count, features = w.shape
    index = be.reshape(be.asarray(ids, np.int64), (ids.size,))
    y = be.take_rows(be.reshape(w, (1, count, features)), index)

    def vjp(g, need):
        g = be.reshape(g, (1, ids.size, features))
        return None, be.reshape(be.take_rows_grad(g, index, count), w.shape)

    return be.reshape(y, (*ids.shape, features)), vjp


def embedding(ids: Any, w: Tensor) -> Tensor:
    """ids (…) integers, w (count, features) → (…, features): row ids[i] of w for each of them.

    The gradient of w adds up what comes to each row, always in the order of ids.
    Returns: a Tensor of w's dtype.
    Raises: TypeError where ids are no integers, IndexError where one is no row. On a device nobody looks at them: one
    that is no row has NaN there.
    """
    if not isinstance(ids, Tensor):
        ids = tensor(np.asarray(ids), backend=w.backend if isinstance(w, Tensor) else None)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids have dtype {ids.dtype}; they must be integers")
    floating("embedding", w)
    if w.ndim != 2:
        raise ValueError(f"embedding: w {w.shape} must be (count, features)")
    if ids.backend.name == "numpy" and ids.size:
        low, high = ids.data.min(), ids.data.max()
        if low < 0 or high >= len(w):
            raise IndexError(f"embedding: ids run from {low} to {high}; the table has rows 0 to {len(w) - 1}")
    return _embedding(ids, w)
