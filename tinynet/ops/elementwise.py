"""Elementwise operations. Inputs broadcast as in NumPy; Python numbers take the tensor's dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from ..autograd import op
from ..integers import computed, operand
from ..tensor import Tensor

__all__ = [
    "abs",
    "add",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "astype",
    "cbrt",
    "ceil",
    "clip",
    "copysign",
    "cos",
    "cosh",
    "divide",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "power",
    "reciprocal",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "trunc",
    "where",
]

# ---- arithmetic -----------------------------------------------------------------------------------------


@op
def add(be, x, y):
    """x + y"""
    return be.add(x, y), lambda g, need: (g, g)


@op
def subtract(be, x, y):
    """x - y"""
    return be.subtract(x, y), lambda g, need: (g, be.negative(g) if need[1] else None)


@op
def multiply(be, x, y):
    """x · y"""
    return be.multiply(x, y), lambda g, need: (
        be.multiply(g, y) if need[0] else None,
        be.multiply(g, x) if need[1] else None,
    )


@op(integers="float64")
def divide(be, x, y):
    """x / y; integers give fractions."""
    z = be.divide(x, y)

    def vjp(g, need):
        dx = be.divide(g, y)
        dy = be.negative(be.multiply(dx, z)) if need[1] else None  # -g x / y² = -(g / y) z
        return dx if need[0] else None, dy

    return z, vjp


@op
def power(be, x, y):
    """x ** y. At x = 0 the derivative with respect to y is taken as 0.

    Raises ValueError where x and y are integers and one of y is negative: the result would not be an integer.
    """
    if not {_kind(x), _kind(y)} & {"f"} and np.size(y) and np.min(be.numpy(y) if hasattr(y, "dtype") else y) < 0:
        raise ValueError(
            "power: integers to negative integer powers are no integers; make one of them floating, as in "
            "x.astype(np.float64)"
        )
    if hasattr(x, "dtype") and hasattr(y, "dtype") and x.dtype.kind != y.dtype.kind:
        x, y = (v if v.dtype.kind == "f" else be.astype(v, np.result_type(x.dtype, y.dtype)) for v in (x, y))
    return be.power(x, y), lambda g, need: (
        be.power_grad(g, x, y) if need[0] else None,
        be.power_grad_exponent(g, x, y) if need[1] else None,
    )


def _kind(x):
    return x.dtype.kind if hasattr(x, "dtype") else "f" if isinstance(x, float) else "i"


@op
def negative(be, x):
    """-x"""
    return be.negative(x), lambda g, need: (be.negative(g),)


@op
def abs(be, x):
    """|x|; the derivative at 0 is 0."""
    return be.abs(x), lambda g, need: (be.multiply(g, be.sign(x)),)


@op
def maximum(be, x, y):
    """The larger of x and y; x wins a tie, so it gets the whole gradient."""
    return be.maximum(x, y), _winner_takes_all(be, be.greater_equal, x, y)


@op
def minimum(be, x, y):
    """The smaller of x and y; x wins a tie, so it gets the whole gradient."""
    return be.minimum(x, y), _winner_takes_all(be, be.less_equal, x, y)


def _winner_takes_all(be, wins, x, y):
    def vjp(g, need):
        first = wins(x, y)
        return be.where(first, g, 0.0) if need[0] else None, be.where(first, 0.0, g) if need[1] else None

    return vjp


@op(integers="kept")
def where(be, condition, x, y):
    """x where `condition` (bools: a tensor, an array, a list or one bool) holds, else y."""
    condition = be.asarray(condition, np.bool_)
    x, y = computed(be, "where", [operand(v) if isinstance(v, list | tuple) else v for v in (x, y)], "int64")
    return be.where(condition, x, y), lambda g, need: (
        None,
        be.where(condition, g, 0.0) if need[1] else None,
        be.where(condition, 0.0, g) if need[2] else None,
    )


@op
def clip(be, x, low=None, high=None):
    """x limited to [low, high] (None: open); the gradient is 1 inside and on the limits, 0 outside.

    Raises TypeError where a limit is no number, ValueError where it is NaN or low > high.
    """
    low, high = _limit("low", low), _limit("high", high)
    if low is not None and high is not None and low > high:
        raise ValueError(f"clip: low={low!r} is above high={high!r}")
    if x.dtype.kind != "f" and isinstance(low, float) | isinstance(high, float):
        x = be.astype(x, np.float64)
    y = be.clip(x, low, high)
    return y, lambda g, need: (be.where(be.equal(x, y), g, 0.0),)


def _limit(name, value):
    """A limit of clip as a Python number; None stays."""
    if np.ndim(value) == 0 and hasattr(value, "dtype"):
        value = value.item()
    if value is not None and not isinstance(value, Real):
        given = f"an array of shape {value.shape}" if hasattr(value, "shape") else f"{value!r:.60}"
        raise TypeError(
            f"clip: {name} is {given}; it must be a number or None. Arrays limit with "
            "ops.maximum(ops.minimum(x, high), low)"
        )
    if value is not None and value != value:
        raise ValueError(f"clip: {name} is NaN; it must be a number or None")
    return value


@op
def mod(be, x, y):
    """x - y·floor(x / y): the remainder with y's sign, as Python's %. Of integers by 0 it is 0, of floats NaN."""
    return be.mod(x, y), lambda g, need: (
        g if need[0] else None,
        be.negative(be.multiply(g, be.floor(be.divide(x, y)))) if need[1] else None,
    )


@op
def fmod(be, x, y):
    """x - y·trunc(x / y): the remainder with x's sign, as C's."""
    return be.fmod(x, y), lambda g, need: (
        g if need[0] else None,
        be.negative(be.multiply(g, be.trunc(be.divide(x, y)))) if need[1] else None,
    )


@op
def floor_divide(be, x, y):
    """floor(x / y), as Python's //; its derivatives are 0. Of integers by 0 it is 0."""
    z = be.floor_divide(x, y)
    return z, lambda g, need: tuple(be.full(z.shape, 0, z.dtype) if n else None for n in need)


@op(integers="float64")
def copysign(be, x, y):
    """|x| with the sign of y; the derivative with respect to x is ±1, at 0 it is 0; with respect to y it is 0."""
    z = be.copysign(x, y)

    def vjp(g, need):
        same = be.multiply(be.sign(x), be.sign(z))
        return be.multiply(g, same) if need[0] else None, be.full(z.shape, 0, z.dtype) if need[1] else None

    return z, vjp


@op(integers="float64")
def logaddexp(be, x, y):
    """log(eˣ + eʸ), without overflow."""
    return be.logaddexp(x, y), lambda g, need: (
        be.multiply(g, be.sigmoid(be.subtract(x, y))) if need[0] else None,
        be.multiply(g, be.sigmoid(be.subtract(y, x))) if need[1] else None,
    )


@op(integers="float64")
def arctan2(be, x, y):
    """The angle of the point (y, x), that is, arctan(x / y) in the right quadrant, in (-π, π]."""

    def vjp(g, need):
        by_square = be.divide(g, be.add(be.multiply(x, x), be.multiply(y, y)))
        return be.multiply(by_square, y) if need[0] else None, be.negative(be.multiply(by_square, x)) if need[
            1
        ] else None

    return be.arctan2(x, y), vjp


# ---- functions ------------------------------------------------------------------------------------------


def function(name: str, doc: str, slope: Callable) -> Any:
    """Declare y = f(x), whose kernel is called like the operation. slope(be, x) or slope(be, y) is dy/dx."""
    of_y = slope.__code__.co_varnames[1] == "y"

    def forward(be, x):
        y = getattr(be, name)(x)
        v = y if of_y else x
        return y, lambda g, need: (be.multiply(g, slope(be, v)),)

    forward.__name__ = forward.__qualname__ = name
    forward.__doc__ = doc
    return op(forward, integers="float64")


exp = function("exp", "eˣ", lambda be, y: y)
exp2 = function("exp2", "2ˣ", lambda be, y: be.multiply(y, math.log(2)))
expm1 = function("expm1", "eˣ - 1, exact near 0.", lambda be, y: be.add(y, 1))
log = function("log", "The natural logarithm; -inf at 0, NaN below.", lambda be, x: be.divide(1, x))
log2 = function("log2", "The logarithm of base 2.", lambda be, x: be.divide(1 / math.log(2), x))
log10 = function("log10", "The logarithm of base 10.", lambda be, x: be.divide(1 / math.log(10), x))
log1p = function("log1p", "log(1 + x), exact near 0.", lambda be, x: be.divide(1, be.add(x, 1)))
cbrt = function("cbrt", "The cube root, of negative numbers too.", lambda be, y: be.divide(1 / 3, be.multiply(y, y)))
sin = function("sin", "sin x, of radians.", lambda be, x: be.cos(x))
cos = function("cos", "cos x, of radians.", lambda be, x: be.negative(be.sin(x)))
tan = function("tan", "tan x, of radians.", lambda be, y: be.add(be.multiply(y, y), 1))
arcsin = function("arcsin", "arcsin x, in [-π/2, π/2].", lambda be, x: be.divide(1, _circle(be, x)))
arccos = function("arccos", "arccos x, in [0, π].", lambda be, x: be.divide(-1, _circle(be, x)))
arctan = function("arctan", "arctan x, in (-π/2, π/2).", lambda be, x: be.divide(1, be.add(be.multiply(x, x), 1)))
sinh = function("sinh", "(eˣ - e⁻ˣ) / 2", lambda be, x: be.cosh(x))
cosh = function("cosh", "(eˣ + e⁻ˣ) / 2", lambda be, x: be.sinh(x))
erf = function(
    "erf",
    "2/√π ∫₀ˣ exp(-t²) dt",
    lambda be, x: be.multiply(be.exp(be.negative(be.multiply(x, x))), 2 / math.sqrt(math.pi)),
)


def _circle(be, x):
    """√(1 - x²)"""
    return be.sqrt(be.subtract(1, be.multiply(x, x)))


def step(name: str, doc: str, integers: str) -> Any:
    """Declare a function that is constant between its jumps; its derivative is 0, at the jumps too."""

    def forward(be, x):
        whole = integers == "kept" and x.dtype.kind != "f"
        y = be.copy(x) if whole else getattr(be, name)(x)
        return y, lambda g, need: (be.full(x.shape, 0, x.dtype),)

    forward.__name__ = forward.__qualname__ = name
    forward.__doc__ = doc + "; the derivative is 0."
    return op(forward, integers=integers)


floor = step("floor", "The largest whole number <= x", "kept")
ceil = step("ceil", "The smallest whole number >= x", "kept")
trunc = step("trunc", "x without its fraction", "kept")
round = step("round", "The nearest whole number, of two the even one", "kept")
sign = step("sign", "1, 0 or -1; NaN of NaN", "int64")


@op(integers="float64")
def sqrt(be, x):
    """√x; NaN below 0."""
    y = be.sqrt(x)
    return y, lambda g, need: (be.sqrt_grad(g, y),)


@op(integers="float64")
def rsqrt(be, x):
    """1 / √x"""
    y = be.divide(1, be.sqrt(x))
    return y, lambda g, need: (be.multiply(be.multiply(g, be.divide(y, x)), -0.5),)


@op(integers="float64")
def reciprocal(be, x):
    """1 / x"""
    y = be.divide(1, x)
    return y, lambda g, need: (be.negative(be.multiply(g, be.multiply(y, y))),)


@op
def square(be, x):
    """x²"""
    return be.multiply(x, x), lambda g, need: (be.multiply(be.multiply(g, x), 2),)


@op(integers="float64")
def tanh(be, x):
    """(eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)"""
    y = be.tanh(x)
    return y, lambda g, need: (be.tanh_grad(g, y),)


@op(integers="kept")
def astype(be, x, dtype):
    """x in another dtype; the gradient comes back in x's."""
    dtype = np.dtype(dtype)
    return be.astype(x, dtype), (lambda g, need: (g,)) if dtype.kind == "f" else None


def reflected(function: Any) -> Any:
    """The operator whose tensor stands on the right."""
    return lambda x, y: function(y, x)


T: Any = Tensor  # operators and methods, attached where they are declared
T.__add__, T.__radd__ = add, reflected(add)
T.__sub__, T.__rsub__ = subtract, reflected(subtract)
T.__mul__, T.__rmul__ = multiply, reflected(multiply)
T.__truediv__, T.__rtruediv__ = divide, reflected(divide)
T.__pow__, T.__rpow__ = power, reflected(power)
T.__neg__, T.__abs__ = negative, abs
T.__floordiv__, T.__rfloordiv__ = floor_divide, reflected(floor_divide)
T.__mod__, T.__rmod__ = mod, reflected(mod)
T.abs, T.astype, T.clip, T.exp, T.log = abs, astype, clip, exp, log
T.sqrt, T.tanh = sqrt, tanh
