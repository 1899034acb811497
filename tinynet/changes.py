"""Which memory was changed in place, and whether a graph still needs what stood there."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from .tensor import Tensor

clock = itertools.count(1)  # orders nodes and in-place changes
MOST_SPANS = 64  # parts of one array whose changes are told apart


class _Changes:
    """Which memory was changed in place, and when: what `backward` holds its saved arrays against."""

    def __init__(self) -> None:
        self.latest = 0
        # By the array that the memory belongs to: times by (first byte, last byte + 1).
        self.times: dict[int, tuple[weakref.ref, dict[tuple[int, int], int]]] = {}

    def note(self, x: Tensor) -> None:
        owner = x.data
        while hasattr(base := getattr(owner, "base", None), "strides"):
            owner = base
        key = id(owner)
        if key not in self.times:
            self.times[key] = weakref.ref(owner, lambda _: self.times.pop(key, None)), {}
        spans = self.times[key][1]
        if len(spans) == MOST_SPANS:
            low, high = min(a for a, _ in spans), max(b for _, b in spans)
            spans.clear()
            spans[low, high] = self.latest
        self.latest = spans[x.backend.bounds(x.data)] = next(clock)


changed = _Changes()


def refuse_changed(node: Any) -> None:
    """Raise where an array that node's product still needs was changed in place after node was made."""
    spans = [
        span for _, times in list(changed.times.values()) for span, time in list(times.items()) if time > node.time
    ]
    for name, array in _saved("its product", node.vjp):
        if any(overlap(node.be.bounds(array), span) for span in spans):
            raise RuntimeError(
                f"backward: {node.name} saved an array of shape {array.shape} (as {name!r}) that was changed "
                "in place since; go back before you change it, or work on a copy"
            )


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _saved(name: str, value: Any, depth: int = 8) -> Iterator[tuple[str, Any]]:
    """(name, array) of all that a product holds: in its closure, the functions, partial functions and methods there, in
    tuples, lists and dicts; `depth` of them within one another, as a function may hold itself."""
    parts: list[tuple[str, Any]] = []
    if hasattr(value, "strides"):
        yield name, value
    elif isinstance(value, FunctionType):
        cells = map(_contents, value.__closure__ or ())
        parts = [
            *zip(value.__code__.co_freevars, cells, strict=True),
            (name, value.__defaults__),
            (name, value.__kwdefaults__),
        ]
    elif isinstance(value, functools.partial):
        parts = [(name, value.func), (name, value.args), (name, value.keywords)]
    elif isinstance(value, MethodType):
        parts = [(name, value.__func__), (name, getattr(value.__self__, "__dict__", None))]
    elif isinstance(value, tuple | list | dict):
        parts = [(name, part) for part in (value.values() if isinstance(value, dict) else value)]
    for part in parts if depth else ():
        yield from _saved(*part, depth - 1)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that was never assigned
        return None
