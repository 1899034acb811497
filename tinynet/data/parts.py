"""One set of samples divided into several: training, validation, test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np

from ..integers import count
from .files import DataError
from .sources import Arrays


def split(
    x: Any, y: Any, fractions: float | Sequence[float], *, stratify: Any = None, seed: int = 0
) -> list[tuple[Any, Any]]:
    """Divide samples into parts at random.

    >>> (x_train, y_train), (x_test, y_test) = tn.data.split(x, y, (0.8, 0.2), stratify=True)

    Args:
        x, y: arrays (N, …), or tuples or dicts of them; y may be None.
        fractions: the parts' shares of the samples, which sum to 1; or one number, the share of the second of two.
        stratify: True for parts with the same shares of the classes y (N,); or an array (N,) of other classes.
        seed: of the draw; the parts are a function of the seed, N, the fractions and the classes alone.
    Returns: a list of pairs (x, y), copies, each in the order of the samples. Their sizes are the fractions of N,
        rounded; with `stratify`, each class's number in a part is within 2 of that.
    Raises: ValueError for other fractions, for classes that do not fit, and where a part would be empty; DataError
        where x and y differ in length.
    """
    given: Any = fractions
    shares: list[Any] = [1 - given, given] if isinstance(given, Real) else list(given)
    if not shares or not all(isinstance(f, Real) and 0 < float(f) < 1 for f in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"split: fractions={fractions!r} must be numbers between 0 and 1 that sum to 1, or one of them"
        )
    arrays, classes = _arrays("split", x, y, stratify)
    order = np.random.Generator(np.random.Philox(seed)).permutation(arrays.count)
    if classes is not None:
        order = _interleaved(order, classes)
    ends = [round(arrays.count * share) for share in np.cumsum(shares)]
    parts = [np.sort(order[a:b]) for a, b in pairwise([0, *ends[:-1], arrays.count])]
    if any(len(part) == 0 for part in parts):
        raise ValueError(f"split: {arrays.count} samples are too few for the fractions {fractions!r}")
    return [arrays.take(part) for part in parts]


def k_fold(
    x: Any, y: Any, folds: int = 5, *, stratify: Any = None, seed: int | None = 0
) -> Iterator[tuple[tuple[Any, Any], tuple[Any, Any]]]:
    """Cross-validation: each of `folds` parts is held out once, while the others are trained on.

    >>> for train, held_out in tn.data.k_fold(x, y, 5, stratify=True):
    ...     tn.fit(make(), train, validation=held_out)

    Args:
        x, y: arrays (N, …), or tuples or dicts of them; y may be None.
        stratify: True for folds with the same shares of the classes y (N,); or an array (N,) of other classes.
        seed: of the draw; None: no draw, folds are stretches of the samples as they come (those of each class, where
            stratified). The folds are then scikit-learn's KFold and StratifiedKFold, to the sample.
    Returns: an iterator of pairs of pairs ((x, y), (x_held, y_held)), copies, in the order of the samples. Sizes of
        folds, and with `stratify` the counts of a class in them, differ by one at most.
    Raises: ValueError for fewer than 2 folds, for more than samples (or, stratified, than the samples of every class),
        and for classes that do not fit; DataError where x and y differ in length.
    """
    arrays, classes = _arrays("k_fold", x, y, stratify)
    folds, n = count("k_fold", "folds", folds, 2), arrays.count
    # Classes are numbered in the order in which they first appear, as scikit-learn does.
    kinds = np.zeros(n, np.intp) if classes is None else _numbered(classes)
    if folds > np.bincount(kinds).max():
        raise ValueError(f"k_fold: {folds} folds are more than the samples{'' if classes is None else ' of a class'}")
    order = np.arange(n) if seed is None else np.random.Generator(np.random.Philox(seed)).permutation(n)
    in_turn, fold = np.sort(kinds), np.empty(n, np.intp)
    for kind in range(kinds.max() + 1):
        sizes = [np.count_nonzero(in_turn[f::folds] == kind) for f in range(folds)]  # dealt out one by one
        fold[order[kinds[order] == kind]] = np.repeat(np.arange(folds), sizes)
    return ((arrays.take(np.flatnonzero(fold != f)), arrays.take(np.flatnonzero(fold == f))) for f in range(folds))


def _numbered(classes: np.ndarray) -> np.ndarray:
    """The classes as numbers from 0 on, in the order in which they first appear."""
    _, first, kinds = np.unique(classes, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[kinds.ravel()]


def _arrays(name: str, x: Any, y: Any, stratify: Any) -> tuple[Arrays, np.ndarray | None]:
    """The samples, and a class for each of them where that is asked."""
    try:
        arrays = Arrays(x, y)
    except DataError as error:
        raise DataError(str(error).replace("Loader", name, 1)) from None
    if stratify is None or stratify is False:
        return arrays, None
    classes = np.asarray(arrays.y if stratify is True else stratify)
    if classes.shape != (arrays.count,):
        raise ValueError(f"{name}: stratify needs a class for each of {arrays.count} samples, got {classes.shape}")
    return arrays, classes


def _interleaved(order: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The samples in an order of which each stretch holds the classes by their shares, as nearly as whole numbers can:
    number r of the n of a class stands at (r + 1/2) / n of the whole."""
    place = np.empty(len(order))
    for c in np.unique(classes):
        own = np.flatnonzero(classes[order] == c)
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return order[np.argsort(place, kind="stable")]
