"""Sums of products over named axes, as pairs of matrix products."""

from __future__ import annotations

import functools
import math
import string
from typing import Any

import numpy as np

from ..tensor import Tensor
from .elementwise import multiply
from .matmul import matmul
from .reduce import computed, sum
from .shape import expand_dims, transpose

__all__ = ["einsum", "outer"]


def outer(x: Tensor, y: Tensor) -> Tensor:
    """x[i] · y[j] for all values of both, taken flat, as np.outer.

    Returns: a Tensor of shape (x.size, y.size); int64 of integers and bools.
    Raises: TypeError where an input is uint64.
    """
    return multiply(computed("outer", x).reshape(-1, 1), computed("outer", y).reshape(1, -1))


def einsum(spec: Any, *xs: Any) -> Tensor:
    """Sums of products, as np.einsum: a letter names an axis; what is not in the output is summed over.

    "ij,jk->ik" is a matrix product, "ii->i" a diagonal, "bi,bj" without an arrow has the letters that occur once in
    alphabetical order, "…" in any place (three dots) the axes that have no letter and broadcast. np.einsum's other form
    works too: einsum(x, [0, 1], y, [1, 2], [0, 2]). Three operands or more are contracted two by two, in the order that
    costs least by np.einsum_path.
    Args: spec: the letters; xs: Tensors of any shapes that fit them.
    Returns: a Tensor of the output's shape; int64 of integers and bools.
    Raises: ValueError where the letters do not fit the operands' axes, or sizes of one letter differ.
    """
    spec, given = (spec, xs) if isinstance(spec, str) else _letters((spec, *xs))
    tensors = [computed("einsum", x) for x in given]
    terms, output = _parsed(spec, tuple([x.ndim for x in tensors]))
    sizes: dict[str, int] = {}
    for x, term in zip(tensors, terms, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            if n != 1 and sizes.setdefault(letter, n) != n and sizes[letter] != 1:
                raise ValueError(f"einsum: axis {letter!r} of {spec!r} has the sizes {sizes[letter]} and {n}")
    parts = [_own(x, term, sizes) for x, term in zip(tensors, terms, strict=True)]
    missing = [c for c in output if all(c not in term for _, term in parts)]  # of size 1 in all operands
    left = tuple([term for _, term in parts])
    for places in (
        _order(left, output, tuple([x.shape for x, _ in parts])) if len(parts) > 2 else [(*range(len(parts)),)]
    ):
        picked = [parts[i] for i in places]
        parts = [p for i, p in enumerate(parts) if i not in places]
        wanted = {*output, *(c for _, term in parts for c in term)}
        parts.append(_pair(picked[0], picked[1], wanted) if len(picked) == 2 else _summed(*picked[0], wanted))
    x, term = _summed(*parts[0], set(output))
    x, term = _as(x, (*x.shape, *(1 for _ in missing))), term + "".join(missing)
    order = tuple(term.index(c) for c in output)
    same = order == tuple(range(x.ndim)) and all(x is not given for given in tensors)
    return x if same else transpose(x, order)


def _letters(args: tuple) -> tuple[str, tuple]:
    """einsum(x, [0, 1], …, [0]) in the form of letters."""

    def named(axes: Any) -> str:
        return "".join("..." if a is Ellipsis else string.ascii_letters[a] for a in axes)

    xs, axes = args[: len(args) // 2 * 2 : 2], [named(a) for a in args[1::2]]
    return ",".join(axes) + (f"->{named(args[-1])}" if len(args) % 2 else ""), xs


@functools.lru_cache(256)
def _parsed(spec: str, ndims: tuple[int, ...]) -> tuple[list[str], str]:
    """The operands' letters and the output's, other letters in the place of each ellipsis."""
    left, arrow, output = spec.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {spec!r} names {len(terms)} operands; {len(ndims)} are given")
    extra = [n - len(t.replace("...", "")) for t, n in zip(terms, ndims, strict=True)]
    plain = "".join([*terms, output]).replace("...", "")
    if not plain.isalpha() * plain.isascii() and plain:
        raise ValueError(f"einsum: {spec!r} must consist of letters, commas, '...' and one '->'")
    for term, n, more in zip(terms, ndims, extra, strict=True):
        if more < 0 or (more and "..." not in term):
            raise ValueError(f"einsum: {term!r} of {spec!r} does not fit an operand of {n} axes")
    wide = max([0, *(more for t, more in zip(terms, extra, strict=True) if "..." in t)])
    free = "".join(chr(0x100 + i) for i in range(wide))  # no letter that a spec has
    terms = [t.replace("...", free[wide - more :], 1) for t, more in zip(terms, extra, strict=True)]
    if not arrow:
        every = "".join(terms)
        output = free + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c not in free))
    output = output.replace("...", free, 1)
    if len(set(output)) != len(output) or not set(output) <= set("".join(terms)):
        raise ValueError(f"einsum: the output of {spec!r} must name axes of the operands, each once")
    return terms, output


def _own(x: Tensor, term: str, sizes: dict[str, int]) -> tuple[Tensor, str]:
    """An operand with a letter once: diagonals where one repeats, and no axis that is broadcast from size 1."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            i = term.index(letter)
            j = term.index(letter, i + 1)
            n = x.shape[i]
            if n != x.shape[j]:
                raise ValueError(f"einsum: axis {letter!r} of one operand has the sizes {n} and {x.shape[j]}")
            rest = [a for a in range(x.ndim) if a not in (i, j)]
            x = transpose(x, (*rest, i, j)).reshape((*(x.shape[a] for a in rest), n * n))[..., :: n + 1]
            term = "".join(term[a] for a in rest) + letter
    single = [i for i, c in enumerate(term) if x.shape[i] == 1]
    if single:
        x = x.reshape(tuple(n for n in x.shape if n != 1))
        term = "".join(c for i, c in enumerate(term) if i not in single)
    return x, term


@functools.lru_cache(256)
def _order(terms: tuple[str, ...], output: str, shapes: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Which two operands to contract, step by step; what comes out is the last operand then."""
    names = {c: string.ascii_letters[i] for i, c in enumerate(dict.fromkeys("".join(terms)))}
    left, right = ["".join(names[c] for c in t) for t in terms], "".join(names.get(c, "") for c in output)
    steps: list[tuple[int, ...]] = []
    count = len(terms)
    arrays = [np.broadcast_to(np.float32(0), s) for s in shapes]
    for step in np.einsum_path(",".join(left) + "->" + right, *arrays, optimize=("greedy", 2**62))[0][1:]:
        places = sorted(step, reverse=True)
        for _ in places[1:]:  # a step of three or more operands is several of two
            steps.append((places[0], places[1]))
            count, places = count - 1, [count - 2, *places[2:]]
    return steps


def _summed(x: Tensor, term: str, wanted: set) -> tuple[Tensor, str]:
    """Without the axes that nothing needs any more."""
    axes = tuple(i for i, c in enumerate(term) if c not in wanted)
    return (sum(x, axes), "".join(c for c in term if c in wanted)) if axes else (x, term)


def _pair(one: tuple[Tensor, str], two: tuple[Tensor, str], wanted: set) -> tuple[Tensor, str]:
    """The product of two operands, summed over what both have and nothing else needs."""
    (x, a), (y, b) = _summed(*one, wanted | set(two[1])), _summed(*two, wanted | set(one[1]))
    both = "".join(c for c in a if c in b and c in wanted)
    over = "".join(c for c in a if c in b and c not in wanted)
    left, right = "".join(c for c in a if c not in b), "".join(c for c in b if c not in a)

    def shaped(x: Tensor, term: str, *groups: str) -> Tensor:
        """With its axes in groups, each group one axis but the first."""
        order = tuple(term.index(c) for c in "".join(groups))
        moved = x if order == tuple(range(x.ndim)) else transpose(x, order)
        shape = iter(moved.shape)
        sizes = [[next(shape) for _ in group] for group in groups]
        return _as(moved, (*sizes[0], *(math.prod(s) for s in sizes[1:])))

    size = dict(zip(a + b, x.shape + y.shape, strict=True))
    if over and (left or right):
        product = matmul(shaped(x, a, both, left, over), shaped(y, b, both, over, right))
    else:
        x, y = shaped(x, a, both, left, over), shaped(y, b, both, right, over)
        product = sum(multiply(expand_dims(x, len(both) + 1), expand_dims(y, len(both))), -1)
    term = both + left + right
    return _as(product, tuple([size[c] for c in term])), term


def _as(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else x.reshape(shape)
