"""Gradient clipping, between `backward` and `step`. Nothing is read back to the host."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint Euclidean norm is at most max_norm (Pascanu et al. 2013).

    Returns: the norm before, as a 0-d Tensor. Where a gradient is NaN or infinite so is the norm, some of the scaled
    gradients are NaN, and the optimiser's step is voided; finite ones are scaled also where their squares overflow.
    """
    have = [p for p in params if p.grad is not None]
    if not have:
        raise ValueError("clip_grad_norm: no parameter has a gradient; call backward first")
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm={max_norm!r} must be > 0")
    grads = [p.grad for p in have if p.grad is not None]
    total, *more = (Tensor(g.backend.squares(g.data), g.backend) for g in grads)
    for square in more:
        total = total + square
    norm = total.sqrt()
    scale = (max_norm / (norm + 1e-6)).clip(None, 1.0)
    with np.errstate(invalid="ignore"):  # infinity times 0
        for p, g in zip(have, grads, strict=True):
            p.grad = g * scale.astype(g.dtype)
    return norm.astype(grads[0].dtype)


def clip_grad_value(params: Iterable[Tensor], limit: float) -> None:
    """Limit every element of every gradient to [-limit, limit], infinite ones, too. NaN stays NaN, and voids the
    optimiser's step."""
    if not limit > 0:
        raise ValueError(f"clip_grad_value: limit={limit!r} must be > 0")
    for p in params:
        if p.grad is not None:
            p.grad = p.grad.clip(-limit, limit)
