"""Losses. `reduction` is "mean", "sum" or "none" throughout."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor
from . import reduce
from .elementwise import softplus
from .shape import getitem

Labels = Any   # an integer Tensor or ndarray (N,)


@op
def _softmax_cross_entropy(be, logits, labels):
    losses, saved = be.softmax_cross_entropy(logits, labels)
    return losses, lambda g, need: (be.softmax_cross_entropy_grad(g, saved),)


def softmax_cross_entropy(logits: Tensor, labels: Labels, *, reduction: str = "mean") -> Tensor:
    """-log softmax(logits)[label]: stable for any finite logits.

    Args: logits (N, K); labels (N,) integers in [0, K), an integer Tensor or ndarray.
    Returns: a 0-d Tensor, or (N,) with reduction="none".
    Raises: ValueError where shapes do not fit or a label is out of range (labels that lie on a device
    already are not looked at: that would wait for it).
    """
    return _reduced("softmax_cross_entropy",
                    _softmax_cross_entropy(logits, _checked_labels("softmax_cross_entropy", logits, labels)), reduction)


def nll_loss(log_probabilities: Tensor, labels: Labels, *, reduction: str = "mean") -> Tensor:
    """The negative log-likelihood -log p[label], from log-probabilities (N, K) as log_softmax gives them."""
    labels = _checked_labels("nll_loss", log_probabilities, labels)
    rows = np.arange(log_probabilities.shape[0])
    host = labels.numpy() if isinstance(labels, Tensor) else labels
    return _reduced("nll_loss", -getitem(log_probabilities, (rows, host)), reduction)


def mse(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared error (prediction - target)². The shapes must be equal: broadcasting here hides mistakes."""
    _same_shape("mse", prediction, target)
    away = prediction - target
    return _reduced("mse", away * away, reduction)


def binary_cross_entropy_with_logits(logits: Tensor, targets: Any, *, reduction: str = "mean") -> Tensor:
    """-t log σ(x) - (1 - t) log(1 - σ(x)) = softplus(x) - t·x: stable for any finite logits; targets in [0, 1]."""
    _same_shape("binary_cross_entropy_with_logits", logits, targets)
    return _reduced("binary_cross_entropy_with_logits", softplus(logits) - logits * targets, reduction)


def _reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{name}: reduction={reduction!r} must be \"mean\", \"sum\" or \"none\"")
    return reduce.mean(losses) if reduction == "mean" else reduce.sum(losses)


def _same_shape(name: str, x: Tensor, y: Any) -> None:
    if np.shape(y) != x.shape:
        raise ValueError(f"{name}: prediction {x.shape} and target {np.shape(y)} must have one shape"
                         f"{'; reshape the target to match' if np.size(y) == x.size else ''}")


def _checked_labels(name: str, logits: Tensor, labels: Labels) -> Labels:
    """Labels fit for the kernels; those on the host are checked."""
    if not isinstance(labels, Tensor):
        labels = np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        hint = "" if labels.ndim != 2 else "; labels are class numbers, not " + (
            "one-hot rows: use labels.argmax(1)" if labels.shape[1] > 1 else "rows of one: use labels[:, 0]")
        raise ValueError(f"{name}: logits {logits.shape} must be (N, K) and labels {labels.shape} (N,){hint}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels have dtype {labels.dtype}; they must be integers, as in labels.astype(int)")
    host = labels if isinstance(labels, np.ndarray) else labels.data if labels.backend.name == "numpy" else None
    if host is not None and host.size and not 0 <= host.min() <= host.max() < logits.shape[1]:
        raise ValueError(f"{name}: labels run from {host.min()} to {host.max()}, the logits {logits.shape} have "
                         f"classes 0 to {logits.shape[1] - 1}")
    return labels
