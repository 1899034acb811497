"""Rows of a table by their numbers, and back: what embeddings and resized images are made of."""

from __future__ import annotations

import numpy as np

from .memory import empty


def take_rows(x, index, *, out=None):
    y = empty((len(x), len(index), x.shape[2]), x.dtype) if out is None else out
    if x.shape[1] and len(index):
        inside = (index >= 0) & (index < x.shape[1])
        np.take(x, index, 1, out=y, mode="clip")
        if not inside.all():
            y[:, ~inside] = np.nan
    elif len(index):
        y[...] = np.nan
    return y


def take_rows_grad(g, index, count, *, out=None):
    dx = empty((len(g), count, g.shape[2]), g.dtype) if out is None else out
    dx[...] = 0
    order = np.argsort(index, kind="stable")  # numbers that repeat stand together, in g's order
    order = order[np.searchsorted(index[order], 0) : np.searchsorted(index[order], count)]
    if not len(order):
        return dx
    rows, starts = np.unique(index[order], return_index=True)
    if len(rows) == len(order):
        dx[:, rows] = g[:, order]
        return dx
    dx[:, rows] = np.add.reduceat(g[:, order], starts, 1)  # which adds in pairs
    return dx
