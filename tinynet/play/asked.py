"""What a request holds, checked as it is read; what makes no sense is told to the page in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


class PlayError(ValueError):
    """What the page asked for cannot be done; the message is for the person before it."""


def number(request: dict[str, Any], name: str, low: int = -(1 << 31), high: int = 1 << 31) -> int:
    """A whole number from `low` to `high`."""
    value = request.get(name)
    if type(value) is not int or not low <= value <= high:
        raise PlayError(f"{name} must be a whole number from {low:,} to {high:,}")
    return value


def rate(request: dict[str, Any], name: str = "rate") -> float:
    """A number above 0."""
    value = request.get(name)
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        raise PlayError(f"the {name} must be a number above 0")
    return float(value)  # type: ignore[arg-type]


def text(request: dict[str, Any], name: str, choices: Sequence[str] | None = None) -> str:
    """A text, one of the `choices` where there are such."""
    value = request.get(name)
    if not isinstance(value, str):
        raise PlayError(f"{name} must be a text")
    if choices is not None and value not in choices:
        raise PlayError(f"{name} must be one of {', '.join(choices)}, not {value[:40]!r}")
    return value
