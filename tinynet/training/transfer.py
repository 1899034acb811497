"""Transfer: what a network learnt on one task is the beginning of another (Yosinski et al. 2014).

>>> model = tn.training.new_head(tn.load("runs/mnist_cnn-digits-1/checkpoint.safetensors"), classes=5)
>>> thaw = tn.training.GradualUnfreezing(model)  # at first the head alone learns
>>> rates = tn.optim.layerwise(model, 1e-3)  # the lower, the slower
>>> tn.fit(model, (x, y), epochs=8, optimizer=tn.optim.Adam(rates), callbacks=[thaw])
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import nn
from ..integers import count
from ..nn.module import Module, made_with


def new_head(model: Module, classes: int) -> Module:
    """The model with a fresh last layer of `classes` outputs; the weights below are kept.

    Of a class of networks that takes `classes=` another object is made, so that a file of it can be loaded; its head is
    what has other shapes with other classes. Other models are changed in place: their last layer with weights, in the
    order of attributes, must be the head, a Dense or Conv2d.

    Args: model: built, as one that was trained or loaded is.
    Returns: the model, built.
    Raises: ValueError where no such head is found, RuntimeError where the model is not built.
    """
    classes = count("new_head", "classes", classes, 1)
    model.parameters()  # raises where it is not built
    if "classes" in inspect.signature(type(model)).parameters:
        return _of_classes(model, classes)
    modules, names = dict(model.named_modules()), [name for name, _ in model.named_parameters()]
    name = names[-1].rpartition(".")[0] if names else ""
    parent, _, place = name.rpartition(".")
    layer, holder = modules.get(name), modules.get(parent)
    if not isinstance(layer, nn.Dense | nn.Conv2d):
        raise ValueError(f"new_head: the last layer with weights, {name}, is a {layer!r:.60}, not a Dense or Conv2d")
    if not isinstance(holder, nn.Sequential) and getattr(holder, place, None) is not layer:
        raise ValueError(f"new_head: {name} stands in a list; put another layer there yourself, then build the model")
    _put(holder, place, _made_again(layer, next(iter(inspect.signature(type(layer)).parameters)), classes))
    try:
        model.build(model.built)
        fits, found = model.output_shape[-1] == classes, f"the outputs are {model.output_shape}"
    except ValueError as error:
        fits, found = False, str(error)
    if not fits:
        _put(holder, place, layer)
        model.build(model.built)
        raise ValueError(
            f"new_head: {name}, the last layer with weights, is not the head: with {classes} outputs there, {found}; "
            "make the head the last of the model's attributes, or put another layer in its place yourself"
        )
    return model


def _put(holder: Any, place: str, layer: Module) -> None:
    """Let `layer` stand at this place of a Sequential, or of another module."""
    if isinstance(holder, nn.Sequential):
        holder[int(place)] = layer
    else:
        setattr(holder, place, layer)


def _of_classes(model: Module, classes: int) -> Module:
    """Another object of the model's class, with its weights but for those whose shapes the number of classes decides,
    and frozen where it is."""
    model = copy.deepcopy(model)  # whose own modules the other, made with the same arguments, may then hold
    old, first = model.state_dict(), model.parameters()[0]
    other = _made_again(model, "classes", classes).build(model.built).astype(first.dtype).to(first.backend)
    fresh = told = other.state_dict()
    if all(w.shape == told[name].shape for name, w in old.items()):  # as many as before: one more tells the head
        told = _made_again(model, "classes", classes + 1).build(model.built).state_dict()
    kept = {name: w for name, w in old.items() if w.shape == told[name].shape}
    if frozen := [name for name, p in model.named_parameters() if not p.requires_grad and name in kept]:
        other.freeze(*frozen)
    return other.load_state_dict(fresh | kept)


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
