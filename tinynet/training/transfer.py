"""Transfer: what a network learnt on one task is the beginning of another (Yosinski et al. 2014).

>>> model = tn.training.new_head(tn.load("runs/mnist_cnn-digits-1/checkpoint.safetensors"), classes=5)
>>> thaw = tn.training.GradualUnfreezing(model)  # at first the head alone learns
>>> rates = tn.optim.layerwise(model, 1e-3)  # the lower, the slower
>>> tn.fit(model, (x, y), epochs=8, optimizer=tn.optim.Adam(rates), callbacks=[thaw])
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import nn
from ..integers import count
from ..nn.module import Module, made_with


def new_head(model: Module, classes: int) -> Module:
    """The model with a fresh last layer of `classes` outputs; the weights below are kept.

    The last layer with weights must be a Dense or Conv2d. Of a class of networks that takes `classes=` another object
    is made, so that a file of it can be loaded; other models are changed in place.

    Args: model: built, as one that was trained or loaded is.
    Returns: the model, built. Raises: ValueError where its last layer is another, RuntimeError where it is not built.
    """
    classes = count("new_head", "classes", classes, 1)
    modules, (*_, last) = dict(model.named_modules()), dict(model.named_parameters())
    name = last.rpartition(".")[0]
    parent, _, place = name.rpartition(".")
    layer, holder = modules.get(name), modules.get(parent)
    if not isinstance(layer, nn.Dense | nn.Conv2d):
        raise ValueError(f"new_head: the last layer with weights, {name}, is a {layer!r:.60}, not a Dense or Conv2d")
    if "classes" in inspect.signature(type(model)).parameters:
        other = _made_again(model, "classes", classes).build(model.built)
        old, state = model.state_dict(), other.state_dict()
        kept = {n: w for n, w in old.items() if not n.startswith(f"{name}.") and w.shape == state[n].shape}
        if frozen := [n for n, p in model.named_parameters() if not p.requires_grad and n in kept]:
            other.freeze(*frozen)
        return other.load_state_dict(state | kept)
    fresh = _made_again(layer, next(iter(inspect.signature(type(layer)).parameters)), classes)
    if isinstance(holder, nn.Sequential):
        holder[int(place)] = fresh
    elif holder is not None and getattr(holder, place, None) is layer:
        setattr(holder, place, fresh)
    else:
        raise ValueError(f"new_head: {name} stands in a list; put another layer there yourself, then build the model")
    return model.build(model.built)


def _made_again(module: Module, argument: str, value: int) -> Module:
    """A new module, made with the same arguments but one."""
    args, kwargs = made_with(module)
    bound = inspect.signature(type(module)).bind(*args, **kwargs)
    bound.arguments[argument] = value
    return type(module)(*bound.args, **bound.kwargs)


@dataclass
class GradualUnfreezing:
    """A callback of `fit`: at first the last stage alone learns, after each `every` epochs the one below it, too
    (Howard & Ruder 2018, §3.3). Stages are those of `model.stages()`. What was frozen before stays frozen.

    Make it before the training; it freezes the model at once.
    """

    model: Module
    every: int = 1
    frozen: set[str] = field(init=False)  # the parameters that are not to be unfrozen

    def __post_init__(self) -> None:
        self.every = count("GradualUnfreezing", "every", self.every, 1)
        self.frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        self.model.freeze()
        self._unfreeze(1)

    def on_epoch_end(self, row: Mapping[str, Any]) -> None:
        self._unfreeze(1 + row["epoch"] // self.every)

    def _unfreeze(self, stages: int) -> None:
        names = {name for stage in self.model.stages()[-stages:] for name in stage} - self.frozen
        for name, p in self.model.named_parameters():
            if name in names:
                p.requires_grad_()
