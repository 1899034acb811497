"""How a model was made, as JSON, and a model made from that: without pickle, and without running what a file says.

Layers of `tinynet.nn`, and classes that `registry.register` was given, are described by their name and constructor's
arguments; numbers, strings, tuples, lists, dicts, and functions that have names (activations, initialisers, registered
ones) may stand there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from .. import backends, nn
from ..nn.module import Module, Parameter, made_with
from ..nn.tree import BOOKKEEPING
from ..ops import random
from .registry import class_named, function_named, known, name_of

SCALARS = (int, float, str, bool, type(None))
MODULES, PARAMETERS, DEPTH = 10_000, 100_000, 32  # a description of more, or deeper nested, is refused
VALUES = 1 << 24  # of the inputs for which a class of the user's is run: 64 MiB in float32


class Unknown(ValueError):
    """A model that cannot be described in JSON, or a description that makes no model."""


# ---- model to JSON ----------------------------------------------------------------------------------------


def describe(model: Module) -> dict[str, Any]:
    """JSON from which `build` makes the same model. Raises Unknown, with the reason, where it could not."""
    if model.built is not None and not is_shape(model.built):
        raise Unknown("its input is no single array")
    spec = _module(model, set())
    with random.restoring():
        try:
            again = _made(spec)
        except Exception as error:
            raise Unknown(f"its layers cannot be made from their arguments again: {error}") from None
    for (name, ours), (place, other) in zip(model.named_modules(), again.named_modules(), strict=False):
        if name != place:
            raise Unknown(f"its layers are not those that its arguments make: {name or 'it'}")
        if (changed := _difference(ours, other)) is not None:
            raise Unknown(f"{name or 'it'}.{changed} was changed after the layer was made")
    ties = tied(model)
    try:
        with random.restoring():
            build_as(again, model.built, model.built_for, ties)
    except Exception as error:
        raise Unknown(f"it cannot be built as a whole: {error}") from None
    layers, others = ([(name, type(m)) for name, m in part.named_modules()] for part in (model, again))
    if layers != others:
        differ = sorted({name or "it" for name, _ in {*layers} ^ {*others}})
        raise Unknown(f"its layers are not those that its arguments make: {', '.join(differ):.200}")
    shapes, made = ({name: p.shape for name, p in m.named_tensors(Parameter)} for m in (model, again))
    if shapes != made:
        differ = sorted(name for name in shapes.keys() | made.keys() if shapes.get(name) != made.get(name))
        raise Unknown(f"its parameters are not those that its layers make: {', '.join(differ):.200}")
    return spec


def is_shape(built: Any) -> bool:
    """Whether this is the shape of one array."""
    return isinstance(built, tuple) and all(type(n) is int for n in built)


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
    if class_named(kind.__name__) is not kind:
        raise Unknown(f"{kind.__name__} is a class of your own; @tn.register above it lets tn.load make it")
    if id(module) in seen:
        raise Unknown(f"a {kind.__name__} stands in two places")
    seen.add(id(module))
    args, kwargs = made_with(module)
    if isinstance(module, nn.Sequential) and kind is nn.Sequential:  # as it is now: layers may have been added
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
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _value(v, seen) for key, v in value.items()}}
    if (name := name_of(value)) is not None:
        return {"named": name}
    if isinstance(value, partial) and not value.args:
        return {**_value(value.func, seen), "with": {key: _value(v, seen) for key, v in value.keywords.items()}}
    hint = "; @tn.register gives a function one" if callable(value) else ""
    raise Unknown(f"the argument {value!r:.60} has no name in a file{hint}")


def _difference(ours: Module, other: Module) -> str | None:
    """The name of a setting in which two layers differ, None where there is none."""
    if type(ours) is not type(other):
        return "layers"
    for name, value in vars(ours).items():
        then = vars(other).get(name, getattr(type(other), name, value))
        if name not in BOOKKEEPING and _plain(value) and not _same(then, value):
            return name
    return None


def _plain(value: Any) -> bool:
    """Whether an attribute is a setting: a number, a string, a function, or a tuple, a list or a dict of them."""
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    if type(value) is dict:
        return all(map(_plain, value.values()))
    return type(value) in SCALARS or (callable(value) and not isinstance(value, Module))


def _same(a: Any, b: Any) -> bool:
    """Whether two settings are one; functions that `__init__` defines anew each time are."""
    if isinstance(a, tuple | list) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    if type(a) is type(b) is dict:
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        return a.__code__ is b.__code__
    if isinstance(a, partial) and isinstance(b, partial):
        return (a.func, a.args, a.keywords) == (b.func, b.args, b.keywords)
    return bool(a == b)


# ---- JSON to model ------------------------------------------------------------------------------------------


def build(
    spec: Any, shape: tuple, inputs: dict | None, weights: Mapping[str, np.ndarray], ties: Mapping[str, str]
) -> Module:
    """A model by its description, built for inputs of `shape` and filled with those of the weights that fit.

    A description may come from anywhere. Of it only registered classes and functions are run, and memory is taken for
    what `weights` holds only. Raises Unknown, or what the layers raise, where it makes no sense.
    """
    with random.restoring():
        model = _made(spec)
        fill(model, build_as(model, shape, inputs, ties, weights), weights)
    return model


def build_as(
    model: Module,
    shape: tuple | None,
    inputs: dict | None,
    ties: Mapping[str, str],
    weights: Mapping[str, np.ndarray] | None = None,
) -> list[Parameter]:
    """Build a model for the inputs that another was built for: `built` and `built_for` of that.

    Layers of tinynet are built by arithmetic, and nothing is run; a class of the user's is called with zeros. Where
    there are `weights`, no parameter is made that has the shape of none of them. Returns: the new parameters.
    """
    if known(model) and inputs is None:
        return build_unrun(model, shape or (), ties)
    old = {id(p) for _, p in model.named_tensors(Parameter)}
    if shape is not None and model.built is None:
        specs = inputs or {0: (shape, None)}
        if sum(math.prod(size) for size, _ in specs.values()) > VALUES:
            raise ValueError("that is too large to be run unasked; build the model before, model.build(shape)")
        positional = [key for key in specs if isinstance(key, int)]
        shapes = [specs[i][0] if i in specs else None for i in range(max(positional, default=-1) + 1)]
        named = {key: size for key, (size, _) in specs.items() if isinstance(key, str)}
        with _no_larger(model, weights):
            model.build(*shapes, input_dtype={key: dtype for key, (_, dtype) in specs.items()}, **named)
    _tie(model, ties)
    return [p for _, p in model.named_tensors(Parameter) if id(p) not in old]


@contextmanager
def _no_larger(model: Module, weights: Mapping[str, np.ndarray] | None) -> Iterator[None]:
    """Refuse parameters for which there are no weights, before they take memory."""
    if weights is None:
        yield
        return
    shapes, left = {w.shape for w in weights.values()}, iter(range(PARAMETERS))

    def parameter(module: Module, shape: tuple, initialise: Callable) -> Parameter:
        _refuse_many(next(left, None) is None)
        if tuple(shape) not in shapes:
            raise Unknown(f"the file holds no weights of shape {shape}")
        return type(module).parameter(module, shape, initialise)

    modules = model.modules()
    for module in modules:
        module.parameter = partial(parameter, module)
    try:
        yield
    finally:
        for module in modules:
            vars(module).pop("parameter", None)


def _refuse_many(too_many: bool) -> None:
    if too_many:
        raise Unknown(f"it has more than {PARAMETERS:,} parameters")


def build_unrun(model: Module, shape: tuple, ties: Mapping[str, str]) -> list[Parameter]:
    """Build a model of tinynet's layers for inputs of `shape` by arithmetic alone: nothing is run.

    Returns: the new parameters. They are read-only zeros that take no memory, to be replaced by `fill`.
    """
    new: list[Parameter] = []

    def parameter(size: tuple, initialise: Callable) -> Parameter:
        _refuse_many(len(new) == PARAMETERS)
        new.append(Parameter(np.broadcast_to(np.float32(0), size), backends.current()))
        return new[-1]

    if not shape and model.built is None and not model.unbuilt():
        return new  # nothing depends on a size
    layers: list[Any] = list(dict.fromkeys(model.modules()))
    for layer in layers:
        layer.parameter = parameter
    try:
        model.infer(shape)
    finally:
        for layer in layers:
            del layer.parameter
    _tie(model, ties)
    return new


def _tie(model: Module, ties: Mapping[str, str]) -> None:
    """Make parameters that are one in the file one in the model."""
    if not ties:
        return
    own, modules = dict(model.named_tensors(Parameter, aliases=True)), dict(model.named_modules())
    for name, other in ties.items():
        if name not in own or other not in own or own[name].shape != own[other].shape:
            raise Unknown(f"{name:.60} cannot be the same parameter as {other:.60}")
        module, _, attribute = name.rpartition(".")
        if own[name] is not own[other]:
            setattr(modules[module], attribute, own[other])


def fill(model: Module, new: list[Parameter], weights: Mapping[str, np.ndarray]) -> None:
    """Give new parameters memory, the weights' dtype and their values, where there are weights that fit; so floating
    buffers."""
    made = set(map(id, new))
    for name, t in model.named_buffers():
        w = weights.get(name)
        if w is not None and t.dtype.kind == w.dtype.kind == "f" and w.dtype != t.dtype and w.shape == t.shape:
            t.data = t.backend.copy(t.backend.asarray(w))
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
        if set(value) == {"dict"} and isinstance(value["dict"], dict):
            return {key: _read(v, left, depth + 1) for key, v in value["dict"].items()}
        if set(value) == {"named"} and (function := function_named(value["named"])) is not None:
            return function
        if set(value) == {"named"} and str(value["named"]).startswith("own."):
            raise Unknown(
                f"the function {value['named'][4:]:.60} is not registered; import the module that defines it, "
                "with @tn.register"
            )
        if set(value) == {"named", "with"} and isinstance(value["with"], dict):
            settings = {key: _read(v, left, depth + 1) for key, v in value["with"].items()}
            return partial(_read({"named": value["named"]}, left, depth + 1), **settings)
        if set(value) == {"module", "args", "kwargs"} and isinstance(value["module"], str):
            return _layer(value, left, depth)
    raise Unknown(f"the description holds {value!r:.60}")


def _layer(value: dict[str, Any], left: Iterator[int], depth: int) -> Module:
    kind = class_named(value["module"])
    if kind is None:
        raise Unknown(
            f"{value['module']!r:.60} is no layer of tinynet.nn, and no class with @tn.register that was imported"
        )
    if next(left, None) is None:
        raise Unknown(f"the description has more than {MODULES:,} layers")
    args, kwargs = value["args"], value["kwargs"]
    if not (isinstance(args, list) and isinstance(kwargs, dict)):
        raise Unknown(f"the arguments of {kind.__name__} are none")
    layer = kind(
        *(_read(a, left, depth + 1) for a in args),
        **{
            name: _read(v, left, depth + 1)
            for name, v in kwargs.items()
            if name != "input_shape" or kind is not nn.Sequential
        },
    )
    if not isinstance(layer, Module):
        raise Unknown(f"{kind.__name__} is no layer")
    return layer
