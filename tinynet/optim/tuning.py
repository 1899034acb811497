"""Settings that fit a model: which parameters decay, which learn slower, and with which learning rate to begin."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..data import Loader
from ..hints import explained
from ..nn import door
from ..nn.advice import check_loss
from ..nn.module import Module
from ..ops import random
from ..ops.loss import softmax_cross_entropy
from .optimizer import Optimizer
from .rules import OPTIMIZERS, Adam


def no_decay(model: Module) -> list[dict[str, Any]]:
    """Groups for an optimiser, of which only the first, weights of two axes and more, has weight decay; biases and the
    parameters of norms have none.

    >>> optim.AdamW(optim.no_decay(model), weight_decay=0.1)
    """
    plain = {id(p) for module in model.modules() if type(module).__name__.endswith("Norm") for p in module.parameters()}
    groups: tuple[list, list] = [], []
    for p in model.parameters():
        groups[p.ndim < 2 or id(p) in plain].append(p)
    settings: tuple[dict, dict] = {}, {"weight_decay": 0.0}
    return [{"params": params, **options} for params, options in zip(groups, settings, strict=True) if params]


def layerwise(model: Module, lr: float, *, factor: float = 2.6) -> list[dict[str, Any]]:
    """Groups for an optimiser, a stage of the model each (`model.stages()`): the last learns with the rate `lr`, each
    one below with that of the one above divided by `factor` (Howard & Ruder 2018, §3.2, "discriminative fine-tuning").

    >>> optim.Adam(optim.layerwise(model, 1e-3))

    Raises: ValueError where factor is below 1.
    """
    if not factor >= 1:
        raise ValueError(f"layerwise: factor={factor!r} must be 1 or more: layers below learn slower")
    own, stages = dict(model.named_parameters()), model.stages()
    return [
        {"params": [own[name] for name in names], "lr": lr / factor ** (len(stages) - 1 - i)}
        for i, names in enumerate(stages)
    ]


class Found(NamedTuple):
    """What `find_lr` returns."""

    curve: np.ndarray  # (steps, 2): the learning rate and the loss, smoothed
    suggestion: float  # a tenth of the rate at which the loss was least


@explained
def find_lr(
    model: Module,
    data: Any,
    *,
    loss: Callable = softmax_cross_entropy,
    optimizer: str | Callable[..., Optimizer] = Adam,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 64,
) -> Found:
    """Train a copy of the model with a learning rate that grows at each step, until the loss is four times its least
    (Smith, "Cyclical learning rates", 2017, §3.3).

    Model, optimisers and random state are left as they are.

    Args:
        model: one without sizes is built for the data: the copy alone.
        data: (x, y), arrays or lists; x may be a tuple or dict of several inputs; a dataset; or a Loader, whose epoch
            stays as it is.
        optimizer: a rule such as optim.SGD or its name, or a function (params, lr=…) that returns an Optimizer.
        low, high: the first rate and the last.
        batch_size: of arrays.
    Raises: ValueError for settings that make no sense, an unknown rule, and a loss that is not finite at the lowest
        rate.
    """
    if not (0 < low < high and steps >= 10):
        raise ValueError(f"find_lr: needs 0 < low < high and steps >= 10, got low={low}, high={high}, steps={steps}")
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"find_lr: optimizer {optimizer!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
        optimizer = OPTIMIZERS[optimizer]
    own: dict[str, Any] = {"batch_size": batch_size, "prefetch": 0}
    loader = data if isinstance(data, Loader) else Loader(*(data if isinstance(data, tuple | list) else [data]), **own)
    twin, held = copy.deepcopy(model), (random.state.seed, dict(random.state.steps))
    batches = itertools.chain.from_iterable(map(loader.iterate, itertools.count()))
    points: list[tuple[float, float]] = []
    mean = best = 0.0
    try:
        if twin.built is None or twin.unbuilt():
            door.build(twin, loader.sample()[0])
        check_loss(twin, loss)
        twin.train()
        rule = optimizer(twin.parameters(), lr=low)
        for step, (x, y) in enumerate(itertools.islice(batches, steps)):
            rule.lr = low * (high / low) ** (step / (steps - 1))
            rule.zero_grad()
            value = loss(door.call(twin, x), y)
            value.backward()
            rule.step(value)
            mean += 0.1 * (value.item() - mean)
            smooth = mean / (1 - 0.9 ** (step + 1))
            if not math.isfinite(smooth) or (points and smooth - best > 3 * abs(best)):
                break
            best = min(best, smooth) if points else smooth
            points.append((rule.lr, smooth))
    finally:
        random.state.seed, random.state.steps = held
    if len(points) < 2:
        raise ValueError(f"find_lr: the loss is not finite at a learning rate of {low:g}; choose a lower one")
    curve = np.array(points)
    return Found(curve, float(curve[curve[:, 1].argmin(), 0]) / 10)
