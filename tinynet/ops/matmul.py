"""Matrix products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor, tensor
from .shape import reshape

__all__ = ["dense", "matmul"]


@op
def _matmul(be, x, y):
    y_shape = y.shape

    def vjp(g, need):
        dx = be.matmul(g, y, transpose_y=True) if need[0] else None  # G Yᵀ
        if need[1] and len(y_shape) == 2 and x.ndim > 2:  # Xᵀ G, the batch summed in the product
            rows = math.prod(x.shape[:-1])
            dy = be.matmul(be.reshape(x, (rows, x.shape[-1])), be.reshape(g, (rows, g.shape[-1])), transpose_x=True)
        else:
            dy = be.matmul(x, g, transpose_x=True) if need[1] else None
        return dx, dy

    return be.matmul(x, y), vjp


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """x (…, M, K) @ y (…, K, N): leading axes broadcast; vectors count as one row or column, as in NumPy.

    Returns: a Tensor (…, M, N).
    Raises: ValueError where shapes do not fit or one is 0-d.
    """
    x, y = (
        a if isinstance(a, Tensor) else tensor(a, backend=b.backend if isinstance(b, Tensor) else None)
        for a, b in ((x, y), (y, x))
    )
    if not x.ndim or not y.ndim:
        raise ValueError(f"matmul: shapes {x.shape} and {y.shape}; a number is multiplied with *")
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        raise ValueError(
            f"matmul: shapes {x.shape} and {y.shape}: the last axis of the first, {x.shape[-1]}, must "
            f"equal the {'second last' if y.ndim > 1 else 'only'} axis of the second, "
            f"{y.shape[-2 if y.ndim > 1 else -1]}"
        )
    z = _matmul(x if x.ndim > 1 else reshape(x, (1, -1)), y if y.ndim > 1 else reshape(y, (-1, 1)))
    if x.ndim == 1 or y.ndim == 1:
        rows = z.shape[:-2] + (() if x.ndim == 1 else z.shape[-2:-1])
        z = reshape(z, rows + (() if y.ndim == 1 else z.shape[-1:]))
    return z


@op
def _dense(be, x, w, b, activation):
    y = be.dense(x, w, b, activation == "relu")
    y_or_none = y if activation == "relu" else None  # keep the output only where its sign is needed
    slope = None
    if activation in ("tanh", "sigmoid"):  # their derivatives are of their outputs: these take the sum's place
        y, slope = getattr(be, activation)(y, out=y), getattr(be, f"{activation}_grad")
    has_bias = b is not None

    def vjp(g, need):
        g = g if slope is None else slope(g, y)
        return be.dense_grad(g, x, w, y_or_none, (need[0], need[1], has_bias and need[2]))

    return y, vjp


def dense(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, relu: bool = False, activation: str | None = None
) -> Tensor:
    """x (…, in) @ w (in, out) + b (out,), and in the same step an activation: "relu", "tanh" or "sigmoid".

    relu=True: activation="relu".

    Returns: a Tensor (…, out).
    Raises: ValueError where features or the bias do not fit the weight, or the activation is another one.
    """
    if len(w.shape) != 2 or not x.ndim or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"dense: input {x.shape} has {x.shape[-1] if x.ndim else 'no'} features, the weight {w.shape} "
            f"expects {w.shape[0]}"
        )
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"dense: bias {b.shape} does not fit weight {w.shape}; it must be {w.shape[1:]}")
    if activation not in (None, "relu", "tanh", "sigmoid"):
        raise ValueError(f'dense: activation={activation!r} is none of "relu", "tanh" and "sigmoid"')
    activation = "relu" if relu else activation
    if activation not in (None, "relu") and x.dtype.kind != "f" and w.dtype.kind != "f":
        x = x.astype(np.float64)
    rows = x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    y = _dense(rows, w, b, activation)
    return y if x.ndim == 2 else reshape(y, (*x.shape[:-1], w.shape[1]))


T: Any = Tensor
T.__matmul__ = matmul
T.__rmatmul__ = lambda x, y: matmul(y, x)
