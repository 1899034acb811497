"""Arrays of other libraries, and values that know their dtype: how they are told."""

from __future__ import annotations

from typing import Any


def of_cupy(data: Any) -> bool:
    """Whether `data` is an array of CuPy, which NumPy does not convert."""
    return type(data).__module__.partition(".")[0] == "cupy" and hasattr(data, "get")


def holds_values(data: Any) -> bool:
    """Whether a nested sequence holds values with a dtype, NumPy's among them: then float64 is meant."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return hasattr(data, "dtype")
