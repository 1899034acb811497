"""How insight looks into a network: its layers by their hooks, its operations by standing before each of them.

All of tinynet.insight is built on the three contexts here, and each leaves the model, and the engine, as it found them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from ..autograd import OPS, mode
from ..nested import leaves
from ..nn import door, set_fusion
from ..nn.module import Module, restoring_modes
from ..nn.tree import Parameter
from ..ops import random
from ..tensor import Tensor

Around = Callable[[str, Callable, Any, list, dict], tuple[Any, Any]]

_one_at_a_time = threading.RLock()  # what is put back at the end must be what was found


@contextmanager
def inspecting(model: Module, *, parameters: bool = False) -> Iterator[None]:
    """Within this context the model is in eval mode, each layer runs by itself, and operations are recorded, in
    no_grad too; no gradient flows to its parameters, unless `parameters`. Behind it all is as it was, to the object:
    modes, gradients, random state. Other threads wait for their turn; none should train the model meanwhile."""
    with _one_at_a_time, restoring_modes(model), random.restoring(), set_fusion(False):
        model.eval()
        nodes = [(p, p.node) for _, p in model.named_tensors(Parameter)]
        recording, mode.recording = mode.recording, True
        try:
            for p, node in nodes:
                p.node = None
                if parameters and node is not None:
                    p.requires_grad_()  # another leaf, whose gradient has no home at the optimiser's
            yield
        finally:
            mode.recording = recording
            for p, node in nodes:
                p.node = node


def layer_outputs(
    model: Module,
    x: Any,
    *,
    each: Callable[[str, Module, Tensor], None] | None = None,
    ended: Callable[[str], None] | None = None,
) -> tuple[Any, dict[str, Tensor]]:
    """(the model's output, {name: output} of its layers, in the order in which they end).

    A layer that is called again is `name#2`; of several outputs, each is `name.0`, `name.1` (a dict's: by its keys). A
    module whose output is that of a layer inside, as Sequential's, is left out. The model itself is called by its
    class. `each(name, module, output)` is called of all outputs, of such modules, too, and `ended(name)` as a module's
    forward ends.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[[Module, Any, Any], None]:
        def hook(module: Module, _: Any, y: Any) -> None:
            counts[name] = counts.get(name, 0) + 1
            if ended is not None:
                ended(name)
            for part, value in _parts(name if counts[name] == 1 else f"{name}#{counts[name]}", y):
                if id(value) not in seen:
                    seen.add(id(value))
                    found[part] = value
                if each is not None:
                    each(part, module, value)

        return hook

    with ExitStack() as removed:
        hooked: set[Module] = set()
        for name, module in model.named_modules():
            if module not in hooked:
                hooked.add(module)
                removed.callback(module.register_forward_hook(watch(name or type(model).__name__)))
        out = door.call(model, x)
    return out, found


def follow(name: str, module: Module, y: Tensor) -> None:
    """For `each`: gradients flow to all outputs, but no further back than to the first."""
    if y.node is None and y.dtype.kind == "f":
        y.requires_grad_()


def _parts(name: str, y: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an output, with their names."""
    if isinstance(y, Tensor):
        yield name, y
    elif isinstance(y, dict | tuple | list):
        for key, part in y.items() if isinstance(y, dict) else enumerate(y):
            yield from _parts(f"{name}.{key}", part)


@contextmanager
def operations(around: Around) -> Iterator[None]:
    """Within this context, and in this thread, `around(name, function, be, inputs, options)` stands in the place of
    each operation's function: it calls function(be, *inputs, **options) and returns (y, vjp) or what it likes better.

    An operation finds its function in its closure; that is where another one is put, so it costs nothing otherwise.
    """
    thread = threading.get_ident()

    def watched(name: str, function: Callable) -> Callable:
        def run(be: Any, *inputs: Any, **options: Any) -> tuple[Any, Any]:
            if threading.get_ident() != thread:
                return function(be, *inputs, **options)
            return around(name, function, be, list(inputs), options)

        return run

    with _one_at_a_time:
        cells = [_cell(operation) for operation in OPS.values()]
        functions = [cell.cell_contents for cell in cells]
        try:
            for name, cell, function in zip(OPS, cells, functions, strict=True):
                cell.cell_contents = watched(name.strip("_"), function)
            yield
        finally:
            for cell, function in zip(cells, functions, strict=True):
                cell.cell_contents = function


def _cell(operation: Any) -> Any:
    """Where an operation keeps its function."""
    return operation.__closure__[operation.__code__.co_freevars.index("function")]


def hosts(values: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies on the host."""
    return {name: np.array(value.numpy()) for name, value in values.items()}


def checked(name: str, model: Any) -> None:
    """TypeError where `model` is none."""
    if not isinstance(model, Module):
        raise TypeError(f"{name}: the model must be a Module, not {type(model).__name__}; write {name}(model, x)")


def one_array(name: str, x: Any) -> None:
    """TypeError where x is the inputs of a model that takes several."""
    if isinstance(x, dict) or (isinstance(x, tuple) and len(list(leaves(x))) and hasattr(x[0], "shape")):
        raise TypeError(f"{name}: takes one array (N, …) of inputs, not several; wrap the model in one that holds them")


def no_gradient(name: str, dtype: Any) -> TypeError:
    """What to say of a model that reads ids."""
    return TypeError(
        f"{name}: the input holds {dtype} (ids), to which no gradient flows; look at a layer behind the "
        "embedding, as grad_cam(layer=…) does"
    )


def as_leaf(name: str, model: Module, x: Any) -> Tensor:
    """A batch (N, …) as a new Tensor on the model's backend, in its dtype, that wants a gradient.

    Raises TypeError where it is several arrays, or holds no floats.
    """
    one_array(name, x)
    (made,), _ = door.prepared(model, (x,), {})
    if made.dtype.kind != "f":
        raise no_gradient(name, made.dtype)
    if not made.ndim:
        raise ValueError(f"{name}: the input is one number; it must be a batch (N, …)")
    return Tensor(made.data, made.backend).requires_grad_()
