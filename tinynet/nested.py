"""What stands for a batch's x or y: an array, a tuple or a dict of arrays (nested as one likes), or None."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def leaves(value: Any) -> Iterator[Any]:
    """The arrays in it, in order; none where it is None."""
    if isinstance(value, tuple):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)
    elif value is not None:
        yield value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The same structure, with `function(array)` in each array's place."""
    if isinstance(value, tuple):
        return tuple(mapped(function, part) for part in value)
    if isinstance(value, dict):
        return {name: mapped(function, part) for name, part in value.items()}
    return None if value is None else function(value)


def samples(value: Any) -> int:
    """The length of the first array, the number of samples. ValueError where there is no array."""
    for array in leaves(value):
        return len(array)
    raise ValueError("x holds no array")


def lengths(*values: Any) -> set[int]:
    """The lengths of all arrays in the values: one, where they fit; -1 stands for an array without axes."""
    return {len(array) if np.ndim(array) else -1 for value in values for array in leaves(value)}


def shapes(value: Any) -> str:
    """The arrays' shapes as text, in their structure: "(8, 28, 28, 1)", "{'left': (8, 3), 'right': (8, 3)}"."""
    return str(mapped(lambda array: tuple(np.shape(array)), value))
