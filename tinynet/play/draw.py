"""What a network makes of one picture: probabilities, the maps of its layers, and how one value came about."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import nn, ops
from ..autograd import grad
from ..nn.module import Module, evaluating, restoring_modes
from ..ops.conv import windows
from ..tensor import tensor
from .asked import PlayError

MOST = 1 << 18  # values of one layer that are sent; of larger layers, the strongest maps
UNSHOWN = (nn.Flatten, nn.Dropout, nn.Dropout2d, nn.GaussianNoise)  # they change nothing, or the shape alone


class Call(NamedTuple):
    """One layer at work: arrays with a batch axis of 1."""

    name: str
    layer: Module
    x: np.ndarray
    y: np.ndarray


def calls(model: Module, x: np.ndarray) -> list[Call]:
    """What each layer without layers inside was given and returned, in the order of the calls; dropout off.

    Args: x: one picture (1, H, W, C). Layers of several inputs or outputs are left out.
    """
    found: list[Call] = []

    def note(name: str, layer: Module, given: Any, out: Any) -> None:
        if not isinstance(given, tuple) and hasattr(out, "numpy"):
            again = sum(call.layer is layer for call in found)
            found.append(Call(f"{name}#{again + 1}" if again else name, layer, given.numpy(), out.numpy()))

    leaves = [(name, layer) for name, layer in model.named_modules() if not any(True for _ in layer.children())]
    removers = [
        layer.register_forward_hook(lambda layer, given, out, name=name: note(name, layer, given, out))
        for name, layer in leaves
    ]
    try:
        with evaluating(model):
            model(x)
    finally:
        for remove in removers:
            remove()
    return found


def look(model: Module, x: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The layers to show, and the arrays: each layer's maps (H, W, C) or values (C,) by its name, the probabilities
    (K,) as "probabilities", and "input" (H, W, C)."""
    done = calls(model, x)
    layers, arrays = [], {"input": x[0]}
    for call in done:
        if isinstance(call.layer, UNSHOWN) or call.y.ndim not in (2, 4):
            continue
        y = call.y[0]
        shown = max(1, MOST // max(1, math.prod(y.shape[:-1])))
        channels = np.arange(y.shape[-1])
        if shown < len(channels):
            strength = np.abs(y).reshape(-1, y.shape[-1]).mean(0)
            channels = np.sort(np.argsort(-strength, kind="stable")[:shown])
        arrays[call.name] = y[..., channels]
        layers.append(
            {"name": call.name, "title": title(call.layer), "kind": kind(call.layer), "shape": list(y.shape)}
            | ({"channels": channels.tolist()} if shown < y.shape[-1] else {})
        )
    logits = done[-1].y[0] if done else np.zeros(0)
    arrays["probabilities"] = ops.softmax(tensor(logits.astype(np.float32))).numpy()
    return layers, arrays


def kind(layer: Module) -> str:
    """conv, max, mean, dense, or another layer's class."""
    kinds = {nn.Conv2d: "conv", nn.MaxPool2d: "max", nn.AvgPool2d: "mean", nn.Dense: "dense"}
    return next((word for cls, word in kinds.items() if isinstance(layer, cls)), type(layer).__name__)


def title(layer: Module) -> str:
    """What a layer does, in a few words: Convolution 3×3, relu."""
    words = {"conv": "Convolution", "max": "Maximum", "mean": "Mean", "dense": "Dense"}
    found = words.get(kind(layer), kind(layer))
    if (kernel := getattr(layer, "kernel_size", None)) is not None:
        found += f" {kernel[0]}×{kernel[1]}"
    return f"{found}, {name}" if (name := activation(layer)) else found


def activation(layer: Module) -> str:
    """The name of the function that a layer applies at its end, "" for none."""
    function = getattr(layer, "activation", None)
    return "" if function is None else getattr(function, "__name__", type(function).__name__)


# ---- one value ------------------------------------------------------------------------------------------------------


def unit(model: Module, x: np.ndarray, name: str, channel: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """How the values of one map came about: what the layer was given, its weights and what it returned.

    Returns: a description, and arrays. For a convolution: "x" (H, W, C) with its padding, "w" (KH, KW, C), "y"; for a
    pool: "x" (H, W), "y"; for a dense layer: "x" (n,), "w" (n,), "y" (1,); else "y" alone.
    Raises: KeyError for a layer that is not there, IndexError for such a channel.
    """
    done = calls(model, x)
    at = next(i for i, call in enumerate(done) if call.name == name)
    call = done[at]
    what = kind(call.layer)
    y = call.y[0][..., channel]
    found: dict[str, Any] = {"layer": name, "channel": channel, "kind": what, "title": title(call.layer)}
    found |= {"activation": activation(call.layer), "field": _field(done[: at + 1]), "bias": 0.0}
    if what == "conv":
        described, arrays = _conv(call, channel)
    elif what in ("max", "mean"):
        described, arrays = _pool(call, channel)
    elif what == "dense" and call.x.ndim == 2:
        layer: Any = call.layer
        bias = 0.0 if layer.bias is None else float(layer.bias.numpy()[channel])
        before = next((c.x.shape[1:] for c in reversed(done[:at]) if isinstance(c.layer, nn.Flatten)), None)
        flattened = before is not None and math.prod(before) == call.x.size
        described = {"bias": bias, "from": list(before) if before and flattened else None}
        arrays = {"x": call.x[0], "w": layer.weight.numpy()[:, channel]}
    else:
        described, arrays = {}, {}
    return found | described, arrays | {"y": np.atleast_1d(y)}


def _conv(call: Call, channel: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    layer: Any = call.layer
    pads, _ = windows("play", call.x.shape[1:3], layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    w = layer.weight.numpy()
    first = channel // (w.shape[3] // layer.groups) * w.shape[2]
    x = call.x[0, ..., first : first + w.shape[2]]
    mode = {"zeros": "constant", "edge": "edge", "reflect": "reflect", "circular": "wrap"}[layer.padding_mode]
    described = {
        "stride": layer.stride,
        "dilation": layer.dilation,
        "pads": pads,
        "first": first,
        "bias": 0.0 if layer.bias is None else float(layer.bias.numpy()[channel]),
    }
    return described, {"x": np.pad(x, (*pads, (0, 0)), mode), "w": w[..., channel]}  # type: ignore[call-overload]


def _pool(call: Call, channel: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    layer: Any = call.layer
    x = call.x[0, ..., channel]
    pads, _ = windows("play", x.shape, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    value = -np.inf if kind(layer) == "max" else 0.0
    padded = np.maximum(np.pad(x, pads, constant_values=value), np.finfo(np.float32).min)
    described = {"stride": layer.stride, "dilation": layer.dilation, "pads": pads, "kernel": layer.kernel_size}
    return described, {"x": padded}


def _field(done: list[Call]) -> dict[str, Any] | None:
    """The receptive field of a value (i, j) behind these layers: rows from start + i·jump, `size` of them."""
    start, size, jump = np.zeros(2), np.ones(2), np.ones(2)
    for call in done:
        if kind(call.layer) in ("conv", "max", "mean"):
            layer: Any = call.layer
            pads, _ = windows("play", call.x.shape[1:3], layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            start -= np.array([pads[0][0], pads[1][0]]) * jump
            size += (np.array(layer.kernel_size) - 1) * layer.dilation * jump
            jump = jump * layer.stride
        elif call.y.ndim != 4:
            return None
    return {"start": start.tolist(), "size": size.tolist(), "jump": jump.tolist()}


# ---- overlays -------------------------------------------------------------------------------------------------------


def overlay(model: Module, x: np.ndarray, what: str, target: int) -> dict[str, Any]:
    """{"map": (H, W)} over the picture: "saliency" or "toward", for a class; with "toward" what it says, too."""
    if what == "toward":
        found = toward(model, x, target)
        return {"map": found["change"].sum(-1), "probability": found["probability"], "steps": found["steps"]}
    if what == "saliency":
        with restoring_modes(model):
            model.eval()
            given = tensor(x, requires_grad=True)
            return {"map": grad(model(given)[0, target], given).numpy()[0].sum(-1)}
    raise PlayError("what must be saliency or toward")


# ---- what would make it a 7? ----------------------------------------------------------------------------------------


def toward(model: Module, x: np.ndarray, target: int, *, goal: float = 0.6, most: int = 60) -> dict[str, Any]:
    """The small change of a picture (1, H, W, C) in [0, 1] that makes a network see the class `target`.

    Steps up the gradient of the target's log-probability, each of a tenth of the range at the steepest pixel, until
    the probability reaches `goal`. Returns: {"change": (H, W, C), "probability", "steps"}.
    """
    seen, steps, probability = x.astype(np.float32), 0, 0.0
    with restoring_modes(model):
        model.eval()
        for steps in range(most + 1):
            given = tensor(seen, requires_grad=True)
            score = ops.log_softmax(model(given))[0, target]
            probability = math.exp(float(score.item()))
            if probability >= goal or steps == most:
                break
            slope = grad(score, given).numpy()
            free = np.where(slope > 0, seen < 1, seen > 0)  # a pixel that is full takes no more ink
            slope = _blurred(slope * free)
            seen = np.clip(seen + 0.1 * slope / max(float(np.abs(slope).max()), 1e-12), 0, 1)
    return {"change": (seen - x)[0], "probability": probability, "steps": steps}


def _blurred(slope: np.ndarray) -> np.ndarray:
    """The means of 3 × 3 pixels: strokes, not dots."""
    padded = np.pad(slope, ((0, 0), (1, 1), (1, 1), (0, 0)))
    high, wide = slope.shape[1:3]
    return sum(padded[:, i : i + high, j : j + wide] for i in range(3) for j in range(3)) / np.float32(9)
