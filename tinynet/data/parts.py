"""One set of samples divided into several: training, validation, test."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np

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
    try:
        arrays = Arrays(x, y)
    except DataError as error:
        raise DataError(str(error).replace("Loader", "split", 1)) from None
    order = np.random.Generator(np.random.Philox(seed)).permutation(arrays.count)
    if stratify is not None and stratify is not False:
        classes = np.asarray(arrays.y if stratify is True else stratify)
        if classes.shape != (arrays.count,):
            raise ValueError(f"split: stratify needs a class for each of {arrays.count} samples, got {classes.shape}")
        order = _interleaved(order, classes)
    ends = [round(arrays.count * share) for share in np.cumsum(shares)]
    parts = [np.sort(order[a:b]) for a, b in pairwise([0, *ends[:-1], arrays.count])]
    if any(len(part) == 0 for part in parts):
        raise ValueError(f"split: {arrays.count} samples are too few for the fractions {fractions!r}")
    return [arrays.take(part) for part in parts]


def _interleaved(order: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The samples in an order of which each stretch holds the classes by their shares, as nearly as whole numbers can:
    number r of the n of a class stands at (r + 1/2) / n of the whole."""
    place = np.empty(len(order))
    for c in np.unique(classes):
        own = np.flatnonzero(classes[order] == c)
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return order[np.argsort(place, kind="stable")]
