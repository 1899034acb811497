"""Elementwise operations. Inputs broadcast as in NumPy; Python numbers take the tensor's dtype."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from ..autograd import op
from ..integers import computed, operand
from ..tensor import Tensor

__all__ = [
    "abs",
    "add",
    "astype",
    "clip",
    "divide",
    "equal",
    "exp",
    "gelu",
    "greater",
    "greater_equal",
    "leaky_relu",
    "less",
    "less_equal",
    "log",
    "maximum",
    "minimum",
    "mish",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "relu",
    "sigmoid",
    "softplus",
    "sqrt",
    "subtract",
    "tanh",
    "where",
]

# ---- arithmetic -----------------------------------------------------------------------------------------


@op
def add(be, x, y):
    return be.add(x, y), lambda g, need: (g, g)


@op
def subtract(be, x, y):
    return be.subtract(x, y), lambda g, need: (g, be.negative(g) if need[1] else None)


@op
def multiply(be, x, y):
    return be.multiply(x, y), lambda g, need: (
        be.multiply(g, y) if need[0] else None,
        be.multiply(g, x) if need[1] else None,
    )


@op(integers="float64")
def divide(be, x, y):
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


# ---- functions ------------------------------------------------------------------------------------------


@op(integers="float64")
def exp(be, x):
    y = be.exp(x)
    return y, lambda g, need: (be.multiply(g, y),)


@op(integers="float64")
def log(be, x):
    """The natural logarithm; -inf at 0, NaN below."""
    return be.log(x), lambda g, need: (be.divide(g, x),)


@op(integers="float64")
def sqrt(be, x):
    y = be.sqrt(x)
    return y, lambda g, need: (be.sqrt_grad(g, y),)


@op(integers="float64")
def tanh(be, x):
    y = be.tanh(x)
    return y, lambda g, need: (be.tanh_grad(g, y),)


@op(integers="float64")
def sigmoid(be, x):
    """1 / (1 + e⁻ˣ)"""
    y = be.sigmoid(x)
    return y, lambda g, need: (be.sigmoid_grad(g, y),)


@op
def relu(be, x):
    """max(x, 0); the derivative at 0 is 0."""
    y = be.relu(x)
    return y, lambda g, need: (be.relu_grad(g, y),)


@op(integers="float64")
def leaky_relu(be, x, slope=0.01):
    """x where x > 0, else slope·x (Maas et al. 2013)."""
    return be.leaky_relu(x, slope), lambda g, need: (be.leaky_relu_grad(g, x, slope),)


@op(integers="float64")
def gelu(be, x):
    """x·Φ(x), the exact form (Hendrycks & Gimpel 2016)."""
    return be.gelu(x), lambda g, need: (be.gelu_grad(g, x),)


@op(integers="float64")
def softplus(be, x):
    """log(1 + eˣ), without overflow."""
    return be.softplus(x), lambda g, need: (be.softplus_grad(g, x),)


@op(integers="float64")
def mish(be, x):
    """x·tanh(log(1 + eˣ)) (Misra 2019)."""
    return be.mish(x), lambda g, need: (be.mish_grad(g, x),)


@op(integers="kept")
def astype(be, x, dtype):
    """x in another dtype; the gradient comes back in x's."""
    dtype = np.dtype(dtype)
    return be.astype(x, dtype), (lambda g, need: (g,)) if dtype.kind == "f" else None


# ---- comparisons: bool tensors, off the tape --------------------------------------------------------------


@op
def equal(be, x, y):
    return be.equal(x, y), None


@op
def not_equal(be, x, y):
    return be.not_equal(x, y), None


@op
def less(be, x, y):
    return be.less(x, y), None


@op
def less_equal(be, x, y):
    return be.less_equal(x, y), None


@op
def greater(be, x, y):
    return be.greater(x, y), None


@op
def greater_equal(be, x, y):
    return be.greater_equal(x, y), None


def _reflected(function: Any) -> Any:
    return lambda x, y: function(y, x)


T: Any = Tensor  # operators and methods, attached where they are declared
T.__add__, T.__radd__ = add, _reflected(add)
T.__sub__, T.__rsub__ = subtract, _reflected(subtract)
T.__mul__, T.__rmul__ = multiply, _reflected(multiply)
T.__truediv__, T.__rtruediv__ = divide, _reflected(divide)
T.__pow__, T.__rpow__ = power, _reflected(power)
T.__neg__, T.__abs__ = negative, abs
T.__eq__, T.__ne__, T.__hash__ = equal, not_equal, object.__hash__
T.__lt__, T.__le__, T.__gt__, T.__ge__ = less, less_equal, greater, greater_equal
T.abs, T.astype, T.clip, T.exp, T.log = abs, astype, clip, exp, log
T.relu, T.sigmoid, T.sqrt, T.tanh = relu, sigmoid, sqrt, tanh
