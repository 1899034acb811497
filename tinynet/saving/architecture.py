"""How a model was made, as JSON, and a model made from that: without pickle, and without running what a file says.

Layers of `tinynet.nn` are described by their class and constructor's arguments; numbers, strings, tuples, lists,
and the functions that have names in tinynet (activations, initialisers) may stand there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..nn.activation import ACTIVATIONS
from ..nn.init import INITIALISERS
from ..nn.module import Module, Parameter
from ..ops import random
from ..ops.conv import windows
from ..tensor import Tensor

NAMED = {f"activation.{name}": f for name, f in ACTIVATIONS.items()} | {
         f"init.{name}": f for name, f in INITIALISERS.items()}
SCALARS = (int, float, str, bool, type(None))
MODULES, DEPTH = 10_000, 32             # a description of more, or deeper nested, is refused
VALUES = 1 << 28                        # of one image within the network: 1 GiB in float32
_BOOKKEEPING = {"training", "built", "output_shape", "_arguments", "_hooks"}


class Unknown(ValueError):
    """A model that cannot be described in JSON, or a description that makes no model."""


# ---- model to JSON ----------------------------------------------------------------------------------------


def describe(model: Module) -> dict[str, Any]:
    """JSON from which `build` makes the same model. Raises Unknown, with the reason, where it could not."""
    spec = _module(model, set())
    with _same_randomness():
        try:
            again = _made(spec)
        except Exception as error:
            raise Unknown(f"its layers cannot be made from their arguments again: {error}") from None
    for (name, ours), (_, other) in zip(model.named_modules(), again.named_modules(), strict=False):
        if (changed := _difference(ours, other)) is not None:
            raise Unknown(f"{name or 'it'}.{changed} was changed after the layer was made")
    return spec


def _module(module: Module, seen: set[int]) -> dict[str, Any]:
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind:
        raise Unknown(f"{kind.__name__} is a class of your own")
    if id(module) in seen:
        raise Unknown(f"a {kind.__name__} stands in two places")
    seen.add(id(module))
    args, kwargs = module._arguments
    if isinstance(module, nn.Sequential):           # as it is now: layers may have been added
        args, kwargs = tuple(module), {}
    return {"module": kind.__name__, "args": [_value(a, seen) for a in args],
            "kwargs": {name: _value(v, seen) for name, v in kwargs.items()}}


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
        plain = type(value) in SCALARS or isinstance(value, tuple) or (
            callable(value) and not isinstance(value, Module))
        if plain and name not in _BOOKKEEPING and vars(other).get(name, value) != value:
            return name
    return None


# ---- JSON to model ------------------------------------------------------------------------------------------


def build(spec: Any, shape: Any, weights: Mapping[str, np.ndarray]) -> Module:
    """A model by its description, built for inputs of `shape`, with parameters of the weights' dtypes.

    A description may come from anywhere, so no parameter is made that `weights` does not hold, and no layer is
    run that would fill the memory. Raises Unknown, or what the layers raise, where it makes no sense.
    """
    if not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape) and math.prod(shape) <= VALUES):
        raise Unknown(f"the input shape {shape!r:.60} is no list of sizes")
    with _same_randomness():
        model = _made(spec)
        with _guarded(model, {w.shape for w in weights.values()}):
            model.build(tuple(shape))
    for name, p in model.named_parameters():
        if name in weights and weights[name].dtype.kind == "f" and weights[name].dtype != p.dtype:
            p.requires_grad_(False)
            p.data = p.backend.copy(p.backend.asarray(p.numpy(), weights[name].dtype))
            p.requires_grad_()
    return model


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
    layer = kind(*(_read(a, left, depth + 1) for a in args),
                 **{name: _read(v, left, depth + 1) for name, v in kwargs.items() if name != "input_shape"})
    if not isinstance(layer, Module):
        raise Unknown(f"{kind.__name__} is no layer")
    return layer


@contextmanager
def _guarded(model: Module, shapes: set[tuple]) -> Iterator[None]:
    """While the model is built: make parameters of known shapes only, and nothing larger than VALUES."""
    def parameter(layer: Module, shape: tuple, initialise: Callable) -> Parameter:
        if tuple(shape) not in shapes:
            raise Unknown(f"{type(layer).__name__} asks for weights {tuple(shape)!s:.60}, which the file does not hold")
        return type(layer).parameter(layer, shape, initialise)

    def forward(layer: Any, x: Tensor) -> Tensor:
        size = math.prod(x.shape)
        if hasattr(layer, "kernel_size") and x.ndim == 4:
            pads, (high, wide) = windows(type(layer).__name__, x.shape[1:3], layer.kernel_size, layer.stride,
                                         layer.padding, getattr(layer, "dilation", (1, 1)))
            padded = math.prod(n + sum(pad) for n, pad in zip(x.shape[1:3], pads, strict=True)) * x.shape[3]
            size = max(padded, high * wide * getattr(layer, "out_channels", x.shape[3]))
        elif hasattr(layer, "out_features"):
            size = size // max(x.shape[-1], 1) * layer.out_features
        if size > VALUES:
            raise Unknown(f"{type(layer).__name__} would make {size:,} values of one image")
        return type(layer).forward(layer, x)

    layers: list[Any] = model.modules()
    for layer in layers:
        layer.parameter, layer.forward = partial(parameter, layer), partial(forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.parameter, layer.forward


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Leave the random state as it is: building draws initial weights that nobody will see."""
    steps = dict(random.state.steps)
    try:
        yield
    finally:
        random.state.steps = steps
