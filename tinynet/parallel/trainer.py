"""Data parallelism: replicas of a model that share every step.

Each replica runs forward and backward on its share of the batch; the gradients, weighted by the shares' sizes, are
summed; each replica updates its part of the flat parameter vector; then all have all of it. On one machine replicas
are forked processes and what they share is memory (`parallel/team.py`), so nothing but the batch is ever sent,
and the optimiser's work is divided too.

>>> with tn.parallel.trainer(model, optim.Adam(model.parameters())) as step:
...     for x, y in loader:
...         loss = step(x, y)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np

from .. import backends
from ..autograd import no_grad
from ..backends.cpu.threads import usable_cores
from ..backends.switches import scope
from ..nested import called, lengths, mapped, samples, shapes
from ..nn import Module, Parameter
from ..ops import softmax_cross_entropy
from ..optim import clip_grad_norm
from ..optim.optimizer import Optimizer
from ..tensor import Tensor
from .team import ReplicaError

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


def trainer(
    model: Module,
    optimizer: Optimizer,
    loss: Loss = softmax_cross_entropy,
    *,
    workers: int | str = "auto",
    clip_norm: float | None = None,
    metrics: Mapping[str, Metric] = DEFAULT,
) -> Trainer:
    """A callable that makes one training step: `step(x, y) -> loss`; `step.evaluate(x, y)` only measures. Also a
    context manager; `close()` ends it.

    x is an array, or a tuple or a dict of arrays, for a model of several inputs: `model(*x)`, `model(**x)`; y likewise,
    or None.

    Any number of workers computes what one does, but for the order of summation, and is the same in every run.
    A step counts only where it left all that model and loss hold as it was (attributes, containers, objects, closures),
    and where the first batch's loss is the mean of its parts'; else it is undone and made by one process, which makes
    all further ones, too, where the next is like that or nothing else can help. `note` then says why.

    Replicas are copies, made here. They follow changes of parameters, of the optimiser's settings and of train and
    eval mode; when anything else that model or loss hold changed between two steps (frozen, a layer or an attribute
    replaced, a hook) they are made anew, some 20 ms. The batch that a replica gets is its own. They cannot see what
    changes in a global. Forward hooks run in every replica, on its share; what replicas 1, 2, … print is dropped.
    Threads of the parent do not run in them.

    Args:
        model: a built Module.
        optimizer: it owns the parameters to train.
        loss: loss(model(x), y) gives one value, the mean over the samples.
        workers: the number of processes, or "auto": one a core that this process may use. Where replicas cannot be
            had there is one process, and `note` says why.
        clip_norm: scale the gradient so that its norm, of all parameters together, is at most this.
        metrics: functions metric(model(x), y) by name, for `counter()`, `correct` and `evaluate`.

    Raises: ValueError for a bad setting.
    """
    if workers != "auto" and not (isinstance(workers, int | np.integer) and workers >= 1):
        raise ValueError(f'trainer: workers={workers!r} must be a number of processes, 1 or more, or "auto"')
    if clip_norm is not None and not (isinstance(clip_norm, Real) and clip_norm > 0):
        raise ValueError(f"trainer: clip_norm={clip_norm!r} must be a number > 0")
    if not isinstance(model, Module) or not isinstance(optimizer, Optimizer):
        raise TypeError(f"trainer: wants a Module and an Optimizer, got {model!r:.60} and {optimizer!r:.60}")
    check_moves("trainer", optimizer, model)
    if workers == 1:
        return Trainer(model, optimizer, loss, clip_norm, metrics=metrics)
    if reason := _alone_because(optimizer):
        return Trainer(model, optimizer, loss, clip_norm, f"one process, as {reason}", metrics)
    count = usable_cores() if workers == "auto" else int(workers)
    if count == 1:
        return Trainer(model, optimizer, loss, clip_norm, "one process, as one core may be used", metrics)
    from .replicas import Replicas  # they are trainers themselves

    try:
        return Replicas(model, optimizer, loss, clip_norm, count, metrics)
    except (ReplicaError, OSError, MemoryError) as error:
        return Trainer(model, optimizer, loss, clip_norm, f"one process, as replicas did not start: {error}", metrics)


def check_moves(name: str, optimizer: Optimizer, model: Module) -> None:
    """Raise where the optimiser has none of the model's parameters, as after the model was made anew."""
    own = {id(p) for _, p in model._tensors(Parameter)}
    if own and own.isdisjoint(id(p) for group in optimizer.groups for p in group.params):
        raise ValueError(f"{name}: the optimizer moves no parameter of this model; make it from model.parameters()")


def _alone_because(optimizer: Optimizer) -> str | None:
    """Why there can be no replicas here, or None."""
    others = {group.be.name for group in optimizer.groups} - {"numpy"}
    if others:
        return f"the model is on {others.pop()!r}: replicas share the numpy backend only"
    if sys.platform != "linux":
        return f"replicas are forked, which is safe on Linux only (this is {sys.platform})"
    if backends.cuda_runs():
        return "CUDA runs in this process, which must not be forked then"
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.current_process().daemon:
        return "this is a daemonic worker process: its siblings have the other cores"
    return None


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
    ):
        self.model, self.optimizer, self.loss, self.clip_norm, self.note = model, optimizer, loss, clip_norm, note
        self.metrics, self.closed = dict(metrics), False
        self._last: tuple[Any, Any, int] | None = None  # the outputs, y, and how many samples
        self._others: list[float] = [0.0] * len(self.metrics)  # the sums of other replicas

    def __call__(self, x: Any, y: Any) -> Tensor:
        """One step on a batch: x (N, …), y (N, …). Returns the loss, 0-d. Gradients are forgotten (`grad` is None).
        Where the loss or a gradient is not finite nothing changes, and `voided` is true."""
        self._begin(x, y)
        out, loss = self._forward(x, y)
        loss.backward()
        have = [p for group in self.optimizer.groups for p in group.params if p.grad is not None]
        if self.clip_norm is not None and have:
            clip_grad_norm(have, self.clip_norm)
        self.optimizer.step(loss)
        self.optimizer.zero_grad()
        self._last = out, kept(y), samples(x)
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
            own = {} if last is None else sums(metrics, *last)
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
        self._last, self._others = None, [0.0] * len(self.metrics)

    def _forward(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        self.optimizer.zero_grad()
        out = called(self.model, x)
        loss = self.loss(out, y)
        if not isinstance(loss, Tensor):
            raise TypeError(f"trainer: the loss is a {type(loss).__name__}; it must be a Tensor, made by operations")
        if loss.shape != ():
            raise ValueError(f"trainer: the loss has shape {loss.shape}; it must be one value, the mean of all samples")
        return out, loss


@scope
def evaluating(model: Module) -> Iterator[None]:
    """Within this context the model is in eval mode and nothing is recorded; the modes are then what they were."""
    modes = {m: m.training for m in model.modules()}
    try:
        model.eval()
        with no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def measured(model: Module, loss: Loss, x: Any, y: Any, metrics: Mapping[str, Metric] = DEFAULT) -> tuple[float, Sums]:
    """(the mean loss of a batch, each metric's sum over its samples), in eval mode."""
    with evaluating(model):
        out = called(model, x)
        return loss(out, y).item(), sums(metrics, out, y, samples(x))


def kept(y: Any) -> Any:
    """y as it is now: the caller may use the arrays again before he asks for metrics."""
    return mapped(lambda array: array.copy() if isinstance(array, np.ndarray) else array, y)


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
