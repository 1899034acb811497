"""Points in the plane to tell apart: spirals, moons, circles, blobs, or two columns of one's own table."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import nn
from .asked import PlayError

COUNT, APART = 600, 0.25  # points that are made; the share that is kept for the test
SPAN = 3.0  # about the largest coordinate
MOST_POINTS, MOST_CLASSES = 20_000, 10
Made = tuple[np.ndarray, np.ndarray]


@dataclass
class Points:
    """Points (N, 2) float32, about within [-SPAN, SPAN], with class numbers (N,), in two parts.

    Attributes: axes: what the two columns are called.
    """

    name: str
    train: Made
    test: Made
    classes: tuple[str, ...]
    axes: tuple[str, str] = ("x", "y")

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)


def _spirals(rng: np.random.Generator, n: int) -> Made:
    y = np.arange(n) % 2
    way = np.sqrt(rng.random(n))
    angle = way * 1.5 * 2 * math.pi + y * math.pi
    return np.stack([np.sin(angle), np.cos(angle)], 1) * way[:, None] + rng.normal(0, 0.02, (n, 2)), y


def _moons(rng: np.random.Generator, n: int) -> Made:
    y = np.arange(n) % 2
    angle, side = rng.random(n) * math.pi, 1 - 2 * y
    x = np.stack([np.cos(angle) * side + y - 0.5, np.sin(angle) * side + 0.5 * y - 0.25], 1)
    return x / 1.6 + rng.normal(0, 0.06, (n, 2)), y


def _circles(rng: np.random.Generator, n: int) -> Made:
    y = np.arange(n) % 2
    angle, radius = rng.random(n) * 2 * math.pi, 0.4 + 0.45 * y
    return np.stack([np.sin(angle), np.cos(angle)], 1) * radius[:, None] + rng.normal(0, 0.06, (n, 2)), y


def _blobs(rng: np.random.Generator, n: int) -> Made:
    y = np.arange(n) % 3
    angle = y * 2 * math.pi / 3
    return np.stack([np.sin(angle), np.cos(angle)], 1) * 0.5 + rng.normal(0, 0.18, (n, 2)), y


PLANES: dict[str, Callable[[np.random.Generator, int], Made]] = {
    "spirals": _spirals,
    "moons": _moons,
    "circles": _circles,
    "blobs": _blobs,
}


def points(name: str, seed: int = 0) -> Points:
    """The points called `name`, one of PLANES."""
    x, y = PLANES[name](np.random.default_rng(seed), COUNT)
    return _parted(name, x, y, tuple(f"class {i}" for i in range(y.max() + 1)), ("x", "y"))


def table(text: str) -> Points:
    """The points of a table: two columns of numbers and one of classes, a line each, with or without a heading.

    Raises: PlayError where it is no such table; it names the line.
    """
    try:
        rows = [(i, row) for i, row in enumerate(csv.reader(text.splitlines()), 1) if any(map(str.strip, row))]
    except csv.Error as error:
        raise PlayError(f"this is no table: {error}") from None
    axes = ("x", "y")
    if rows and len(rows[0][1]) == 3 and _value(rows[0][1][0]) is None:
        axes = (rows[0][1][0].strip()[:40], rows[0][1][1].strip()[:40])
        rows = rows[1:]
    if not 10 <= len(rows) <= MOST_POINTS:
        raise PlayError(f"the table must have from 10 to {MOST_POINTS:,} lines, it has {len(rows):,}")
    x, names = np.empty((len(rows), 2)), []
    for k, (line, row) in enumerate(rows):
        pair = [_value(cell) for cell in row[:2]]
        if len(row) != 3 or None in pair:
            raise PlayError(
                f"line {line} must be two numbers and a class, such as 0.5,1.2,a; it is {','.join(row)[:60]!r}"
            )
        x[k] = pair  # type: ignore[assignment]
        names.append(row[2].strip())
    classes = tuple(sorted(set(names)))
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise PlayError(f"the table must have from 2 to {MOST_CLASSES} classes, it has {len(classes):,}")
    low, high = x.min(0), x.max(0)
    x = (x - (low + high) / 2) / np.maximum((high - low) / 1.9, 1e-12)
    return _parted("own table", x, np.array([classes.index(name) for name in names]), classes, axes)


def _value(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _parted(name: str, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], axes: tuple[str, str]) -> Points:
    order = np.random.default_rng(0).permutation(len(x))
    apart = max(1, round(len(x) * APART))
    test, train = order[:apart], order[apart:]
    x = (x * SPAN).astype(np.float32)
    return Points(name, (x[train], y[train]), (x[test], y[test]), classes, axes)


def network(hidden: str, activation: str, classes: int) -> nn.Module:
    """Dense layers of the widths in `hidden`, such as "16 16", for points. PlayError where those are no widths."""
    try:
        widths = [int(word) for word in hidden.replace(",", " ").split()]
    except ValueError:
        widths = [0]
    if len(widths) > 6 or not all(1 <= width <= 64 for width in widths):
        raise PlayError(f"the hidden layers are up to 6 widths from 1 to 64, such as 16 16; not {hidden[:40]!r}")
    layers = [nn.Dense(width, activation=activation) for width in widths]
    return nn.Sequential(*layers, nn.Dense(classes)).build(2)
