"""Operation by operation: what a network computes, forward and back, at which line, how long it takes."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Part, sweep
from ..backends.geometry import output_size
from ..nn import door, set_fusion
from ..nn.module import Module
from ..ops.loss import softmax_cross_entropy
from ..tensor import Tensor
from .watching import checked, inspecting, operations

HOME = Path(__file__).resolve().parents[1]
ENGINE = [
    str(HOME / name) for name in ("ops", "insight", "tape.py", "autograd.py", "tensor.py", "operands.py", "hints.py")
]
GATES = {"rnn": 1, "lstm": 4, "gru": 3}


class Step(NamedTuple):
    """What one operation did.

    Attributes: back: whether it is its derivative. name: the operation's. layer: the dotted name of the innermost
    module that called it. inputs: the shapes of its arrays; back: of the incoming gradient. shape, dtype, low, high,
    zeros (a share): of the output; back: of the gradients that it made, of all of them. seconds: of the computation
    alone (of a device: until it was told). bytes: of new arrays, 0 for a view. multiply_adds: of convolutions and
    products. where: file:line.
    """

    back: bool
    name: str
    layer: str
    inputs: tuple
    shape: tuple
    dtype: str
    low: float
    high: float
    zeros: float
    seconds: float
    bytes: int
    multiply_adds: int
    where: str


@dataclass
class Trace:
    """What `trace` saw; `print` shows a table. Attributes: steps: in their order."""

    steps: list[Step]

    def __str__(self) -> str:
        head = ("operation", "layer", "output", "dtype", "range", "zeros", "ms", "memory", "multiply-adds", "where")
        lines = [head, *(_cells(step) for step in self.steps)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        left = (0, 1, 2, 3, 9)
        text = [
            "  ".join(
                c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        text = [line.rstrip() for line in text]
        rule, parts = "-" * max(map(len, text)), []
        for back in (False, True):
            steps = [step for step in self.steps if step.back is back]
            parts += [line for line, step in zip(text[1:], self.steps, strict=True) if step.back is back]
            if steps:
                parts += [rule, f"{'back' if back else 'forward'}: {_total(steps)}", ""]
        return "\n".join([text[0], rule, *parts]).rstrip()


def trace(
    model: Module, x: Any, y: Any = None, *, loss: Callable = softmax_cross_entropy, fused: bool = False
) -> Trace:
    """Run the model on x, and back, in eval mode, and note each operation. The model stays as it was.

    Args:
        x: a batch (N, …); a tuple or a dict of arrays for a model of several inputs.
        y: what loss(outputs, y) compares with: then the way back begins at the loss. None: at the outputs, with ones;
            nothing goes back where there are several outputs.
        fused: let neighbours run as one operation, as in training; otherwise each runs by itself.
    Returns: a Trace: `.steps`, and as text a table.
    """
    checked("trace", model)
    watch = Watch(model)
    with inspecting(model, parameters=True), set_fusion(fused), operations(watch.around):
        out = door.call(model, x)
        out = out if y is None else loss(out, y)
        if isinstance(out, Tensor) and out.node is not None:
            for _ in sweep(out.node, out.backend.full(out.shape, 1, out.dtype)):
                pass
    return Trace(watch.steps)


class Watch:
    """Stands around each operation and notes what it did."""

    def __init__(self, model: Module):
        self.names = {id(module): name or type(model).__name__ for name, module in reversed([*model.named_modules()])}
        self.steps: list[Step] = []

    def around(self, name: str, function: Callable, be: Any, inputs: list, options: dict) -> tuple[Any, Any]:
        began = time.perf_counter()
        y, vjp = function(be, *inputs, **options)
        seconds = time.perf_counter() - began
        layer, where = self.place()
        arrays = [a for a in inputs if isinstance(getattr(a, "shape", None), tuple)]
        adds = multiply_adds(name, inputs, y[0] if type(y) is tuple else y)
        self.note(False, name, layer, where, be, arrays, y if type(y) is tuple else (y,), seconds, adds)
        if vjp is None:
            return y, None

        def back(g: Any, need: Any) -> Any:
            began = time.perf_counter()
            parts = vjp(g, need)
            seconds = time.perf_counter() - began
            made = [p.g if isinstance(p, Part) else p for p in parts if hasattr(p, "g") or hasattr(p, "shape")]
            given = [p for p in (g if type(g) is tuple else (g,)) if p is not None]
            products = sum(node is not None for node in need[: _factors(name)])
            self.note(True, name, layer, where, be, given, made, seconds, adds * products)
            return parts

        return y, back

    def place(self) -> tuple[str, str]:
        """(the innermost module's name, file:line) of the code that called the operation."""
        frame, where = sys._getframe(2), ""
        while frame is not None:
            path = frame.f_code.co_filename
            if not where and not path.startswith(tuple(ENGINE)):
                where = f"{shortened(path)}:{frame.f_lineno}"
            if (found := self.names.get(id(frame.f_locals.get("self")))) is not None:
                return found, where
            frame = frame.f_back  # type: ignore[assignment]
        return "", where

    def note(
        self, back: bool, name: str, layer: str, where: str, be: Any, given: list, made: Any, seconds: float, adds: int
    ) -> None:
        spans = [be.bounds(a) for a in given if hasattr(a, "strides")]
        new = [a for a in made if not any(low < be.bounds(a)[1] and be.bounds(a)[0] < high for low, high in spans)]
        hosts = [np.asarray(be.numpy(a)) for a in made]
        shapes = tuple(tuple(a.shape) for a in hosts)
        values = np.concatenate([a.ravel() for a in hosts]) if len(hosts) > 1 else hosts[0] if hosts else np.zeros(0)
        with np.errstate(invalid="ignore"):
            low, high = (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)
        self.steps.append(
            Step(
                back,
                name,
                layer,
                tuple(tuple(a.shape) for a in given),
                shapes[0] if len(shapes) == 1 else shapes,
                str(hosts[0].dtype) if hosts else "",
                low,
                high,
                float((values == 0).mean()) if values.size else 0.0,
                seconds,
                sum(int(a.nbytes) for a in new),
                adds,
                where,
            )
        )


def shortened(path: str) -> str:
    """A file as tinynet/nn/conv.py, or relative to the working folder where it lies there."""
    for base in (HOME.parent, Path.cwd()):
        if Path(path).is_relative_to(base):
            return str(Path(path).relative_to(base))
    return path


def multiply_adds(name: str, inputs: list, y: Any) -> int:
    """The multiplications, each with an addition, of a convolution or a product; 0 for all else."""
    if name in ("conv2d", "conv_relu_pool"):
        x, w = inputs[:2]
        size = output_size(x.shape[1:3], w.shape[:2], inputs[3], inputs[4], inputs[5])
        return x.shape[0] * math.prod(size) * w.size
    if name == "conv_transpose2d":
        return math.prod(inputs[0].shape[:3]) * inputs[1].size
    if name in ("dense", "dense_then", "matmul"):
        return y.size * inputs[0].shape[-1]
    if name == "scaled_dot_product_attention":
        q, k, v = inputs[:3]
        return math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    if name in GATES:
        x, hidden = inputs[0], y.shape[-1]
        return math.prod(x.shape[:2]) * GATES[name] * hidden * (x.shape[-1] + hidden)
    return 0


def _factors(name: str) -> int:
    """How many inputs, from the first, have a gradient that is a product of the same size."""
    return {"scaled_dot_product_attention": 3}.get(name, 2)


def _cells(step: Step) -> tuple[str, ...]:
    shape = (
        "×".join(map(str, step.shape))
        if all(isinstance(n, int) for n in step.shape)
        else ", ".join("×".join(map(str, s)) for s in step.shape)
    )
    return (
        step.name + "′" * step.back,
        step.layer,
        shape,
        step.dtype,
        f"{step.low:.3g} … {step.high:.3g}",
        f"{step.zeros:.0%}",
        f"{1e3 * step.seconds:.3f}",
        f"{step.bytes / 1024:,.1f} KiB",
        f"{step.multiply_adds:,}" if step.multiply_adds else "",
        step.where,
    )


def _total(steps: list[Step]) -> str:
    seconds, memory, adds = (sum(getattr(s, key) for s in steps) for key in ("seconds", "bytes", "multiply_adds"))
    return f"{len(steps)} operations, {1e3 * seconds:.2f} ms, {memory / 1024:,.1f} KiB, {adds:,} multiply-adds"
