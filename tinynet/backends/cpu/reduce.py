"""Reductions over any axes, in NumPy."""

from __future__ import annotations

import math

import numpy as np

from .memory import empty, like
from .summation import add_up


def sum(x, axes, keepdims=False, *, out=None):
    if x.dtype.kind in "biu":  # bools are counted, and small integers would overflow
        return np.add.reduce(x, axes, np.int64, out=out, keepdims=keepdims)
    return add_up(x, axes, keepdims, out)


def sum_to(x, shape, *, out=None):
    extra = x.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, size in enumerate(shape) if size == 1 and x.shape[i + extra] != 1
    )
    total = np.asarray(add_up(x, axes)).reshape(shape)  # the sum of all would be a NumPy scalar
    return total if out is None else _into(out, total)


def max(x, axes, keepdims=False):
    return _winner(x, axes, keepdims, np.argmax)


def min(x, axes, keepdims=False):
    return _winner(x, axes, keepdims, np.argmin)


def _winner(x, axes, keepdims, arg):
    """The reduced axes last and flat, so that `arg` finds the first winner in C order (and the first NaN)."""
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    rows = x.transpose((*kept, *axes)).reshape([*(x.shape[i] for i in kept), _count(x, axes)])
    winner = np.expand_dims(arg(rows, axis=-1), -1)
    y = np.take_along_axis(rows, winner, -1)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else rows.shape[:-1]
    return y.reshape(shape), (winner, x.shape, kept, axes)


def _count(x, axes):
    return math.prod(x.shape[i] for i in axes)


def max_grad(g, saved, *, out=None):
    winner, shape, kept, axes = saved
    order = kept + axes
    moved = tuple(shape[i] for i in order)
    rows = np.zeros((*winner.shape[:-1], math.prod(shape[i] for i in axes)), g.dtype)
    np.put_along_axis(rows, winner, g.reshape(winner.shape), -1)
    dx = rows.reshape(moved).transpose(np.argsort(order))
    return np.asarray(dx, order="C") if out is None else _into(out, dx)


def logsumexp(x, axes, keepdims=False, *, out=None):
    top = _finite_max(x, axes)
    total = add_up(np.exp(x - top), axes, True)
    with np.errstate(divide="ignore"):
        y = np.log(total) + top
    y = y if keepdims else y.reshape([n for i, n in enumerate(x.shape) if i not in axes])
    return y if out is None else _into(out, y)


def softmax(x, axes, *, out=None):
    y = np.subtract(x, _finite_max(x, axes), out=like(x) if out is None else out)
    y = np.exp(y, out=y if y.ndim else None)
    return np.divide(y, add_up(y, axes, True), out=y if x.ndim else None)


def softmax_grad(g, y, axes, *, out=None):
    gy = np.multiply(g, y, out=empty(y.shape, y.dtype) if out is None else out)
    return np.subtract(gy, y * add_up(gy, axes, True), out=gy)


def log_softmax(x, axes, *, out=None):
    shifted = np.subtract(x, _finite_max(x, axes), out=like(x) if out is None else out)
    total = add_up(np.exp(shifted), axes, True)
    return np.subtract(shifted, np.log(total), out=shifted if x.ndim else None)


def log_softmax_grad(g, y, axes, *, out=None):
    return np.subtract(g, np.exp(y) * add_up(g, axes, True), out=out)


def _finite_max(x, axes):
    """The shift that keeps exp from overflowing; 0 in place of ±inf, since inf - inf would be NaN."""
    if not x.size:
        return x.dtype.type(0)
    top = np.max(x, axis=axes, keepdims=True)
    return np.where(np.isinf(top), 0, top) if np.isinf(top).any() else top


def _into(out, value):
    np.copyto(out, value)
    return out
