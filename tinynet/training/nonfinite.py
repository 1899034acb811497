"""Where did the NaN come from? A step is replayed, layer by layer, to name the first that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..nn.module import Module
from ..ops import random
from ..tensor import Tensor


class NonFiniteError(ArithmeticError):
    """A step's loss is NaN or infinite. The update was voided: the weights are those from before the step.

    Attributes: epoch, batch: the step's, from 1. layer: the dotted name of the first layer whose output is not
    finite, or None where the cause is another.
    """

    def __init__(self, message: str, *, epoch: int, batch: int, layer: str | None):
        super().__init__(message)
        self.epoch, self.batch, self.layer = epoch, batch, layer


def explain(model: Module, loss: Callable, x: Any, y: Any, *, draws: Mapping[str, int], epoch: int,
            batch: int, value: float, since: int = 0) -> NonFiniteError:
    """The error for a step whose loss was `value`: replays it with the random draws that it had.

    Args: x (N, …), y (N, …): the step's batch. draws: `ops.random.state.steps` from before it. since: how many
    steps were made after it. The random state is left as it is.
    """
    layer, cause = _cause(model, loss, x, y, draws)
    weights = f"{since} steps were made since" if since else "the weights are those from before this step"
    return NonFiniteError(f"the loss is {value} in epoch {epoch}, batch {batch}: {cause}. The update was voided; "
                          f"{weights}", epoch=epoch, batch=batch, layer=layer)


def _cause(model: Module, loss: Callable, x: Any, y: Any, draws: Mapping[str, int]) -> tuple[str | None, str]:
    """(the layer's name or None, what is wrong as a clause)."""
    for what, array in ("images or features", x), ("labels", y):
        if (bad := _bad(array)) is not None:
            return None, f"the batch's {what} {_shape(array)} are not finite themselves ({bad})"
    for name, p in model.named_parameters():
        if (bad := _bad(p)) is not None:
            return None, (f"the parameter {name} {_shape(p)} is not finite already ({bad}): an earlier update broke "
                          "it; lower the learning rate, or clip gradients (clip_norm=1)")
    first: list[tuple[str, str]] = []

    def hook(name: str) -> Callable[[Module, Any, Any], None]:
        def look(module: Module, _: Any, y: Any) -> None:
            if not first and isinstance(y, Tensor) and (bad := _bad(y)) is not None:
                first.append((name, f"the first output that is not finite is that of layer {name or 'model'!r}, "
                                    f"{module!r:.80}, shape {y.shape} ({bad})"))
        return look

    removers = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        with no_grad(), _replayed(draws), np.errstate(all="ignore"):
            result = loss(model(x), y)
    finally:
        for remove in removers:
            remove()
    if first:
        return first[0]
    name = getattr(loss, "__name__", type(loss).__name__)
    if _bad(result) is not None:
        return None, f"the outputs of all layers are finite, the loss function {name} is not"
    return None, (f"replaying the step gives a finite loss, {result.item():.6g}: what it computes is not the same each "
                  "time")


@contextmanager
def _replayed(draws: Mapping[str, int]) -> Iterator[None]:
    """The random draws as they were, and afterwards as they are now."""
    now, random.state.steps = random.state.steps, dict(draws)
    try:
        yield
    finally:
        random.state.steps = now


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
