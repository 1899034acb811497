"""The elementwise kernels of the contract, in rows: the backends, the launch table and the tests read them here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

# The elementwise kernels: names, arguments, meaning. All arguments but the last ones of a name of its own (slope, low,
# high) are arrays that broadcast as in NumPy; where there are two or more, x and y may be numbers. Each kernel takes
# `out`. The CUDA backend makes a method of each row, whose struct in elementwise.cu is called alike (leaky_relu_grad:
# LeakyReluGrad).
ELEMENTWISE: tuple[tuple[str, str, str], ...] = (
    ("negative exp log sqrt abs sign tanh exp2 expm1 log2 log10 log1p cbrt", "x", "as NumPy's"),
    ("sin cos tan arcsin arccos arctan sinh cosh floor ceil trunc", "x", "as NumPy's"),
    ("round", "x", "the nearest whole number, of two the even one"),
    ("erf", "x", "2/√π ∫ exp(-t²) dt from 0 to x"),
    ("sigmoid", "x", "1 / (1 + exp(-x)), without overflow"),
    ("relu", "x", "max(x, 0); NaN stays NaN"),
    ("leaky_relu", "x slope", "x where x > 0, else slope·x"),
    ("gelu", "x", "x·Φ(x), the exact form with erf (Hendrycks & Gimpel 2016)"),
    ("softplus", "x", "log(1 + exp(x)), without overflow"),
    ("mish", "x", "x·tanh(log(1 + exp(x))), without overflow (Misra 2019)"),
    ("clip", "x low high", "x limited to [low, high], ints where x holds integers; None: open; NaN stays NaN"),
    # derivatives times g: of the output y where that is the shorter rule, else of x
    ("sqrt_grad", "g y", "g / (2 y)"),
    ("tanh_grad", "g y", "g (1 - y²)"),
    ("sigmoid_grad", "g y", "g y (1 - y)"),
    ("relu_grad", "g y", "g where y > 0, else 0"),
    ("leaky_relu_grad", "g x slope", "g where x > 0, else slope·g"),
    ("gelu_grad", "g x", "g (Φ(x) + x φ(x))"),
    ("softplus_grad", "g x", "g · sigmoid(x)"),
    ("mish_grad", "g x", "g times the derivative of mish"),
    # of two and three
    ("add subtract multiply divide maximum minimum", "x y", "as NumPy's"),
    ("add_relu", "x y", "max(x + y, 0); NaN stays NaN"),
    ("mod fmod floor_divide copysign logaddexp arctan2", "x y", "as NumPy's; of integers by 0: 0"),
    ("bitwise_and bitwise_or bitwise_xor left_shift right_shift", "x y", "of int64, as NumPy's"),
    ("power", "x y", "x^y; of integers y >= 0: the operation refuses others"),
    ("power_grad", "g x y", "d/dx: g y x^(y-1), and 0 where y = 0"),
    ("power_grad_exponent", "g x y", "d/dy: g x^y log x, and 0 where x = 0"),
    (
        "equal not_equal less less_equal greater greater_equal logical_and logical_or",
        "x y -> bool",
        "bool arrays, as NumPy's",
    ),
    ("where", "condition x y", "x where the own bool array `condition` holds, else y"),
)
ARRAYS = frozenset({"x", "y", "g", "condition"})  # the arguments of those that are arrays


def declared(name: str, arguments: str, meaning: str) -> Callable:
    """An elementwise kernel as a method of the contract."""

    def kernel(self: Any, *args: Any, out: Any = None) -> Any: ...

    P = inspect.Parameter
    names = arguments.partition(" ->")[0].split()
    parameters = [
        P("self", P.POSITIONAL_OR_KEYWORD),
        *(P(n, P.POSITIONAL_OR_KEYWORD, annotation="Array" if n in ARRAYS else "float") for n in names),
        P("out", P.KEYWORD_ONLY, default=None, annotation="Array | None"),
    ]
    kernel.__name__, kernel.__doc__ = name, meaning
    kernel.__signature__ = inspect.Signature(parameters, return_annotation="Array")  # type: ignore[attr-defined]
    return kernel
