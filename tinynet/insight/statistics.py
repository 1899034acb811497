"""How signals fare on their way through the layers, and gradients on their way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import grad
from ..nn.module import Module, Parameter
from ..ops.loss import softmax_cross_entropy
from .watching import checked, follow, inspecting, layer_outputs

NEAR = 0.01  # of its range: so near to its end a sigmoid or tanh is called saturated
BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0)}


def activation_statistics(model: Module, x: Any) -> dict[str, dict[str, float]]:
    """What the outputs of each layer are like, in eval mode.

    Args: x: a batch (N, …), of some hundred samples; a tuple or a dict of arrays for a model of several inputs.
    Returns: {layer's dotted name: {mean, std, min, max, zeros: the share of values that are 0; dead: the share of
        channels (features) that are 0 for all samples and places, as a relu that has died; saturated: the share of a
        sigmoid's or tanh's values within 1% of its range from an end, 0 for others}}, in the order of `feature_maps`.
    """
    checked("activation_statistics", model)
    with inspecting(model):
        found = layer_outputs(model, x, each=follow)[1]
        return {name: _described(y.numpy(), y.node.name if y.node else "") for name, y in found.items() if y.size}


def _described(y: np.ndarray, operation: str) -> dict[str, float]:
    """The statistics of one output that `operation` made."""
    low, high = BOUNDS.get(operation, (-np.inf, np.inf))
    edge = NEAR * (high - low) if operation in BOUNDS else 0.0
    zero = y == 0
    return {
        "mean": float(y.mean(dtype=np.float64)),
        "std": float(y.std(dtype=np.float64)),
        "min": float(y.min()),
        "max": float(y.max()),
        "zeros": float(zero.mean()),
        "dead": float(zero.reshape(-1, y.shape[-1]).all(0).mean()) if y.ndim else 0.0,
        "saturated": float(((y < low + edge) | (y > high - edge)).mean()) if operation in BOUNDS else 0.0,
    }


def gradient_statistics(
    model: Module, x: Any, y: Any, *, loss: Callable = softmax_cross_entropy
) -> dict[str, dict[str, float]]:
    """What the gradients of the loss of one batch are like at each layer, in eval mode.

    Args: x: as of `activation_statistics`. y: what `loss(outputs, y)` compares with. loss: a mean over the batch.
    Returns: {layer's dotted name: {output: the root of the mean square of d loss / d output; weights: of d loss / d
        parameters of the layer itself, 0 where it has none; zeros: the share of the output's gradients that are 0;
        share: `output` beside the largest of all layers: where it falls by orders of magnitude towards the input, the
        gradient vanishes; ratio: the norm of the parameters' gradient beside that of the parameters}}.
    """
    checked("gradient_statistics", model)
    with inspecting(model, parameters=True):
        out, found = layer_outputs(model, x, each=follow)
        names = {name.split("#")[0]: name for name in found}
        own = {name: _own(module) for name, module in model.named_modules() if name in names}
        learnt = list(dict.fromkeys(p for parameters in own.values() for p in parameters))
        reached = [y for y in found.values() if y.node is not None]
        given = grad(loss(out, y), [*reached, *learnt])
    values = {id(x): g.numpy() for x, g in zip([*reached, *learnt], given, strict=True)}
    rows = {}
    for name, out in found.items():
        g, parameters = values.get(id(out)), own.get(name, [])
        weights = np.concatenate([np.zeros(1), *(values[id(p)].ravel() for p in parameters)])[1:]
        size = np.sqrt(sum(float(np.square(p.numpy(), dtype=np.float64).sum()) for p in parameters))
        rows[name] = {
            "output": _rms(g),
            "weights": _rms(weights),
            "zeros": 1.0 if g is None else float((g == 0).mean()),
            "ratio": float(np.linalg.norm(weights) / size) if size else 0.0,
        }
    largest = max((row["output"] for row in rows.values()), default=0.0)
    return {name: row | {"share": row["output"] / largest if largest else 0.0} for name, row in rows.items()}


def _rms(g: np.ndarray | None) -> float:
    return 0.0 if g is None or not g.size else float(np.sqrt(np.square(g, dtype=np.float64).mean()))


def _own(module: Module) -> list[Parameter]:
    """The trainable parameters that are of no module inside."""
    inside = {id(p) for _, child in module.children() for _, p in child.named_tensors(Parameter)}
    return [p for _, p in module.named_tensors(Parameter) if p.requires_grad and id(p) not in inside]
