"""Reductions. `axis` is None (all axes), an int or a tuple of ints, negative ones counted from the end; an
empty tuple reduces nothing."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .. import integers as whole
from ..autograd import op
from ..tensor import Tensor, tensor
from .elementwise import abs, sqrt
from .logic import equal, not_equal

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "softmax",
    "std",
    "sum",
    "var",
]


def axes_of(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` as a sorted tuple of distinct axes in [0, ndim)."""
    if axis is None:
        return tuple(range(ndim))
    axes = []
    for a in whole.counts(name, "axis", axis):
        if not -ndim <= a < ndim:
            raise ValueError(f"{name}: axis {a} is out of range for a tensor with {ndim} axes")
        axes.append(a % ndim)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: axis {axis} names one axis twice")
    return tuple(sorted(axes))


def _kept(shape: tuple, axes: tuple) -> tuple:
    """shape with 1 for each reduced axis."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _count(name: str, shape: tuple, axes: tuple) -> int:
    """How many values are reduced to one; a ValueError where there are none."""
    count = math.prod(shape[i] for i in axes)
    if not count:
        raise ValueError(f"{name}: shape {shape} has no values along axis {axes}; {name} needs at least one")
    return count


def _of_nothing(name: str, shape: tuple, axes: tuple) -> float:
    """NaN, the mean of no values, with NumPy's kind of warning."""
    warnings.warn(f"{name}: shape {shape} has no values along axis {axes}; their {name} is NaN", RuntimeWarning, 3)
    return math.nan


def floating(name: str, x: Any) -> None:
    """Raise TypeError where x holds integers or bools."""
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: the input has dtype {x.dtype}; it must be floating, as in x.astype(np.float32)")


def computed(name: str, x: Any, rule: str = "int64") -> Tensor:
    """x as a tensor in the dtype that operation `name` computes in; arrays and lists become tensors."""
    x = x if isinstance(x, Tensor) else tensor(x)
    if x.dtype.kind == "f":
        return x
    return Tensor(whole.computed(x.backend, name, [x.data], rule)[0], x.backend)


@op
def sum(be, x, axis=None, keepdims=False):
    """The sum over `axis`.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes; int64 of integers and bools; 0 where there are no values.
    Raises: ValueError where an axis is out of range or named twice.
    """
    shape, axes = x.shape, axes_of("sum", axis, x.ndim)
    return be.sum(x, axes, keepdims), lambda g, need: (be.broadcast_to(be.reshape(g, _kept(shape, axes)), shape),)


@op
def mean(be, x, axis=None, keepdims=False):
    """The arithmetic mean over `axis`.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes; of no values NaN, with a RuntimeWarning, as np.mean.
    Raises: ValueError where an axis is out of range or named twice.
    """
    shape, axes = x.shape, axes_of("mean", axis, x.ndim)
    scale = 1 / n if (n := math.prod(shape[i] for i in axes)) else _of_nothing("mean", shape, axes)
    if x.dtype == np.float16:  # whose sum may exceed its largest number, 65504
        y = be.astype(be.multiply(be.sum(be.astype(x, np.float32), axes, keepdims), scale), x.dtype)
    else:
        y = be.multiply(be.sum(x, axes, keepdims), scale)
    return y, lambda g, need: (be.broadcast_to(be.reshape(be.multiply(g, scale), _kept(shape, axes)), shape),)


@op(integers="kept")
def max(be, x, axis=None, keepdims=False):
    """The largest value over `axis`; the first one in C order gets the gradient.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes, in x's dtype.
    Raises: ValueError where an axis is out of range or named twice, or where there are no values.
    """
    axes = axes_of("max", axis, x.ndim)
    _count("max", x.shape, axes)
    y, saved = be.max(x, axes, keepdims)
    return y, lambda g, need: (be.max_grad(g, saved),)


@op(integers="kept")
def min(be, x, axis=None, keepdims=False):
    """The smallest value over `axis`; the first one in C order gets the gradient.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes, in x's dtype.
    Raises: ValueError where an axis is out of range or named twice, or where there are no values.
    """
    axes = axes_of("min", axis, x.ndim)
    _count("min", x.shape, axes)
    y, saved = be.min(x, axes, keepdims)
    return y, lambda g, need: (be.max_grad(g, saved),)


def var(x: Tensor, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """The variance over `axis`: Σ (x - mean)² / (n - ddof), in two passes, so that a mean far from 0 does no harm.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; ddof: subtracted from the count;
    keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes; of no values NaN, with a RuntimeWarning, as np.var.
    Raises: ValueError where an axis is out of range or named twice, or where 0 < n <= ddof.
    """
    axes = axes_of("var", axis, x.ndim)
    n = math.prod(x.shape[i] for i in axes)
    if not n:
        return sum(x, axis, keepdims) * _of_nothing("var", x.shape, axes)
    if n <= ddof:
        raise ValueError(f"var: {n} values along axis {axes} with ddof={ddof}; more than ddof are needed")
    if x.dtype == np.float16:
        return var(x.astype(np.float32), axis, keepdims, ddof).astype(x.dtype)
    away = x - mean(x, axis, True)
    return sum(away * away, axis, keepdims) * (1 / (n - ddof))


def std(x: Tensor, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """The standard deviation over `axis`, the root of `var`. Where all values are equal it has no derivative: NaN.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; ddof: subtracted from the count;
    keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes; of no values NaN, with a RuntimeWarning, as np.std.
    Raises: ValueError where an axis is out of range or named twice, or where 0 < n <= ddof.
    """
    return sqrt(var(computed("std", x, "float64"), axis, keepdims, ddof))


def prod(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`, half by half. The derivative divides by nothing, so zeros are no exception.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes; int64 of integers and bools; 1 where there are no values.
    Raises: ValueError where an axis is out of range or named twice.
    """
    x = computed("prod", x)
    axes = axes_of("prod", axis, x.ndim)
    left = tuple(i for i in range(x.ndim) if i not in axes)
    shape, n = _kept(x.shape, axes), math.prod(x.shape[i] for i in axes)
    y: Any = x.transpose((*axes, *left)).reshape((n, *(x.shape[i] for i in left)))
    y = y if n else sum(y, 0, True) + 1  # 1, or what is empty in another axis
    rest: list[Tensor] = []
    while (n := len(y)) > 1:
        rest += [y[n - 1]] * (n % 2)
        y = y[: n // 2] * y[n // 2 : n // 2 * 2]
    y = y[0]
    for odd in rest:
        y = y * odd
    return y.reshape(shape) if keepdims else y


@op(integers="float64")
def _norm(be, x, ord, axes, keepdims):
    sizes = be.abs(x)
    if ord == 2:
        y = be.sqrt(be.sum(be.multiply(x, x), axes, True))
    else:
        y = sizes if ord == 1 else be.power(sizes, ord)
        y = be.sum(y, axes, True)
        y = y if ord == 1 else be.power(y, 1 / ord)

    def vjp(g, need):
        g = be.reshape(g, y.shape)
        if ord == 1:
            return (be.multiply(g, be.sign(x)),)
        share = be.divide(x if ord == 2 else sizes, be.where(be.equal(y, 0), 1, y))  # of zeros alone, 0
        return (be.multiply(g, share if ord == 2 else be.multiply(be.sign(x), be.power(share, ord - 1))),)

    shape = y.shape if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return be.reshape(y, shape), vjp


def norm(x: Tensor, ord: float = 2, axis: Any = None, keepdims: bool = False) -> Tensor:
    """(Σ |x|^ord)^(1/ord) over `axis`: 1 the sum of sizes, 2 Euclid's length, math.inf the largest size.

    Its gradient at x = 0 is 0, the shortest subgradient.
    Args: x: a Tensor of any shape; ord: a number >= 1; axis: None (all), an int or several; keepdims: leave each
    reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes; float64 of integers and bools.
    Raises: ValueError where ord is less than 1, where an axis is out of range or named twice, and for the largest of no
    values.
    """
    if not ord >= 1:
        raise ValueError(f"norm: ord={ord!r:.60} must be a number >= 1, or math.inf")
    x = computed("norm", x, "float64")
    axes = axes_of("norm", axis, x.ndim)
    if math.isinf(ord):
        _count("norm", x.shape, axes)
        return max(abs(x), axes, keepdims)
    if x.dtype == np.float16:  # whose squares may exceed its largest number
        return _norm(x.astype(np.float32), float(ord), axes, keepdims).astype(x.dtype)
    return _norm(x, float(ord), axes, keepdims)


def any(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether a value over `axis` is not 0, as bools; False where there are none.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a bool Tensor of x's shape without the reduced axes, off the tape.
    Raises: ValueError where an axis is out of range or named twice.
    """
    return sum(not_equal(x, 0), axis, keepdims) > 0


def all(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all values over `axis` are not 0, as bools; True where there are none.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a bool Tensor of x's shape without the reduced axes, off the tape.
    Raises: ValueError where an axis is out of range or named twice.
    """
    return equal(sum(equal(x, 0), axis, keepdims), 0)


@op(integers="kept")
def argmax(be, x, axis=None, keepdims=False):
    """The place of the largest value along `axis`, or in x flat; of equal ones the first, of NaNs too.

    Args: x: a Tensor of any shape; axis: None or an int; keepdims: leave each reduced axis, of size 1.
    Returns: an int64 Tensor of x's shape without the axis, off the tape.
    Raises: ValueError where the axis is out of range or there are no values.
    """
    return _place("argmax", be.max, be, x, axis, keepdims), None


@op(integers="kept")
def argmin(be, x, axis=None, keepdims=False):
    """The place of the smallest value along `axis`, or in x flat; of equal ones the first, of NaNs too.

    Args: x: a Tensor of any shape; axis: None or an int; keepdims: leave each reduced axis, of size 1.
    Returns: an int64 Tensor of x's shape without the axis, off the tape.
    Raises: ValueError where the axis is out of range or there are no values.
    """
    return _place("argmin", be.min, be, x, axis, keepdims), None


def _place(name: str, best: Any, be: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    axes = axes_of(name, axis, x.ndim)
    _count(name, x.shape, axes)
    y, saved = best(x, axes, keepdims)
    return be.reshape(saved[0], y.shape)


@op
def logsumexp(be, x, axis=None, keepdims=False):
    """log Σ exp(x) over `axis`, without overflow.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes; of no values -inf, as np.logaddexp.reduce.
    Raises: ValueError where an axis is out of range or named twice; TypeError where x is not floating.
    """
    floating("logsumexp", x)
    axes = axes_of("logsumexp", axis, x.ndim)

    def vjp(g, need):
        return (be.multiply(be.reshape(g, _kept(x.shape, axes)), be.softmax(x, axes)),)

    return be.logsumexp(x, axes, keepdims), vjp


@op
def softmax(be, x, axis=-1):
    """exp(x) / Σ exp(x) over `axis`, without overflow.

    Args: x: a floating Tensor of any shape; axis: an int or several, or None (all); of 0-d x, -1 too.
    Returns: a Tensor of x's shape; 1 is the sum over `axis`.
    Raises: ValueError where an axis is out of range or named twice; TypeError where x is not floating.
    """
    floating("softmax", x)
    axes = axes_of("softmax", axis if x.ndim or axis != -1 else None, x.ndim)
    y = be.softmax(x, axes)
    return y, lambda g, need: (be.softmax_grad(g, y, axes),)


@op
def log_softmax(be, x, axis=-1):
    """x - logsumexp(x) over `axis`.

    Args: x: a floating Tensor of any shape; axis: an int or several, or None (all); of 0-d x, -1 too.
    Returns: a Tensor of x's shape.
    Raises: ValueError where an axis is out of range or named twice; TypeError where x is not floating.
    """
    floating("log_softmax", x)
    axes = axes_of("log_softmax", axis if x.ndim or axis != -1 else None, x.ndim)
    y = be.log_softmax(x, axes)
    return y, lambda g, need: (be.log_softmax_grad(g, y, axes),)


T: Any = Tensor
T.sum, T.mean, T.max, T.min, T.var, T.std, T.prod = sum, mean, max, min, var, std, prod
T.any, T.all, T.argmax, T.argmin = any, all, argmax, argmin
T.logsumexp, T.softmax, T.log_softmax = logsumexp, softmax, log_softmax
