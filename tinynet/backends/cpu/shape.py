"""Views, copies and indexing, in NumPy."""

from __future__ import annotations

import numpy as np

from .memory import empty


def reshape(x, shape):
    return x.reshape(shape)


def transpose(x, axes):
    return x.transpose(axes)


def broadcast_to(x, shape):
    if x.size != 1 or x.ndim > len(shape):
        return np.broadcast_to(x, shape)
    view = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))      # in a seventh of the time
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
            middle = along[before:len(along) - after].copy()
            middle[0] += along[:before].sum(0)
            middle[-1] += along[len(along) - after:].sum(0)
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
    parts = index if isinstance(index, tuple) else (index,)
    if any(np.asarray(part).dtype.kind in "iu" for part in parts if isinstance(part, np.ndarray | list)):
        np.add.at(x, index, g)   # repeated indices add up
    else:
        x[index] += g


def setitem_inplace(x, index, value):
    x[index] = value
