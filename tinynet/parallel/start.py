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
from collections.abc import Mapping
from numbers import Real

import numpy as np

from .. import backends
from ..backends.cpu.threads import usable_cores
from ..hints import explained
from ..integers import count
from ..nn import Module, Parameter
from ..ops import softmax_cross_entropy
from ..optim.optimizer import Optimizer
from .replicas import Replicas
from .team import ReplicaError
from .trainer import DEFAULT, Loss, Metric, Trainer


@explained
def trainer(
    model: Module,
    optimizer: Optimizer,
    loss: Loss = softmax_cross_entropy,
    *,
    workers: int | str = "auto",
    clip_norm: float | None = None,
    metrics: Mapping[str, Metric] = DEFAULT,
    accumulate: int = 1,
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
        accumulate: compute the gradient of a batch (of a replica's share) in so many parts, one after another, in the
            memory of one; the step is that of the whole batch, but that batch norm sees the parts, and that a mean
            by weight= or ignore_index= is refused, as it is not that of the parts.
        metrics: functions metric(model(x), y) by name, for `counter()`, `correct` and `evaluate`.

    Raises: ValueError for a bad setting.
    """
    if workers != "auto" and not (isinstance(workers, int | np.integer) and workers >= 1):
        raise ValueError(f'trainer: workers={workers!r} must be a number of processes, 1 or more, or "auto"')
    if clip_norm is not None and not (isinstance(clip_norm, Real) and clip_norm > 0):
        raise ValueError(f"trainer: clip_norm={clip_norm!r} must be a number > 0")
    accumulate = count("trainer", "accumulate", accumulate, 1)
    if not isinstance(model, Module) or not isinstance(optimizer, Optimizer):
        raise TypeError(f"trainer: wants a Module and an Optimizer, got {model!r:.60} and {optimizer!r:.60}")
    check_moves("trainer", optimizer, model)
    if workers == 1:
        return Trainer(model, optimizer, loss, clip_norm, None, metrics, accumulate)
    if reason := _alone_because(optimizer):
        return Trainer(model, optimizer, loss, clip_norm, f"one process, as {reason}", metrics, accumulate)
    processes = usable_cores() if workers == "auto" else int(workers)
    if processes == 1:
        return Trainer(model, optimizer, loss, clip_norm, "one process, as one core may be used", metrics, accumulate)
    try:
        return Replicas(model, optimizer, loss, clip_norm, processes, metrics, accumulate)
    except (ReplicaError, OSError, MemoryError) as error:
        why = f"one process, as replicas did not start: {error}"
        return Trainer(model, optimizer, loss, clip_norm, why, metrics, accumulate)


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
