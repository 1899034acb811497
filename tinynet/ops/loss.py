"""Losses. `reduction` is "mean", "sum" or "none" throughout."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..integers import class_numbers
from ..tensor import Tensor
from . import reduce
from .activation import softplus
from .shape import getitem

__all__ = ["binary_cross_entropy_with_logits", "mse", "nll_loss", "softmax_cross_entropy"]

Labels = Any  # integers (N,): a Tensor, an array, a list


@op
def _softmax_cross_entropy(be, logits, labels, scale):
    losses, saved = be.softmax_cross_entropy(logits, labels, scale)
    return losses, lambda g, need: (be.softmax_cross_entropy_grad(g, saved),)


def softmax_cross_entropy(logits: Tensor, labels: Labels, *, reduction: str = "mean") -> Tensor:
    """-log softmax(logits)[label]: stable for any finite logits.

    Args: logits (N, K); labels (N,) integers in [0, K): a Tensor, an array, a list.
    Returns: a 0-d Tensor, or (N,) with reduction="none".
    Raises: ValueError where shapes do not fit or a label is out of range (labels that lie on a device
    already are not looked at: that would wait for it).
    """
    _in_order("softmax_cross_entropy(logits, labels)", logits, labels)
    reduce.floating("softmax_cross_entropy", logits)
    labels = class_numbers("softmax_cross_entropy", labels, logits.shape)
    rows, fused = logits.shape[0], reduction in ("mean", "sum") and logits.dtype != np.float16
    if fused and rows:  # in one launch on a device; float16 is added up in float32
        return _softmax_cross_entropy(logits, labels, 1 / rows if reduction == "mean" else 1.0)
    return _reduced("softmax_cross_entropy", _softmax_cross_entropy(logits, labels, None), reduction)


def nll_loss(log_probabilities: Tensor, labels: Labels, *, reduction: str = "mean") -> Tensor:
    """The negative log-likelihood -log p[label], from log-probabilities (N, K) as log_softmax returns them.

    Args: log_probabilities (N, K); labels (N,) integers in [0, K).
    Returns: a 0-d Tensor, or (N,) with reduction="none".
    Raises: ValueError where shapes do not fit or a label is out of range.
    """
    _in_order("nll_loss(log_probabilities, labels)", log_probabilities, labels)
    labels = class_numbers("nll_loss", labels, log_probabilities.shape)
    rows = np.arange(log_probabilities.shape[0])
    return _reduced("nll_loss", -getitem(log_probabilities, (rows, labels)), reduction)


def mse(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared error (prediction - target)². The shapes must be equal: broadcasting here hides mistakes.

    Args: prediction: a Tensor of any shape; target: of the same.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    _same_shape("mse", prediction, target)
    away = prediction - target
    return _reduced("mse", away * away, reduction)


def binary_cross_entropy_with_logits(logits: Tensor, targets: Any, *, reduction: str = "mean") -> Tensor:
    """-t log σ(x) - (1 - t) log(1 - σ(x)) = softplus(x) - t·x: stable for any finite logits; targets in [0, 1].

    Args: logits: a Tensor of any shape; targets: of the same.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    _same_shape("binary_cross_entropy_with_logits", logits, targets)
    return _reduced("binary_cross_entropy_with_logits", softplus(logits) - logits * targets, reduction)


def _reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction not in ("mean", "sum"):
        raise ValueError(f'{name}: reduction={reduction!r} must be "mean", "sum" or "none"')
    return reduce.mean(losses) if reduction == "mean" else reduce.sum(losses)


def _in_order(call: str, logits: Any, labels: Any) -> None:
    """Raise where the arguments are the other way round."""
    axes = logits.ndim if isinstance(logits, Tensor) else np.ndim(logits)
    if axes == 1 and np.ndim(labels) == 2:
        raise ValueError(
            f"{call.partition('(')[0]}: the arguments are the other way round: the first has shape {np.shape(logits)}, "
            f"the second {np.shape(labels)}; write {call}"
        )


def _same_shape(name: str, x: Tensor, y: Any) -> None:
    if np.shape(y) != x.shape:
        raise ValueError(
            f"{name}: prediction {x.shape} and target {np.shape(y)} must have one shape"
            f"{'; reshape the target to match' if np.size(y) == x.size else ''}"
        )
