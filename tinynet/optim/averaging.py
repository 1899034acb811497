"""Averages of a model's parameters over the steps, which often do better than the last ones.

>>> average = optim.EMA(model, 0.999)
>>> tn.fit(model, train, callbacks=[average])
>>> with average.applied():
...     print(tn.evaluate(model, test))

In a loop of one's own: `average.update()` after `optimizer.step()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..autograd import changed, no_grad
from ..backends.switches import scope
from ..nn import door
from ..nn.module import Module
from ..tensor import Tensor


class Average:
    """What EMA and SWA share: `averages`, one tensor a parameter, and `count`, how often they were updated.

    The first update takes the parameters as they are. Buffers (running statistics) are not averaged: see
    `update_statistics`.
    """

    def __init__(self, model: Module):
        self.model, self.params, self.count = model, model.parameters(), 0
        self.averages = [Tensor(p.backend.copy(p.data), p.backend) for p in self.params]

    def weight(self) -> float:
        """Of the parameters in this update; the average keeps the rest."""
        raise TypeError(f"{type(self).__name__} has no weight(); an average must define it")

    def update(self) -> None:
        """Move the averages towards the parameters as they are now."""
        weight = self.weight() if self.count else 1.0
        self.count += 1
        with no_grad():
            for average, p in zip(self.averages, self.params, strict=True):
                average += (p.detach() - average) * weight

    @scope
    def applied(self) -> Iterator[Module]:
        """Within this context the model has the averages; its own parameters come back after it. They are written in
        place, so a graph that was recorded before notices."""
        own = [Tensor(p.backend.copy(p.data), p.backend) for p in self.params]
        try:
            self.apply()
            yield self.model
        finally:
            _write(self.params, own)

    def apply(self) -> Module:
        """Write the averages into the model, in place, for good; returns the model. RuntimeError where they were never
        updated: they are the parameters that it began with."""
        if not self.count:
            name = type(self).__name__
            raise RuntimeError(f"{name}: never updated; pass it as callbacks=[…] to fit, or call update() after a step")
        _write(self.params, self.averages)
        return self.model

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the averages on the host, by the parameters' names, and `count`."""
        names = [name for name, _ in self.model.named_parameters()]
        values = {name: np.array(a.numpy()) for name, a in zip(names, self.averages, strict=True)}
        return {**values, "count": np.array(self.count)}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copy what `state_dict` returned. ValueError, and nothing changed, where names or shapes do not fit."""
        own = self.state_dict()
        if own.keys() != state.keys() or any(np.shape(state[name]) != value.shape for name, value in own.items()):
            raise ValueError(f"{type(self).__name__}: the state is of another model's parameters")
        for name, average in zip(own, self.averages, strict=False):
            average.backend.copyto(average.data, average.backend.asarray(np.asarray(state[name]), average.dtype))
        self.count = int(state["count"])


class EMA(Average):
    """The exponential moving average of the parameters: average = decay · average + (1 - decay) · p after each step
    (Polyak & Juditsky 1992). A callback of `fit`, after each step."""

    def __init__(self, model: Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay={decay!r} must be a number in [0, 1)")
        super().__init__(model)
        self.decay = decay

    def weight(self) -> float:
        return 1 - self.decay

    def on_step_end(self, info: dict[str, Any]) -> None:
        self.update()


class SWA(Average):
    """The plain mean of the parameters at the ends of epochs, from epoch `start` (from 1) on (Izmailov et al. 2018). A
    callback of `fit`, after each epoch; train on with a constant learning rate meanwhile.

    Batch norm's running statistics are those of other parameters: `update_statistics(model, batches)` within
    `applied()`, or after `apply()`, measures them anew.
    """

    def __init__(self, model: Module, start: int = 1):
        super().__init__(model)
        self.start = start

    def weight(self) -> float:
        return 1 / (self.count + 1)

    def on_epoch_end(self, row: dict[str, Any]) -> None:
        if row["epoch"] >= self.start:
            self.update()


def update_statistics(model: Module, batches: Iterable[Any]) -> None:
    """Measure the running statistics of batch norms anew: their mean over all batches, as the parameters are now.

    Args: batches: of inputs, or of pairs (inputs, y), as a Loader's.
    The layers meant are those with `momentum` and `running_mean`; without any, nothing is done. Modes and momenta are
    left as they were.
    Raises: TypeError where it is given (x, y), arrays; ValueError where no batch comes.
    """
    if isinstance(batches, tuple) and len({getattr(batch, "shape", ())[1:] for batch in batches}) > 1:
        raise TypeError("update_statistics: a tuple (x, y) is no list of batches; pass Loader(x, y)")
    norms: list[Any] = [m for m in model.modules() if vars(m).keys() >= {"momentum", "running_mean"}]
    if not norms:
        return
    modes, momenta = {m: m.training for m in model.modules()}, [norm.momentum for norm in norms]
    try:
        model.eval()  # dropout passes everything
        with no_grad():
            number = 0
            for number, batch in enumerate(batches, 1):
                for norm in norms:
                    norm.training, norm.momentum = True, 1 / number  # the mean of so many
                door.call(model, batch[0] if isinstance(batch, tuple | list) else batch)
            if not number:
                raise ValueError("update_statistics: there are no batches to measure")
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode


def _write(params: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for p, value in zip(params, values, strict=True):
        p.backend.copyto(p.data, value.data)
        changed.note(p)
