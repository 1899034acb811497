"""Values by their places: taken, put, sorted. The host finds the places, of a device's values too."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import integers as whole
from ..autograd import op
from ..tensor import Tensor, tensor
from .elementwise import maximum, minimum, where
from .reduce import axes_of, computed
from .shape import getitem

__all__ = ["argsort", "one_hot", "scatter", "sort", "take", "take_along_axis", "topk"]

FEW = 8  # of so many times as many values: few


def _one(name: str, axis: Any, x: Tensor) -> int:
    """One axis, in [0, x.ndim)."""
    return axes_of(name, (whole.count(name, "axis", axis),), x.ndim)[0]


def _places(name: str, indices: Any, size: int, axis: int) -> np.ndarray:
    """Integers on the host, in [0, size); negative ones were counted from the end."""
    (places,) = whole.index(name, [indices] if np.ndim(indices) == 0 else indices)
    places = np.reshape(places, np.shape(indices))
    if places.dtype.kind != "i":
        raise TypeError(f"{name}: the indices have dtype {places.dtype}; they must be integers")
    if places.size and not -size <= places.min() <= places.max() < size:
        low, high = places.min(), places.max()
        raise IndexError(f"{name}: indices run from {low} to {high}; axis {axis} has size {size}")
    return np.where(places < 0, places + size, places)


def take(x: Tensor, indices: Any, axis: int | None = None) -> Tensor:
    """The values of x at `indices` along `axis`, or in x flat, as np.take; repeated ones add up their gradients.

    Args: x: a Tensor of any shape; indices: integers of any shape, negative ones counted from the end.
    Returns: a Tensor whose shape has that of the indices in place of the axis.
    Raises: IndexError where an index is out of range, TypeError where it is none, ValueError for the axis.
    """
    x = computed("take", x, "kept")
    x, axis = (x.reshape(-1), 0) if axis is None else (x, _one("take", axis, x))
    return getitem(x, (slice(None),) * axis + (_places("take", indices, x.shape[axis], axis),))


def _along(name: str, x: Tensor, indices: Any, axis: int) -> np.ndarray:
    """Where in x, flat, the values along `axis` are at indices whose other axes are x's, or 1."""
    places = _places(name, indices, x.shape[axis], axis)
    grid = [np.arange(n).reshape(-1, *[1] * (x.ndim - i - 1)) for i, n in enumerate(x.shape)]
    fits = places.ndim == x.ndim and all(
        n in (1, m) for i, (n, m) in enumerate(zip(places.shape, x.shape, strict=True)) if i != axis
    )
    if not fits:
        raise ValueError(f"{name}: indices {places.shape} and x {x.shape} must be equal in all axes but {axis}, or 1")
    grid[axis] = places
    strides = np.cumprod((1, *x.shape[:0:-1]))[::-1]
    return np.asarray(sum(g * s for g, s in zip(grid, strides, strict=True)))


def take_along_axis(x: Tensor, indices: Any, axis: int) -> Tensor:
    """x[i, indices[i, j]] and so on, as np.take_along_axis: for each row, say, its own columns.

    Args: x: a Tensor of one axis or more; indices: integers of as many, of x's sizes or 1 in all axes but `axis`.
    Returns: a Tensor of that broadcast shape.
    Raises: ValueError where shapes do not fit, IndexError where an index is out of range, TypeError where it is none.
    """
    x = computed("take_along_axis", x, "kept")
    return getitem(x.reshape(-1), _along("take_along_axis", x, indices, _one("take_along_axis", axis, x)))


def scatter(x: Tensor, indices: Any, values: Any, axis: int, *, reduce: str | None = None) -> Tensor:
    """x with `values` at the places that take_along_axis(x, indices, axis) reads.

    Args: x: a Tensor of one axis or more; indices: integers, of x's sizes or 1 in all axes but `axis`; values: a
    Tensor, an array or a number that broadcasts to the indices' shape; reduce: None, the last value of a place replaces
    x's; "add", they are added to it; "max" or "min", the largest or smallest of all stays, and of equal ones x, then
    the first value, gets the gradient.
    Returns: a Tensor of x's shape.
    Raises: ValueError where shapes do not fit or `reduce` is another, IndexError where an index is out of range.
    """
    if reduce not in (None, "add", "max", "min"):
        raise ValueError(f'scatter: reduce={reduce!r:.60} must be None, "add", "max" or "min"')
    x = computed("scatter", x, "kept")
    along = _along("scatter", x, indices, _one("scatter", axis, x))
    places = along.reshape(-1)
    if not isinstance(values, Tensor):
        fractions = not hasattr(values, "dtype") and np.asarray(values).dtype.kind == "f"
        dtype = (x.dtype if x.dtype.kind == "f" else np.float64) if fractions else None
        values = tensor(values, dtype=dtype, backend=x.backend)
    if values.ndim > x.ndim or any(
        n not in (1, m) for n, m in zip(values.shape[::-1], along.shape[::-1], strict=False)
    ):
        raise ValueError(f"scatter: values {values.shape} do not broadcast to the indices {along.shape}")
    given = values.broadcast_to(along.shape).reshape(-1)
    if reduce == "add":
        return x + _scatter(given, places, x.shape)
    winners = np.full(x.size, -1)
    order = np.arange(len(places))
    if reduce:  # the first of the best values of each place
        drawn, best = given.numpy(), np.zeros(x.size, given.dtype)
        best[places] = drawn
        (np.maximum if reduce == "max" else np.minimum).at(best, places, drawn)
        order = order[(drawn == best[places]) | (drawn != drawn)][::-1]
    winners[places[order]] = order
    there = winners.reshape(x.shape) >= 0
    if not there.any():
        return where(there, x, x)
    new = getitem(given, np.maximum(winners, 0)).reshape(x.shape)
    return where(there, {None: lambda _, y: y, "max": maximum, "min": minimum}[reduce](x, new), x)


@op
def _scatter(be, x, places, shape):
    """Zeros of `shape`, with the values of x (M,) added at `places`, which count in C order."""
    size = int(np.prod(shape))
    y = be.reshape(be.getitem_grad(x, (places,), (size,)), shape)
    return y, lambda g, need: (be.getitem(be.reshape(g, (size,)), (places,)),)


def argsort(x: Tensor, axis: int | None = -1, descending: bool = False) -> Tensor:
    """The places of x's values along `axis` (None: in x flat) in order; equal ones stay in theirs, NaN is the largest.

    Args: x: a Tensor of any shape; axis: an int or None; descending: the largest first.
    Returns: an int64 Tensor of x's shape, off the tape. A device waits: the host sorts.
    Raises: ValueError where the axis is out of range.
    """
    x = computed("argsort", x, "kept")
    return tensor(_order("argsort", x, axis, descending), backend=x.backend)


def _order(name: str, x: Tensor, axis: int | None, descending: bool) -> np.ndarray:
    values = x.numpy().reshape(-1) if axis is None else x.numpy()
    if not x.ndim:
        return np.zeros(values.shape, np.int64)
    return _ordered(values, 0 if axis is None else _one(name, axis, x), descending)


def _ordered(values: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """np.argsort, by which equal values stay in their order."""
    if descending:
        backwards = _ordered(np.flip(values, axis), axis, False)
        return np.ascontiguousarray(np.flip(values.shape[axis] - 1 - backwards, axis))
    if values.dtype != np.float32:
        return np.argsort(values, axis, kind="stable").astype(np.int64, copy=False)
    # NumPy sorts integers several times as fast as it finds a stable order: here each is a value and its place.
    bits = np.moveaxis(values + np.float32(0), axis, -1).view(np.int32)  # -0 is 0
    bits = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # in the order of the values
    bits[np.moveaxis(np.isnan(values), axis, -1)] = 0x7FFFFFFF
    keys = np.left_shift(bits, 32, dtype=np.int64)
    keys |= np.arange(keys.shape[-1])
    keys.sort(-1)
    keys &= 0xFFFFFFFF
    return np.ascontiguousarray(np.moveaxis(keys, -1, axis))


def _largest(values: np.ndarray, k: int, axis: int) -> np.ndarray:
    """The places of the k largest values, the largest first. Where they are few, only these are put in order, unless
    the least of them has an equal one outside."""
    rows = np.moveaxis(values, axis, -1)
    size = rows.shape[-1]
    if 0 < k <= size // FEW:
        some = np.sort(np.argpartition(rows, size - k, -1)[..., size - k :], -1)
        found = np.take_along_axis(rows, some, -1)
        if (np.count_nonzero(rows >= found.min(-1, keepdims=True), -1) == k).all():
            order = np.take_along_axis(some, _ordered(found, found.ndim - 1, True), -1)
            return np.ascontiguousarray(np.moveaxis(order, -1, axis))
    return _ordered(values, axis, True)[(slice(None),) * axis + (slice(k),)]


def sort(x: Tensor, axis: int | None = -1, descending: bool = False) -> Tensor:
    """The values of x along `axis` (None: of x flat) in order; equal ones stay in theirs, NaN is the largest.

    Args: x: a Tensor of any shape; axis: an int or None; descending: the largest first.
    Returns: a Tensor of x's shape and dtype. A device waits: the host finds the order.
    Raises: ValueError where the axis is out of range.
    """
    x = computed("sort", x, "kept")
    places = _order("sort", x, axis, descending)
    x = x.reshape(-1) if axis is None else x
    return take_along_axis(x, places, -1 if axis is None else axis) if x.ndim else getitem(x, ())


def topk(x: Tensor, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest values along `axis`, the largest first, and their places; of equal ones the first come first.

    Args: x: a Tensor of one axis or more; k: from 0 to the size of the axis.
    Returns: (values, in x's dtype, indices, int64 and off the tape), of x's shape but for k at the axis.
    Raises: ValueError where k is more than there are, or the axis is out of range.
    """
    x = computed("topk", x, "kept")
    axis, k = _one("topk", axis, x), whole.count("topk", "k", k, 0)
    if k > x.shape[axis]:
        raise ValueError(f"topk: k={k} is more than the size {x.shape[axis]} of axis {axis} of shape {x.shape}")
    places = _largest(x.numpy(), k, axis)
    return take_along_axis(x, places, axis), tensor(places, backend=x.backend)


def one_hot(ids: Any, classes: int) -> Tensor:
    """ids (…) integers → (…, classes): 1 at the place ids[…], 0 elsewhere.

    Returns: a float32 Tensor, off the tape.
    Raises: TypeError where ids are no integers, IndexError where one is not in [0, classes). On a device nobody looks
    at them: one that is no class has zeros.
    """
    ids, classes = ids if isinstance(ids, Tensor) else tensor(ids), whole.count("one_hot", "classes", classes, 0)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"one_hot: ids have dtype {ids.dtype}; they must be integers, as in ids.astype(int)")
    if ids.backend.name == "numpy" and ids.size and not 0 <= ids.data.min() <= ids.data.max() < classes:
        low, high = ids.data.min(), ids.data.max()
        raise IndexError(f"one_hot: ids run from {low} to {high}; there are classes 0 to {classes - 1}")
    ids = ids.detach().astype(np.int64)
    return (ids.reshape((*ids.shape, 1)) == np.arange(classes)).astype(np.float32)


T: Any = Tensor
T.argsort, T.sort, T.take = argsort, sort, take
