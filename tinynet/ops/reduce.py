"""Reductions. `axis` is None (all axes), an int or a tuple of ints, negative ones counted from the end; an
empty tuple reduces nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import integers as whole
from ..autograd import op
from ..tensor import Tensor

__all__ = ["log_softmax", "logsumexp", "max", "mean", "min", "softmax", "sum", "var"]


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


def floating(name: str, x: Any) -> None:
    """Raise TypeError where x holds integers or bools."""
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: the input has dtype {x.dtype}; it must be floating, as in x.astype(np.float32)")


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
    Returns: a Tensor of x's shape without the reduced axes.
    Raises: ValueError where an axis is out of range or named twice, or where there are no values.
    """
    shape, axes = x.shape, axes_of("mean", axis, x.ndim)
    scale = 1 / _count("mean", shape, axes)
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
    Returns: a Tensor of x's shape without the reduced axes.
    Raises: ValueError where an axis is out of range or named twice, or where n <= ddof.
    """
    axes = axes_of("var", axis, x.ndim)
    n = _count("var", x.shape, axes)
    if n <= ddof:
        raise ValueError(f"var: {n} values along axis {axes} with ddof={ddof}; more than ddof are needed")
    if x.dtype == np.float16:
        return var(x.astype(np.float32), axis, keepdims, ddof).astype(x.dtype)
    away = x - mean(x, axis, True)
    return sum(away * away, axis, keepdims) * (1 / (n - ddof))


@op
def logsumexp(be, x, axis=None, keepdims=False):
    """log Σ exp(x) over `axis`, without overflow.

    Args: x: a Tensor of any shape; axis: None (all), an int or several; keepdims: leave each reduced axis, of size 1.
    Returns: a Tensor of x's shape without the reduced axes.
    Raises: ValueError where an axis is out of range or named twice, or where there are no values; TypeError where x is
    not floating.
    """
    floating("logsumexp", x)
    axes = axes_of("logsumexp", axis, x.ndim)
    _count("logsumexp", x.shape, axes)

    def vjp(g, need):
        return (be.multiply(be.reshape(g, _kept(x.shape, axes)), be.softmax(x, axes)),)

    return be.logsumexp(x, axes, keepdims), vjp


@op
def softmax(be, x, axis=-1):
    """exp(x) / Σ exp(x) over `axis`, without overflow.

    Args: x: a floating Tensor of any shape; axis: an int or several, or None (all).
    Returns: a Tensor of x's shape; 1 is the sum over `axis`.
    Raises: ValueError where an axis is out of range or named twice; TypeError where x is not floating.
    """
    floating("softmax", x)
    axes = axes_of("softmax", axis, x.ndim)
    y = be.softmax(x, axes)
    return y, lambda g, need: (be.softmax_grad(g, y, axes),)


@op
def log_softmax(be, x, axis=-1):
    """x - logsumexp(x) over `axis`.

    Args: x: a floating Tensor of any shape; axis: an int or several, or None (all).
    Returns: a Tensor of x's shape.
    Raises: ValueError where an axis is out of range or named twice; TypeError where x is not floating.
    """
    floating("log_softmax", x)
    axes = axes_of("log_softmax", axis, x.ndim)
    y = be.log_softmax(x, axes)
    return y, lambda g, need: (be.log_softmax_grad(g, y, axes),)


T: Any = Tensor
T.sum, T.mean, T.max, T.min, T.var = sum, mean, max, min, var
T.logsumexp, T.softmax, T.log_softmax = logsumexp, softmax, log_softmax
