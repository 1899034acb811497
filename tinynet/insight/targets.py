"""Which of a model's outputs is looked at: the score that attributions explain, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import grad
from ..integers import class_numbers
from ..nn.module import Module
from ..tensor import Tensor

Target = int | np.ndarray | list | Callable[[Tensor], Tensor] | None


def scores(name: str, out: Any, target: Target) -> Tensor:
    """(N,): of each sample, the output that is to be explained.

    Args: out: (N, K), or (N,). target: a class number, one for each sample, None for the class with the largest output
        (of a single output: that), or a function of the outputs that returns (N,) scores.
    Raises: TypeError, ValueError where the target does not fit.
    """
    if callable(target):
        chosen = target(out)
        if not isinstance(chosen, Tensor) or chosen.ndim != 1 or chosen.node is None:
            raise TypeError(f"{name}: target(outputs) must return a Tensor (N,) of scores, computed from the outputs")
        return chosen
    if not isinstance(out, Tensor) or out.ndim not in (1, 2):
        shape = out.shape if isinstance(out, Tensor) else type(out).__name__
        raise TypeError(
            f"{name}: the model's output is {shape}, not (N, K); pass target= as a function of it that returns (N,) "
            "scores, such as lambda y: y[..., 3].mean((1, 2))"
        )
    if out.ndim == 1:
        return out
    return out[np.arange(len(out)), class_targets(name, out, target)]


def class_targets(name: str, out: Tensor, target: Any) -> np.ndarray:
    """(N,) class numbers for outputs (N, K)."""
    if target is None:
        return out.numpy().argmax(1)
    labels = np.asarray(target.numpy() if isinstance(target, Tensor) else target)
    return class_numbers(name, np.broadcast_to(labels, out.shape[:1]) if not labels.ndim else labels, out.shape)


def input_gradient(name: str, model: Module, x: Tensor, target: Target) -> Tensor:
    """d score / dx, of x's shape, for a leaf x."""
    return score_gradient(name, model(x), target, x)


def score_gradient(name: str, out: Any, target: Target, values: Tensor) -> Tensor:
    """d score / d values: of each sample's own score."""
    chosen = scores(name, out, target)
    if chosen.node is None:
        raise ValueError(f"{name}: the outputs do not depend on what is looked at")
    return grad(chosen, values, np.ones(chosen.shape, chosen.dtype))  # (a sum would be an operation more)
