"""What has been summed, multiplied, … so far, at each place along an axis.

Each is log2(n) steps on the whole array: after step k a place holds what the 2^k values up to it combine to (Hillis &
Steele 1986). So the derivative is that of the combination, divides by nothing, and rounding grows with log2(n).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..tensor import Tensor
from .elementwise import add, logaddexp, maximum, multiply
from .reduce import axes_of, computed
from .shape import concatenate

__all__ = ["cummax", "cumprod", "cumsum", "logcumsumexp"]


def _scan(name: str, combine: Callable, x: Any, axis: Any, rule: str = "int64") -> Tensor:
    y = computed(name, x, rule)
    y = y.reshape(-1 if axis is None else y.shape)
    at = axes_of(name, 0 if axis is None else axis, y.ndim)
    if len(at) != 1:
        raise ValueError(f"{name}: axis {axis} must be None or one int")
    before, step = (slice(None),) * at[0], 1
    while step < y.shape[at[0]]:
        done, first, last = ((*before, slice(*s)) for s in ((None, step), (None, -step), (step, None)))
        y, step = concatenate([y[done], combine(y[first], y[last])], at[0]), 2 * step
    return y


def cumsum(x: Tensor, axis: int | None = None) -> Tensor:
    """The sums so far along `axis`, as np.cumsum.

    Args: x: a Tensor of any shape; axis: an int, or None (x flat).
    Returns: a Tensor of x's shape; int64 of integers and bools.
    Raises: ValueError where the axis is out of range.
    """
    return _scan("cumsum", add, x, axis)


def cumprod(x: Tensor, axis: int | None = None) -> Tensor:
    """The products so far along `axis`, as np.cumprod; zeros are no exception for the gradient.

    Args: x: a Tensor of any shape; axis: an int, or None (x flat).
    Returns: a Tensor of x's shape; int64 of integers and bools.
    Raises: ValueError where the axis is out of range.
    """
    return _scan("cumprod", multiply, x, axis)


def cummax(x: Tensor, axis: int | None = None) -> Tensor:
    """The largest value so far along `axis`, as np.maximum.accumulate; the first of equal ones gets the gradient.

    Args: x: a Tensor of any shape; axis: an int, or None (x flat).
    Returns: a Tensor of x's shape; int64 of integers and bools.
    Raises: ValueError where the axis is out of range.
    """
    return _scan("cummax", maximum, x, axis)


def logcumsumexp(x: Tensor, axis: int | None = None) -> Tensor:
    """log of the sums of exp(x) so far along `axis`, without overflow.

    Args: x: a Tensor of any shape; axis: an int, or None (x flat).
    Returns: a Tensor of x's shape; float64 of integers and bools.
    Raises: ValueError where the axis is out of range.
    """
    return _scan("logcumsumexp", logaddexp, x, axis, "float64")


T: Any = Tensor
T.cumsum, T.cumprod = cumsum, cumprod
