"""The tape: what an operation records while it computes.

Every operation, besides its output y, returns its vector-Jacobian product: a function from a gradient g of y to
gradients of the inputs. `@op` stores it in a Node whose parents are the nodes of the inputs; `autograd.py` goes back
along them. (Griewank & Walther, *Evaluating Derivatives*, ch. 3.)
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import generic

from . import integers as whole
from .backends.switches import decorated
from .changes import clock
from .operands import explained, gathered, kept, positional
from .tensor import Tensor, tensor

OPS: dict[str, Callable] = {}  # every operation by name; the tests and `tinynet gradcheck` walk it


class Node:
    """One recorded operation, or a leaf: a tensor that was made with requires_grad=True."""

    __slots__ = ("be", "dtype", "home", "leaf", "name", "outputs", "parents", "shape", "time", "vjp")

    outputs: int  # of an operation with several, how many

    def __init__(self, name: str, be: Any, array: Any, parents: tuple, vjp: Callable | None):
        self.name, self.be, self.parents, self.vjp = name, be, parents, vjp
        self.shape, self.dtype = array.shape, array.dtype
        self.time = next(clock)
        self.leaf: weakref.ref[Tensor] | None = None
        self.home: Any = None  # of a leaf: where its gradient may be written, for whoever takes it first

    def take_home(self) -> Any:
        """The array that waits for this leaf's gradient, or None; given once, so that no second gradient overwrites
        the first."""
        home, self.home = self.home, None
        return home

    @property
    def is_leaf(self) -> bool:
        return self.leaf is not None


class Output:
    """The gradient g of output `index` of an operation that has several, on its way to that operation's node."""

    __slots__ = ("g", "index")

    def __init__(self, index: int, g: Any):
        self.index, self.g = index, g


# ---- recording --------------------------------------------------------------------------------------


class _Mode(threading.local):
    recording = True


mode = _Mode()


class no_grad:
    """`with no_grad():` (or `@no_grad` on a function or a generator): operations are computed but not recorded."""

    def __new__(cls, function: Callable | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        self.previous: list[bool] = []  # a stack: one instance may be entered again inside itself

    def __enter__(self) -> None:
        self.previous.append(mode.recording)
        mode.recording = False

    def __exit__(self, *_: object) -> None:
        mode.recording = self.previous.pop()

    def __call__(self, function: Callable) -> Callable:
        return decorated(no_grad, function)


def op(function: Callable | None = None, *, integers: str = "int64") -> Any:
    """Declare an operation: `function(be, *inputs, **options)` returns (y, vjp).

    `be` is the backend, inputs come as its arrays; `vjp(g, need)` returns one gradient for each positional
    argument (trailing ones may be left out), None where need[i] is false (`need` is the tuple of the inputs'
    nodes, None where no gradient is wanted). A gradient may still have the broadcast shape: `backward` undoes
    broadcasting. It is a fresh array (or need[i].take_home(), filled), g itself or a view of g, never a saved
    array; or a Part, if it is zero in most places. vjp is None for an operation that has no derivative.

    An operation with several outputs returns a tuple of arrays as y; vjp then gets a tuple of gradients, None for
    each output that nothing used.

    Where no input is floating, `integers` says what bools and integers are computed in (`@op(integers="float64")`):
    "int64", "float64" where the mathematics needs fractions, or "kept" where values are only moved.
    """
    if function is None:
        return functools.partial(op, integers=integers)
    _refuse(function, integers)
    name = function.__name__.strip("_")  # _conv2d computes what users know as conv2d
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    names = {p.name: i for i, p in enumerate(parameters) if p.kind is p.POSITIONAL_OR_KEYWORD}
    operands = {names.get("x"), names.get("y")}  # lists there are arrays; elsewhere shapes, say

    @functools.wraps(function)
    def apply(*args: Any, **options: Any) -> Any:
        if options and not names.keys().isdisjoint(options):
            args, options = positional(name, parameters, args, options)
        be, inputs, parents, floating, lent = gathered(name, args, operands)
        if be is None:  # arrays and lists alone: they become tensors of the current backend
            if not args:
                raise TypeError(f"{name}: the argument {next(iter(names), 'x')!r} is missing")
            return apply(tensor(args[0]), *args[1:], **options)
        recorded = mode.recording and any(parents)
        if recorded:
            if lent:
                inputs = [x if isinstance(a, Tensor) else kept(be, x) for a, x in zip(args, inputs, strict=True)]
            if options:
                options = {key: kept(be, value) for key, value in options.items()}
        if be.name != "numpy":
            inputs = [be.asarray(a) if isinstance(a, np.ndarray) else a for a in inputs]
        try:
            if not floating:
                inputs = whole.computed(be, name, inputs, integers)
            y, vjp = function(be, *inputs, **options)
        except (ValueError, TypeError, IndexError) as error:
            raise explained(error, name, inputs) from error
        if vjp is not None and not callable(vjp):
            raise TypeError(f"{name}: an operation returns (y, vjp); the second was a {type(vjp).__name__}")
        recorded = recorded and vjp is not None
        if type(y) is tuple:
            return _several(name, be, y, tuple(parents) if recorded else None, vjp)
        if isinstance(y, generic):
            y = np.asarray(y)  # NumPy turns 0-d results into scalars
        return Tensor(y, be, Node(name, be, y, tuple(parents), vjp) if recorded else None)

    apply.__signature__ = signature.replace(parameters=parameters, return_annotation=Tensor)  # type: ignore[attr-defined]
    apply.integers = integers  # type: ignore[attr-defined]
    OPS[function.__name__] = apply
    return apply


def _refuse(function: Callable, integers: str) -> None:
    """Raise where a function and a rule for integers make no operation."""
    if integers not in whole.RULES:
        raise ValueError(f"op: integers={integers!r} must be one of {', '.join(whole.RULES)}")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"op: {function.__name__} is a generator or a coroutine; an operation returns (y, vjp)")


def _several(name: str, be: Any, ys: tuple, parents: tuple | None, vjp: Any) -> tuple[Tensor, ...]:
    """The outputs as tensors: each floating one has a node of its own, whose parent is the operation's node."""
    ys = tuple(np.asarray(y) if isinstance(y, generic) else y for y in ys)
    if parents is None:
        return tuple(Tensor(y, be) for y in ys)
    node = Node(name, be, ys[0], parents, vjp)
    node.outputs = len(ys)
    nodes = [Node(f"{name}[{i}]", be, y, (node,), functools.partial(_to_output, i)) for i, y in enumerate(ys)]
    return tuple(Tensor(y, be, n if y.dtype.kind == "f" else None) for y, n in zip(ys, nodes, strict=True))


def _to_output(index: int, g: Any, need: Any) -> tuple:
    return (Output(index, g),)
