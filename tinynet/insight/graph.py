"""A network as a graph of its layers, or a tensor's as one of operations: as DOT (Graphviz's language) and as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..console import plain
from ..nn import door
from ..nn.module import Module, Parameter
from ..saving.checkpoint import replacing
from ..tensor import Tensor
from . import drawing
from .tracing import Watch
from .watching import inspecting, layer_outputs, operations

INPUT = "input"


@dataclass
class Box:
    """A node: what stands in it, in two lines, what shows under the mouse, and which boxes it needs."""

    title: str
    detail: str = ""
    tip: str = ""
    kind: str = ""
    folded: bool = False
    needs: list[str] = field(default_factory=list)


def draw_graph(
    y_or_model: Tensor | Module, path: str | Path, *, depth: int = 1, open: Iterable[str] = (), x: Any = None
) -> None:
    """Write a graph as a file, .svg or .dot: of a model's layers, or of the operations that made a tensor.

    Args:
        y_or_model: a Module, which is run once, in eval mode; or a Tensor that has a graph, which is not used up.
        depth: of a model: modules so far down are shown as one box (its tip lists what is inside); 0: all are opened.
        open: dotted names of modules whose inside is shown anyway.
        x: what the model is run on; by default zeros of the shape it was built for.
    Raises: ValueError for another kind of file, a tensor without a graph, a model that is not built, unknown names.
    """
    place = Path(path)
    if place.suffix not in (".svg", ".dot"):
        raise ValueError(f"draw_graph: {place.name!r} must end in .svg or .dot")
    if isinstance(y_or_model, Module):
        boxes = boxes_of_model(y_or_model, depth=depth, opened=set(open), x=x)
    elif isinstance(y_or_model, Tensor) and y_or_model.node is not None:
        boxes = _of_tensor(y_or_model)
    else:
        raise ValueError("draw_graph: takes a Module, or a Tensor that was computed from one that requires a gradient")
    text = dot(boxes) if place.suffix == ".dot" else drawing.svg(boxes)
    with replacing(place) as temporary:
        temporary.write_text(text, encoding="utf-8")


def dot(boxes: dict[str, Box]) -> str:
    """The graph in Graphviz's language."""
    quoted = {key: f"n{i}" for i, key in enumerate(boxes)}
    lines = [
        "digraph network {",
        '  node [shape=box style="rounded,filled" fillcolor=white fontname=Helvetica fontsize=10]',
    ]
    for key, box in boxes.items():
        label = "\\n".join(_escaped(line) for line in (box.title, box.detail) if line)
        extra = " peripheries=2" if box.folded else ""
        lines.append(f'  {quoted[key]} [label="{label}" tooltip="{_escaped(box.tip)}"{extra}]')
    lines += [f"  {quoted[need]} -> {quoted[key]}" for key, box in boxes.items() for need in box.needs]
    return "\n".join([*lines, "}", ""])


def _escaped(text: str) -> str:
    return plain(text).replace("\\", "\\\\").replace('"', '\\"')


# ---- of a tensor ------------------------------------------------------------------------------------------------


def _of_tensor(y: Tensor) -> dict[str, Box]:
    nodes, waiting = {y.node}, [y.node]
    while waiting:
        for parent in waiting.pop().parents:
            if parent is not None and parent not in nodes:
                nodes.add(parent)
                waiting.append(parent)
    return {
        str(node.time): Box(
            node.name,
            times(node.shape),
            str(node.dtype),
            INPUT if node.is_leaf else node.name,
            needs=list(dict.fromkeys(str(p.time) for p in node.parents if p is not None)),
        )
        for node in sorted(nodes, key=lambda node: node.time)
    }


# ---- of a model -------------------------------------------------------------------------------------------------


def boxes_of_model(model: Module, *, depth: int, opened: Set[str] = frozenset(), x: Any = None) -> dict[str, Box]:
    """A box for each layer, for each folded module, and for each operation of a module that is opened."""
    modules = dict(model.named_modules())
    if unknown := opened - modules.keys():
        raise ValueError(f"draw_graph: there is no module {', '.join(sorted(unknown))}")
    watch, calls = Watch(model), dict.fromkeys(modules, 0)
    boxes: dict[str, Box] = {}
    made: dict[int, tuple[Any, str]] = {}  # the array, kept so that its id stays its own, and the box it comes from

    def ended(name: str) -> None:
        if name in calls:
            calls[name] += 1

    def around(name: str, function: Callable, be: Any, inputs: list, options: dict) -> tuple[Any, Any]:
        y, vjp = function(be, *inputs, **options)
        layer, where = watch.place()
        unit = _unit(layer, modules, depth, opened)
        key = f"{layer} {len(boxes)}" if unit is None else f"{unit}#{calls[unit]}"
        if key not in boxes:
            boxes[key] = Box(name, "", where, name) if unit is None else _box(unit, modules[unit])
        for part in y if type(y) is tuple else (y,):
            made[id(part)] = part, key
            boxes[key].detail = times(part.shape[1:])
        sources = dict.fromkeys(made[id(a)][1] for a in inputs if id(a) in made)
        boxes[key].needs += [s for s in sources if s != key and s not in boxes[key].needs]
        return y, vjp

    with inspecting(model), no_grad():
        inputs = _inputs(model, x)
        for name, value in inputs.items() if isinstance(inputs, dict) else enumerate(inputs):
            label = INPUT if len(inputs) == 1 else f"{INPUT} {name}"
            boxes[label] = Box(label, times(value.shape[1:]), str(value.dtype), INPUT)
            made[id(value.data)] = value.data, label
        with operations(around):
            layer_outputs(model, inputs, ended=ended)
    return boxes


def _inputs(model: Module, x: Any) -> Any:
    """The model's inputs as a tuple or a dict of tensors: x's, or zeros of the shapes that it was built for."""
    if x is not None:
        places = () if isinstance(x, dict) else x if isinstance(x, tuple) else (x,)
        given, named = door.prepared(model, places, x if isinstance(x, dict) else {})
        return named or given
    if not isinstance(model.built, tuple):
        raise ValueError("draw_graph: the model is not built; call model.build((28, 28, 1)), or pass x=")
    shapes = {key: shape for key, (shape, _) in (model.built_for or {0: (model.built, "")}).items()}
    dtypes = {key: np.dtype(dtype) for key, (_, dtype) in (model.built_for or {}).items()}
    named = {key: shape for key, shape in shapes.items() if isinstance(key, str)}
    zeros, called = door.zeros(model, tuple(s for key, s in shapes.items() if key not in named), named, dtypes)
    if zeros and called:
        raise ValueError("draw_graph: the model has inputs by place and by name; wrap it in one that has not")
    home = next((p.backend for _, p in model.named_tensors(Parameter)), None)
    moved = {key: x if home is None else x.to(home) for key, x in (called or dict(enumerate(zeros))).items()}
    return moved if called else tuple(moved.values())


def _unit(layer: str, modules: dict[str, Module], depth: int, opened: Set[str]) -> str | None:
    """The module in whose box an operation of `layer` stands; None where all around it are opened."""
    parts = layer.split(".")
    above = [name for i in range(len(parts)) if (name := ".".join(parts[: i + 1])) in modules]
    for level, name in enumerate(above, 1):
        leaf = not any(True for _ in modules[name].children())
        if leaf or (depth and level >= depth and not any(o == name or o.startswith(name + ".") for o in opened)):
            return name
    return None


def _box(name: str, module: Module) -> Box:
    kind = type(module).__name__
    inside = [f"{key}: {m!r}" for key, m in module.named_modules() if key and not any(True for _ in m.children())]
    if inside:
        return Box(
            f"{name} {kind}, {len(inside)} layer{'s' * (len(inside) > 1)}", "", "\n".join(inside), kind, folded=True
        )
    return Box(f"{name} {kind}", "", repr(module), kind)


def times(shape: Any) -> str:
    """28×28×1"""
    return "×".join(map(str, shape))
