"""Metrics: what is measured beside the loss.

A metric is a function `metric(outputs, y)` of a batch: outputs are the model's (a Tensor, as a rule), y what the data
have. It returns a value for each sample (N,), or their mean; None where it does not apply. An epoch's value is the mean
over all samples. It is never differentiated: `outputs.numpy()` is a good beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..nn import advice
from ..parallel.trainer import Metric, accuracy
from ..tensor import Tensor

COLUMNS = ("epoch", "loss", "lr", "seconds", "images_per_second", "batch", "step", "mean_loss")  # no metric's names


def binary_accuracy(outputs: Any, y: Any) -> np.ndarray | None:
    """Whether logits (N,) or (N, K) are on the right side of 0 for targets y of that shape, in [0, 1] (1 means > 1/2):
    (N,), of several outputs the mean. None where the sizes differ."""
    pair = _alike(outputs, y)
    return None if pair is None else _by_sample((pair[0] > 0) == (pair[1] > 0.5))


def mse(outputs: Any, y: Any) -> np.ndarray | None:
    """The squared error of outputs (N, …) and targets y of that shape: (N,), means over the other axes."""
    pair = _alike(outputs, y)
    return None if pair is None else _by_sample((pair[0] - pair[1]) ** 2)


def mae(outputs: Any, y: Any) -> np.ndarray | None:
    """The absolute error, as `mse`."""
    pair = _alike(outputs, y)
    return None if pair is None else _by_sample(np.abs(pair[0] - pair[1]))


def top(k: int) -> Metric:
    """The metric whether the label is `among_top` k logits, called top_k: `top(5)` is "top_5"."""

    def metric(outputs: Any, y: Any) -> np.ndarray | None:
        if accuracy(outputs, y) is None:
            return None
        return _by_sample(among_top(outputs.numpy(), np.asarray(y), k))

    metric.__name__ = f"top_{k}"
    return metric


def among_top(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether the label (N, …) is among the k largest of its scores (N, …, K), as bools (N, …). Of equal ones the first
    is the larger, as argmax has it, so that top_1 is the accuracy; where a score is NaN, it is not."""
    at, place = labels[..., None], np.arange(scores.shape[-1])
    own = np.take_along_axis(scores, at, -1)
    ahead = (scores > own) | ((scores == own) & (place < at))
    return (ahead.sum(-1) < k) & ~np.isnan(scores).any(-1)


NAMED: dict[str, Metric] = {"accuracy": accuracy, "binary_accuracy": binary_accuracy, "mse": mse, "mae": mae}


def chosen(metrics: Any, loss: Callable) -> dict[str, Metric]:
    """The metrics by name that `metrics=` of `fit` and `evaluate` means: names, functions, a list of both, or a dict.

    None: the accuracy; with a loss for binary targets, that is `binary_accuracy`.
    Raises: ValueError for unknown names and those of other columns; TypeError for what is no function.
    """
    if metrics is None:
        metrics = ["accuracy"]
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    pairs = metrics.items() if isinstance(metrics, Mapping) else [(None, metric) for metric in metrics]
    found: dict[str, Metric] = {}
    for given, metric in pairs:
        own = metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
        name = str(own if given is None else given)
        function = _named(metric, loss) if isinstance(metric, str) else metric
        if not callable(function):
            raise TypeError(f"metrics: {metric!r:.60} must be a name or a function (outputs, y)")
        if not name.isidentifier() or name in COLUMNS or name.startswith("val_") or name in found:
            raise ValueError(f"metrics: {name!r} cannot be a metric's name; name it: metrics={{'my_metric': function}}")
        found[name] = function
    return found


def _named(name: str, loss: Callable) -> Metric:
    if name == "accuracy" and advice.applied(loss) == "sigmoid":
        return binary_accuracy
    if ranked := re.fullmatch(r"top_([1-9]\d*)", name):
        return top(int(ranked[1]))
    if name not in NAMED:
        raise ValueError(f"metrics: {name!r} is unknown; there are {', '.join(NAMED)}, top_5 (any number), functions")
    return NAMED[name]


def higher_is_better(column: str) -> bool | None:
    """Whether a larger value in this column of the history is better, where its name tells; else None."""
    name = column.removeprefix("val_")
    if name.endswith("accuracy") or re.fullmatch(r"top_\d+", name):
        return True
    return False if name in ("loss", "mse", "mae") else None


def shown(name: str, value: float) -> str:
    """'accuracy 86.91%', 'val_loss 0.4123'."""
    return f"{name} {value:.2%}" if higher_is_better(name) else f"{name} {value:.4f}"


def _alike(outputs: Any, y: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Outputs and targets as arrays of one shape, None where their sizes differ."""
    if not isinstance(outputs, Tensor) or y is None or isinstance(y, tuple | dict):
        return None
    out, target = outputs.numpy(), np.asarray(y)
    if target.dtype.kind not in "fiub" or out.size != target.size or len(out) != len(target):
        return None
    return out, target.reshape(out.shape)


def _by_sample(values: np.ndarray) -> np.ndarray:
    """(N,), the means over all axes but the first."""
    return values if values.ndim == 1 else values.reshape(len(values), -1).mean(1)
