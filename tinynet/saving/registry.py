"""What a file may name: tinynet's layers, activations and initialisers, and what `tn.register` adds to them."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from .. import models, nn
from ..nn.activation import ACTIVATIONS
from ..nn.init import INITIALISERS
from ..nn.module import Module

T = TypeVar("T", bound=Callable)

OWN: dict[str, Any] = {}  # the classes and functions of users, by name
NAMED = {f"activation.{name}": f for name, f in ACTIVATIONS.items()} | {
    f"init.{name}": f for name, f in INITIALISERS.items()
}


def register(thing: T) -> T:
    """Let `tn.load(path)` make a class of your own, or use a function of your own, that a file names.

    >>> @tn.register
    ... class Scale(nn.Module):
    ...     def __init__(self, factor): self.factor = factor
    ...     def forward(self, x): return x * self.factor

    The file holds the class's name and the arguments that the object was made with: numbers, strings, None, tuples,
    lists, dicts, layers and registered functions may stand there. `tn.load` then runs its `__init__` and, to infer the
    sizes, its `forward`, so whoever loads a file must have imported the module that registers what it names. A
    function (an activation, an initialiser) is registered likewise.

    Returns: the class or function itself. Raises: TypeError for anything else, and for a lambda, which has no name;
    ValueError where another class or function has the name already.
    """
    if not (isinstance(thing, type) and issubclass(thing, Module)) and not isinstance(thing, FunctionType):
        raise TypeError(f"register: {thing!r:.60} is neither a Module class nor a function")
    name = thing.__name__
    if name == "<lambda>":
        raise TypeError("register: a lambda has no name; define it as a function, def name(x): …")
    before = OWN.get(name, thing)
    if isinstance(thing, type) and _engines(name) not in (None, thing):
        raise ValueError(f"register: tinynet has a layer {name} of its own; choose another name")
    if (before.__module__, before.__qualname__) != (thing.__module__, thing.__qualname__):  # a cell may run again
        raise ValueError(f"register: {before.__module__}.{before.__qualname__} has the name {name} already")
    OWN[name] = thing
    return thing


def class_named(name: str) -> Any:
    """The layer class of this name, tinynet's or a registered one; None where there is none."""
    kind = OWN.get(name)
    return kind if isinstance(kind, type) else _engines(name)


def _engines(name: str) -> Any:
    """tinynet's own class of this name: a layer, or a part of the networks in `models`; None where there is none."""
    kind = getattr(nn, name, None) or getattr(models, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, Module) and kind is not Module else None


def function_named(name: Any) -> Any:
    """The function that a file calls by this name, or None."""
    if not isinstance(name, str):
        return None
    own = OWN.get(name.removeprefix("own.")) if name.startswith("own.") else None
    return own if isinstance(own, FunctionType) else NAMED.get(name)


def name_of(function: Any) -> str | None:
    """What a file calls this function, or None."""
    for name, known in NAMED.items():
        if function is known:
            return name
    own = getattr(function, "__name__", "")
    return f"own.{own}" if isinstance(function, FunctionType) and OWN.get(own) is function else None


def known(model: Module) -> bool:
    """Whether all its modules are of tinynet's own classes, and no function in them is the user's."""
    return all(
        _engines(type(m).__name__) is type(m) and not (isinstance(m, nn.Lambda) and not name_of(m.function))
        for m in model.modules()
    )
