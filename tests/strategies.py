"""What Hypothesis draws: shapes, arrays and layouts. Values are drawn well separated where a function has kinks,
so that nothing needs to be filtered out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from hypothesis import strategies as st

SIZES = st.integers(0, 4)


def shapes(least: int = 0, most: int = 4, smallest: int = 1, largest: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(smallest, largest), min_size=least, max_size=most).map(tuple)


@st.composite
def broadcastable(draw: Any, count: int = 2) -> list[tuple[int, ...]]:
    """Shapes that broadcast together: of different lengths, 0-d ones and axes of size 1 among them."""
    full = draw(shapes(0, 4, smallest=0, largest=3))
    result = []
    for _ in range(count):
        kept = full[draw(st.integers(0, len(full))) :]
        result.append(tuple(1 if draw(st.booleans()) else n for n in kept))
    return result


def values(shape: tuple, seed: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).uniform(low, high, shape))


def separated(shape: tuple, seed: int) -> np.ndarray:
    """All values differ by 0.1 or more and none is nearer to 0 than 0.02: no kink and no tie is near."""
    size = int(np.prod(shape))
    return (0.1 * (np.random.default_rng(seed).permutation(size) - size // 2) + 0.03).reshape(shape)


seeds = st.integers(0, 2**32 - 1)


@st.composite
def laid_out(draw: Any, array: np.ndarray) -> np.ndarray:
    """The same values, contiguous or not: Fortran order, negative strides, every second element."""
    kind = draw(st.sampled_from(["C", "F", "negative", "spread"]))
    if kind == "negative":
        back = (..., *(slice(None, None, -1) for _ in array.shape))
        return np.array(array[back], order="C")[back]
    if kind == "spread":
        room = np.full([2 * n for n in array.shape], np.nan)
        view = room[(..., *(slice(None, None, 2) for _ in array.shape))]
        view[...] = array
        return view
    return np.array(array, order=kind)


@st.composite
def axes(draw: Any, ndim: int) -> Any:
    """None, an int, or a tuple of distinct axes, negative ones and the empty tuple among them."""
    kind = draw(st.sampled_from(["none", "int", "tuple"]))
    if kind == "none" or (kind == "int" and not ndim):
        return None
    if kind == "int":
        return draw(st.integers(-ndim, ndim - 1))
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim)) if ndim else []
    return tuple(a - ndim if draw(st.booleans()) else a for a in chosen)


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    """A sliding window that fits its image: sizes, kernel, stride, padding and dilation, none of them square."""
    pair = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
    kernel, stride, dilation = draw(pair(1, 3)), draw(pair(1, 3)), draw(pair(1, 2))
    padding = draw(st.one_of(pair(0, 2), st.sampled_from(["same", "valid"])))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(e + draw(st.integers(0, 3)) for e in extent)
    return {"size": size, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


def named(value: Any) -> str:
    """A parameter's name in the tests' list: without addresses, which differ between the processes of pytest-xdist."""
    return re.sub(r" at 0x\w+", "", repr(value))
