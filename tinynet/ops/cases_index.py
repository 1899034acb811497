"""The cases of what reduces, scans, moves and contracts, and of places; see cases.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from .draws import CASES, Case, away, case, integers, normal, separated

DISCRETE = ("all", "any", "argmax", "argmin", "argsort", "one_hot")  # what returns bools and places, off the tape

_ONE: tuple = (None, 0, 1, -1)
for _name in DISCRETE[:-1]:
    for _axis in _ONE:
        CASES.append(Case(_name, getattr(ops, _name), (integers(3, 4, 3, 2),), {"axis": _axis}, smooth=False))
for _name in "any", "all":
    CASES.append(
        Case(_name, getattr(ops, _name), (integers(2, 0, 3),), {"axis": (0, 1), "keepdims": True}, smooth=False)
    )
CASES.append(Case("one_hot", ops.one_hot, (integers(4, 2, 3),), {"classes": 4}, smooth=False))

_AXES: tuple = (None, 0, -1, (0, 2), (-1, 1), ())
for _axis in _AXES:
    case("prod", ops.prod, normal(2, 3, 4), axis=_axis, keepdims=_axis in (0, (-1, 1)))
    case("norm", ops.norm, away(2, 3, 4), axis=_axis, keepdims=_axis in (0, (-1, 1)))
_SOME: tuple = (None, 0, (0, -1), ())
for _axis in _SOME[:3]:
    case("std", ops.std, normal(2, 3, 4), axis=_axis, keepdims=_axis == 0)
    for _ord in 1, 3, 1.5:
        case("norm", ops.norm, away(2, 3, 4), ord=_ord, axis=_axis)
    case("norm", ops.norm, separated(2, 3, 4), ord=math.inf, axis=_axis)
case("std", ops.std, normal(4, 3), axis=0, ddof=1)
case("prod", lambda x: ops.prod(x * [[1, 0, 1], [0, 0, 1]], 1), normal(2, 3), label="zeros")
for _name in "prod", "norm":
    case(_name, getattr(ops, _name), normal())
    case(_name, getattr(ops, _name), normal(0, 3), axis=0)
    case(_name, getattr(ops, _name), normal(0, 3), axis=1)

for _name, _draw in {"cumsum": normal, "cumprod": normal, "cummax": separated, "logcumsumexp": normal}.items():
    for _axis in _ONE:
        case(_name, getattr(ops, _name), _draw(2, 5, 3), axis=_axis)
    case(_name, getattr(ops, _name), _draw(0, 3), axis=0)
    case(_name, getattr(ops, _name), _draw(2, 1), axis=1)
case("cumprod", lambda x: ops.cumprod(x * [1, 0, 1, 0, 1], -1), normal(2, 5), label="zeros")

for _axis in _SOME:
    case("flip", ops.flip, normal(2, 3, 4), axis=_axis)
_SHIFTS: tuple = ((2, None), (-1, 1), ((1, 2), (0, -1)), (7, 0), (1, (0, 1)), (0, 1))
for _shift, _axis in _SHIFTS:
    case("roll", ops.roll, normal(3, 4), shift=_shift, axis=_axis)
case("roll", ops.roll, normal(0, 4), shift=1, axis=0)
_REPEATS: tuple = ((2, None), (3, 1), ((1, 0, 2), 0), (0, 0))
for _repeats, _axis in _REPEATS:
    case("repeat", ops.repeat, normal(3, 4), repeats=_repeats, axis=_axis)
for _reps in 2, (2, 3), (2, 1, 2), (0, 2):
    case("tile", ops.tile, normal(3, 2), reps=_reps)
case("tile", ops.tile, normal(), reps=3)
for _k in -1, 0, 2:
    case("tril", ops.tril, normal(2, 3, 4), k=_k)
    case("triu", ops.triu, normal(2, 3, 4), k=_k)

_TAKEN: tuple = (([0, 2, 2, -1], None), (np.array([[1, 0], [1, 1]]), 0), (np.array([-1, 2, 2]), 1), (1, 1))
for _indices, _axis in _TAKEN:
    case("take", ops.take, normal(3, 4), indices=_indices, axis=_axis)
case("take_along_axis", ops.take_along_axis, normal(3, 4), indices=np.array([[0, 1], [-1, 3], [2, 2]]), axis=1)
case("take_along_axis", ops.take_along_axis, normal(3, 4), indices=np.array([[2, 0, 0, -1]]), axis=0)
_PLACES = np.array([[0, 0, 3], [1, 2, -2], [3, 3, 3]])
for _reduce in None, "add", "max", "min":
    case("scatter", ops.scatter, separated(3, 4), indices=_PLACES, values=0.3, axis=1, reduce=_reduce)
    case(
        "scatter",
        lambda x, reduce=_reduce: ops.scatter(x[:, :4], _PLACES, x[:, 4:], 1, reduce=reduce),
        separated(3, 7),
        label=str(_reduce),
    )
case("scatter", ops.scatter, normal(2, 3), indices=np.zeros((2, 0), int), values=1.0, axis=1)
for _axis in _ONE:
    case("sort", ops.sort, separated(3, 4), axis=_axis)
case("sort", ops.sort, separated(3, 4), descending=True)
case("topk", ops.topk, separated(3, 4), k=2)
case("topk", ops.topk, separated(3, 4), k=3, axis=0)

case("outer", ops.outer, normal(3), normal(2, 2))
_EINSUMS: tuple[tuple[str, tuple], ...] = (
    ("ij,jk->ik", ((2, 3), (3, 4))),
    ("ij,kj", ((2, 3), (4, 3))),
    ("bij,bjk->bki", ((2, 2, 3), (2, 3, 2))),
    ("ii", ((3, 3),)),
    ("iij->ji", ((3, 3, 2),)),
    ("iii->i", ((2, 2, 2),)),
    ("ij->", ((2, 3),)),
    ("ba", ((2, 3),)),
    ("...ij,...jk->...ik", ((5, 1, 2, 3), (4, 3, 2))),
    ("i...,i->...", ((3, 2, 2), (3,))),
    ("...,...", ((2, 3), (3,))),
    ("i,j,k->kij", ((2,), (3,), (2,))),
    ("ij,jk,kl,li->", ((2, 3), (3, 2), (2, 4), (4, 2))),
    ("bi,bi->b", ((3, 4), (3, 4))),
    ("bi,bi,bi->bi", ((2, 3), (2, 3), (2, 3))),
    ("ij,jk->ik", ((2, 1), (3, 4))),
    ("ij,ij->i", ((1, 3), (2, 1))),
    ("ij->ij", ((1, 3),)),
    ("ab,b->a", ((0, 3), (3,))),
    ("ab,b->a", ((2, 0), (0,))),
    (",i->i", ((), (3,))),
)
for _spec, _shapes in _EINSUMS:

    def _einsum(*xs: Any, spec: str = _spec) -> Any:
        return ops.einsum(spec, *xs)

    case("einsum", _einsum, *(normal(*s) for s in _shapes), label=_spec)
case("einsum", lambda x: ops.einsum("ij,jk,ki", x, x, x), normal(3, 3), label="one tensor three times")
case("einsum", lambda x, y: ops.einsum(x, [0, 1], y, [..., 1], [..., 0]), normal(2, 3), normal(4, 3), label="lists")
EINSUMS = _EINSUMS
