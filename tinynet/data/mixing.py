"""Images with a piece taken out, and images mixed with one another, whose labels follow; see `augment`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..integers import count
from .augment import Array, Augment, WithLabels, as_dtype, as_floats, images, numbers, share


def cutout(size: int, *, probability: float = 1.0) -> Augment:
    """Make a square of `size` pixels black (0), its centre anywhere in the image (DeVries & Taylor 2017)."""
    size = count("cutout", "size", size, 1)
    share("cutout", probability)

    def cut(x: Array, rng: np.random.Generator) -> Array:
        inside, _ = _boxes(images("cutout", x).shape, np.full(len(x), size), np.full(len(x), size), rng)
        return np.where(inside & (rng.random(len(x)) < probability)[:, None, None, None], x.dtype.type(0), x)

    return cut


def mixup(alpha: float = 0.2, *, classes: int | None = None) -> WithLabels:
    """Blend each image with another of the batch, and its label likewise (Zhang et al. 2018).

    Args: alpha: the image's own share is drawn from Beta(alpha, alpha). classes: their number, where the labels y are
        class numbers (N,); they become probabilities (N, classes), which softmax_cross_entropy takes, too. Without it y
        are floats (N, …), probabilities or targets.
    """
    classes = _checked("mixup", alpha, classes)

    def mix(x: Array, rng: np.random.Generator, y: Any) -> tuple[Array, Array]:
        own, other = rng.beta(alpha, alpha, len(x)), rng.permutation(len(x))
        return _blended(x, x[other], own), _labels("mixup", y, other, own, classes)

    return WithLabels(mix)


def cutmix(alpha: float = 1.0, *, classes: int | None = None) -> WithLabels:
    """Put a box of another image of the batch into each image; the label counts by areas (Yun et al. 2019).

    Args: as `mixup`. The box has the image's proportions, its centre is anywhere; what lies outside is cut off.
    """
    classes = _checked("cutmix", alpha, classes)

    def mix(x: Array, rng: np.random.Generator, y: Any) -> tuple[Array, Array]:
        n, height, width, _ = images("cutmix", x).shape
        side, other = np.sqrt(1 - rng.beta(alpha, alpha, n)), rng.permutation(n)
        inside, area = _boxes(x.shape, np.rint(side * height), np.rint(side * width), rng)
        return np.where(inside, x[other], x), _labels("cutmix", y, other, 1 - area / (height * width), classes)

    return WithLabels(mix)


def _boxes(shape: tuple, tall: Array, wide: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Which pixels lie in a box of so many rows and columns with its centre anywhere, (N, H, W, 1); how many, (N,)."""
    inside = []
    for size, length in ((shape[1], tall), (shape[2], wide)):
        first = rng.integers(0, size, len(length)) - length // 2
        place = np.arange(size)
        inside.append((place >= first[:, None]) & (place < (first + length)[:, None]))
    rows, cols = inside
    return (rows[:, :, None] & cols[:, None])[..., None], rows.sum(1) * cols.sum(1)


def _blended(a: Array, b: Array, share_of_a: Array) -> Array:
    """share · a + (1 - share) · b for each sample, in their dtype."""
    own = share_of_a.reshape(-1, *(1,) * (a.ndim - 1)).astype(as_floats(a[:0]).dtype)
    return as_dtype(a * own + b * (1 - own), a.dtype)


def _labels(name: str, y: Any, other: Array, own: Array, classes: int | None) -> Array:
    """The labels, blended with those of the other images."""
    y = np.asarray(y)
    if y.dtype.kind in "iu" and y.ndim == 1:
        if classes is None:
            raise ValueError(f"{name}: the labels {y.shape} are class numbers; pass their number, {name}(classes=10)")
        if len(y) and not 0 <= y.min() <= y.max() < classes:
            raise ValueError(f"{name}: labels from {y.min()} to {y.max()} are not from 0 to {classes - 1}")
        y = np.eye(classes, dtype=np.float32)[y]
    if y.dtype.kind != "f":
        raise ValueError(f"{name}: labels of {y.dtype} {y.shape} cannot be mixed; they must be classes (N,) or floats")
    return _blended(y, y[other], own)


def _checked(name: str, alpha: float, classes: int | None) -> int | None:
    """The number of classes. ValueError or TypeError for what cannot be."""
    numbers(name, alpha=alpha)
    if not 0 < alpha < np.inf:
        raise ValueError(f"{name}: alpha={alpha} must be above 0")
    return None if classes is None else count(name, "classes", classes, 1)
