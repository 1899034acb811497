"""Training steps in one process, and what all trainers share: the check of a batch, the measuring of one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ..nested import lengths, mapped, samples, shapes
from ..nn import Module, door
from ..nn.module import evaluating
from ..ops import random
from ..ops.norm import shares
from ..optim import clip_grad_norm
from ..optim.optimizer import Optimizer
from ..tensor import Tensor

Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[Any, Any], Any]  # (outputs, y) -> a value for each sample (N,), or their mean; None: there is none
Sums = dict[str, float | None]  # each metric's sum over samples, by name


def accuracy(outputs: Any, y: Any) -> np.ndarray | None:
    """Whether the largest logit of outputs (N, …, K) is the label's, for class numbers y (N, …): (N,), the mean of a
    sample's labels where it has several. None where y are not class numbers."""
    if not isinstance(outputs, Tensor) or y is None or isinstance(y, tuple | dict):
        return None
    labels = np.asarray(y)
    if (
        labels.dtype.kind not in "iu"
        or outputs.ndim < 2
        or outputs.shape[-1] == 1
        or labels.shape != outputs.shape[:-1]
    ):
        return None
    right = outputs.numpy().argmax(-1) == labels
    return right if right.ndim == 1 else right.reshape(len(right), -1).mean(1)


DEFAULT: Mapping[str, Metric] = {"accuracy": accuracy}


class Trainer:
    """Steps in this process alone, on any backend.

    Attributes:
        workers: the number of processes.
        note: why there is only one where more were asked for, else None.
    """

    workers = 1

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Loss,
        clip_norm: float | None,
        note: str | None = None,
        metrics: Mapping[str, Metric] = DEFAULT,
        accumulate: int = 1,
    ):
        self.model, self.optimizer, self.loss, self.clip_norm, self.note = model, optimizer, loss, clip_norm, note
        self.metrics, self.accumulate, self.closed = dict(metrics), accumulate, False
        self._last: list[tuple[Any, Any, int]] = []  # of each part of the batch: outputs, y, how many samples
        self._others: list[float] = [0.0] * len(self.metrics)  # the sums of other replicas

    def __call__(self, x: Any, y: Any) -> Tensor:
        """One step on a batch: x (N, …), y (N, …). Returns the loss, 0-d. Gradients are forgotten (`grad` is None).
        Where the loss or a gradient is not finite nothing changes but running statistics, and `voided` is true."""
        self._begin(x, y)
        seen, loss = self._gradients(x, y)
        have = [p for group in self.optimizer.groups for p in group.params if p.grad is not None]
        if self.clip_norm is not None and have:
            clip_grad_norm(have, self.clip_norm)
        self.optimizer.step(loss)
        self.optimizer.zero_grad()
        self._last = seen
        return loss.detach()

    def evaluate(self, x: Any, y: Any) -> tuple[float, Sums]:
        """(the mean loss of a batch, each metric's sum over its samples), dropout off; it changes nothing. A sum is
        None where the metric does not apply: the accuracy, where labels are not class numbers."""
        self._check(x, y)
        return measured(self.model, self.loss, x, y, self.metrics)

    @property
    def voided(self) -> bool:
        """Whether the last step changed nothing, as its loss or its gradient was not finite. Waits for the device."""
        return self.optimizer.voided

    @property
    def correct(self) -> float | None:
        """The "accuracy" of `counter()`: how many samples of the last batch the model (as it was before the step) had
        right; None where labels are not class numbers. Waits for the device, so read it when you need it."""
        return self.counter()().get("accuracy")

    def counter(self) -> Callable[[], Sums]:
        """A function that returns each metric's sum over the samples of the step just made, later too."""
        last, others, metrics = self._last, self._others, self.metrics

        def count() -> Sums:
            own = added(metrics, last)
            return {k: None if (v := own.get(k)) is None else v + n for k, n in zip(metrics, others, strict=True)}

        return count

    def close(self) -> None:
        """End the replicas. Model and optimiser stay as they are and can be used as before. Again: nothing."""
        self.closed = True

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        facts = ["closed"] * self.closed + [self.note or f"{self.workers} worker{'s' * (self.workers > 1)}"]
        return f"<tinynet trainer: {', '.join(facts)}>"

    def _check(self, x: Any, y: Any) -> None:
        if self.closed:
            raise RuntimeError("trainer: this one is closed; make another with tn.parallel.trainer(...)")
        found = lengths(x, y)
        if len(found) != 1 or not found or min(found) < 1:
            raise ValueError(
                f"trainer: x and y must have as many samples, one at least; got the shapes {shapes(x)} and {shapes(y)}"
            )

    def _begin(self, x: Any, y: Any) -> None:
        self._check(x, y)
        self._last, self._others = [], [0.0] * len(self.metrics)

    def _gradients(self, x: Any, y: Any, weight: float = 1.0) -> tuple[list[tuple[Any, Any, int]], Tensor]:
        """Forward and backward, of `accumulate` parts of the samples one after another: (outputs, y, samples) of each,
        and the loss of all. Random draws are those of one pass. The gradients come out times `weight`."""
        self.optimizer.zero_grad()
        count, (seed, steps, first), seen, total = samples(x), random.state.snapshot(), [], None
        parts = min(self.accumulate, count)
        shares.parts = parts > 1
        try:
            for start, stop in pairwise(count * k // parts for k in range(parts + 1)):
                random.state.restore((seed, steps, first + start))
                cut = operator.itemgetter(slice(start, stop))
                a, b = (x, y) if parts == 1 else (mapped(cut, x), mapped(cut, y))
                out, loss = self._forward(a, b)
                share = (stop - start) / count
                if weight * share == 1:
                    loss.backward()
                else:
                    loss.backward(Tensor(loss.backend.full((), weight * share, loss.dtype), loss.backend))
                own = loss.detach() if parts == 1 else loss.detach() * share
                total = own if total is None else total + own
                seen.append((out, kept(b), stop - start))
        finally:
            random.state.first, shares.parts = first, False
        assert total is not None
        return seen, total

    def _forward(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        out = door.call(self.model, x)
        loss = self.loss(out, y)
        if not isinstance(loss, Tensor):
            raise TypeError(f"trainer: the loss is a {type(loss).__name__}; it must be a Tensor, made by operations")
        if loss.shape != ():
            raise ValueError(f"trainer: the loss has shape {loss.shape}; it must be one value, the mean of all samples")
        return out, loss


def measured(model: Module, loss: Loss, x: Any, y: Any, metrics: Mapping[str, Metric] = DEFAULT) -> tuple[float, Sums]:
    """(the mean loss of a batch, each metric's sum over its samples), in eval mode."""
    with evaluating(model):
        out = door.call(model, x)
        return loss(out, y).item(), sums(metrics, out, y, samples(x))


def kept(y: Any) -> Any:
    """y as it is now: the caller may use the arrays again before he asks for metrics."""
    return mapped(lambda array: array.copy() if isinstance(array, np.ndarray) else array, y)


def added(metrics: Mapping[str, Metric], seen: list[tuple[Any, Any, int]]) -> Sums:
    """Each metric's sum over the samples of all parts of a batch; a part is (outputs, y, samples)."""
    parts = [sums(metrics, *part) for part in seen]
    found: Sums = {}
    for name in metrics if parts else ():
        values = [part[name] for part in parts]
        found[name] = None if None in values else sum(v for v in values if v is not None)
    return found


def sums(metrics: Mapping[str, Metric], outputs: Any, y: Any, count: int) -> Sums:
    """Each metric's sum over the `count` samples of a batch, None where it does not apply."""
    found: Sums = {}
    for name, metric in metrics.items():
        value = metric(outputs, y)
        if value is not None:
            array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
            if array.shape not in ((), (count,)) or array.dtype.kind not in "biuf":
                raise ValueError(
                    f"metric {name}: returned {value!r:.60}; it must be a number for each of {count} samples, or "
                    "their mean"
                )
            value = float(array.sum(dtype=np.float64)) if array.ndim else float(array) * count
        found[name] = value
    return found
