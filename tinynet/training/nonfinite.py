"""Where did the NaN come from? A step is replayed, layer by layer, to name the first that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..autograd import Node, Part, no_grad, sweep
from ..nested import leaves
from ..nn import door
from ..nn.module import Module
from ..ops import random
from ..parallel.following import Kept
from ..tape import Output
from ..tensor import Tensor


class NonFiniteError(ArithmeticError):
    """A step's loss is NaN or infinite. The update was voided: the weights are those from before the step.

    Attributes: epoch, batch: the step's, from 1. layer: the dotted name of the first layer whose output is not
    finite, or None where the cause is another.
    """

    def __init__(self, message: str, *, epoch: int, batch: int, layer: str | None):
        super().__init__(message)
        self.epoch, self.batch, self.layer = epoch, batch, layer


def explain(
    model: Module,
    loss: Callable,
    x: Any,
    y: Any,
    *,
    draws: Mapping[str, int],
    epoch: int,
    batch: int,
    value: float,
    since: int = 0,
) -> NonFiniteError:
    """The error for a step whose loss was `value`: replays it with the random draws that it had.

    Args: x (N, …), y (N, …): the step's batch. draws: `ops.random.state.steps` from before it. since: how many
    steps were made after it. The random state is left as it is.
    """
    layer, cause = _cause(model, loss, x, y, draws)
    weights = f"{since} steps were made since" if since else "the weights are those from before this step"
    return NonFiniteError(
        f"the loss is {value} in epoch {epoch}, batch {batch}: {cause}. The update was voided; {weights}",
        epoch=epoch,
        batch=batch,
        layer=layer,
    )


def _cause(model: Module, loss: Callable, x: Any, y: Any, draws: Mapping[str, int]) -> tuple[str | None, str]:
    """(the layer's name or None, what is wrong as a clause)."""
    for what, value in ("images or features", x), ("labels", y):
        for array in leaves(value):
            if (bad := _bad(array)) is not None:
                return None, f"the batch's {what} {_shape(array)} are not finite themselves ({bad})"
    for name, p in model.named_parameters():
        if (bad := _bad(p)) is not None:
            return None, (
                f"the parameter {name} {_shape(p)} is not finite already ({bad}): an earlier update broke "
                "it; lower the learning rate, or clip gradients (clip_norm=1)"
            )
    first: list[tuple[str, str]] = []

    def hook(name: str) -> Callable[[Module, Any, Any], None]:
        def look(module: Module, _: Any, y: Any) -> None:
            if not first and isinstance(y, Tensor) and (bad := _bad(y)) is not None:
                first.append(
                    (
                        name,
                        f"the first output that is not finite is that of layer {name or 'model'!r}, "
                        f"{module!r:.80}, shape {y.shape} ({bad})",
                    )
                )

        return look

    removers = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        with no_grad(), np.errstate(all="ignore"):
            result = _replayed(model, loss, x, y, draws)
    finally:
        for remove in removers:
            remove()
    if first:
        return first[0]
    name = getattr(loss, "__name__", type(loss).__name__)
    if _bad(result) is not None:
        return None, f"the outputs of all layers are finite, the loss function {name} is not"
    return None, (
        f"replaying the step gives a finite loss, {result.item():.6g}: what it computes is not the same each time"
    )


def _replayed(model: Module, loss: Callable, x: Any, y: Any, draws: Mapping[str, int]) -> Tensor:
    """The loss of a step again, with the random draws that it had; running statistics and random state stay as they
    are."""
    state = Kept(model.modules(), drawn=False)
    try:
        with random.restoring(draws):
            return loss(door.call(model, x), y)
    finally:
        state.restore()


class NonFiniteWarning(RuntimeWarning):
    """Updates of a run were voided, as a gradient was not finite although the loss was; training goes on."""


def explain_gradient(
    model: Module,
    loss: Callable,
    x: Any,
    y: Any,
    *,
    draws: Mapping[str, int],
    epoch: int,
    batch: int,
    most: float,
    since: int = 0,
) -> str:
    """The message for a step whose update its gradient voided: replays it, and names parameter and operation.

    Args: as those of `explain`; most: the largest gradient that the optimiser's rule takes. No `.grad` is changed.
    """
    first: list[str] = []
    bad, largest = [], (0.0, "")
    with np.errstate(all="ignore"):
        result = _replayed(model, loss, x, y, draws)
        names = {p.node: name for name, p in model.named_parameters() if p.node is not None}
        _watch(result.backend, result.node, first)
        for node, g, _ in sweep(result.node, result.backend.full(result.shape, 1, result.dtype)):
            if node in names:
                host = node.be.numpy(g)
                if (wrong := _bad(host)) is not None:
                    bad.append(f"{names[node]} {_shape(host)} ({wrong})")
                elif host.size:
                    largest = max(largest, (float(np.abs(host).max()), names[node]))
    if bad:
        more = f" and of {len(bad) - 1} more" if len(bad) > 1 else ""
        made = first[0] if first else "it is a sum of finite gradients that is too large"
        cause = f"the gradient of the parameter {bad[-1]}{more} is not finite: {made}"
    elif largest[0] > most:
        cause = (
            f"the gradient of the parameter {largest[1]} has a value of size {largest[0]:.3g}, more than the "
            f"{most:.3g} that the optimiser can square; lower the loss's scale, or clip gradients (clip_norm=1)"
        )
    else:
        cause = f"replaying the step gives finite gradients, the largest of size {largest[0]:.3g}" + (
            f", with the weights of {since} steps later" if since else ""
        )
    return (
        f"the update of epoch {epoch}, batch {batch} was voided, the weights stayed as they were, and training "
        f"went on: {cause}"
    )


def _watch(be: Any, root: Node, first: list[str]) -> None:
    """Have each operation behind root put into `first` that it made a gradient that is not finite of a finite one."""

    def watched(name: str, shape: tuple, vjp: Callable) -> Callable:
        def product(g: Any, need: Any) -> Any:
            parts = vjp(g, need)
            if not first and not any(map(_bad, _arrays(be, g))):
                first.extend(
                    f"the first operation that made such a gradient is {name}, output shape {shape} ({wrong})"
                    for array in _arrays(be, parts)
                    if (wrong := _bad(array)) is not None
                )
            return parts

        return product

    nodes, seen = [root], {root}
    while nodes:
        node = nodes.pop()
        if node.vjp is not None:
            node.vjp = watched(node.name, node.shape, node.vjp)
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                nodes.append(parent)


def _arrays(be: Any, parts: Any) -> Iterator[np.ndarray]:
    """The arrays in what `sweep` hands on: a gradient, or those of several, some of them None."""
    for part in parts if type(parts) is tuple else (parts,):
        array = part.g if isinstance(part, Part | Output) else part
        if array is not None:
            yield be.numpy(array)


def _bad(array: Any) -> str | None:
    """How many values are NaN or infinite, in words; None where there are none."""
    values = array.numpy() if isinstance(array, Tensor) else np.asarray(array)
    if values.dtype.kind not in "fc":
        return None
    wrong = values.size - int(np.isfinite(values).sum())
    nan = int(np.isnan(values).sum()) if wrong else 0
    return f"{nan:,} NaN and {wrong - nan:,} infinite of {values.size:,} values" if wrong else None


def _shape(array: Any) -> str:
    return str(tuple(array.shape))
