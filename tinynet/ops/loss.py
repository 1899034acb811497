"""Losses. `reduction` is "mean", "sum" or "none" throughout.

The softmax cross-entropy of one row x of logits against target weights q ≥ 0, one a class, is

    L = -Σ_c q_c log p_c = Σ_c q_c (log Σ_k exp(x_k) - x_c)      with p = softmax(x),
    dL/dx_k = (Σ_c q_c) p_k - q_k,

as the gradient of log Σ exp is p. All kinds of labels are such weights: a class number y is q = 1 at y, 0 elsewhere;
probabilities t are q = t; smoothing by ε (Szegedy et al. 2016) makes (1 - ε) q + ε / K of them; class weights w make
w_c q_c of that. The mean of class numbers' losses is their sum over Σ w_y, of labels that are not ignored.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from ..autograd import op
from ..integers import class_numbers, count
from ..tensor import Tensor, tensor
from . import reduce
from .activation import softplus
from .elementwise import where
from .embedding import embedding
from .index import one_hot
from .norm import shares
from .shape import getitem

__all__ = ["binary_cross_entropy_with_logits", "mse", "nll_loss", "softmax_cross_entropy"]

NAME = "softmax_cross_entropy"
Labels = Any  # integers (N,): a Tensor, an array, a list


# ---- softmax cross-entropy ------------------------------------------------------------------------------


@op
def _softmax_cross_entropy(be, logits, labels, scale):
    losses, saved = be.softmax_cross_entropy(logits, labels, scale)
    return losses, lambda g, need: (be.softmax_cross_entropy_grad(g, saved),)


def softmax_cross_entropy(
    logits: Tensor,
    labels: Labels,
    *,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    weight: Any = None,
    ignore_index: int | None = None,
) -> Tensor:
    """-log softmax(logits)[label]: stable for any finite logits. The options are PyTorch's.

    Args:
        logits: a floating Tensor (…, K).
        labels: integers (…) in [0, K), or floats (…, K) in [0, 1], the probabilities of the classes: a Tensor, an
            array, a list.
        label_smoothing: ε in [0, 1], the share of a label that all classes get alike.
        weight: (K,) a class's weight in the sum, a constant. The mean of class numbers' losses is then the weighted
            mean; that of probabilities' is their sum over the number of rows.
        ignore_index: a label that does not count; of labels that are all ignored, loss and gradient are 0.
    Returns: a 0-d Tensor, or (…) with reduction="none".
    Raises: ValueError where shapes do not fit or a label is out of range (labels that lie on a device already are not
    looked at: that would wait for it); TypeError where logits are not floating or labels are no integers.
    """
    _in_order("softmax_cross_entropy(logits, labels)", logits, labels)
    reduce.floating("softmax_cross_entropy", logits)
    if label_smoothing or weight is not None or ignore_index is not None or (logits.ndim, np.ndim(labels)) != (2, 1):
        return _any_cross_entropy(logits, labels, reduction, label_smoothing, weight, ignore_index)
    labels = class_numbers("softmax_cross_entropy", labels, logits.shape)
    rows, fused = logits.shape[0], reduction in ("mean", "sum") and logits.dtype != np.float16
    if fused and rows:  # in one launch on a device; float16 is added up in float32
        return _softmax_cross_entropy(logits, labels, 1 / rows if reduction == "mean" else 1.0)
    return _reduced("softmax_cross_entropy", _softmax_cross_entropy(logits, labels, None), reduction)


def _any_cross_entropy(
    logits: Tensor, labels: Labels, reduction: str, smoothing: float, weight: Any, ignore_index: int | None
) -> Tensor:
    """The same for all shapes and options, by operations that exist."""
    if not (isinstance(smoothing, Real) and 0 <= smoothing <= 1):
        raise ValueError(f"{NAME}: label_smoothing={smoothing!r:.60} must be a number in [0, 1]")
    labels = labels if isinstance(labels, Tensor) else np.asarray(labels)
    if logits.dtype == np.float16:  # which is added up in float32
        losses = _any_cross_entropy(logits.astype(np.float32), labels, reduction, smoothing, weight, ignore_index)
        return losses.astype(np.float16)
    if weight is not None:
        if np.shape(weight) != logits.shape[-1:]:
            raise ValueError(f"{NAME}: weight {np.shape(weight)} must be {logits.shape[-1:]}, one a class")
        weight = _beside(weight, logits).detach()
    if labels.dtype.kind != "f" or labels.shape != logits.shape:
        return _of_classes(logits, labels, reduction, smoothing, weight, ignore_index)
    if ignore_index is not None:
        raise ValueError(f"{NAME}: ignore_index={ignore_index!r:.60} is for class numbers, and labels are floats")
    return _reduced(NAME, _against(logits, _probabilities(labels, logits), smoothing, weight), reduction)


def _of_classes(
    logits: Tensor, labels: Any, reduction: str, smoothing: float, weight: Tensor | None, ignore_index: int | None
) -> Tensor:
    """The loss of class numbers (…): by the kernel of the plain one where nothing is smoothed."""
    plain = weight is ignore_index is None
    if ignore_index is not None:
        counted = labels != count(NAME, "ignore_index", ignore_index)
        labels = (where if isinstance(labels, Tensor) else np.where)(counted, labels, 0)
    labels = class_numbers(NAME, labels, logits.shape)
    labels = labels if isinstance(labels, Tensor) else tensor(labels, backend=logits.backend)
    shape, weights = labels.shape, None if weight is None else embedding(labels, weight.reshape((-1, 1)))
    if smoothing:
        losses = _against(logits, one_hot(labels, logits.shape[-1]).astype(logits.dtype), smoothing, weight)
    else:
        rows = logits.reshape((labels.size, logits.shape[-1])), labels.reshape((labels.size,))
        if plain and reduction != "none":
            return softmax_cross_entropy(*rows, reduction=reduction)
        losses = _softmax_cross_entropy(*rows, None).reshape(shape)
    if weights is not None:
        weights = weights.reshape(shape)
        losses = losses if smoothing else losses * weights
    if ignore_index is not None:
        losses, counted = where(counted, losses, 0.0), _beside(counted, logits)
        weights = counted if weights is None else weights * counted
    if weights is None or reduction != "mean":
        return _reduced(NAME, losses, reduction)
    return _weighted_mean(losses, weights)


def _against(logits: Tensor, target: Tensor, smoothing: float, weight: Tensor | None) -> Tensor:
    """-Σ q log softmax(logits) of each row, where q is the target, smoothed, times the classes' weights."""
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logits.shape[-1]
    return -reduce.sum(reduce.log_softmax(logits) * (target if weight is None else target * weight), -1)


def _beside(value: Any, x: Tensor) -> Tensor:
    """The value as a tensor of x's dtype, on x's backend where it was none."""
    if not isinstance(value, Tensor):
        return tensor(value, dtype=x.dtype, backend=x.backend)
    return value if value.dtype == x.dtype else value.astype(x.dtype)


def _probabilities(labels: Any, logits: Tensor) -> Tensor:
    """Floats (…, K) that may be probabilities. ValueError where they cannot, as the targets of a regression."""
    values = labels.data if isinstance(labels, Tensor) else labels
    if logits.ndim < 2:
        raise ValueError(
            f"{NAME}: logits {logits.shape} and labels {labels.shape} have one axis: write logits[None] for one row of "
            "classes; for one value a sample use ops.binary_cross_entropy_with_logits, or ops.mse"
        )
    if isinstance(values, np.ndarray) and values.size and not -1e-3 <= values.min() <= values.max() <= 1 + 1e-3:
        raise ValueError(
            f"{NAME}: labels {labels.shape} of dtype {labels.dtype} are probabilities and run from {values.min()} to "
            f"{values.max()}; they must be in [0, 1] (for numbers use ops.mse)"
        )
    return _beside(labels, logits)


def _weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Σ losses / Σ weights, 0 where no label has a weight. Replicas divide by the sum of all of them."""
    if shares.parts:
        raise ValueError(
            f"{NAME}: the mean by weight= or ignore_index= is not the mean of a batch's parts (accumulate=): use "
            'reduction="none" and .mean() of it, which counts all rows, or accumulate=1'
        )
    total = shares.divisor(reduce.sum(weights))
    return reduce.sum(losses) / where(total == 0, 1.0, total)


# ---- others ---------------------------------------------------------------------------------------------


def nll_loss(log_probabilities: Tensor, labels: Labels, *, reduction: str = "mean") -> Tensor:
    """The negative log-likelihood -log p[label], from log-probabilities (…, K) as log_softmax returns them.

    Args: log_probabilities (…, K); labels (…) integers in [0, K).
    Returns: a 0-d Tensor, or (…) with reduction="none".
    Raises: ValueError where shapes do not fit or a label is out of range.
    """
    _in_order("nll_loss(log_probabilities, labels)", log_probabilities, labels)
    labels = class_numbers("nll_loss", labels, log_probabilities.shape)
    own = getitem(log_probabilities, (*np.ogrid[tuple(map(slice, log_probabilities.shape[:-1]))], labels))
    return _reduced("nll_loss", -own, reduction)


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
