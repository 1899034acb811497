"""What a model consists of, as text: `print(model)` and `model.summary()`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from .fields import START
from .tree import Parameter

HEAD = ("name", "layer", "output", "parameters", "multiply-adds", "field", "memory")


def walk(model: Any, method: str, given: Any, before: Callable | None = None) -> list[tuple[Any, Any, Any]]:
    """(module, what it was given, what it returned) for each call of `method`, here and inside, while `model` answers
    `method(given)`: output_size(shape), or receptive(field). `before(module, given)` is called first."""
    calls: list[tuple[Any, Any, Any]] = []

    def called(module: Any, given: Any) -> Any:
        if before is not None:
            before(module, given)
        calls.append((module, given, result := getattr(type(module), method)(module, given)))
        return result

    modules = list(dict.fromkeys(model.modules()))
    for module in modules:
        setattr(module, method, partial(called, module))
    try:
        getattr(model, method)(given)
    finally:
        for module in modules:
            delattr(module, method)
    return calls


def tree(model: Any) -> str:
    """A line for each module, indented, with the shapes that go in and come out where it is built."""
    rows = list(_lines("", model, 0, ()))
    width = max(len(text) for text, _ in rows)
    return "\n".join(f"{text.ljust(width)}  {shapes}".rstrip() for text, shapes in rows)


def _lines(name: str, module: Any, depth: int, above: tuple) -> Any:
    inner = list(module.children())
    text = type(module).__name__ if inner else repr(module)
    sizes = f"{module.built} → {module.output_shape}" if module.built is not None and module.output_shape else ""
    yield "  " * depth + (f"{name}: {text}" if name else text), sizes
    if module in above:
        return
    for key, child in inner:
        yield from _lines(key, child, depth + 1, (*above, module))


def shown(value: Any) -> str:
    """An argument as it is written: functions by their names, without an address."""
    name = getattr(value, "__name__", None)
    return name if name and callable(value) and not isinstance(value, type) else repr(value)


def table(model: Any) -> str:
    """Layers with output shapes, parameters, multiply-adds and memory for one sample, and receptive fields."""
    sizes, fields = _shapes(model), _fields(model)
    rows, adds, outputs = [], 0, 0
    for name, module in model.named_modules():
        own = _own_parameters(module)
        if any(True for _ in module.children()) and not own:
            continue
        given, out = sizes.get(module, (module.built, module.output_shape))
        operations = module.multiply_adds(given) if type(given) is tuple and module.built is not None else 0
        memory = _values(out) * 4
        adds, outputs = adds + operations, outputs + memory
        rows.append(
            (
                name or type(module).__name__,
                repr(module) if not any(True for _ in module.children()) else type(module).__name__,
                "?" if out is None else str(out),
                f"{sum(p.size for p in own):,}",
                f"{operations:,}",
                str(fields.get(module) or "?"),
                _bytes(memory),
            )
        )
    keep = [0, 1, 2, 3, 4, *([5] if fields else []), 6]
    lines = [[row[i] for i in keep] for row in [HEAD, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keep))]
    text = [
        "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    parameters = model.parameters()
    total = sum(p.size for p in parameters)
    trained = sum(p.size for p in parameters if p.requires_grad)
    weights = sum(p.size * p.dtype.itemsize for p in parameters)
    return "\n".join(
        [
            text[0].rstrip(),
            "-" * len(text[0]),
            *text[1:],
            "-" * len(text[0]),
            f"a sample: {adds:,} multiply-adds, {_bytes(outputs)} of outputs; weights: {_bytes(weights)}",
            f"{total:,} parameters, {trained:,} trainable",
        ]
    )


def _shapes(model: Any) -> dict[Any, tuple[Any, Any]]:
    """{module: (input shape, output shape)} by arithmetic, {} where a class of one's own does not say it."""
    try:
        return {module: (given, out) for module, given, out in reversed(walk(model, "output_size", model.built))}
    except (TypeError, ValueError, AttributeError):
        return {}


def _fields(model: Any) -> dict[Any, Any]:
    """{module: its receptive field} of a model of images."""
    if type(model.built) is not tuple or len(model.built) != 3:
        return {}
    return {module: field for module, _, field in reversed(walk(model, "receptive", START))}


def _values(shape: Any) -> int:
    """How many values there are in a shape, or in all of a tuple or dict of them."""
    if isinstance(shape, dict):
        return sum(map(_values, shape.values()))
    if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape):
        return math.prod(shape)
    return sum(map(_values, shape)) if isinstance(shape, tuple) else 0


def _own_parameters(module: Any) -> list[Parameter]:
    """The parameters that are of no module inside."""
    inside = {id(p) for _, child in module.children() for _, p in child.named_tensors(Parameter)}
    return [p for _, p in module.named_tensors(Parameter) if id(p) not in inside]


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} GiB"
