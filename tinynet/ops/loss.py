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
from .activation import relu, sigmoid, softplus
from .elementwise import abs, clip, log, maximum, minimum, where
from .embedding import embedding
from .index import one_hot
from .norm import shares
from .shape import getitem

__all__ = [
    "binary_cross_entropy_with_logits",
    "cosine_embedding",
    "cosine_similarity",
    "dice",
    "focal",
    "hinge",
    "huber",
    "kl_divergence",
    "l1",
    "mse",
    "nll_loss",
    "softmax_cross_entropy",
    "triplet_margin",
]

NAME = "softmax_cross_entropy"

# ---- softmax cross-entropy ------------------------------------------------------------------------------


@op
def _softmax_cross_entropy(be, logits, labels, scale):
    losses, saved = be.softmax_cross_entropy(logits, labels, scale)
    return losses, lambda g, need: (be.softmax_cross_entropy_grad(g, saved),)


def softmax_cross_entropy(
    logits: Tensor,
    labels: Any,
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
    logits: Tensor, labels: Any, reduction: str, smoothing: float, weight: Any, ignore_index: int | None
) -> Tensor:
    """The same for all shapes and options, by operations that exist."""
    if not (isinstance(smoothing, Real) and 0 <= smoothing <= 1):
        raise ValueError(f"{NAME}: label_smoothing={smoothing!r:.60} must be a number in [0, 1]")
    logits, labels = reduce.computed(NAME, logits), labels if isinstance(labels, Tensor) else np.asarray(labels)
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
    shape = labels.shape
    weights = None if weight is None else embedding(labels, weight.reshape((-1, 1))).reshape(shape)
    if smoothing:
        losses = _against(logits, one_hot(labels, logits.shape[-1]).astype(logits.dtype), smoothing, weight)
    else:
        rows = logits.reshape((labels.size, logits.shape[-1])), labels.reshape((labels.size,))
        if plain and reduction != "none":
            return softmax_cross_entropy(*rows, reduction=reduction)
        losses = _softmax_cross_entropy(*rows, None).reshape(shape)
    losses = losses if weights is None or smoothing else losses * weights
    if ignore_index is not None:
        losses, counted = where(counted, losses, 0.0), _beside(counted, logits)
        weights = counted if weights is None else weights * counted
    return _reduced(NAME, losses, reduction, weights)


def _against(logits: Tensor, target: Tensor, smoothing: float, weight: Tensor | None) -> Tensor:
    """-Σ q log softmax(logits) of each row, where q is the target, smoothed, times the classes' weights."""
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logits.shape[-1]
    return -reduce.sum(reduce.log_softmax(logits) * (target if weight is None else target * weight), -1)


def _probabilities(labels: Any, logits: Tensor) -> Tensor:
    """Floats (…, K) that may be probabilities. ValueError where they cannot, as the targets of a regression."""
    if logits.ndim < 2:
        raise ValueError(
            f"{NAME}: logits and labels {labels.shape} have one axis: write logits[None] for one row of classes; for "
            "one value a sample use ops.binary_cross_entropy_with_logits, or ops.mse"
        )
    t = _beside(labels, logits)
    if t.backend.name == "numpy" and t.size and not -1e-3 <= t.data.min() <= t.data.max() <= 1 + 1e-3:
        raise ValueError(
            f"{NAME}: labels {t.shape} of floats are probabilities and run from {t.data.min()} to {t.data.max()}; they "
            "must be in [0, 1] (for numbers use ops.mse)"
        )
    return t


# ---- of class numbers ----------------------------------------------------------------------------------


def nll_loss(log_probabilities: Tensor, labels: Any, *, reduction: str = "mean") -> Tensor:
    """The negative log-likelihood -log p[label], from log-probabilities (…, K) as log_softmax returns them.

    Args: log_probabilities (…, K); labels (…) integers in [0, K).
    Returns: a 0-d Tensor, or (…) with reduction="none".
    Raises: ValueError where shapes do not fit or a label is out of range.
    """
    _in_order("nll_loss(log_probabilities, labels)", log_probabilities, labels)
    labels = class_numbers("nll_loss", labels, log_probabilities.shape)
    own = getitem(log_probabilities, (*np.ogrid[tuple(map(slice, log_probabilities.shape[:-1]))], labels))
    return _reduced("nll_loss", -own, reduction)


def hinge(scores: Tensor, labels: Any, *, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """Σ max(0, margin - score[label] + score[c]) / K over all classes c but the label (Crammer & Singer 2001; as
    PyTorch's multi_margin_loss).

    Args: scores (…, K); labels (…) integers in [0, K); margin: by how much the label's score is to be the largest.
    Returns: a 0-d Tensor, or (…) with reduction="none".
    Raises: ValueError where shapes do not fit or a label is out of range.
    """
    _in_order("hinge(scores, labels)", scores, labels)
    scores, labels = reduce.computed("hinge", scores, "float64"), class_numbers("hinge", labels, np.shape(scores))
    labels = labels if isinstance(labels, Tensor) else tensor(labels, backend=scores.backend)
    own = one_hot(labels, scores.shape[-1]).astype(scores.dtype)
    excess = scores - reduce.sum(scores * own, -1, True) + (1 - own) * margin  # the label's own is 0
    return _reduced("hinge", reduce.sum(relu(excess), -1) / scores.shape[-1], reduction)


# ---- of values ------------------------------------------------------------------------------------------


def mse(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared error (prediction - target)². The shapes must be equal: broadcasting here hides mistakes.

    Args: prediction: a Tensor of any shape; target: of the same.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    prediction = _of_shape("mse", prediction, target)
    away = prediction - target
    return _reduced("mse", away * away, reduction)


def l1(y: Tensor, t: Any, *, reduction: str = "mean") -> Tensor:
    """The absolute error |y - t|; the derivative at 0 is 0.

    Args: y: a Tensor of any shape; t: the target, of the same.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    y, t = _pair("l1", y, t)
    return _reduced("l1", abs(y - t), reduction)


def huber(y: Tensor, t: Any, delta: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """(y - t)² / 2 where |y - t| <= delta, else delta·(|y - t| - delta / 2) (Huber 1964).

    Args: y: a Tensor of any shape; t: the target, of the same; delta: a number > 0, where the slope stops growing.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ or delta is not > 0.
    """
    if not delta > 0:
        raise ValueError(f"huber: delta={delta!r:.60} must be a number > 0")
    y, t = _pair("huber", y, t)
    away = y - t
    near = clip(away, -delta, delta)
    return _reduced("huber", near * (away - near / 2), reduction)


def binary_cross_entropy_with_logits(logits: Tensor, targets: Any, *, reduction: str = "mean") -> Tensor:
    """-t log σ(x) - (1 - t) log(1 - σ(x)) = softplus(x) - t·x: stable for any finite logits; targets in [0, 1].

    Args: logits: a Tensor of any shape; targets: of the same.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    logits = _of_shape("binary_cross_entropy_with_logits", logits, targets)
    return _reduced("binary_cross_entropy_with_logits", softplus(logits) - logits * targets, reduction)


def focal(
    logits: Tensor, targets: Any, *, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "mean"
) -> Tensor:
    """-α_t (1 - p_t)^γ log p_t, the binary cross-entropy without what is easy (Lin et al. 2017, equation 5): p_t is
    σ(x) where the target is 1 and 1 - σ(x) where it is 0; α_t is α and 1 - α likewise.

    Args: logits: a Tensor of any shape; targets: of the same, in [0, 1] (of class numbers, `one_hot(labels, K)`);
        alpha: the weight of the ones, None: all weigh 1; gamma: a number >= 0; 0 is the cross-entropy.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    x, t = _pair("focal", logits, targets)
    wrong = sigmoid(x) * (1 - t) + sigmoid(-x) * t  # 1 - p_t
    losses = wrong**gamma * (softplus(x) - x * t)
    return _reduced("focal", losses if alpha is None else losses * (t * alpha + (1 - t) * (1 - alpha)), reduction)


def kl_divergence(log_p: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """t·(log t - log p), 0 where t is 0: how far p is from the distribution t (Kullback & Leibler 1951).

    Args: log_p: log-probabilities, a Tensor of any shape; target: probabilities t, of the same; reduction: "batchmean"
        too, the sum over the first axis' size: the divergence of a sample. "mean" is over all values, as PyTorch's.
    Returns: a 0-d Tensor, or one of that shape with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    log_p, t = _pair("kl_divergence", log_p, target)
    losses = t * (log(where(t > 0, t, 1.0)) - log_p)
    by_batch = reduction == "batchmean"
    return reduce.sum(losses) / len(losses) if by_batch else _reduced("kl_divergence", losses, reduction)


def dice(p: Tensor, t: Any, *, axis: Any = None, reduction: str = "mean") -> Tensor:
    """1 - 2 Σ p t / (Σ p² + Σ t²) = Σ (p - t)² / (Σ p² + Σ t²), 0 where both are empty (Milletari et al. 2016).

    Args: p: probabilities of a pixel's being inside, a Tensor (N, …); t: the mask, of the same shape; axis: what is
        summed over; None: all but the first, one loss a sample (of a vector, all).
    Returns: a 0-d Tensor, or (N,), the shape without `axis`, with reduction="none".
    Raises: ValueError where the shapes differ or an axis is out of range.
    """
    p, t = _pair("dice", p, t)
    axis = tuple(range(p.ndim > 1, p.ndim)) if axis is None else axis
    away, sizes = p - t, reduce.sum(p * p, axis) + reduce.sum(t * t, axis)
    return _reduced("dice", reduce.sum(away * away, axis) / where(sizes == 0, 1.0, sizes), reduction)


# ---- of vectors, in the last axis -----------------------------------------------------------------------


def cosine_similarity(x: Tensor, y: Any, axis: int = -1, eps: float = 1e-8) -> Tensor:
    """Σ x y / (|x| |y|) along `axis`, in [-1, 1]; lengths below eps count as eps.

    Args: x, y: tensors or arrays that broadcast together; axis: an int.
    Returns: a Tensor of the broadcast shape without the axis.
    Raises: ValueError where shapes do not broadcast or the axis is out of range.
    """
    x, y = (reduce.computed("cosine_similarity", v, "float64") for v in (x, y))
    products = x * y
    axis = reduce.axes_of("cosine_similarity", (axis,), products.ndim)[0] - products.ndim
    a, b = (maximum(reduce.norm(v, 2, axis), eps) for v in (x, y))
    return reduce.sum(products, axis) / (a * b)


def cosine_embedding(x: Tensor, y: Any, labels: Any, *, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """1 - cos where the label is 1, max(0, cos - margin) where it is -1: of pairs that are alike, or are not.

    Args: x, y: (…, features), tensors or arrays; labels (…), each 1 or -1; margin: a cosine that is small enough.
    Returns: a 0-d Tensor, or (…) with reduction="none".
    Raises: ValueError where shapes do not fit, or where a label is another (on a device nobody looks).
    """
    cosines = cosine_similarity(x, y)
    signs = _beside(labels, cosines)
    if signs.shape != cosines.shape:
        raise ValueError(f"cosine_embedding: labels {signs.shape} must be {cosines.shape}, one a pair")
    if signs.backend.name == "numpy" and not (np.abs(signs.data) == 1).all():
        raise ValueError("cosine_embedding: a label is neither 1 nor -1; from 0 and 1 they are 2 * labels - 1")
    return _reduced("cosine_embedding", where(signs > 0, 1 - cosines, relu(cosines - margin)), reduction)


def triplet_margin(
    anchor: Tensor,
    positive: Any,
    negative: Any,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin) (Schroff et al. 2015, of distances as PyTorch's).

    Args: anchor, positive, negative: (…, features), tensors or arrays of one shape; p: the norm's order, >= 1; eps:
        added to the differences; swap: the negative's distance from the positive counts where it is smaller.
    Returns: a 0-d Tensor, or (…) with reduction="none".
    Raises: ValueError where the shapes differ.
    """
    anchor, positive = _pair("triplet_margin", anchor, positive)
    anchor, negative = _pair("triplet_margin", anchor, negative)
    near, far = (reduce.norm(anchor - v + eps, p, -1) for v in (positive, negative))
    if swap:
        far = minimum(far, reduce.norm(positive - negative + eps, p, -1))
    return _reduced("triplet_margin", relu(near - far + margin), reduction)


# ---- what they share ------------------------------------------------------------------------------------


def _reduced(name: str, losses: Tensor, reduction: str, weights: Tensor | None = None) -> Tensor:
    """The losses reduced; weights, which are in them already: what their sum is divided by, where it is not 0."""
    if reduction == "none":
        return losses
    if reduction not in ("mean", "sum"):
        raise ValueError(f'{name}: reduction={reduction!r} must be "mean", "sum" or "none"')
    if weights is None and reduction == "mean" and not losses.size:
        raise ValueError(f"{name}: shape {losses.shape} has no values; their mean needs one at least")
    if weights is None or reduction == "sum":
        return reduce.mean(losses) if reduction == "mean" else reduce.sum(losses)
    if shares.parts:
        raise ValueError(
            f"{name}: the mean by weight= or ignore_index= is not the mean of a batch's parts (accumulate=): use "
            'reduction="none" and .mean() of it, which counts all rows, or accumulate=1'
        )
    total = shares.divisor(reduce.sum(weights))
    return reduce.sum(losses) / where(total == 0, 1.0, total)


def _in_order(call: str, logits: Any, labels: Any) -> None:
    """Raise where the arguments are the other way round."""
    if np.ndim(labels) == 2 and np.ndim(logits) == 1:
        raise ValueError(
            f"{call.partition('(')[0]}: the arguments are the other way round: the first has shape {np.shape(logits)}, "
            f"the second {np.shape(labels)}; write {call}"
        )


def _of_shape(name: str, x: Any, y: Any) -> Tensor:
    """x as a floating tensor, whose shape must be y's."""
    x = reduce.computed(name, x, "float64")
    if np.shape(y) != x.shape:
        hint = "; reshape the target to match" if np.size(y) == x.size else ""
        raise ValueError(f"{name}: prediction {x.shape} and target {np.shape(y)} must have one shape{hint}")
    return x


def _pair(name: str, y: Any, t: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape and dtype."""
    y = _of_shape(name, y, t)
    return y, _beside(t, y)


def _beside(value: Any, x: Tensor) -> Tensor:
    """The value as a tensor of x's dtype, on x's backend where it was none."""
    if not isinstance(value, Tensor):
        return tensor(value, dtype=x.dtype, backend=x.backend)
    return value if value.dtype == x.dtype else value.astype(x.dtype)
