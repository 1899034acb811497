"""Receptive fields: how much of the input one value of a layer's output sees, by arithmetic.

With windows of extent e = (kernel - 1)·dilation + 1 and stride s, layer by layer: size ← size + (e - 1)·jump, and
jump ← jump·s, from size = jump = 1. (Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks",
Distill 2019.)
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Seen(NamedTuple):
    """(vertical, horizontal) pixels of the input: of the window that one value sees, and between two neighbours'."""

    size: tuple[float, float]
    jump: tuple[float, float]

    def __str__(self) -> str:
        return "all" if math.inf in self.size else f"{self.size[0]:.0f}×{self.size[1]:.0f}"


Field = Seen | None  # None: not known
START = Seen((1, 1), (1, 1))
ALL = Seen((math.inf, math.inf), (math.inf, math.inf))


def windowed(field: Field, kernel: tuple, stride: tuple, dilation: tuple = (1, 1)) -> Field:
    """The field behind a layer of sliding windows."""
    if field is None:
        return None
    size, jump = (
        [
            a + (k - 1) * d * j if k > 1 else a
            for a, k, d, j in zip(field.size, kernel, dilation, field.jump, strict=True)
        ],
        [j * s for j, s in zip(field.jump, stride, strict=True)],
    )
    return Seen((size[0], size[1]), (jump[0], jump[1]))


def joined(*fields: Field) -> Field:
    """The field of a sum, or of outputs side by side: the largest."""
    known = [field for field in fields if field is not None]
    return max(known) if len(known) == len(fields) else None
