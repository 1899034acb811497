"""Views, copies and indexing, in NumPy."""

from __future__ import annotations

import numpy as np

from .memory import empty
from .summation import FEW, add_up


def reshape(x, shape):
    return x.reshape(shape)


def transpose(x, axes):
    return x.transpose(axes)


def broadcast_to(x, shape):
    if x.size != 1 or x.ndim > len(shape):
        return np.broadcast_to(x, shape)
    view = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))  # in a seventh of the time
    view.flags.writeable = False
    return view


def concatenate(xs, axis, *, out=None):
    if out is None:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        out = empty(tuple(shape), np.result_type(*xs))
    return np.concatenate(xs, axis, out=out)


def pad(x, widths, mode, value=0.0, *, out=None):
    if out is None:
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
        out = empty(shape, x.dtype)
    if mode == "edge":
        out[...] = np.pad(x, widths, mode="edge")
    else:
        out.fill(value)
        out[_inside(x.shape, widths)] = x
    return out


def pad_edge_grad(g, widths, *, out=None):
    # axis by axis, fold each border onto the edge that it was copied from
    for axis, (before, after) in enumerate(widths):
        if before or after:
            along = np.moveaxis(g, axis, 0)
            middle = along[before : len(along) - after].copy()
            middle[0] += add_up(along[:before], (0,))
            middle[-1] += add_up(along[len(along) - after :], (0,))
            g = np.moveaxis(middle, 0, axis)
    if out is None:
        return np.array(g, order="C")
    np.copyto(out, g)
    return out


def _inside(shape, widths):
    return tuple(slice(before, before + n) for n, (before, _) in zip(shape, widths, strict=True))


def getitem(x, index):
    return x[index]


def getitem_grad(g, index, shape, *, out=None):
    if out is None:
        out = empty(shape, g.dtype)
    out.fill(0)
    add_at_inplace(out, index, g)
    return out


def add_at_inplace(x, index, g):
    whole = index if isinstance(index, tuple) else (index,)
    parts = [np.asarray(part) for part in whole if isinstance(part, np.ndarray | list)]
    if not any(part.dtype.kind in "iu" for part in parts):
        x[index] += g
    elif x.dtype.kind != "f" or x.dtype.itemsize >= 8 or _most_repeats(parts) <= FEW:
        np.add.at(x, index, g)  # repeated indices add up
    else:  # one by one: in float64, where they round less
        rows: slice | np.ndarray = slice(None)
        if isinstance(index, np.ndarray):  # only the rows that are named
            rows, index = np.unique(np.arange(len(x))[index], return_inverse=True)
            index = index.reshape(parts[0].shape)
        total = np.zeros(x[rows].shape)
        np.add.at(total, index, np.asarray(g, np.float64))
        x[rows] += total


def _most_repeats(parts):
    """How often the arrays of an index name one place, at most; negative indices count as places of their own."""
    if any(part.dtype.kind == "b" for part in parts) or np.broadcast(*parts).size <= FEW:
        return 1  # a mask names each place once
    key = 0
    for part in np.broadcast_arrays(*parts):
        key = key * (int(part.max()) - int(part.min()) + 1) + (part - part.min())
    return np.unique(key, return_counts=True)[1].max()


def setitem_inplace(x, index, value):
    x[index] = value
