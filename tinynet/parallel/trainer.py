"""Training steps in one process, and what all trainers share: the check of a batch, the measuring of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..nn import Module
from ..nn.module import evaluating
from ..optim import clip_grad_norm
from ..optim.optimizer import Optimizer
from ..tensor import Tensor

Loss = Callable[[Any, Any], Tensor]


class Trainer:
    """Steps in this process alone, on any backend.

    Attributes:
        workers: the number of processes.
        note: why there is only one where more were asked for, else None.
    """

    workers = 1

    def __init__(
        self, model: Module, optimizer: Optimizer, loss: Loss, clip_norm: float | None, note: str | None = None
    ):
        self.model, self.optimizer, self.loss, self.clip_norm, self.note = model, optimizer, loss, clip_norm, note
        self.closed = False
        self._last: tuple[Any, Any] | None = None
        self._others_correct = 0

    def __call__(self, x: Any, y: Any) -> Tensor:
        """One step on a batch: x (N, …), y (N, …). Gives the loss, 0-d. Gradients are forgotten (`grad` is None). Where
        the loss or a gradient is not finite nothing changes, and `voided` is true."""
        self._begin(x, y)
        out, loss = self._forward(x, y)
        loss.backward()
        have = [p for group in self.optimizer.groups for p in group.params if p.grad is not None]
        if self.clip_norm is not None and have:
            clip_grad_norm(have, self.clip_norm)
        self.optimizer.step(loss)
        self.optimizer.zero_grad()
        self._last = out, kept(y)
        return loss.detach()

    def evaluate(self, x: Any, y: Any) -> tuple[float, int | None]:
        """(the mean loss of a batch, how many of its samples the model has right), dropout off; it changes nothing. The
        second is None where labels are not class numbers."""
        self._check(x, y)
        return measured(self.model, self.loss, x, y)

    @property
    def voided(self) -> bool:
        """Whether the last step changed nothing, as its loss or its gradient was not finite. Waits for the device."""
        return self.optimizer.voided

    @property
    def correct(self) -> int | None:
        """How many samples of the last batch the model (as it was before the step) had right; None where labels
        are not class numbers. Waits for the device, so read it when you need it."""
        return self.counter()()

    def counter(self) -> Callable[[], int | None]:
        """A function that gives `correct` of the step just made, later too."""
        last, others = self._last, self._others_correct

        def count() -> int | None:
            own = None if last is None else correct_of(*last)
            return None if own is None else own + others

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
        if not len(x) or len(x) != len(y):
            raise ValueError(f"trainer: x has {len(x)} samples and y {len(y)}; they must be as many, one at least")

    def _begin(self, x: Any, y: Any) -> None:
        self._check(x, y)
        self._last, self._others_correct = None, 0

    def _forward(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        self.optimizer.zero_grad()
        out = self.model(x)
        loss = self.loss(out, y)
        if not isinstance(loss, Tensor):
            raise TypeError(f"trainer: the loss is a {type(loss).__name__}; it must be a Tensor, made by operations")
        if loss.shape != ():
            raise ValueError(f"trainer: the loss has shape {loss.shape}; it must be one value, the mean of all samples")
        return out, loss


def measured(model: Module, loss: Loss, x: Any, y: Any) -> tuple[float, int | None]:
    """(the mean loss of a batch, how many samples are right or None), in eval mode."""
    with evaluating(model):
        out = model(x)
        return loss(out, y).item(), correct_of(out, y)


def kept(y: Any) -> Any:
    """Labels as they are now: the caller may use the array again before he asks for `correct`."""
    return y.copy() if isinstance(y, np.ndarray) and y.dtype.kind in "iu" else y


def correct_of(out: Any, y: Any) -> int | None:
    """How often the largest logit of out (N, K) is the label's, None where y is no vector of N class numbers."""
    y = np.asarray(y)
    if y.dtype.kind not in "iu" or not isinstance(out, Tensor) or out.ndim != 2 or out.shape[1] == 1:
        return None
    if y.shape != out.shape[:1]:
        return None
    return int((out.numpy().argmax(1) == y).sum())
