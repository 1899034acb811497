"""Receptive fields: how much of the input one value of a layer's output sees, by arithmetic.

With windows of extent e = (kernel - 1)·dilation + 1 and stride s, layer by layer: size ← size + (e - 1)·jump, and
jump ← jump·s, from size = jump = 1. (Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks",
Distill 2019.)
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Seen(NamedTuple):
    """(vertical, horizontal) pixels of the input: of the window that one value sees, between two neighbours' windows,
    and of the first one's corner, negative in the padding (where that was counted)."""

    size: tuple[float, float]
    jump: tuple[float, float]
    start: tuple[float, float] = (0, 0)

    def box(self, row: int, column: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """((top, bottom), (left, right)): the pixels, bottom and right not among them, that the value at (row, column)
        sees; it may hang over the border."""
        if math.inf in self.size:
            return (0, math.inf), (0, math.inf)
        corners = [a + n * j for a, n, j in zip(self.start, (row, column), self.jump, strict=True)]
        return (corners[0], corners[0] + self.size[0]), (corners[1], corners[1] + self.size[1])

    def __str__(self) -> str:
        return "all" if math.inf in self.size else f"{self.size[0]:.0f}×{self.size[1]:.0f}"


Field = Seen | None  # None: not known
START = Seen((1, 1), (1, 1))
ALL = Seen((math.inf, math.inf), (math.inf, math.inf))


def windowed(field: Field, kernel: tuple, stride: tuple, dilation: tuple = (1, 1), before: tuple = (0, 0)) -> Field:
    """The field behind a layer of sliding windows, with padding `before` the image."""
    if field is None or math.inf in field.size:
        return field
    size, jump = (
        [
            a + (k - 1) * d * j if k > 1 else a
            for a, k, d, j in zip(field.size, kernel, dilation, field.jump, strict=True)
        ],
        [j * s for j, s in zip(field.jump, stride, strict=True)],
    )
    start = [a - p * j for a, p, j in zip(field.start, before, field.jump, strict=True)]
    return Seen((size[0], size[1]), (jump[0], jump[1]), (start[0], start[1]))


def joined(*fields: Field) -> Field:
    """The field of a sum, or of outputs side by side: the largest."""
    known = [field for field in fields if field is not None]
    return max(known) if len(known) == len(fields) else None
