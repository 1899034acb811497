"""Scores of a classifier over a whole set of samples, from its labels and probabilities: arrays in, numbers out.

>>> p = tn.predict(model, x)  # (N, K)
>>> tn.insight.roc_curve(y == 3, p[:, 3]).area
>>> tn.insight.calibration(y, p).error

Precision and its kin are no means over samples, so `fit(metrics=…)` has none of them: it measures batch by batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..integers import count
from ..training.metrics import among_top


class ClassScores(NamedTuple):
    """What `class_scores` returns, each (K,)."""

    precision: np.ndarray  # of those predicted to be in a class, the share that is; 0 where none is predicted
    recall: np.ndarray  # of those in a class, the share that is found; 0 where there are none
    f1: np.ndarray  # the harmonic mean of both
    support: np.ndarray  # how many are in the class


class Curve(NamedTuple):
    """A curve over all thresholds, and the area under it."""

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray  # what a score must reach, for each point
    area: float


class Calibration(NamedTuple):
    """What `calibration` returns: a row for each bin that holds samples, and two errors."""

    confidence: np.ndarray  # the mean probability of the predictions in a bin
    accuracy: np.ndarray  # the share of them that is right
    samples: np.ndarray  # how many they are
    error: float  # expected calibration error: the mean of |confidence - accuracy| over samples
    worst: float  # the largest |confidence - accuracy|


def confusion(labels: Any, predictions: Any, classes: int | None = None) -> np.ndarray:
    """The confusion matrix (K, K) of counts, rows true classes, columns predicted ones.

    Args: labels, predictions: (N,) class numbers. classes: K, by default one more than the largest number.
    Raises: ValueError where they are no class numbers below K, one for each sample.
    """
    true, seen = np.asarray(labels), np.asarray(predictions)
    fine = true.ndim == 1 and true.shape == seen.shape and true.dtype.kind in "iub" and seen.dtype.kind in "iub"
    if not fine or not true.size or min(true.min(), seen.min()) < 0:
        raise ValueError(
            f"confusion: labels and predictions must be class numbers (N,) from 0 on, got {true.shape} of {true.dtype} "
            f"and {seen.shape} of {seen.dtype}"
        )
    most = 1 + int(max(true.max(), seen.max()))
    k = most if classes is None else count("confusion", "classes", classes, most)
    return np.bincount(true.astype(np.int64) * k + seen.astype(np.int64), minlength=k * k).reshape(k, k)


def class_scores(matrix: np.ndarray) -> ClassScores:
    """Precision, recall and F1 of each class (van Rijsbergen 1979), from a confusion matrix (K, K)."""
    right, predicted, true = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    return ClassScores(_ratio(right, predicted), _ratio(right, true), _ratio(2 * right, predicted + true), true)


def roc_curve(positive: Any, scores: Any) -> Curve:
    """The receiver operating characteristic (Fawcett 2006): x the share of negatives that reach the threshold, y that
    of positives. It starts at (0, 0), the threshold infinity; then a point for each score, the largest first.

    Args: positive: (N,) bools. scores: (N,), larger where a positive is likelier.
    Returns: the curve; its area is the probability that a positive scores higher than a negative, ties counted half.
    Raises: ValueError where shapes differ, a score is NaN, or positives or negatives are missing.
    """
    hits, reached, thresholds = _cumulated("roc_curve", positive, scores)
    misses = reached - hits
    if not hits[-1] or not misses[-1]:
        raise ValueError("roc_curve: there must be a positive and a negative sample at least")
    x, y = (np.concatenate([[0.0], counts / counts[-1]]) for counts in (misses, hits))
    return Curve(x, y, np.concatenate([[np.inf], thresholds]), float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2))


def precision_recall_curve(positive: Any, scores: Any) -> Curve:
    """x the recall, y the precision of calling all positive that reach a threshold; a point for each score, the
    largest first.

    Args: as `roc_curve`.
    Returns: the curve; its area is the average precision, Σ (R_n - R_(n-1)) P_n, without interpolation
        (Davis & Goadrich 2006 say why).
    Raises: ValueError where shapes differ, a score is NaN, or there is no positive.
    """
    hits, reached, thresholds = _cumulated("precision_recall_curve", positive, scores)
    if not hits[-1]:
        raise ValueError("precision_recall_curve: there must be a positive sample at least")
    recall, precision = hits / hits[-1], hits / reached
    return Curve(recall, precision, thresholds, float(np.sum(np.diff(recall, prepend=0.0) * precision)))


def top_k_accuracy(labels: Any, scores: Any, k: int) -> float:
    """The share of samples whose label (N,) is among the k largest scores (N, K), the first of equal ones before the
    others; `fit(metrics="top_5")` measures the same."""
    labels, scores = _classified("top_k_accuracy", labels, scores)
    return float(among_top(scores, labels, count("top_k_accuracy", "k", k, 1)).mean())


def calibration(labels: Any, probabilities: Any, bins: int = 10) -> Calibration:
    """Whether a classifier is right as often as it says (Guo et al. 2017, equations 2 and 3).

    Predictions are sorted by their probability into `bins` of equal width, (a, b] each.

    Args: labels: (N,) class numbers. probabilities: (N, K), as `tn.predict` returns them; or (N,), that of class 1 of
        two, whose bins then are of that probability and whose accuracy is the share of class 1.
    Raises: ValueError where they do not fit, or probabilities are not within [0, 1].
    """
    p, bins = np.asarray(probabilities, np.float64), count("calibration", "bins", bins, 1)
    if p.ndim == 1:
        right, sure = _binary("calibration", labels, p)
    else:
        labels, p = _classified("calibration", labels, p)
        right, sure = p.argmax(1) == labels, p.max(1)
    if p.min() < 0 or p.max() > 1 + 1e-6:
        raise ValueError(
            f"calibration: probabilities must be within [0, 1]; they reach from {p.min():g} to {p.max():g}"
        )
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], sure)
    held = np.bincount(place, minlength=bins)
    used = held > 0
    confidence, accuracy = (np.bincount(place, v, bins)[used] / held[used] for v in (sure, right))
    gap = np.abs(confidence - accuracy)
    return Calibration(confidence, accuracy, held[used], float(gap @ held[used] / len(p)), float(gap.max()))


def _cumulated(name: str, positive: Any, scores: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(how many positives, how many samples reach it, the threshold) for each different score, the largest first."""
    positive, scores = _binary(name, positive, scores)
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    last = np.append(np.flatnonzero(sorted_scores[1:] != sorted_scores[:-1]), len(scores) - 1)  # of equal scores each
    return np.cumsum(positive[order])[last], 1.0 + last, sorted_scores[last]


def _binary(name: str, positive: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Whether each sample is positive (N,), as bools, and its score (N,), as float64."""
    positive, scores = np.asarray(positive), np.asarray(scores, np.float64)
    if positive.shape != scores.shape or scores.ndim != 1 or not scores.size or np.isnan(scores).any():
        raise ValueError(
            f"{name}: wants two arrays (N,) without NaN, got the shapes {positive.shape} and {scores.shape}; of a "
            "probability of each class (N, K) take one column, p[:, 3]"
        )
    if not np.isin(positive, (0, 1)).all():
        raise ValueError(f"{name}: positive must hold bools, or 0 and 1; of class numbers y write y == 3")
    return positive == 1, scores


def _classified(name: str, labels: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers (N,) and scores (N, K) that fit them."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    fine = scores.ndim == 2 and scores.size and labels.shape == scores.shape[:1] and labels.dtype.kind in "iu"
    if not fine or labels.min() < 0 or labels.max() >= scores.shape[1] or np.isnan(scores).any():
        raise ValueError(
            f"{name}: wants class numbers (N,) and, for each class, scores (N, K) without NaN; got {labels.shape} of "
            f"{labels.dtype} and {scores.shape}"
        )
    return labels, scores


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
