"""What a model holds beside its parameters, as it was: to tell whether that changed since, and to put it back.

Followed are attributes of modules, of other objects and of their classes, lists, tuples, dicts, sets, deques, arrays
and tensors, however nested, what functions hold in closures and default arguments, and the globals that they name.
Objects that are not made in Python, or have slots, are strangers (a random generator, a lock): their insides cannot be
compared; among globals they are passed over. Not looked at: parameters whose values all replicas share.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from operator import is_
from pathlib import PurePath
from typing import Any

import numpy as np

from ..nn import Module
from ..nn.module import hooks_of, made_with
from ..optim.optimizer import Optimizer
from ..tensor import Tensor

VALUES = (bool, int, float, complex, str, bytes, np.generic, PurePath)  # equal where their repr is
CONSTANT = (*VALUES, type(None), range, slice, type(...), np.dtype, np.ufunc, types.ModuleType, Enum, Optimizer)
MISSING = range(0)  # the value of a global that is there no more
MADE_IN_C = (types.MethodDescriptorType, types.WrapperDescriptorType)
OWN = (__name__.partition(".")[0], "numpy", "builtins", "types", "typing", "abc")  # their classes keep no state


@dataclass(slots=True)
class _Held:
    """Something that holds others: them now and then, and how to put them back."""

    name: str
    now: Collection
    then: tuple
    restore: Callable[[tuple], None]
    keys: tuple = ()  # of a module's attributes, of which `training` may change

    def change(self) -> str | None:
        now, then = self.now, self.then
        if len(now) == len(then) and all(map(is_, now, then)):  # 25 ns an item
            return None
        if len(now) != len(then):
            return self.name
        for i, (a, b) in enumerate(zip(now, then, strict=True)):
            key = self.keys[i] if self.keys else None
            if not _same(a, b) and key != "training":
                return f"{self.name}.{key}" if key else self.name
        self.then = tuple(now)
        return None


class Globals(Collection):
    """The values of the globals that a function names, as they are at any time; MISSING where there is none."""

    def __init__(self, function: types.FunctionType):
        self.all = function.__globals__
        names = named(function.__code__).difference(("__builtins__", "__name__"))
        self.names = tuple(sorted(name for name in names if name in self.all))

    def __iter__(self) -> Iterator[Any]:
        return iter([self.all.get(name, MISSING) for name in self.names])

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, value: object) -> bool:
        return any(value is v for v in self)

    def put(self, values: tuple) -> None:
        for name, value in zip(self.names, values, strict=True):
            if value is MISSING:
                self.all.pop(name, None)
            else:
                self.all[name] = value


class Snapshot:
    """Of all that `roots`, (name, object) pairs, hold, but for the values of `shared` tensors.

    Attributes:
        strangers: "name, a Type" of each object that cannot be followed.
    """

    def __init__(self, roots: Iterable[tuple[str, Any]], shared: Iterable[Tensor] = ()):
        self.strangers: list[str] = []
        self._held: list[_Held] = []
        self._arrays: list[tuple[str, np.ndarray, bytes]] = []
        self._tensors: list[tuple[str, Tensor, Any, Any]] = []  # name, itself, its data, its node
        self._cells: list[tuple[str, types.CellType, Any]] = []
        self._seen: dict[int, Any] = {id(t.data): t.data for t in shared}  # alive, so that no other has the id
        self._classes: set[int] = set()
        for name, value in roots:
            self._follow(name, value)

    def change(self) -> str | None:
        """The name of something that is not as it was, or None."""
        for held in self._held:
            if (name := held.change()) is not None:
                return name
        for name, tensor, data, node in self._tensors:
            if tensor.data is not data or tensor.node is not node:
                return name
        for name, cell, value in self._cells:
            if not _same(_content(cell), value):
                return name
        for name, array, then in self._arrays:
            if array.tobytes() != then:
                return name
        return None

    def restore(self) -> None:
        """Put everything back, in place."""
        for held in self._held:
            if held.change() is not None:
                held.restore(held.then)
        for _, tensor, data, node in self._tensors:
            tensor.data, tensor.node = data, node
        for _, cell, value in self._cells:
            if _content(cell) is not value:
                cell.cell_contents = value
        for _, array, then in self._arrays:
            if array.tobytes() != then:
                array[...] = np.frombuffer(then, array.dtype).reshape(array.shape)

    # ---- following -------------------------------------------------------------------------------------------
    def _follow(self, name: str, value: Any) -> None:
        kind = type(value)
        if isinstance(value, CONSTANT) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self._tensors.append((name, value, value.data, value.node))
            self._follow(name, value.data)
        elif kind is np.ndarray and not value.dtype.hasobject:
            self._arrays.append((name, value, value.tobytes()))
        elif isinstance(value, type):
            self._class(value)
        elif kind is types.FunctionType:
            if (value.__module__ or "").partition(".")[0] not in OWN:
                self._each(name, [*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__, vars(value)])
                self._globals(name, value)
        elif kind in (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType):
            self._each(name, [value.__self__, getattr(value, "__func__", None)])
        elif kind is functools.partial:
            self._each(name, [value.func, value.args, value.keywords])
        elif kind is types.CellType:
            self._cells.append((name, value, _content(value)))
            self._follow(name, _content(value))
        elif isinstance(value, tuple | frozenset):
            self._each(name, value)
        elif isinstance(value, dict | list | set | deque) or _made_in_python(kind):
            self._object(name, value)
        else:
            self.strangers.append(f"{name}, a {kind.__name__}")

    def _globals(self, name: str, function: types.FunctionType) -> None:
        held, strangers = Globals(function), len(self.strangers)
        if held.names:
            self._held.append(_Held(f"{name}'s globals", held, tuple(held), held.put, tuple(held.names)))
            for key, value in zip(held.names, held, strict=True):
                self._follow(key, value)
            del self.strangers[strangers:]

    def _each(self, name: str, values: Iterable[Any]) -> None:
        for i, value in enumerate(values):
            self._follow(f"{name}[{i}]", value)

    def _object(self, name: str, value: Any) -> None:
        self._class(type(value))
        if isinstance(value, dict):
            self._mapping(name, value, "{}[{!r}]")
        elif isinstance(value, list | set | deque):
            self._held.append(_Held(name, value, tuple(value), functools.partial(_refill, value)))
            self._each(name, value)
        if isinstance(value, Module):
            value.training = value.training  # no longer the class's
            hooks = hooks_of(value)
            self._seen[id(made_with(value))] = made_with(value)
            self._held.append(_Held(f"{name}._hooks", hooks, tuple(hooks), functools.partial(_refill, hooks)))
        if hasattr(value, "__dict__"):
            self._mapping(name, vars(value), "{}.{}", isinstance(value, Module))

    def _mapping(self, name: str, mapping: dict, form: str, modes: bool = False) -> None:
        keys = tuple(mapping)
        values = _Held(
            name,
            mapping.values(),
            tuple(mapping.values()),
            functools.partial(_put, mapping, keys),
            keys if modes else (),
        )
        self._held += values, _Held(name, mapping.keys(), keys, lambda _: values.restore(values.then))
        for key, value in mapping.items():
            self._follow(form.format(name, key), value)

    def _class(self, made: type) -> None:
        """The attributes of a class, and of those that it inherits from."""
        for c in made.__mro__:
            if c.__module__.partition(".")[0] in OWN or not _made_in_python(c) or id(c) in self._classes:
                continue
            self._classes.add(id(c))
            values = vars(c)
            self._held.append(
                _Held(
                    c.__qualname__,
                    values.values(),
                    tuple(values.values()),
                    functools.partial(_set_attributes, c, tuple(values)),
                )
            )
            for key, value in values.items():
                if isinstance(value, types.FunctionType) or not (
                    key.startswith(("__", "_abc_")) or hasattr(type(value), "__get__")
                ):
                    self._follow(f"{c.__qualname__}.{key}", value)


def _made_in_python(kind: type) -> bool:
    """Whether all that objects of a class hold is in their __dict__."""
    classes = (c for c in kind.__mro__ if c not in (object, types.SimpleNamespace) and c.__module__ != "typing")
    return not any(
        isinstance(value, (*MADE_IN_C, types.MemberDescriptorType)) for c in classes for value in vars(c).values()
    )


def named(code: types.CodeType) -> set[str]:
    """The names of globals (and attributes) in code and the functions within."""
    return set(code.co_names).union(*(named(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one, or mean the same whatever may happen to them."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, VALUES) and repr(a) == repr(b)  # 0.0 is not -0.0, and NaN is NaN


def _content(cell: types.CellType) -> Any:
    """What a closure's variable is, None where it has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _refill(container: Any, items: tuple) -> None:
    container.clear()
    (container.update if isinstance(container, set) else container.extend)(items)


def _put(mapping: dict, keys: tuple, values: tuple) -> None:
    mapping.clear()
    mapping.update(zip(keys, values, strict=True))


def _set_attributes(made: type, names: tuple, values: tuple) -> None:
    for name in set(vars(made)).difference(names):
        delattr(made, name)
    for name, value in zip(names, values, strict=True):
        if vars(made).get(name, made) is not value:
            setattr(made, name, value)
