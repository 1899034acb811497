"""Operations that move values and compute none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import integers as whole
from ..autograd import Part, op
from ..hints import explained
from ..tensor import Tensor
from .elementwise import where
from .reduce import axes_of, computed

__all__ = [
    "broadcast_to",
    "concatenate",
    "expand_dims",
    "flatten",
    "flip",
    "getitem",
    "pad",
    "repeat",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "tril",
    "triu",
]


@op(integers="kept")
def _reshape(be, x, shape):
    old = x.shape
    return be.reshape(x, shape), lambda g, need: (be.reshape(g, old),)


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """x in another shape, values in C order; one size may be -1. `reshape(x, 2, 3)` or `reshape(x, (2, 3))`.

    Returns: a Tensor of that shape, a view where strides allow.
    Raises: ValueError where the sizes do not fit.
    """
    new = whole.counts("reshape", "shape", shape[0] if len(shape) == 1 else shape)
    known = math.prod(n for n in new if n != -1)
    if new.count(-1) == 1 and known and x.size % known == 0:
        new = tuple(x.size // known if n == -1 else n for n in new)
    if -1 in new or math.prod(new) != x.size:
        raise ValueError(f"reshape: shape {x.shape} holds {x.size} values, which do not fit {new}")
    return _reshape(x, new)


def flatten(x: Tensor) -> Tensor:
    """(N, …) → (N, the product of the rest).

    Returns: a Tensor of 2 axes; a vector stays (N, 1).
    Raises: ValueError where x is 0-d.
    """
    if not x.ndim:
        raise ValueError("flatten: the input is 0-d; it must have a first axis, the samples")
    return _reshape(x, (x.shape[0], math.prod(x.shape[1:])))


@op(integers="kept")
def _transpose(be, x, axes):
    return be.transpose(x, axes), lambda g, need: (be.transpose(g, tuple(int(i) for i in np.argsort(axes))),)


def transpose(x: Tensor, axes: Any = None, *more: int) -> Tensor:
    """x with its axes permuted; by default reversed. `transpose(x, (0, 2, 1))` or `transpose(x, 0, 2, 1)`.

    Returns: a view with axis i of the result axis axes[i] of x.
    Raises: ValueError where axes are no permutation.
    """
    axes = (
        tuple(range(x.ndim))[::-1]
        if axes is None
        else (*whole.counts("transpose", "axes", axes), *whole.counts("transpose", "axes", more))
    )
    if sorted(a % x.ndim if -x.ndim <= a < x.ndim else -1 for a in axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: axes {axes} are no permutation of the {x.ndim} axes of shape {x.shape}")
    return _transpose(x, tuple(a % x.ndim for a in axes))


def squeeze(x: Tensor, axis: Any = None) -> Tensor:
    """x without its axes of size 1, or without those named.

    Returns: a view of fewer axes.
    Raises: ValueError where a named axis is not of size 1 or out of range.
    """
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else axes_of("squeeze", axis, x.ndim)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze: axis {axis} of shape {x.shape} is not of size 1")
    return _reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def expand_dims(x: Tensor, axis: int) -> Tensor:
    """x with a new axis of size 1 at `axis`.

    Returns: a view of one more axis.
    Raises: ValueError where the axis is out of range.
    """
    axis = axes_of("expand_dims", axis, x.ndim + 1)[0]
    return _reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


@op(integers="kept")
def broadcast_to(be, x, shape):
    """x repeated along new axes and axes of size 1, to `shape`. (`backward` sums the gradient down again.)

    Returns: a view of that shape.
    Raises: ValueError where x does not broadcast to it.
    """
    shape = whole.counts("broadcast_to", "shape", shape)
    return be.broadcast_to(x, shape), lambda g, need: (g,)


@op(integers="kept")
def _concatenate(be, axis, *xs):
    stops = np.cumsum([x.shape[axis] for x in xs]).tolist()

    def vjp(g, need):
        parts = zip([0, *stops[:-1]], stops, strict=True)
        return (None, *(be.getitem(g, (slice(None),) * axis + (slice(a, b),)) for a, b in parts))

    return be.concatenate(list(xs), axis), vjp


@explained
def concatenate(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after the other along `axis`; their other axes must be equal.

    Returns: a Tensor whose size along `axis` is the sum of theirs.
    Raises: ValueError where there are none, or other axes differ.
    """
    xs = list(xs)
    if not xs:
        raise ValueError("concatenate: needs at least one tensor")
    axis = axes_of("concatenate", axis, xs[0].ndim)[0]
    for x in xs:
        if x.ndim != xs[0].ndim or any(
            a != b for i, (a, b) in enumerate(zip(x.shape, xs[0].shape, strict=True)) if i != axis
        ):
            raise ValueError(f"concatenate: shapes {[x.shape for x in xs]} differ outside axis {axis}")
    return _concatenate(axis, *xs)


@explained
def stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis.

    Returns: a Tensor of one more axis, of size len(xs).
    Raises: ValueError where shapes differ or there are none.
    """
    xs = list(xs)
    if len({x.shape for x in xs}) > 1:
        raise ValueError(f"stack: the shapes {[x.shape for x in xs]} must be equal")
    return concatenate([expand_dims(x, axis) for x in xs], axis)


def split(x: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """x cut along `axis` into `sections` equal parts, or before each of the given places, as np.split.

    Returns: a list of Tensors, views of x.
    Raises: ValueError where x is not divisible into so many parts.
    """
    x = computed("split", x, "kept")
    axis = axes_of("split", axis, x.ndim)[0]
    n = x.shape[axis]
    if not np.ndim(sections):
        sections = whole.count("split", "sections", sections)
        if sections < 1 or n % sections:
            raise ValueError(f"split: axis {axis} of shape {x.shape} has size {n}, not divisible into {sections} parts")
        places = list(range(0, n, n // sections or 1))[1:] if n else [0] * (sections - 1)
    else:
        places = list(whole.counts("split", "sections", sections))
    return [x[(slice(None),) * axis + (slice(a, b),)] for a, b in zip([0, *places], [*places, n], strict=True)]


@op(integers="kept")
def _pad(be, x, widths, mode, value):
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
    if mode == "edge":
        return be.pad(x, widths, mode), lambda g, need: (be.pad_edge_grad(g, widths),)
    return be.pad(x, widths, mode, value), lambda g, need: (be.getitem(g, inside),)


def pad(x: Tensor, widths: Any, mode: str = "constant", value: float = 0.0) -> Tensor:
    """x with a border: `widths` is an int, a (before, after) pair for every axis, or one pair an axis.

    Args: mode: "constant" (filled with `value`), "edge" (the border repeats the nearest value), "reflect" (the values
        beside it, mirrored in the edge) or "wrap" (those from the opposite side), as np.pad.
    Returns: a Tensor, each axis longer by its two widths.
    Raises: ValueError for another mode, negative widths, an edge that is not there; TypeError where widths are no ints.
    """
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise ValueError(f'pad: mode {mode!r} is unknown; choose "constant", "edge", "reflect" or "wrap"')
    x, given = computed("pad", x, "kept"), np.asarray(widths)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"pad: widths={widths!r:.60} must be ints")
    pairs = np.broadcast_to(given, (x.ndim, 2)).tolist()
    whole.exact("pad", x.dtype, value)
    if any(w < 0 for pair in pairs for w in pair):
        raise ValueError(f"pad: the widths {widths} must not be negative; slice to crop")
    if mode == "edge" and not x.size:
        raise ValueError(f"pad: shape {x.shape} has no edge to repeat")
    if mode in ("reflect", "wrap"):
        for axis, (before, after) in enumerate(pairs):
            x = _bordered(x, axis, before, after, mode == "reflect")
        return x
    return _pad(x, tuple(map(tuple, pairs)), mode, value)


def _bordered(x: Tensor, axis: int, before: int, after: int, reflect: bool) -> Tensor:
    """x between copies of its own values along one axis: mirrored in the edges, or from the opposite side."""
    n = x.shape[axis]
    if max(before, after) > n - reflect:
        raise ValueError(
            f'pad: widths {(before, after)} of mode "{"reflect" if reflect else "wrap"}" are more than axis {axis} of '
            f"shape {x.shape} holds"
        )
    first = slice(before, 0, -1) if reflect else slice(n - before, n)
    last = slice(n - 2, n - 2 - after if after < n - 1 else None, -1) if reflect else slice(0, after)
    sides = [(before, first), (None, slice(None)), (after, last)]
    parts = [x[(slice(None),) * axis + (part,)] for width, part in sides if width != 0]
    return parts[0] if len(parts) == 1 else concatenate(parts, axis)


@op(integers="kept")
def _getitem(be, x, index):
    return be.getitem(x, index), lambda g, need: (Part(g, index),)


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] with ints, slices, …, None, and whatever is an array or a list of bools or integers; repeated integers
    add up their gradients.

    Returns: a Tensor of NumPy's shape: a view, or a copy for arrays as index.
    Raises: IndexError where it is no index or out of range.
    """
    return _getitem(x, whole.index("getitem", index))


def flip(x: Tensor, axis: Any = None) -> Tensor:
    """x with the order of its values along `axis` reversed.

    Args: x: a Tensor of any shape; axis: None (all), an int or several.
    Returns: a view of x's shape.
    Raises: ValueError where an axis is out of range or named twice.
    """
    x = computed("flip", x, "kept")
    axes = axes_of("flip", axis, x.ndim)
    return getitem(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim)))


def roll(x: Tensor, shift: Any, axis: Any = None) -> Tensor:
    """x with its values moved `shift` places along `axis`; those that leave at the end come in at the front.

    Args: x: a Tensor of any shape; shift: an int, or one for each axis; axis: an int, several, or None (x flat).
    Returns: a Tensor of x's shape.
    Raises: ValueError where an axis is out of range, or there are more shifts than axes.
    """
    x = computed("roll", x, "kept")
    shape = x.shape
    if axis is None:
        x, axis = x.reshape(-1), 0
    axes, shifts = whole.counts("roll", "axis", axis), whole.counts("roll", "shift", shift)
    if len(axes) != len(shifts) and 1 not in (len(axes), len(shifts)):
        raise ValueError(f"roll: {len(shifts)} shifts do not fit {len(axes)} axes")
    for a, by in np.broadcast(axes, shifts):
        at = axes_of("roll", int(a), x.ndim)[0]
        if by := int(by) % (x.shape[at] or 1):
            last, first = ((slice(None),) * at + (slice(*s),) for s in ((-by, None), (None, -by)))
            x = concatenate([x[last], x[first]], at)
    return x.reshape(shape)


def repeat(x: Tensor, repeats: Any, axis: int | None = None) -> Tensor:
    """Each value of x `repeats` times, one after the other, as np.repeat.

    Args: x: a Tensor of any shape; repeats: an int, or one for each value along `axis`, an int or None (x flat).
    Returns: a Tensor whose size along `axis` is the sum of the repeats.
    Raises: ValueError where repeats are negative or do not fit the axis, or that is out of range.
    """
    x = computed("repeat", x, "kept")
    x, at = (
        (x.reshape(-1), 0) if axis is None else (x, axes_of("repeat", whole.count("repeat", "axis", axis), x.ndim)[0])
    )
    times, n = whole.counts("repeat", "repeats", repeats), x.shape[at]
    if min(times, default=0) < 0 or len(times) not in (1, n):
        raise ValueError(f"repeat: repeats={repeats!r:.60} must be one int >= 0, or {n}: one for each along axis {at}")
    if len(times) == 1:
        head, tail = x.shape[: at + 1], x.shape[at + 1 :]
        wide = broadcast_to(x.reshape((*head, 1, *tail)), (*head, *times, *tail))
        return wide.reshape((*head[:at], n * times[0], *tail))
    return getitem(x, (slice(None),) * at + (np.repeat(np.arange(n), times),))


def tile(x: Tensor, reps: Any) -> Tensor:
    """x side by side with itself, reps[i] times along axis i, as np.tile.

    Args: x: a Tensor of any shape; reps: an int or several; where these are more than x has axes, x gets new ones in
    front, where less, they count from the last axis.
    Returns: a Tensor of that size.
    Raises: ValueError where one is negative.
    """
    x, times = computed("tile", x, "kept"), whole.counts("tile", "reps", reps)
    if min(times, default=0) < 0:
        raise ValueError(f"tile: reps={reps!r:.60} must be >= 0")
    count = max(x.ndim, len(times))
    sizes, times = (1,) * (count - x.ndim) + x.shape, (1,) * (count - len(times)) + times
    between = x.reshape([m for n in sizes for m in (1, n)])
    wide = broadcast_to(between, [m for n, t in zip(sizes, times, strict=True) for m in (t, n)])
    return wide.reshape([n * t for n, t in zip(sizes, times, strict=True)])


def tril(x: Tensor, k: int = 0) -> Tensor:
    """The last two axes' lower triangle, up to the diagonal k places to the right of the main one; 0 above it.

    Args: x: (…, M, N); k: an int, negative ones count to the left.
    Returns: a Tensor of x's shape; int64 of integers and bools.
    Raises: ValueError where x has less than two axes.
    """
    return _triangle("tril", x, k, True)


def triu(x: Tensor, k: int = 0) -> Tensor:
    """The last two axes' upper triangle, from the diagonal k places to the right of the main one on; 0 below it.

    Args: x: (…, M, N); k: an int, negative ones count to the left.
    Returns: a Tensor of x's shape; int64 of integers and bools.
    Raises: ValueError where x has less than two axes.
    """
    return _triangle("triu", x, k, False)


def _triangle(name: str, x: Any, k: int, lower: bool) -> Tensor:
    x, k = computed(name, x, "kept"), whole.count(name, "k", k)
    if x.ndim < 2:
        raise ValueError(f"{name}: shape {x.shape} must be (…, M, N)")
    below = np.tri(x.shape[-2], x.shape[-1], k if lower else k - 1, dtype=np.bool_)
    return where(below, x, 0) if lower else where(below, 0, x)


def _iterate(x: Tensor):
    return (x[i] for i in range(len(x)))


T: Any = Tensor
T.reshape, T.transpose, T.squeeze, T.flatten, T.broadcast_to = reshape, transpose, squeeze, flatten, broadcast_to
T.__getitem__, T.__iter__, T.repeat = getitem, _iterate, repeat
T.T = property(transpose, doc="The tensor with its axes reversed.")
