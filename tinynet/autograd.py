"""Going back along the tape: from one value to the gradients of all that it depends on.

Reverse-mode differentiation in one page. `sweep` visits the nodes from the last made to the first, so each gradient is
complete before it is used, and hands every parent its share of it.
"""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import generic

from .changes import changed, refuse_changed
from .operands import mixed
from .tape import OPS, Node, Output, mode, no_grad, op
from .tensor import Tensor, tensor

__all__ = ["OPS", "Node", "Part", "backward", "changed", "grad", "mode", "no_grad", "op", "requires_grad_", "sweep"]


class Part:
    """The gradient of x[index]: g there, zero elsewhere. `sweep` adds it to what it has; on the numpy backend only the
    first of many slices of a tensor then costs an array of the whole one's size."""

    __slots__ = ("g", "index")

    def __init__(self, g: Any, index: Any):
        self.g, self.index = g, index


def sweep(root: Node, g: Any) -> Iterator[tuple[Node, Any, bool]]:
    """Run back from root, yielding (node, its gradient, whether that was made for it) and consuming the tape."""
    grads = {root: (g, False)}
    queue = [(-root.time, root)]
    while queue:
        node = heapq.heappop(queue)[1]  # the last made: all that use it have been visited
        g, made = grads.pop(node)
        yield node, g, made
        if node.leaf is None:
            for parent, p, fresh in _pull(node, g):
                if parent not in grads:
                    heapq.heappush(queue, (-parent.time, parent))
                grads[parent] = _gathered(node, parent, p, fresh, *grads.get(parent, NOTHING))


NOTHING = (None, False)


def _pull(node: Node, g: Any) -> Iterator[tuple[Node, Any, bool]]:
    """(parent, its gradient, whether nobody else holds that array) for each input of `node` that wants a gradient."""
    if changed.latest > node.time:
        refuse_changed(node)
    vjp, parents, node.vjp, node.parents = node.vjp, node.parents, _consumed, ()
    given = vjp(g, parents)  # type: ignore[misc]
    if type(given) is not tuple or len(given) != len(parents):
        _refuse_lost(node, given, parents)
    for parent, p in zip(parents, given, strict=False):
        if parent is not None and p is not None:
            taken = any(p is part for part in g) if type(g) is tuple else p is g
            yield parent, p, not taken and (len(given) == 1 or _for_one(p, given))


def _gathered(node: Node, parent: Node, p: Any, fresh: bool, total: Any, made: bool) -> tuple[Any, bool]:
    """(the sum of p and what came before, whether that array was made for `parent`); p comes from `node`."""
    be = node.be
    if type(p) is Output:
        total = total or (None,) * parent.outputs
        return (*total[: p.index], p.g, *total[p.index + 1 :]), False
    if type(p) is Part:
        if made and be.owns(total):
            be.add_at_inplace(total, p.index, p.g)
            return total, True
        p = be.getitem_grad(p.g, p.index, parent.shape)
    elif isinstance(p, generic):
        p = np.asarray(p)
    if p.shape != parent.shape:
        if not _fits(p.shape, parent.shape):
            raise ValueError(
                f"backward: {node.name} returned a gradient of shape {p.shape} for an input of shape {parent.shape}"
            )
        p = be.sum_to(p, parent.shape)  # the one place where broadcasting is undone
    if p.dtype is not parent.dtype and p.dtype != parent.dtype:
        p = be.astype(p, parent.dtype)
    if total is None:
        return p, fresh
    return _sum(be, total, p, out=total if made and be.owns(total) else None), True


def _refuse_lost(node: Node, given: Any, parents: tuple) -> None:
    """Raise where a product gave something else than gradients, one for each input that wants one."""
    if not isinstance(given, tuple | list):
        raise TypeError(
            f"backward: {node.name} must return a tuple, a gradient for each input; it returned a "
            f"{type(given).__name__}"
        )
    if len(given) > len(parents) or any(parents[len(given) :]):
        raise TypeError(
            f"backward: {node.name} returned {len(given)} gradients for {len(parents)} inputs; where an input "
            "has no derivative, pass a number, an array or x.detach()"
        )


def _for_one(p: Any, given: tuple) -> bool:
    """Whether no two inputs are given p, or one p and another a view of it."""
    times = 0
    for q in given:  # (a generator would take longer)
        times += q is p or getattr(q, "base", None) is p
    return times <= 1


def _fits(shape: tuple, smaller: tuple) -> bool:
    """Whether an array of the smaller shape can be broadcast to `shape`."""
    return len(shape) >= len(smaller) and all(
        a == b or b == 1 for a, b in zip(reversed(shape), reversed(smaller), strict=False)
    )


def _sum(be: Any, x: Any, y: Any, out: Any = None) -> Any:
    total = be.add(x, y, out=out)
    return np.asarray(total) if isinstance(total, np.generic) else total


def _own(be: Any, g: Any, made: bool) -> Any:
    """A gradient that nobody else holds: g itself if it was made for its node and is no view, else a copy."""
    return g if made and be.owns(g) else be.copy(g)


def _consumed(g: Any, need: Any) -> Any:
    raise RuntimeError(
        "backward: this graph was consumed by an earlier backward or grad; compute the output again, or add "
        "the losses and go back once (tinynet frees the tape as it goes)"
    )


def _seed(name: str, y: Tensor, g: Any) -> tuple[Node, Any]:
    """The node to start from and its gradient: 1 for a scalar, else g, which must fit."""
    if y.node is None:
        raise ValueError(
            f"{name}: the tensor of shape {y.shape} depends on no tensor that requires a gradient; make inputs "
            "with requires_grad=True, outside no_grad (gradients themselves are not differentiable: tinynet is "
            "first-order)"
        )
    be = y.backend
    if g is None:
        if y.size != 1:
            raise ValueError(
                f"{name}: the tensor has shape {y.shape}, not one value; reduce it first, as in "
                ".sum() or .mean(), or pass g of that shape"
            )
        return y.node, be.one(y.shape, y.dtype)
    if not isinstance(g, Tensor):
        g = tensor(g, dtype=y.dtype, backend=be)
    if g.backend is not be:
        raise mixed(name, (y, g))
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
            raise ValueError(
                "grad: xs must be tensors through which gradients flow; "
                f"got {x!r:.80}, which does not require a gradient"
            )
    nodes = {x.node for x in wanted}
    found = {node: _own(node.be, d, made) for node, d, made in sweep(*_seed("grad", y, g)) if node in nodes}
    out = [Tensor(found[x.node] if x.node in found else x.backend.full(x.shape, 0, x.dtype), x.backend) for x in wanted]
    if len(nodes) < len(wanted):  # a tensor named twice gets an array for each
        out = [Tensor(d.backend.copy(d.data), d.backend) for d in out]
    return out[0] if isinstance(xs, Tensor) else out


# ---- leaves ---------------------------------------------------------------------------------------------


def requires_grad_(x: Tensor, flag: bool = True) -> Tensor:
    """Make x a leaf whose gradient `backward` computes (or, with flag=False, stop that). Returns x."""
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


Tensor.backward = backward
Tensor.requires_grad_ = requires_grad_  # type: ignore[method-assign,assignment]
