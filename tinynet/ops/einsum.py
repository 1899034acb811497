"""Sums of products over named axes, as pairs of matrix products."""

from __future__ import annotations

import functools
import math
import string
from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor
from .elementwise import multiply
from .reduce import computed, sum
from .shape import transpose

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
    terms, output, sizes, plain = _checked(spec, tuple([x.shape for x in tensors]))
    if plain and len(terms) == 2:  # most are: straight to the operation
        return _einsum(tensors[0], tensors[1], terms[0], terms[1], output)
    parts = [_own(x, term, sizes) for x, term in zip(tensors, terms, strict=True)]
    left, shapes = tuple([term for _, term in parts]), tuple([x.shape for x, _ in parts])
    order = _order(left, output, shapes) if len(parts) > 2 else [(*range(len(parts)),)]
    for places in order:
        picked = [parts[i] for i in places]
        parts = [p for i, p in enumerate(parts) if i not in places]
        wanted = {*output, *(c for _, term in parts for c in term)}
        parts.append(_pair(picked[0], picked[1], wanted) if len(picked) == 2 else _summed(*picked[0], wanted))
    x, term = _summed(*parts[0], set(output))
    missing = "".join(c for c in output if c not in term)  # of size 1 in all operands
    x, term = _as(x, (*x.shape, *(1 for _ in missing))), term + missing
    axes = tuple(term.index(c) for c in output)
    same = axes == tuple(range(x.ndim)) and all(x is not given for given in tensors)
    return x if same else transpose(x, axes)


@functools.lru_cache(256)
def _checked(spec: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[str], str, dict[str, int], bool]:
    """The operands' letters, the output's, each letter's size, and whether no operand has a letter twice or of size 1.
    ValueError where sizes differ."""
    terms, output = _parsed(spec, tuple([len(shape) for shape in shapes]))
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, n in zip(term, shape, strict=True):
            if n != 1 and sizes.setdefault(letter, n) != n and sizes[letter] != 1:
                raise ValueError(f"einsum: axis {letter!r} of {spec!r} has the sizes {sizes[letter]} and {n}")
    return terms, output, sizes, all(len(set(t)) == len(t) and 1 not in s for t, s in zip(terms, shapes, strict=True))


def _letters(args: tuple) -> tuple[str, tuple]:
    """einsum(x, [0, 1], …, [0]) in the form of letters."""

    def named(axes: Any) -> str:
        return "".join("..." if a is Ellipsis else string.ascii_letters[a] for a in axes)

    xs, axes = args[: len(args) // 2 * 2 : 2], [named(a) for a in args[1::2]]
    return ",".join(axes) + (f"->{named(args[-1])}" if len(args) % 2 else ""), xs


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
    """The product of two operands, summed over what nothing else needs."""
    (x, a), (y, b) = one, two
    term = "".join(c for c in dict.fromkeys(a + b) if c in wanted)
    return _einsum(x, y, a, b, term), term


@op
def _einsum(be, x, y, a, b, out):
    """Σ x y over the letters that are not in `out`; a and b name the axes of x and y, each letter once."""
    x_shape, y_shape = x.shape, y.shape

    def grad(g, other, letters, term, shape):
        kept = "".join(c for c in term if c in out or c in letters)
        d = _contracted(be, g, other, out, letters, kept)
        if kept == term:
            return d
        d = be.reshape(d, tuple([n if c in kept else 1 for c, n in zip(term, shape, strict=True)]))
        return be.broadcast_to(d, shape)

    def vjp(g, need):
        return (
            grad(g, y, b, a, x_shape) if need[0] else None,
            grad(g, x, a, b, y_shape) if need[1] else None,
        )

    return _contracted(be, x, y, a, b, out), vjp


def _contracted(be: Any, x: Any, y: Any, a: str, b: str, out: str) -> Any:
    """The same of the backend's arrays: as one matrix product, where there is a sum."""
    (x_over, x_axes, x_turned), (y_over, y_axes, y_turned), counts, axes = _plan(a, b, out)
    x = be.sum(x, x_over) if x_over else x
    y = be.sum(y, y_over) if y_over else y
    x = be.transpose(x, x_axes) if x_axes else x
    y = be.transpose(y, y_axes) if y_axes else y
    both, left, right, over = counts
    batch = x.shape[:both]
    own = x.shape[both + over :] if x_turned else x.shape[both : both + left]
    others = y.shape[both + over :] if y_turned else y.shape[both : both + right]
    rows, columns = math.prod(own), math.prod(others)
    if over and (left or right):
        depth = math.prod(x.shape[both : both + over] if x_turned else x.shape[both + left :])
        x = be.reshape(x, (*batch, depth, rows) if x_turned else (*batch, rows, depth))
        y = be.reshape(y, (*batch, depth, columns) if y_turned else (*batch, columns, depth))
        z = be.matmul(x, y, x_turned, not y_turned)
    elif over:
        z = be.sum(be.multiply(x, y), tuple(range(both, both + over)))
    else:
        z = be.multiply(be.reshape(x, (*batch, rows, 1)), be.reshape(y, (*batch, 1, columns)))
    z = be.reshape(z, (*batch, *own, *others))
    return be.transpose(z, axes) if axes else z


@functools.lru_cache(256)
def _plan(a: str, b: str, out: str) -> tuple:
    """What _contracted does to x and y, (axes that are summed first, order of the others, whether the axes of the
    product's sum come before its own), how many letters are in both and in `out`, in x alone, in y alone, and summed
    over, and the order of the product's axes; () is as it is."""
    both = "".join(c for c in a if c in b and c in out)
    over = "".join(c for c in a if c in b and c not in out)
    left, right = ("".join(c for c in t if c in out and c not in o) for t, o in ((a, b), (b, a)))

    def prepared(term: str, other: str, own: str) -> tuple:
        alone = tuple(i for i, c in enumerate(term) if c not in out and c not in other)
        rest = "".join(c for i, c in enumerate(term) if i not in alone)
        turned = rest == both + over + own
        return alone, () if turned else ordered(rest, both + own + over), turned

    def ordered(term: str, wanted: str) -> tuple:
        return () if term == wanted else tuple(term.index(c) for c in wanted)

    counts = tuple(len(t) for t in (both, left, right, over))
    return prepared(a, b, left), prepared(b, a, right), counts, ordered(both + left + right, out)


def _as(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else x.reshape(shape)
