"""Gradient clipping, between `backward` and `step`. Nothing is read back to the host."""

from __future__ import annotations

from collections.abc import Iterable

from ..tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint Euclidean norm is at most max_norm (Pascanu et al. 2013).

    Returns: the norm before, as a 0-d Tensor.
    """
    have = [p for p in params if p.grad is not None]
    if not have:
        raise ValueError("clip_grad_norm: no parameter has a gradient; call backward first")
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm={max_norm!r} must be > 0")
    grads = [p.grad for p in have if p.grad is not None]
    squares = [(g * g).sum() for g in grads]
    while len(squares) > 1:     # in pairs: of many parameters the rounding errors do not grow with their number
        squares = [sum(squares[i + 1 : i + 2], squares[i]) for i in range(0, len(squares), 2)]
    norm = squares[0].sqrt()
    scale = (max_norm / (norm + 1e-6)).clip(None, 1.0)
    for p, g in zip(have, grads, strict=True):
        p.grad = (g * scale).astype(g.dtype) if g.dtype != scale.dtype else g * scale
    return norm


def clip_grad_value(params: Iterable[Tensor], limit: float) -> None:
    """Limit every element of every gradient to [-limit, limit]."""
    if not limit > 0:
        raise ValueError(f"clip_grad_value: limit={limit!r} must be > 0")
    for p in params:
        if p.grad is not None:
            p.grad = p.grad.clip(-limit, limit)
