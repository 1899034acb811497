"""The tape: what an operation records, and how gradients run back along it.

Reverse-mode differentiation in one page. Every operation, besides its output y, gives its vector-Jacobian
product: a function from a gradient g of y to gradients of the inputs. `@op` stores it in a Node whose
parents are the nodes of the inputs; `backward` visits the nodes from the last made to the first, so each
gradient is complete before it is used. (Griewank & Walther, *Evaluating Derivatives*, ch. 3.)
"""

from __future__ import annotations

import functools
import heapq
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from numpy import generic

from . import integers as whole
from .backends.switches import decorated
from .hints import keyword
from .tensor import Tensor, tensor

clock = itertools.count(1)             # orders nodes and in-place changes
MOST_SPANS = 64                        # parts of one array whose changes are told apart
FIXED = frozenset({type(None), bool, int, float, str, slice, type(...)})     # operands that nobody can change
OPS: dict[str, Callable] = {}          # every operation by name; the tests and `tinynet gradcheck` walk it


class Node:
    """One recorded operation, or a leaf: a tensor that was made with requires_grad=True."""

    __slots__ = ("be", "dtype", "home", "leaf", "name", "parents", "shape", "time", "vjp")

    def __init__(self, name: str, be: Any, array: Any, parents: tuple, vjp: Callable | None):
        self.name, self.be, self.parents, self.vjp = name, be, parents, vjp
        self.shape, self.dtype = array.shape, array.dtype
        self.time = next(clock)
        self.leaf: weakref.ref[Tensor] | None = None
        self.home: Any = None      # of a leaf: where its gradient may be written, for whoever takes it first

    def take_home(self) -> Any:
        """The array that waits for this leaf's gradient, or None; given once, so that no second gradient overwrites
        the first."""
        home, self.home = self.home, None
        return home

    @property
    def is_leaf(self) -> bool:
        return self.leaf is not None


# ---- recording --------------------------------------------------------------------------------------


class _Mode(threading.local):
    recording = True


mode = _Mode()


class no_grad:
    """`with no_grad():` (or `@no_grad` on a function or a generator): operations are computed but not recorded."""

    def __new__(cls, function: Callable | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self) -> None:
        self.previous: list[bool] = []      # a stack: one instance may be entered again inside itself

    def __enter__(self) -> None:
        self.previous.append(mode.recording)
        mode.recording = False

    def __exit__(self, *_: object) -> None:
        mode.recording = self.previous.pop()

    def __call__(self, function: Callable) -> Callable:
        return decorated(no_grad, function)


def op(function: Callable | None = None, *, integers: str = "int64") -> Any:
    """Declare an operation: `function(be, *inputs, **options)` gives (y, vjp).

    `be` is the backend, inputs come as its arrays; `vjp(g, need)` gives one gradient for each positional
    argument (trailing ones may be left out), None where need[i] is false (`need` is the tuple of the inputs'
    nodes, None where no gradient is wanted). A gradient may still have the broadcast shape: `backward` undoes
    broadcasting. It is a fresh array (or need[i].take_home(), filled), g itself or a view of g, never a saved
    array; or a Part, if it is zero in most places. vjp is None for an operation that has no derivative.

    Where no input is floating, `integers` says what bools and integers are computed in (`@op(integers="float64")`):
    "int64", "float64" where the mathematics needs fractions, or "kept" where values are only moved.
    """
    if function is None:
        return functools.partial(op, integers=integers)
    if integers not in whole.RULES:
        raise ValueError(f"op: integers={integers!r} must be one of {', '.join(whole.RULES)}")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"op: {function.__name__} is a generator or a coroutine; an operation returns (y, vjp)")
    name = function.__name__.strip("_")    # _conv2d computes what users know as conv2d
    parameters = list(inspect.signature(function).parameters.values())[1:]
    names = {p.name: i for i, p in enumerate(parameters) if p.kind is p.POSITIONAL_OR_KEYWORD}
    operands = {names.get("x"), names.get("y")}     # lists there are arrays; elsewhere shapes, say

    @functools.wraps(function)
    def apply(*args: Any, **options: Any) -> Tensor:
        if options and not names.keys().isdisjoint(options):
            args, options = _positional(name, parameters, args, options)
        be: Any = None
        inputs, parents, tracked, floating, loose = [], [], False, True, False
        for a in args:
            if isinstance(a, Tensor):
                if a.backend is not be:
                    if be is not None:
                        raise _mixed(name, args)
                    be = a.backend
                inputs.append(x := a.data)
                parents.append(a.node)
                if a.node is not None:
                    tracked = True
                elif x.dtype.kind != "f":
                    floating = False
            else:
                if type(a) is float or type(a) is int or a is None:
                    pass
                elif isinstance(a, generic):        # a number: float64 ones must not promote
                    a = a.item()
                elif hasattr(type(a), "__array__") or (isinstance(a, list | tuple) and len(inputs) in operands):
                    a, floating = whole.operand(a), False
                    if not a.ndim and len(inputs) not in operands:
                        a = a.item()       # a limit, a rate
                inputs.append(a)
                parents.append(None)
                loose = loose or type(a) not in FIXED
        if be is None:   # arrays and lists alone: they become tensors of the current backend
            return apply(tensor(args[0]), *args[1:], **options)
        if tracked and mode.recording:
            if loose:
                inputs = [x if isinstance(a, Tensor) else _kept(be, x) for a, x in zip(args, inputs, strict=True)]
            if options:
                options = {key: _kept(be, value) for key, value in options.items()}
        if be.name != "numpy":
            inputs = [be.asarray(a) if isinstance(a, np.ndarray) else a for a in inputs]
        try:
            if not floating:
                inputs = whole.computed(be, name, inputs, integers)
            y, vjp = function(be, *inputs, **options)
        except (ValueError, TypeError, IndexError) as error:
            raise _explained(error, name, inputs) from error
        if vjp is not None and not callable(vjp):
            raise TypeError(f"{name}: an operation gives (y, vjp); the second was a {type(vjp).__name__}")
        if isinstance(y, generic):
            y = np.asarray(y)      # NumPy turns 0-d results into scalars
        if tracked and vjp is not None and mode.recording:
            return Tensor(y, be, Node(name, be, y, tuple(parents), vjp))
        return Tensor(y, be)

    OPS[function.__name__] = apply
    return apply


def _kept(be: Any, value: Any) -> Any:
    """An operand of the caller's as it is now: of arrays and lists a copy, as he may write to them before `backward`
    reads what the operation saved. (A batch's copy costs less than 1% of its step. Devices copy anyway.)"""
    if isinstance(value, np.ndarray):
        return value.copy() if be.name == "numpy" else value
    if type(value) in (tuple, list):
        return type(value)([part if type(part) in FIXED else np.array(part) if isinstance(part, np.ndarray) else
                            _kept(be, part) for part in value])
    foreign = hasattr(value, "__array__") and not isinstance(value, Tensor | generic | type)
    return np.array(value) if foreign else value


def _positional(name: str, parameters: list, args: tuple, options: dict) -> tuple[tuple, dict]:
    """Tensors may be given by keyword (b=…): move those to their places."""
    args_, options = list(args), dict(options)
    for i, p in enumerate(parameters):
        if p.kind is p.POSITIONAL_OR_KEYWORD and i >= len(args_):
            if p.name not in options and p.default is p.empty:
                raise TypeError(f"{name}: the argument {p.name!r} is missing")
            args_.append(options.pop(p.name, p.default))
    return tuple(args_), options


def _mixed(name: str, args: tuple) -> ValueError:
    kinds = ", ".join(f"a tensor of shape {a.shape} on {a.backend.name!r}" for a in args if isinstance(a, Tensor))
    return ValueError(f"{name}: the inputs are on different backends ({kinds}); "
                      "move one with .to(\"numpy\"), .to(\"cupy\") or .to(\"simulator\")")


def _explained(error: Exception, name: str, inputs: list) -> Exception:
    """The same error, with the operation's name in front and the shapes after it."""
    if str(error).startswith(name + ":"):
        return error
    kind = next(k for k in (ValueError, TypeError, IndexError) if isinstance(error, k))   # NumPy's own kinds: its bases
    shapes = ", ".join(str(a.shape) if hasattr(a, "shape") else repr(a) for a in inputs)
    return kind(f"{name}: {error}{keyword(str(error))} (inputs: {shapes})")


# ---- going back -------------------------------------------------------------------------------------


def sweep(root: Node, g: Any) -> Iterator[tuple[Node, Any, bool]]:
    """Run back from root, yielding (node, its gradient, whether that was made for it) and consuming the tape."""
    grads = {root: (g, False)}
    queue = [(-root.time, root)]
    while queue:
        node = heapq.heappop(queue)[1]         # the last made: all that use it have been visited
        g, made = grads.pop(node)
        yield node, g, made
        if node.leaf is not None:
            continue
        if changed.latest > node.time:
            _refuse_changed(node)
        vjp, parents, node.vjp, node.parents = node.vjp, node.parents, _consumed, ()
        be, given = node.be, vjp(g, parents)    # type: ignore[misc]
        if type(given) is not tuple or len(given) != len(parents):
            _refuse_lost(node, given, parents)
        for parent, p in zip(parents, given, strict=False):
            if parent is None or p is None:
                continue
            if isinstance(p, generic):
                p = np.asarray(p)
            elif type(p) is Part:
                total, made = grads.get(parent, (None, False))
                if made and be.owns(total):
                    be.add_at_inplace(total, p.index, p.g)
                    continue
                p = be.getitem_grad(p.g, p.index, parent.shape)
            if p.shape != parent.shape:
                if not _fits(p.shape, parent.shape):
                    raise ValueError(f"backward: {node.name} gave a gradient of shape {p.shape} for an input of shape "
                                     f"{parent.shape}")
                p = be.sum_to(p, parent.shape)          # the one place where broadcasting is undone
            if p.dtype is not parent.dtype and p.dtype != parent.dtype:
                p = be.astype(p, parent.dtype)
            if parent not in grads:
                grads[parent] = p, p is not g and (len(given) == 1 or _for_one(p, given))
                heapq.heappush(queue, (-parent.time, parent))
            else:
                total, made = grads[parent]
                grads[parent] = _sum(be, total, p, out=total if made and be.owns(total) else None), True


def _refuse_lost(node: Node, given: Any, parents: tuple) -> None:
    """Raise where a product gave something else than gradients, one for each input that wants one."""
    if not isinstance(given, tuple | list):
        raise TypeError(f"backward: {node.name} must give a tuple, a gradient for each input; it gave a "
                        f"{type(given).__name__}")
    if len(given) > len(parents) or any(parents[len(given):]):
        raise TypeError(f"backward: {node.name} gave {len(given)} gradients for {len(parents)} inputs; where an input "
                        "has no derivative, pass a number, an array or x.detach()")


def _for_one(p: Any, given: tuple) -> bool:
    """Whether no two inputs are given p, or one p and another a view of it."""
    times = 0
    for q in given:         # (a generator would take longer)
        times += q is p or getattr(q, "base", None) is p
    return times <= 1


def _fits(shape: tuple, smaller: tuple) -> bool:
    """Whether an array of the smaller shape can be broadcast to `shape`."""
    return len(shape) >= len(smaller) and all(
        a == b or b == 1 for a, b in zip(reversed(shape), reversed(smaller), strict=False))


class Part:
    """The gradient of x[index]: g there, zero elsewhere. `sweep` adds it to what it has; on the numpy backend only the
    first of many slices of a tensor then costs an array of the whole one's size."""

    __slots__ = ("g", "index")

    def __init__(self, g: Any, index: Any):
        self.g, self.index = g, index


def _sum(be: Any, x: Any, y: Any, out: Any = None) -> Any:
    total = be.add(x, y, out=out)
    return np.asarray(total) if isinstance(total, np.generic) else total


def _own(be: Any, g: Any, made: bool) -> Any:
    """A gradient that nobody else holds: g itself if it was made for its node and is no view, else a copy."""
    return g if made and be.owns(g) else be.copy(g)


def _consumed(g: Any, need: Any) -> Any:
    raise RuntimeError(
        "backward: this graph was consumed by an earlier backward or grad; compute the output again, or add "
        "the losses and go back once (tinynet frees the tape as it goes)")


def _seed(name: str, y: Tensor, g: Any) -> tuple[Node, Any]:
    """The node to start from and its gradient: 1 for a scalar, else g, which must fit."""
    if y.node is None:
        raise ValueError(
            f"{name}: the tensor of shape {y.shape} depends on no tensor that requires a gradient; make inputs "
            "with requires_grad=True, outside no_grad (gradients themselves are not differentiable: tinynet is "
            "first-order)")
    be = y.backend
    if g is None:
        if y.size != 1:
            raise ValueError(f"{name}: the tensor has shape {y.shape}, not one value; reduce it first, as in "
                             ".sum() or .mean(), or pass g of that shape")
        return y.node, be.full(y.shape, 1, y.dtype)
    if not isinstance(g, Tensor):
        g = tensor(g, dtype=y.dtype, backend=be)
    if g.backend is not be:
        raise _mixed(name, (y, g))
    if g.shape != y.shape:
        raise ValueError(f"{name}: g has shape {g.shape}, the tensor {y.shape}; they must be equal")
    return y.node, g.data if g.dtype == y.dtype else be.astype(g.data, y.dtype)


def backward(y: Tensor, g: Any = None) -> None:
    """Add the gradient of y (times the cotangent g) to `.grad` of every leaf that y depends on.

    Args: g: an array or tensor of y's shape; may be left out where y has one value.
    Raises: ValueError where y has no graph or g does not fit; RuntimeError where the graph is used up or a
    saved array was changed in place. The tape is consumed: memory is given back as the sweep goes.
    """
    for node, d, made in sweep(*_seed("backward", y, g)):
        if node.leaf is not None and (leaf := node.leaf()) is not None:
            if leaf.grad is None:
                leaf.grad = Tensor(_own(node.be, d, made), node.be)
            else:
                leaf.grad = Tensor(_sum(node.be, leaf.grad.data, d), node.be)


def grad(y: Tensor, xs: Any, g: Any = None, *, create_graph: bool = False) -> Any:
    """The gradients of y with respect to any tensors of its graph, intermediate ones too.

    Args: xs: a tensor, or a list or tuple of tensors. g: y's cotangent, needed unless y has one value.
    Returns: a Tensor for a tensor, a list for a list; zeros where y does not depend on x. `.grad` of the
    leaves is left alone; the tape is consumed.
    """
    if create_graph:
        raise ValueError("grad: create_graph=True asks for derivatives of derivatives; tinynet is first-order")
    wanted = [xs] if isinstance(xs, Tensor) else list(xs)
    for x in wanted:
        if not isinstance(x, Tensor) or x.node is None:
            raise ValueError("grad: xs must be tensors through which gradients flow; "
                             f"got {x!r:.80}, which does not require a gradient")
    nodes = {x.node for x in wanted}
    found = {node: _own(node.be, d, made)
             for node, d, made in sweep(*_seed("grad", y, g)) if node in nodes}
    out = [Tensor(found[x.node] if x.node in found else x.backend.full(x.shape, 0, x.dtype), x.backend)
           for x in wanted]
    if len(nodes) < len(wanted):      # a tensor named twice gets an array for each
        out = [Tensor(d.backend.copy(d.data), d.backend) for d in out]
    return out[0] if isinstance(xs, Tensor) else out


# ---- leaves, and changing them in place ---------------------------------------------------------------


def requires_grad_(x: Tensor, flag: bool = True) -> Tensor:
    """Make x a leaf whose gradient `backward` computes (or, with flag=False, stop that). Gives x."""
    if x.node is not None and not x.node.is_leaf:
        raise ValueError(f"requires_grad_: the tensor is the result of {x.node.name}; use .detach() first")
    if not flag:
        x.node = None
    elif x.node is None:
        if x.dtype.kind != "f":
            raise TypeError(f"a tensor of dtype {x.dtype} cannot require a gradient; make it float32 or float64")
        x.node = Node("leaf", x.backend, x.data, (), None)
        x.node.leaf = weakref.ref(x)
    return x


class _Changes:
    """Which memory was changed in place, and when: what `backward` holds its saved arrays against."""

    def __init__(self) -> None:
        self.latest = 0
        # By the array that the memory belongs to: times by (first byte, last byte + 1).
        self.times: dict[int, tuple[weakref.ref, dict[tuple[int, int], int]]] = {}

    def note(self, x: Tensor) -> None:
        owner = x.data
        while hasattr(base := getattr(owner, "base", None), "strides"):
            owner = base
        key = id(owner)
        if key not in self.times:
            self.times[key] = weakref.ref(owner, lambda _: self.times.pop(key, None)), {}
        spans = self.times[key][1]
        if len(spans) == MOST_SPANS:
            low, high = min(a for a, _ in spans), max(b for _, b in spans)
            spans.clear()
            spans[low, high] = self.latest
        self.latest = spans[x.backend.bounds(x.data)] = next(clock)


changed = _Changes()


def _refuse_changed(node: Node) -> None:
    """Raise where an array that node's product still needs was changed in place after node was made."""
    function: Any = node.vjp
    spans = [span for _, times in list(changed.times.values()) for span, time in list(times.items())
             if time > node.time]
    for name, array in _saved("its product", function):
        if any(overlap(node.be.bounds(array), span) for span in spans):
            raise RuntimeError(
                f"backward: {node.name} saved an array of shape {array.shape} (as {name!r}) that was changed "
                "in place since; go back before you change it, or work on a copy")


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _saved(name: str, value: Any, depth: int = 8) -> Iterator[tuple[str, Any]]:
    """(name, array) of all that a product holds: in its closure, the functions, partial functions and methods there, in
    tuples, lists and dicts; `depth` of them within one another, as a function may hold itself."""
    parts: list[tuple[str, Any]] = []
    if hasattr(value, "strides"):
        yield name, value
    elif isinstance(value, FunctionType):
        cells = map(_contents, value.__closure__ or ())
        parts = [*zip(value.__code__.co_freevars, cells, strict=True), (name, value.__defaults__),
                 (name, value.__kwdefaults__)]
    elif isinstance(value, functools.partial):
        parts = [(name, value.func), (name, value.args), (name, value.keywords)]
    elif isinstance(value, MethodType):
        parts = [(name, value.__func__), (name, getattr(value.__self__, "__dict__", None))]
    elif isinstance(value, tuple | list | dict):
        parts = [(name, part) for part in (value.values() if isinstance(value, dict) else value)]
    for part in parts if depth else ():
        yield from _saved(*part, depth - 1)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:      # a variable that was never assigned
        return None


def _for_integers(name: str, x: Tensor, y: Any) -> Any:
    """y, as a change in place of x takes it; TypeError where an x of integers or bools would cut the result off."""
    if x.dtype.kind == "f":
        return y
    if name == "/=" or (x.dtype.kind == "b" and name in ("+=", "-=", "*=")):
        raise TypeError(f"{name}: the tensor has dtype {x.dtype}, the result has another; write x = x {name[0]} y")
    whole.exact(name, x.dtype, y)
    return int(y) if isinstance(y, float) else y


def _in_place(name: str, compute: Callable) -> Callable:
    def method(x: Tensor, y: Any) -> Tensor:
        if x.node is not None and (mode.recording or not x.node.is_leaf):
            raise RuntimeError(f"{name}: a tensor that takes part in differentiation is changed in place only if it "
                               "is a leaf, inside `with no_grad():`")
        y = _for_integers(name, x, y)
        if isinstance(y, Tensor):
            if y.backend is not x.backend:
                raise _mixed(name, (x, y))
            if y.node is not None and mode.recording:
                raise RuntimeError(f"{name}: the gradient of the right side (shape {y.shape}) would be lost; write "
                                   "x = x + y, or change x inside `with no_grad():`")
            y = y.data
        elif hasattr(type(y), "__array__") or isinstance(y, list | tuple):
            y = x.backend.asarray(np.asarray(y), x.dtype)
        try:
            compute(x, y)
        except (ValueError, TypeError, IndexError) as error:
            raise _explained(error, name, [x.data, y]) from error
        changed.note(x)
        return x
    return method


Tensor.backward = backward
Tensor.requires_grad_ = requires_grad_
Tensor.__iadd__ = _in_place("+=", lambda x, y: x.backend.add(x.data, y, out=x.data))
Tensor.__isub__ = _in_place("-=", lambda x, y: x.backend.subtract(x.data, y, out=x.data))
Tensor.__imul__ = _in_place("*=", lambda x, y: x.backend.multiply(x.data, y, out=x.data))
Tensor.__itruediv__ = _in_place("/=", lambda x, y: x.backend.divide(x.data, y, out=x.data))


def _setitem(x: Tensor, index: Any, value: Any) -> None:
    index = whole.index("x[…] =", index)
    _in_place("x[…] =", lambda x, y: x.backend.setitem_inplace(x.data, index, y))(x, value)


Tensor.__setitem__ = _setitem   # type: ignore[assignment,method-assign]
