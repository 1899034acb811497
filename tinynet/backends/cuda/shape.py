"""Views, copies, borders, indexing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array, Arrays


class Shape(Arrays):
    def reshape(self, x: Array, shape: tuple) -> Array:
        return self.contiguous(x).reshape(shape)

    def transpose(self, x: Array, axes: tuple) -> Array:
        return x.transpose(axes)

    def broadcast_to(self, x: Array, shape: tuple) -> Array:
        return np.broadcast_to(x, shape)

    def concatenate(self, xs: list, axis: int, *, out: Array | None = None) -> Array:
        dtype = np.result_type(*(x.dtype for x in xs))
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        y = self.empty(tuple(shape), dtype) if out is None else out
        start = 0
        for x in xs:
            self.copyto(y[(slice(None),) * axis + (slice(start, start + x.shape[axis]),)], x)
            start += x.shape[axis]
        return y

    def pad(self, x: Array, widths: tuple, mode: str, value: float = 0.0, *, out: Array | None = None) -> Array:
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))

        def write(y: Array) -> None:
            if mode == "edge":
                self.launch(
                    "pad_edge",
                    self.raw(self.contiguous(x)),
                    self.raw(y),
                    x.shape,
                    [b for b, _ in widths],
                    shape,
                    len(shape),
                    y.size,
                )
                return
            self.fill(y, value)
            inside = tuple(slice(b, b + n) for n, (b, _) in zip(x.shape, widths, strict=True))
            self.copyto(y[inside], x)

        return self.into(out, shape, x.dtype, write)

    def pad_edge_grad(self, g: Array, widths: tuple, *, out: Array | None = None) -> Array:
        g = self.contiguous(g)
        for axis, (before, after) in enumerate(widths):
            if before or after:
                shape = (*g.shape[:axis], g.shape[axis] - before - after, *g.shape[axis + 1 :])
                dx = self.empty(shape, g.dtype)
                self.launch("fold_edges", g, dx, shape[axis], before, after, math.prod(shape[axis + 1 :]), dx.size)
                g = dx
        return self.copy(g, out=out)

    def getitem(self, x: Array, index: Any) -> Array:
        parts = self._host_index(index)
        if _basic(parts):
            return x[parts]
        places = np.arange(math.prod(x.shape)).reshape(x.shape)[parts]
        y = self.empty(places.shape, x.dtype)
        self.launch("gather", self.raw(self.contiguous(x)), self.asarray(places), self.raw(y), y.size)
        return y

    def getitem_grad(self, g: Array, index: Any, shape: tuple, *, out: Array | None = None) -> Array:
        parts = self._host_index(index)

        def write(dx: Array) -> None:
            self.fill(dx, 0)
            if _basic(parts):
                self.copyto(dx[parts], g)
                return
            places = np.arange(math.prod(shape)).reshape(shape)[parts].reshape(-1)
            order = np.argsort(places, kind="stable")  # places that repeat stand together, in g's order
            target, starts = np.unique(places[order], return_index=True)
            starts = np.append(starts, len(order))
            self.launch("scatter_add", self.contiguous(g), *map(self.asarray, (order, starts, target)), dx, len(target))

        return self.into(out, shape, g.dtype, write)

    def add_at_inplace(self, x: Array, index: Any, g: Array) -> None:
        self.add(x, self.getitem_grad(g, index, x.shape), out=x)

    def setitem_inplace(self, x: Array, index: Any, value: Any) -> None:
        parts = self._host_index(index)
        if not _basic(parts):
            raise IndexError(
                f"x[…] = on the {self.name} backend takes ints and slices, no integer or bool arrays; "
                "use where, or assign on the host and move the tensor"
            )
        self.copyto(x[parts], value)

    def _host_index(self, index: Any) -> tuple:
        """The index with its arrays on the host, where places are computed."""
        parts = index if isinstance(index, tuple) else (index,)
        return tuple(self.numpy(p) if isinstance(p, self.launcher.arraytype) else p for p in parts)


def _basic(parts: tuple) -> bool:
    return not any(isinstance(part, np.ndarray | list | bool) for part in parts)
