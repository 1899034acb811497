"""Calls of every kernel that the contract names, drawn by Hypothesis: shapes (odd, of one element, empty, larger than
a block), both float types, numbers beside arrays, ties, NaN, and every layout that an operand can have.

`CALLS[name](dice)` is one call; cuda_parity.py holds its result against the numpy backend's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import strategies
from tinynet.backends import cpu
from tinynet.backends.contract import KERNELS
from tinynet.backends.elementwise import ARRAYS, ELEMENTWISE
from tinynet.backends.geometry import output_size
from tinynet.ops import cases

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LAYOUTS = ("C", "C", "F", "negative", "spread", "offset", "stride 0")
NAMES = list(KERNELS)


@dataclass
class Call:
    """Positional arguments. Of a gradient: those of the `forward` kernel, whose saved follows g, then the rest."""

    args: tuple
    forward: str | None = None
    rest: tuple = ()
    layouts: tuple[str, ...] = ("C",)

    def __repr__(self) -> str:
        show = lambda a: f"{a.dtype}{a.shape}" if isinstance(a, np.ndarray) else repr(a)  # noqa: E731
        return f"Call({', '.join(map(show, self.args))}, {self.forward}, {self.rest}, {self.layouts})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # what Hypothesis prints of a failing call
        printer.text(repr(self))


class Dice:
    """What a call is made of."""

    def __init__(self, draw: Callable):
        self.draw = draw
        self.T = draw(st.sampled_from(FLOATS))
        self.rng = np.random.default_rng(draw(strategies.seeds))

    def pick(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def int(self, low: int, high: int) -> int:
        return self.pick(*range(low, high + 1))

    def pair(self, low: int, high: int) -> tuple[int, int]:
        """Mostly of different numbers, so that no axis can stand for the other."""
        pairs = [(a, b) for a in range(low, high + 1) for b in range(low, high + 1)]
        return self.pick(*pairs, *(p for p in pairs if p[0] != p[1]), *(p for p in pairs if p[0] != p[1]))

    def batch(self) -> int:
        return self.pick(2, 1, 2, 3, 2, 0)

    def shape(self, least: int = 0) -> tuple[int, ...]:
        """Mostly small; sometimes of one element, empty, or larger than a block."""
        large = [(300,), (7, 41), (3, 5, 19), (1025,)]
        return self.draw(st.one_of(strategies.shapes(least, 4, smallest=0), st.sampled_from(large)))

    def axes(self, ndim: int) -> tuple[int, ...]:
        return tuple(sorted(self.draw(st.sets(st.integers(0, ndim - 1))))) if ndim else ()

    # ---- arrays ----
    def normal(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.standard_normal(shape), self.T)

    def positive(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.uniform(0.3, 3, shape), self.T)

    def away(self, *shape: int) -> np.ndarray:
        return np.asarray(self.positive(*shape) * self.rng.choice([-1, 1], shape), self.T)

    def ties(self, *shape: int) -> np.ndarray:
        """Few different values, so that maxima are shared; zeros of both signs, infinities and NaN among them."""
        odd = self.pick([0.0], [0.0], [np.nan, -0.0], [np.inf, -np.inf])
        return np.asarray(self.rng.choice([-2.0, -1, 0, 1, 2, *odd], shape), self.T)

    def whole(self, high: int, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.integers(0, high, shape))

    def number_or(self, x: np.ndarray, number: float) -> Any:
        return number if self.int(0, 5) == 0 else x

    def call(self, *args: Any, forward: str | None = None, rest: tuple = (), any_layout: bool = True) -> Call:
        count = len(arrays_in(args)) + 1
        layouts = tuple(self.pick(*LAYOUTS) for _ in range(count)) if any_layout else ("C",)
        return Call(args, forward, rest, layouts)


def arrays_in(value: Any) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        return [value]
    return [x for v in value for x in arrays_in(v)] if isinstance(value, tuple | list) else []


# ---- the calls: a line a kernel ----------------------------------------------------------------------------

CALLS: dict[str, Callable[[Dice], Call]] = {}


def calls(*names: str) -> Callable:
    def register(make: Callable[[Dice], Call]) -> Callable[[Dice], Call]:
        CALLS.update(dict.fromkeys(names, make))
        return make

    return register


calls("copy")(lambda d: d.call(d.normal(*d.shape())))
calls("abs", "sign", "relu")(lambda d: d.call(d.pick(d.ties, d.normal)(*d.shape())))
calls("leaky_relu")(lambda d: d.call(d.ties(*d.shape()), d.pick(0.01, 0.3)))
calls("clip")(lambda d: d.call(d.ties(*d.shape()), d.pick(None, -1.0), d.pick(None, 1.0, 0.5)))


@calls("relu_grad")
def _(d: Dice) -> Call:
    shape = d.shape()
    return d.call(d.normal(*shape), d.normal(*shape) if d.int(0, 1) else d.whole(3, *shape).astype(d.T))


def _broadcast(d: Dice, count: int) -> list[tuple]:
    return d.draw(st.one_of(strategies.broadcastable(count), d_large(count)))


def d_large(count: int) -> st.SearchStrategy:
    return st.sampled_from([[(300,)] * count, [(7, 41), (41,), (7, 1)][:count], [(1,), (5, 61), (5, 61)][:count]])


calls("add", "subtract", "multiply")(
    lambda d: (lambda a, b: d.call(d.number_or(d.normal(*a), 0.7), d.normal(*b)))(*_broadcast(d, 2))
)
calls("divide")(lambda d: (lambda a, b: d.call(d.number_or(d.normal(*a), -2), d.away(*b)))(*_broadcast(d, 2)))


@calls("power")
def _(d: Dice) -> Call:
    a, b = _broadcast(d, 2)
    if d.int(0, 2) == 0:  # integers, whose products wrap around
        return d.call(d.whole(30, *a) - 15, d.whole(d.pick(3, 30), *b))
    return d.call(d.positive(*a), d.number_or(d.normal(*b), 3))


calls("maximum", "minimum", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal")(
    lambda d: (lambda a, b: d.call(d.ties(*a), d.number_or(d.ties(*b), 1.0)))(*_broadcast(d, 2))
)


@calls("power_grad", "power_grad_exponent")
def _(d: Dice) -> Call:
    shape = d.shape()
    x, y = d.positive(*shape), d.normal(*shape)
    y = np.asarray(np.where(d.rng.random(shape) < 0.5, d.rng.integers(0, 3, shape), y), d.T)
    x = np.asarray(np.where((d.rng.random(shape) < 0.3) & (y >= 0), 0, x), d.T)  # where the rules have exceptions
    return d.call(d.normal(*shape), x, y)


def _elementwise(name: str, arguments: list[str]) -> Callable[[Dice], Call]:
    """A call of an elementwise kernel that has none of its own above: x (or y, the output) from where the operation's
    cases are drawn, two operands that broadcast, numbers 0.3 or 1.5."""
    arrays = [a for a in arguments if a in ARRAYS]
    draws = cases.UNARY.get(name.removesuffix("_grad")) or cases.BINARY.get(name) or (cases.normal, cases.normal)

    if name in cases.BITS:
        return lambda d: (lambda a, b: d.call(d.whole(1000, *a) - 500, d.whole(70, *b)))(*_broadcast(d, 2))

    def make(d: Dice) -> Call:
        shapes = _broadcast(d, 2) if arrays == ["x", "y"] else [d.shape()] * 2
        dtype = d.pick(None, int, d.T) if name in ("mod", "fmod", "floor_divide") else None
        if dtype is not None:  # by 0 and by -1, and without a rest
            return d.call(*(np.asarray(d.whole(19, *s) - 9, dtype) for s in shapes))
        if name == "logaddexp" and d.int(0, 1):
            return d.call(*(d.ties(*s) for s in shapes))
        domains = (cases.normal, draws[0]) if arrays[0] == "g" else draws
        if name == "floor_divide" and d.int(0, 2) == 0:  # quotients that are rounded to just below a whole number
            return d.call(d.normal(300) * 1000, d.away(300))
        given = [np.asarray(f(*s)(d.rng), d.T) for f, s, _ in zip(domains, shapes, arrays, strict=False)]
        return d.call(*given, *(d.pick(0.3, 1.5) for _ in arguments[len(arrays) :]))

    return make


@calls("where")
def _(d: Dice) -> Call:
    c, x, y = _broadcast(d, 3)
    return d.call(d.whole(2, *c).astype(bool), d.number_or(d.normal(*x), 2.0), d.normal(*y))


for _names, _arguments, _ in ELEMENTWISE:
    for _name in _names.split():
        if _name not in CALLS:
            calls(_name)(_elementwise(_name, _arguments.split(" ->")[0].split()))


# reductions: the axes that are reduced hold at least one element, the others may hold none
def _rows(d: Dice, draw: Callable, empty: bool = False) -> tuple[np.ndarray, tuple]:
    shape = d.draw(st.one_of(strategies.shapes(0, 4), st.sampled_from([(3, 300), (300, 3), (2, 5, 70), (33, 40)])))
    axes = d.axes(len(shape))
    if d.int(0, 2) == 0:  # rows of several warps, and of more columns than a block has threads
        shape, axes = (d.pick(1, 3, 5), d.pick(300, 70, 300, 33)), (1,)
    kept = [i for i in range(len(shape)) if i not in axes]
    if kept and d.int(0, 7) == 0:
        shape = tuple(0 if i == kept[0] else n for i, n in enumerate(shape))
    if empty and axes and d.int(0, 7) == 0:
        shape = tuple(0 if i == axes[0] else n for i, n in enumerate(shape))
    return draw(*shape), axes


@calls("sum")
def _(d: Dice) -> Call:
    x, axes = _rows(d, d.pick(d.normal, lambda *s: d.whole(2, *s).astype(bool), lambda *s: d.whole(9, *s)), empty=True)
    if d.int(0, 7) == 0:
        x, axes = d.normal(d.pick(600, 800), d.pick(1, 3, 35)), (0,)  # slices of rows, as a bias gradient
    return d.call(x, axes, d.pick(True, False))


@calls("sum_to")
def _(d: Dice) -> Call:
    shape, _ = _broadcast(d, 2)
    x = d.normal(*d.draw(strategies.shapes(0, 2)), *(n if n != 1 else d.int(1, 3) for n in shape))
    return d.call(x, shape)


calls("max", "min")(lambda d: d.call(*_rows(d, d.pick(d.ties, d.normal)), d.pick(True, False)))
calls("max_grad")(lambda d: d.call(*_rows(d, d.pick(d.ties, d.normal)), False, forward=d.pick("max", "min")))
calls("logsumexp")(lambda d: d.call(*_rows(d, d.pick(d.normal, d.ties)), d.pick(True, False)))
calls("softmax", "log_softmax")(lambda d: d.call(*_rows(d, d.normal)))


@calls("softmax_grad", "log_softmax_grad")
def _(d: Dice) -> Call:
    y, axes = _rows(d, d.normal)
    return d.call(d.normal(*y.shape), y, axes)


# shapes and indices
@calls("reshape")
def _(d: Dice) -> Call:
    shape = d.shape()
    return d.call(d.normal(*shape), d.pick((math.prod(shape),), shape[::-1], (1, *shape)))


@calls("transpose")
def _(d: Dice) -> Call:
    shape = d.shape()
    return d.call(d.normal(*shape), tuple(d.draw(st.permutations(range(len(shape))))))


@calls("broadcast_to")
def _(d: Dice) -> Call:
    small, _ = _broadcast(d, 2)
    return d.call(d.normal(*small), (2, *(n if n != 1 else 3 for n in small)))


@calls("concatenate")
def _(d: Dice) -> Call:
    shape = d.shape(least=1)
    axis = d.int(0, len(shape) - 1)
    parts = [(*shape[:axis], d.int(0, 3), *shape[axis + 1 :]) for _ in range(d.int(1, 3))]
    return d.call([d.normal(*s) for s in parts], axis)


def _padded(d: Dice) -> tuple[tuple, tuple]:
    shape = d.draw(strategies.shapes(1, 4, smallest=1, largest=5))
    return shape, tuple(d.pair(0, 3) for _ in shape)


@calls("pad")
def _(d: Dice) -> Call:
    shape, widths = _padded(d)
    mode = d.pick("constant", "edge")
    return d.call(d.normal(*shape), widths, mode, d.pick(0.0, 1.5))


@calls("pad_edge_grad")
def _(d: Dice) -> Call:
    shape, widths = _padded(d)
    return d.call(d.normal(*(n + a + b for n, (a, b) in zip(shape, widths, strict=True))), widths)


def _index(d: Dice, basic: bool = False) -> tuple[tuple, Any]:
    shape = d.draw(strategies.shapes(1, 3, smallest=1))
    plain = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    if basic:
        return shape, d.draw(plain)
    masks = hnp.arrays(np.bool_, shape)
    return shape, d.draw(st.one_of(plain, hnp.integer_array_indices(shape), masks.map(lambda m: (m,))))


@calls("getitem")
def _(d: Dice) -> Call:
    shape, index = _index(d)
    return d.call(d.normal(*shape), index)


@calls("getitem_grad")
def _(d: Dice) -> Call:
    shape, index = _index(d)
    return d.call(d.normal(*np.zeros(shape)[index].shape), index, shape)


@calls("add_at_inplace")
def _(d: Dice) -> Call:
    shape, index = _index(d)
    return d.call(d.normal(*shape), index, d.normal(*np.zeros(shape)[index].shape))


@calls("setitem_inplace")
def _(d: Dice) -> Call:
    shape, index = _index(d, basic=True)
    return d.call(d.normal(*shape), index, d.number_or(d.normal(*np.zeros(shape)[index].shape), 1.5))


# products
@calls("matmul")
def _(d: Dice) -> Call:
    a, b = (s[-2:] for s in d.draw(strategies.broadcastable(2)))
    m, k, n = d.draw(
        st.one_of(
            st.tuples(*[st.integers(0, 5)] * 3),
            st.sampled_from([(1, 1, 1), (65, 3, 2), (3, 9, 66), (3, 600, 2), (64, 8, 64)]),
        )
    )
    a, b = (a, b) if m * k * n < 100 else ((), (2,))
    flip = (d.pick(False, True), d.pick(False, True))
    x, y = ((*s, *(p[::-1] if f else p)) for s, p, f in zip((a, b), ((m, k), (k, n)), flip, strict=True))
    return d.call(d.normal(*x), d.normal(*y), *flip)


@calls("dense")
def _(d: Dice) -> Call:
    m, k, n = d.draw(
        st.one_of(st.tuples(*[st.integers(0, 5)] * 3), st.sampled_from([(65, 3, 2), (3, 9, 66), (2, 600, 5)]))
    )
    return d.call(d.normal(m, k), d.normal(k, n), d.pick(None, d.normal(n)), d.pick(True, False))


calls("one")(lambda d: d.call(d.pick((), (1,), (1, 1)), d.T, any_layout=False))


@calls("dense_grad")
def _(d: Dice) -> Call:
    m, k, n = d.draw(
        st.one_of(st.tuples(*[st.integers(0, 5)] * 3), st.sampled_from([(65, 143, 2), (65, 64, 66), (600, 130, 5)]))
    )
    y = d.pick(None, d.ties(m, n))
    return d.call(d.normal(m, n), d.normal(m, k), d.normal(k, n), y, _need(d))


def _window(d: Dice) -> dict[str, Any]:
    kernel, stride, dilation = d.pair(1, 3), d.pair(1, 3), d.pair(1, 2)
    padding = (d.pair(0, 2), d.pair(0, 2))
    extent = [(k - 1) * e + 1 for k, e in zip(kernel, dilation, strict=True)]
    size = tuple(max(1, e - sum(p) + d.int(0, 4)) for e, p in zip(extent, padding, strict=True))
    output = tuple((n + sum(p) - e) // s + 1 for n, p, e, s in zip(size, padding, extent, stride, strict=True))
    return {"size": size, "output": output, "kernel": kernel, "options": (stride, padding, dilation)}


@calls("im2col")
def _(d: Dice) -> Call:
    w = _window(d)
    return d.call(d.normal(d.batch(), *w["size"], d.int(1, 3)), w["kernel"], *w["options"])


@calls("col2im")
def _(d: Dice) -> Call:
    w, n, c = _window(d), d.batch(), d.int(1, 3)
    return d.call(d.normal(n, *w["output"], *w["kernel"], c), (n, *w["size"], c), *w["options"])


def _conv(d: Dice) -> tuple:
    """(x, w, b, stride, padding, dilation, groups): now and then more pixels, filters or taps than a tile has."""
    w = _window(d)
    groups, (c, f) = d.pick(2, 1, 2), d.pair(1, 3)
    n, size = d.batch(), w["size"]
    large = d.int(0, 9)
    if large == 0:
        n, size, c = 1, (size[0] + 6, size[1] + 9), 1
    elif large == 1:
        c, f, groups = 8, 33, 2
    elif large == 2:
        n, size, w["kernel"], w["options"] = 3, (16, 16), (3, 3), ((1, 1), ((1, 1), (1, 1)), (1, 1))  # split-K
        c = f = groups = 1
    elif large in (3, 4):
        n, size, w["kernel"], w["options"] = 1, (5, 4), (3, 3), ((1, 1), ((0, 1), (1, 0)), (1, 1))  # of the others
        (c, f), groups = ((60, 1), (1, 60))[large - 3], 1
    x, weight = d.normal(n, *size, groups * c), d.normal(*w["kernel"], c, groups * f)
    return x, weight, d.pick(None, d.normal(groups * f)), *w["options"], groups


def _pooled(d: Dice) -> tuple:
    """Likewise, with the flag `pool`, which needs an output of 2×2."""
    x, w, b, stride, padding, dilation, groups = _conv(d)
    x = d.normal(len(x), x.shape[1] + stride[0], x.shape[2] + stride[1], x.shape[3])
    return x, w, b, stride, padding, dilation, groups, d.pick(True, False)


def _need(d: Dice) -> tuple:
    return d.pick((1, 1, 1), (1, 1, 1), (1, 1, 1), (None, 1, 1), (1, None, None), (0, 1, 0), (None, None, None))


calls("conv2d")(lambda d: d.call(*_conv(d)))


@calls("conv2d_input_grad")
def _(d: Dice) -> Call:
    x, w, _, stride, padding, dilation, groups = _conv(d)
    size = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    g = d.normal(len(x), *size, w.shape[3])
    return d.call(g, w, x.shape, stride, padding, dilation, groups)


calls("conv2d_grad")(lambda d: d.call(*_conv(d), forward="conv2d", rest=(_need(d),)))
calls("conv_relu_pool")(lambda d: d.call(*_pooled(d)))
calls("conv_relu_pool_grad")(lambda d: d.call(*_pooled(d), forward="conv_relu_pool", rest=(_need(d),)))


def _pool(d: Dice, draw: Callable) -> tuple:
    kernel, stride = d.pair(1, 3), d.pair(1, 3)
    padding = tuple((d.int(0, k // 2), d.int(0, k // 2)) for k in kernel)
    if d.int(0, 1):  # windows that hang over every edge
        kernel, stride, padding = d.pair(2, 3), (1, 1), ((1, 1), (1, 1))
    size = tuple(k + d.int(0, 4) for k in kernel)
    return draw(d.batch(), *size, d.int(1, 3)), kernel, stride, padding


def _pool_grad(d: Dice) -> Call:
    x, kernel, stride, padding = _pool(d, d.normal)
    output = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(x.shape[1:3], padding, kernel, stride, strict=True)]
    return d.call(d.normal(len(x), *output, x.shape[3]), x.shape, kernel, stride, padding, d.pick(True, False))


def _max_pool(d: Dice, draw: Callable) -> tuple:
    x, kernel, stride, padding = _pool(d, draw)
    dilation = d.pick((1, 1), (3, 1), (1, 3), d.pair(1, 3))
    grown = [(k - 1) * (r - 1) for k, r in zip(kernel, dilation, strict=True)]
    return (
        draw(len(x), *(n + g for n, g in zip(x.shape[1:3], grown, strict=True)), x.shape[3]),
        kernel,
        stride,
        padding,
        dilation,
    )


calls("max_pool2d")(lambda d: d.call(*_max_pool(d, d.pick(d.ties, d.normal))))
calls("max_pool2d_grad")(lambda d: d.call(*_max_pool(d, d.ties), forward="max_pool2d"))
calls("avg_pool2d")(lambda d: d.call(*_pool(d, d.normal), d.pick(True, False)))
calls("avg_pool2d_grad")(_pool_grad)


def _looked_up(d: Dice) -> tuple:
    """x (A, R, B), and numbers of its rows, some of them repeated or none of its."""
    a, rows, width, count = d.pick((1, 5, 3, 7), (2, 3, 40, 70), (3, 1, 1, 2), (1, 4, 33, 0), (0, 2, 2, 3))
    return d.normal(a, rows, width), d.whole(rows + 2, count) - 1


@calls("take_rows")
def _(d: Dice) -> Call:
    return d.call(*_looked_up(d))


@calls("take_rows_grad")
def _(d: Dice) -> Call:
    x, index = _looked_up(d)
    return d.call(d.normal(len(x), len(index), x.shape[2]), index, x.shape[1])


def _norm(d: Dice) -> tuple:
    """x (N, L, G, K) of a batch, of samples and of groups; mean, var, gamma, beta."""
    shapes = [
        (1, 600, 3, 1),
        (1, 7, 41, 1),
        (1, 1, 2, 1),
        (4, 1, 1, 70),
        (3, 1, 1, 5),
        (2, 5, 3, 4),
        (2, 2, 1, 33),
        (0, 2, 2, 1),
    ]
    shape = d.pick(*shapes)
    n, _, g, k = shape
    x = d.normal(*shape) + d.pick(0, 100)
    return x.astype(d.T), d.normal(n, g), d.positive(n, g), d.normal(g, k), d.normal(g, k)


_CELLS = (1, 1), (3, 5), (0, 4), (7, 40)


@calls("lstm_cell")
def _(d: Dice) -> Call:
    n, width = d.pick(*_CELLS)
    return d.call(d.normal(n, 4 * width), d.normal(n, width))


@calls("lstm_slopes")
def _(d: Dice) -> Call:
    n, width = d.pick(*_CELLS)
    return d.call(d.normal(n, 4 * width), d.normal(n, width), d.normal(n, width))


@calls("lstm_cell_grad")
def _(d: Dice) -> Call:
    n, width = d.pick(*_CELLS)
    return d.call(d.normal(n, width), d.normal(n, width), d.normal(n, 4 * width), d.normal(n, 5 * width))


@calls("gru_cell")
def _(d: Dice) -> Call:
    n, width = d.pick(*_CELLS)
    return d.call(d.normal(n, 3 * width), d.normal(n, 3 * width), d.normal(n, width))


@calls("gru_cell_grad")
def _(d: Dice) -> Call:
    n, width = d.pick(*_CELLS)
    return d.call(d.normal(n, width), d.normal(n, 3 * width), d.normal(n, 3 * width), d.normal(n, width))


@calls("moments")
def _(d: Dice) -> Call:
    return d.call(_norm(d)[0], d.pick(True, True, False))


@calls("normalize")
def _(d: Dice) -> Call:
    x, mean, var, gamma, beta = _norm(d)
    x -= x.mean() if x.size else 0
    return d.call(
        x, d.pick(mean, None), var, d.pick(gamma, None), d.pick(beta, None), d.pick(1e-5, 0.1), d.pick(False, True)
    )


@calls("normalize_grad")
def _(d: Dice) -> Call:
    x, mean, var, gamma, _ = _norm(d)
    means = d.pick((None, None), (d.normal(*var.shape), d.normal(*var.shape)))
    x -= x.mean() if x.size else 0
    return d.call(d.normal(*x.shape), x, d.pick(mean, None), var, d.pick(gamma, None), d.pick(1e-5, 0.1), *means)


@calls("normalize_scale_grad")
def _(d: Dice) -> Call:
    x, mean, var, _, _ = _norm(d)
    x -= x.mean() if x.size else 0
    return d.call(d.normal(*x.shape), x, d.pick(mean, None), var, d.pick(1e-5, 0.1))


def _logits(d: Dice) -> tuple:
    n, k = d.draw(st.one_of(st.tuples(st.integers(0, 4), st.integers(1, 12)), st.sampled_from([(70, 10), (3, 100)])))
    return d.normal(n, k), d.whole(k, n)


calls("softmax_cross_entropy")(lambda d: d.call(*_logits(d), d.pick(None, 0.3)))
calls("softmax_cross_entropy_grad")(lambda d: d.call(*_logits(d), d.pick(None, 0.3), forward="softmax_cross_entropy"))


def _place(d: Dice) -> tuple:
    """Seed, stream, step and first sample of a sequence of random numbers."""
    return d.pick(0, 7, 2**63), d.int(0, 3), d.pick(0, 1, 2**40), d.pick(0, 5, 2**33)


calls("random_bits")(lambda d: d.call(d.shape(least=1), *_place(d)))


def _dropout(d: Dice) -> tuple:
    shape, at = d.shape(least=1), _place(d)
    exact = cpu.random_bits(shape, *at).ravel()[:1].sum() / 65536  # the first element's bits are the limit itself
    return d.normal(*shape), d.pick(0.0, 0.25, 0.5, 1.0, exact, exact), *at


calls("dropout")(lambda d: d.call(*_dropout(d)))
calls("dropout_grad")(lambda d: d.call(*_dropout(d), forward="dropout"))


# optimisers: flat vectors, in place
def _step(d: Dice, vectors: tuple[float, ...], *rest: Any, optional: int = 0, count: bool = True) -> Call:
    """w, g, states as large as `vectors` say, as many `optional` ones; the first elements of all are 0."""
    n = d.pick(0, 1, 7, 300, 300)
    states = [size * np.abs(d.normal(n)) for size in vectors]
    given = [d.normal(n), d.normal(n), *states, *(d.pick(None, np.abs(d.normal(n))) for _ in range(optional))]
    if d.pick(True, False):
        for vector in given:
            if vector is not None:
                vector[:1] = 0
    loss = d.pick(None, *(np.asarray(value, d.T) for value in (1.5, np.nan, np.inf)), np.asarray(2, np.float64))
    return d.call(*given, *[np.array([0.1, d.pick(0.0, 4.0)])] * count, loss, *rest, any_layout=False)


def _guarded(d: Dice) -> Call:
    g = d.normal(d.pick(0, 1, 7, 300, 5000))
    if len(g):
        g[d.int(0, len(g) - 1)] = d.pick(*[4.0, -4.0] * 4, 0.0, 5.0, -5.0, np.nan, np.inf, -np.inf)
    loss = d.pick(*[None, np.asarray(1.5, d.T), np.asarray(2, np.float64)] * 2, np.asarray(np.nan, d.T))
    return d.call(g, loss, d.pick(4.0, 4.0, 4.5), any_layout=False)


calls("guard")(_guarded)
calls("squares")(lambda d: d.call(d.normal(*d.shape())))
_decay = lambda d: d.pick(0.0, 0.1, 0.1)  # noqa: E731
_flag = lambda d: d.pick(True, False)  # noqa: E731
calls("sgd_step")(lambda d: _step(d, (), 0.9, 0.3, _flag(d), _decay(d), _flag(d), optional=1))
calls("adam_step")(lambda d: _step(d, (1, 1), 0.9, 0.999, 1e-8, _decay(d), _flag(d), _flag(d), optional=1))
calls("rmsprop_step")(lambda d: _step(d, (1,), 0.9, 0.1, 0.9, _decay(d), _flag(d), optional=2))
calls("adagrad_step")(lambda d: _step(d, (1,), 1e-10, 0.1, _decay(d), _flag(d)))
calls("adadelta_step")(lambda d: _step(d, (1, 1), 0.9, 1e-6, _decay(d), _flag(d)))
calls("adamax_step")(lambda d: _step(d, (1, 1), 0.9, 0.999, 1e-8, _decay(d), _flag(d)))
calls("nadam_step")(lambda d: _step(d, (1, 1, 0.3), 0.9, 0.999, 1e-8, _decay(d), _flag(d), 4e-3, _flag(d)))
calls("lion_step")(lambda d: _step(d, (1,), 0.9, 0.99, _decay(d), _flag(d)))
calls("muon_momentum_step")(lambda d: _step(d, (1,), 0.95, _flag(d), _flag(d), count=False))


@calls("lamb_step")
def _(d: Dice) -> Call:
    sizes = d.pick((), (0,), (1,), (7, 300, 1), (5, 0, 3000), (3,) * 40)
    w, g, m, v = (d.normal(sum(sizes)) for _ in range(4))
    for vector in d.pick((), (w,), (g, m), (w, g, m)):
        vector[: sum(sizes[:1])] = 0  # a parameter whose norm is 0, or whose step is, where there is no decay
    loss = d.pick(None, np.asarray(1.5, d.T), np.asarray(np.nan, d.T))
    lr_count = np.array([0.1, d.pick(0.0, 4.0)])
    rule = 0.9, 0.999, 1e-6, d.pick(0.0, 0.1), d.pick(True, False)
    return d.call(w, g, m, np.abs(v), sizes, lr_count, loss, *rule, any_layout=False)


# arrays
calls("asarray")(lambda d: d.call(d.normal(*d.shape()), d.pick(None, *FLOATS)))
calls("numpy")(lambda d: d.call(d.pick(d.normal, lambda *s: d.whole(2, *s).astype(bool))(*d.shape())))
calls("full")(lambda d: d.call(d.shape(), d.pick(0, 1, -2.5), d.pick(*FLOATS, np.dtype(np.int64), np.dtype(bool))))
calls("astype")(
    lambda d: d.call(
        d.pick(d.normal, lambda *s: d.whole(3, *s))(*d.shape()),
        d.pick(*FLOATS, np.dtype(np.int64), np.dtype(np.int32), np.dtype(bool)),
    )
)


@calls("copyto")
def _(d: Dice) -> Call:
    small, full = _broadcast(d, 2)
    shape = np.broadcast_shapes(small, full)
    return d.call(d.normal(*shape), d.pick(d.normal(*small), d.whole(5, *small), 1.5))


@st.composite
def drawn(draw: Callable, name: str) -> Call:
    call = CALLS[name](Dice(draw))
    written = name in ("copyto", "add_at_inplace", "setitem_inplace")
    if written and call.layouts[0] == "stride 0":  # not to be written to
        call.layouts = ("spread", *call.layouts[1:])
    return call


def each(name: str, count: int, test: Callable[[Call], Any], **options: Any) -> None:
    """Runs a test on `count` calls of a kernel."""

    @settings(max_examples=count, **options)
    @given(drawn(name))
    def on_each(call: Call) -> None:
        test(call)

    on_each()
