"""Comparisons, truth and bits: bools and integers, off the tape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import op
from ..integers import computed
from ..tensor import Tensor
from .elementwise import abs, reflected, where

__all__ = [
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "isclose",
    "isfinite",
    "isnan",
    "left_shift",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "not_equal",
    "right_shift",
]

# ---- comparisons: bool tensors, off the tape --------------------------------------------------------------


@op
def equal(be, x, y):
    """x == y, as bools."""
    return be.equal(x, y), None


@op
def not_equal(be, x, y):
    """x != y, as bools."""
    return be.not_equal(x, y), None


@op
def less(be, x, y):
    """x < y, as bools."""
    return be.less(x, y), None


@op
def less_equal(be, x, y):
    """x <= y, as bools."""
    return be.less_equal(x, y), None


@op
def greater(be, x, y):
    """x > y, as bools."""
    return be.greater(x, y), None


@op
def greater_equal(be, x, y):
    """x >= y, as bools."""
    return be.greater_equal(x, y), None


@op
def isnan(be, x):
    """Where x is not a number, as bools."""
    return be.not_equal(x, x), None


@op
def isfinite(be, x):
    """Where x is neither infinite nor NaN, as bools."""
    return be.less(be.abs(x), math.inf) if x.dtype.kind == "f" else be.equal(x, x), None


def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|x - y| <= atol + rtol·|y|, as bools; of infinities, whether they are equal; with equal_nan also two NaN."""
    finite = logical_and(isfinite(x), isfinite(y))
    a, b = where(finite, x, 0), where(finite, y, 0)
    same = logical_or(logical_and(finite, less_equal(abs(a - b), abs(b) * rtol + atol)), equal(x, y))
    return logical_or(same, logical_and(isnan(x), isnan(y))) if equal_nan else same


# ---- truth: what is not 0 holds ---------------------------------------------------------------------------------


@op
def logical_and(be, x, y):
    """Where both x and y are not 0, as bools."""
    return be.logical_and(x, y), None


@op
def logical_or(be, x, y):
    """Where x or y is not 0, as bools."""
    return be.logical_or(x, y), None


@op
def logical_not(be, x):
    """Where x is 0, as bools."""
    return be.equal(x, 0), None


# ---- bits of integers; of bools, truth ---------------------------------------------------------------------------


@op(integers="kept")
def bitwise_and(be, x, y):
    """x & y"""
    return _bits(be, "and", x, y), None


@op(integers="kept")
def bitwise_or(be, x, y):
    """x | y"""
    return _bits(be, "or", x, y), None


@op(integers="kept")
def bitwise_xor(be, x, y):
    """x ^ y"""
    return _bits(be, "xor", x, y), None


@op(integers="kept")
def bitwise_not(be, x):
    """~x"""
    if x.dtype.kind == "b":
        return be.equal(x, 0), None
    (x,) = _integers(be, "bitwise_not", x)
    return be.subtract(-1, x), None


@op(integers="kept")
def left_shift(be, x, y):
    """x << y = x·2ʸ, as int64."""
    return be.left_shift(*_integers(be, "left_shift", x, y)), None


@op(integers="kept")
def right_shift(be, x, y):
    """x >> y = floor(x / 2ʸ), as int64."""
    return be.right_shift(*_integers(be, "right_shift", x, y)), None


def _bits(be: Any, name: str, x: Any, y: Any) -> Any:
    """Bits in int64, unless both are bools."""
    if all(isinstance(v, bool) or getattr(getattr(v, "dtype", None), "kind", "") == "b" for v in (x, y)):
        return be.not_equal(x, y) if name == "xor" else getattr(be, f"logical_{name}")(x, y)
    return getattr(be, f"bitwise_{name}")(*_integers(be, f"bitwise_{name}", x, y))


def _integers(be: Any, name: str, *values: Any) -> list:
    """The operands in int64; TypeError where one is floating."""
    for v in values:
        if isinstance(v, float) or getattr(v, "dtype", np.dtype(int)).kind == "f":
            raise TypeError(f"{name}: an input is floating; bits are those of integers or bools")
    return computed(be, name, list(values), "int64")


T: Any = Tensor
T.__eq__, T.__ne__, T.__hash__ = equal, not_equal, object.__hash__
T.__lt__, T.__le__, T.__gt__, T.__ge__ = less, less_equal, greater, greater_equal
T.__and__, T.__rand__ = bitwise_and, reflected(bitwise_and)
T.__or__, T.__ror__ = bitwise_or, reflected(bitwise_or)
T.__xor__, T.__rxor__ = bitwise_xor, reflected(bitwise_xor)
T.__lshift__, T.__rlshift__ = left_shift, reflected(left_shift)
T.__rshift__, T.__rrshift__ = right_shift, reflected(right_shift)
T.__invert__ = bitwise_not
