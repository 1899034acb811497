"""How a model was made, as JSON, and a model made from that: without pickle, and without running what a file says.

Layers of `tinynet.nn` are described by their class and constructor's arguments; numbers, strings, tuples, lists,
and the functions that have names in tinynet (activations, initialisers) may stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import backends, nn
from ..nn.activation import ACTIVATIONS
from ..nn.init import INITIALISERS
from ..nn.module import Module, Parameter, made_with
from ..nn.summary import walk
from ..nn.tree import BOOKKEEPING
from ..ops import random

NAMED = {f"activation.{name}": f for name, f in ACTIVATIONS.items()} | {
    f"init.{name}": f for name, f in INITIALISERS.items()
}
SCALARS = (int, float, str, bool, type(None))
MODULES, DEPTH = 10_000, 32  # a description of more, or deeper nested, is refused


class Unknown(ValueError):
    """A model that cannot be described in JSON, or a description that makes no model."""


# ---- model to JSON ----------------------------------------------------------------------------------------


def describe(model: Module) -> dict[str, Any]:
    """JSON from which `build` makes the same model. Raises Unknown, with the reason, where it could not."""
    spec = _module(model, set())
    with random.restoring():
        try:
            again = _made(spec)
        except Exception as error:
            raise Unknown(f"its layers cannot be made from their arguments again: {error}") from None
    for (name, ours), (_, other) in zip(model.named_modules(), again.named_modules(), strict=False):
        if (changed := _difference(ours, other)) is not None:
            raise Unknown(f"{name or 'it'}.{changed} was changed after the layer was made")
    try:
        ties = tied(model)
        build_unrun(again, model.built or (), ties)
    except Exception as error:
        raise Unknown(f"it cannot be built as a whole: {error}") from None
    shapes, made = ({name: p.shape for name, p in m.named_tensors(Parameter)} for m in (model, again))
    if shapes != made:
        differ = sorted(name for name in shapes.keys() | made.keys() if shapes.get(name) != made.get(name))
        raise Unknown(f"its parameters are not those that its layers make: {', '.join(differ):.200}")
    return spec


def known(model: Module) -> bool:
    """Whether all its modules are of tinynet's own classes."""
    return all(getattr(nn, type(m).__name__, None) is type(m) for m in model.modules())


def tied(model: Module) -> dict[str, str]:
    """The names of parameters that are another one, and the name under which that is saved."""
    first: dict[int, str] = {}
    return {
        name: first[id(p)]
        for name, p in model.named_tensors(Parameter, aliases=True)
        if first.setdefault(id(p), name) != name
    }


def _module(module: Module, seen: set[int]) -> dict[str, Any]:
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind:
        raise Unknown(f"{kind.__name__} is a class of your own")
    if id(module) in seen:
        raise Unknown(f"a {kind.__name__} stands in two places")
    seen.add(id(module))
    args, kwargs = made_with(module)
    if isinstance(module, nn.Sequential):  # as it is now: layers may have been added
        args, kwargs = tuple(module), {}
    return {
        "module": kind.__name__,
        "args": [_value(a, seen) for a in args],
        "kwargs": {name: _value(v, seen) for name, v in kwargs.items()},
    }


def _value(value: Any, seen: set[int]) -> Any:
    if isinstance(value, Module):
        return _module(value, seen)
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in SCALARS:
        return value
    if isinstance(value, list | tuple):
        items = [_value(v, seen) for v in value]
        return items if isinstance(value, list) else {"tuple": items}
    for name, function in NAMED.items():
        if value is function:
            return {"named": name}
    raise Unknown(f"the argument {value!r:.60} has no name in a file")


def _difference(ours: Module, other: Module) -> str | None:
    """The name of a setting in which two layers differ, None where there is none."""
    if type(ours) is not type(other):
        return "layers"
    for name, value in vars(ours).items():
        plain = (
            type(value) in SCALARS or isinstance(value, tuple) or (callable(value) and not isinstance(value, Module))
        )
        if plain and name not in BOOKKEEPING and vars(other).get(name, value) != value:
            return name
    return None


# ---- JSON to model ------------------------------------------------------------------------------------------


def build(spec: Any, shape: tuple, weights: Mapping[str, np.ndarray], ties: Mapping[str, str]) -> Module:
    """A model by its description, built for inputs of `shape` and filled with those of the weights that fit.

    A description may come from anywhere, so nothing is run, and memory is taken for what `weights` holds only. Raises
    Unknown, or what the layers raise, where it makes no sense.
    """
    with random.restoring():
        model = _made(spec)
        fill(model, build_unrun(model, shape, ties), weights)
    return model


def build_unrun(model: Module, shape: tuple, ties: Mapping[str, str]) -> list[Parameter]:
    """Build a model of tinynet's layers for inputs of `shape` by arithmetic alone: nothing is run.

    Returns: the new parameters. They are read-only zeros that take no memory, to be replaced by `fill`.
    """
    new: list[Parameter] = []

    def parameter(size: tuple, initialise: Callable) -> Parameter:
        new.append(Parameter(np.broadcast_to(np.float32(0), size), backends.current()))
        return new[-1]

    def create(layer: Module, size: tuple) -> None:
        if layer.built is None:
            layer.create(size)
            layer.built = size

    if not shape and model.built is None and not model.unbuilt():
        return new  # nothing depends on a size
    layers: list[Any] = list(dict.fromkeys(model.modules()))
    for layer in layers:
        layer.parameter = parameter
    try:
        for layer, _, size in walk(model, "output_size", shape, create):
            layer.output_shape = size
    finally:
        for layer in layers:
            del layer.parameter
    if not ties:
        return new
    own, modules = dict(model.named_tensors(Parameter, aliases=True)), dict(model.named_modules())
    for name, other in ties.items():
        if name not in own or other not in own or own[name].shape != own[other].shape:
            raise Unknown(f"{name:.60} cannot be the same parameter as {other:.60}")
        module, _, attribute = name.rpartition(".")
        setattr(modules[module], attribute, own[other])
    return new


def fill(model: Module, new: list[Parameter], weights: Mapping[str, np.ndarray]) -> None:
    """Give new parameters memory, the weights' dtype and their values, where there are weights that fit."""
    made = set(map(id, new))
    for name, p in model.named_parameters():
        w = weights.get(name)
        if id(p) in made and w is not None and w.dtype.kind == "f" and w.shape == p.shape:
            p.requires_grad_(False)
            p.data = p.backend.copy(p.backend.asarray(w))
            p.requires_grad_()


def _made(spec: Any) -> Module:
    """The layers that a description tells of, without parameters yet."""
    left = iter(range(MODULES))
    model = _read(spec, left, 0)
    if not isinstance(model, Module):
        raise Unknown("the description is not that of a layer")
    return model


def _read(value: Any, left: Iterator[int], depth: int) -> Any:
    if depth > DEPTH:
        raise Unknown("the description is nested too deeply")
    if type(value) in SCALARS:
        return value
    if isinstance(value, list):
        return [_read(v, left, depth + 1) for v in value]
    if isinstance(value, dict):
        if set(value) == {"tuple"} and isinstance(value["tuple"], list):
            return tuple(_read(value["tuple"], left, depth))
        if set(value) == {"named"} and value["named"] in NAMED:
            return NAMED[value["named"]]
        if set(value) == {"module", "args", "kwargs"} and isinstance(value["module"], str):
            return _layer(value, left, depth)
    raise Unknown(f"the description holds {value!r:.60}")


def _layer(value: dict[str, Any], left: Iterator[int], depth: int) -> Module:
    kind = getattr(nn, value["module"], None)
    if not (isinstance(kind, type) and issubclass(kind, Module) and kind is not Module):
        raise Unknown(f"{value['module']!r:.60} is no layer of tinynet.nn")
    if next(left, None) is None:
        raise Unknown(f"the description has more than {MODULES:,} layers")
    args, kwargs = value["args"], value["kwargs"]
    if not (isinstance(args, list) and isinstance(kwargs, dict)):
        raise Unknown(f"the arguments of {kind.__name__} are none")
    layer = kind(
        *(_read(a, left, depth + 1) for a in args),
        **{name: _read(v, left, depth + 1) for name, v in kwargs.items() if name != "input_shape"},
    )
    if not isinstance(layer, Module):
        raise Unknown(f"{kind.__name__} is no layer")
    return layer
