"""What a network makes of one picture: probabilities, the maps of its layers, and how one value came about."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import nn, ops
from ..autograd import grad
from ..insight import feature_maps, grad_cam, receptive_field, saliency
from ..nn.module import Module, evaluating, restoring_modes
from ..ops.conv import windows
from ..tensor import tensor
from ..training.evaluate import predict

MOST = 1 << 18  # values of one layer that are sent; of larger layers, the strongest maps
BORDERS = {"zeros": "constant", "edge": "edge", "reflect": "reflect", "circular": "wrap"}  # as np.pad calls them
OVERLAYS = ("cam", "saliency", "toward")


def look(model: Module, x: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The layers to show, and the arrays: each layer's maps (H, W, C) or values (C,) by its name, the probabilities
    (K,) as "probabilities", and "input" (H, W, C).

    Args: x: one picture (1, H, W, C).
    """
    named = dict(model.named_modules())
    layers, arrays = [], {"input": x[0], "probabilities": predict(model, x)[0]}
    for name, maps in feature_maps(model, x).items():
        layer = named.get(name.split("#")[0])
        if layer is None or isinstance(layer, nn.Flatten) or maps.ndim not in (2, 4):
            continue
        y = maps[0]
        shown = max(1, MOST // max(1, math.prod(y.shape[:-1])))
        channels = np.arange(y.shape[-1])
        if shown < len(channels):
            strength = np.abs(y).reshape(-1, y.shape[-1]).mean(0)
            channels = np.sort(np.argsort(-strength, kind="stable")[:shown])
        arrays[name] = y[..., channels]
        layers.append(
            {"name": name, "title": title(layer), "kind": kind(layer), "shape": y.shape}
            | ({"channels": channels.tolist()} if shown < y.shape[-1] else {})
        )
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
    layer, given, out = _at_work(model, x, name)
    found: dict[str, Any] = {"layer": name, "channel": channel, "kind": kind(layer), "title": title(layer)}
    found |= {"activation": activation(layer), "field": _field(model, name), "bias": 0.0}
    y = out[0][..., channel]
    if found["kind"] == "conv":
        described, arrays = _conv(layer, given, channel)
    elif found["kind"] in ("max", "mean"):
        described, arrays = _pool(layer, given[0, ..., channel])
    elif found["kind"] == "dense" and given.ndim == 2:
        described, arrays = _dense(layer, given[0], channel)
        before = [maps.shape[1:] for maps in feature_maps(model, x).values() if maps.ndim == 4]
        described["from"] = next((s for s in (*before[::-1], x.shape[1:]) if math.prod(s) == given.size), None)
    else:
        described, arrays = {}, {}
    return found | described, arrays | {"y": np.atleast_1d(y)}


def _at_work(model: Module, x: np.ndarray, name: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """(the layer of this name, what it was given, what it returned); name#2: at its second call."""
    own, _, again = name.partition("#")
    layer = dict(model.named_modules())[own]
    calls: list[tuple[np.ndarray, np.ndarray]] = []
    remove = layer.register_forward_hook(lambda _, given, out: calls.append((given.numpy(), out.numpy())))
    try:
        with evaluating(model):
            model(x)
    finally:
        remove()
    return layer, *calls[int(again or 1) - 1]


def _field(model: Module, name: str) -> dict[str, Any] | None:
    """The receptive field of a value (i, j): `size` pixels from start + (i, j)·jump on; None where it is all, or not
    known."""
    field = receptive_field(model).get(name)
    return None if field is None or math.inf in field.size else field._asdict()


def _conv(layer: Any, x: np.ndarray, channel: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    described = _windows(layer, x.shape[1:3])
    w = layer.weight.numpy()
    first = channel // (w.shape[3] // layer.groups) * w.shape[2]
    described |= {"first": first, "bias": 0.0 if layer.bias is None else float(layer.bias.numpy()[channel])}
    seen = x[0, ..., first : first + w.shape[2]]
    mode: Any = BORDERS[layer.padding_mode]
    return described, {"x": np.pad(seen, (*described["pads"], (0, 0)), mode), "w": w[..., channel]}


def _pool(layer: Any, x: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    described = _windows(layer, x.shape)
    lowest = np.finfo(np.float32).min if kind(layer) == "max" else 0.0
    return described, {"x": np.pad(x, described["pads"], constant_values=lowest)}


def _dense(layer: Any, x: np.ndarray, channel: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    bias = 0.0 if layer.bias is None else float(layer.bias.numpy()[channel])
    return {"bias": bias}, {"x": x, "w": layer.weight.numpy()[:, channel]}


def _windows(layer: Any, size: tuple) -> dict[str, Any]:
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    pads, _ = windows("play", size, kernel, stride, layer.padding, dilation)
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads}


# ---- overlays -------------------------------------------------------------------------------------------------------


def overlay(model: Module, x: np.ndarray, what: str, target: int) -> dict[str, Any]:
    """{"map": (H, W)} over the picture for a class, one of OVERLAYS; with "toward" what the network would say, too."""
    if what == "cam":
        return {"map": grad_cam(model, x, target=target)[0]}
    if what == "saliency":
        return {"map": saliency(model, x, target=target)[0].max(-1)}
    return toward(model, x, target)


def toward(model: Module, x: np.ndarray, target: int, *, goal: float = 0.6, most: int = 60) -> dict[str, Any]:
    """The small change of a picture (1, H, W, C) in [0, 1] that makes a network see the class `target`.

    Steps up the gradient of the target's log-probability, each of a tenth of the range at the steepest pixel, until
    the probability reaches `goal`. Returns: {"map": (H, W), what is added, "probability", "steps"}.
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
    return {"map": (seen - x)[0].sum(-1), "probability": probability, "steps": steps}


def _blurred(slope: np.ndarray) -> np.ndarray:
    """The means of 3 × 3 pixels: strokes, not dots."""
    padded = np.pad(slope, ((0, 0), (1, 1), (1, 1), (0, 0)))
    high, wide = slope.shape[1:3]
    return sum(padded[:, i : i + high, j : j + wide] for i in range(3) for j in range(3)) / np.float32(9)
