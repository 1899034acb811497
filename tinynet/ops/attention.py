"""Attention: for each query a mean of the values, weighted by how well their keys fit (Vaswani et al. 2017)."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor
from .random import STREAMS, state
from .reduce import floating

__all__ = ["scaled_dot_product_attention"]


@op
def _scaled_dot_product_attention(be, q, k, v, mask, causal, rate, draw):
    scale, axes, low = 1 / math.sqrt(q.shape[-1]), (q.ndim - 1,), float(np.finfo(q.dtype).min) / 2
    q = be.multiply(q, scale)
    p = be.matmul(q, k, False, True)  # (…, T, S): scores, then in their place probabilities
    if mask is not None:  # a finite number, so that a row of nothing else has no NaN
        mask = be.asarray(mask, np.bool_)
        p = be.where(mask, p, low)
    elif causal:  # each row has its first key at least
        p = be.add(p, be.asarray(_later(*p.shape[-2:], low, p.dtype)), out=p)
    p = be.softmax(p, axes, out=p)
    if mask is not None:
        p = be.where(mask, p, 0.0)
    dropped, saved = (p, None) if draw is None else be.dropout(p, rate, *draw)

    def vjp(g, need):
        dv = be.matmul(dropped, g, True) if need[2] else None
        if not (need[0] or need[1]):
            return None, None, dv
        ds = be.matmul(g, v, False, True)
        ds = ds if saved is None else be.dropout_grad(ds, saved)
        ds = be.softmax_grad(ds, p, axes, out=ds)
        dq = be.multiply(be.matmul(ds, k), scale) if need[0] else None
        return dq, be.matmul(ds, q, True) if need[1] else None, dv

    return be.matmul(dropped, v), vjp


@functools.lru_cache(8)
def _later(queries: int, keys: int, low: float, dtype: np.dtype) -> np.ndarray:
    """What is added to the scores (T, S): `low` where the key comes after the query, else 0."""
    later = np.where(np.tri(queries, keys, dtype=np.bool_), 0, low).astype(dtype)
    later.flags.writeable = False
    return later


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Any = None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """softmax(q kᵀ / √D) v for q (…, T, D), k (…, S, D), v (…, S, E) → (…, T, E), as (N, heads, T, D).

    Args:
        mask: bools that broadcast to (…, T, S); True: attend. A query that may attend nothing gets zeros.
        causal: query t attends keys 0 … t only; together with a mask, both must allow it.
        dropout: the share of weights that is dropped, as by ops.dropout: for training only.

    Returns: a Tensor of q's dtype.
    Raises: ValueError where the shapes do not fit, TypeError where the mask holds no bools.
    """
    name = "scaled_dot_product_attention"
    for x in (q, k, v):
        floating(name, x)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(f"{name}: q {q.shape}, k {k.shape} and v {v.shape} must be (…, T, D), (…, S, D) and (…, S, E)")
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout={dropout!r} must be in [0, 1)")
    if mask is not None and (mask if hasattr(mask, "dtype") else np.asarray(mask)).dtype != np.bool_:
        raise TypeError(
            f"{name}: the mask must hold bools, True where a query may attend; a mask of numbers is mask > …"
        )
    if causal and mask is not None:
        earlier = np.tri(q.shape[-2], k.shape[-2], dtype=np.bool_)
        mask = (mask.numpy() if isinstance(mask, Tensor) else np.asarray(mask)) & earlier
    draw = (state.seed, STREAMS["dropout"], state.next("dropout"), state.first) if dropout else None
    return _scaled_dot_product_attention(q, k, v, mask, bool(causal), dropout, draw)
