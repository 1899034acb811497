"""The picture of a training: curves, what it gets wrong, activations, gradients, filters; for points, the plane."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from .. import nn
from ..insight import Report, feature_maps, filters, report
from ..nn.module import Module
from ..training.evaluate import predict
from .draw import title
from .packed import packed
from .plane import SPAN

TESTED, LOOKED_AT = 512, 64  # samples that are measured at each picture; whose activations are
BINS = 32
GRID, SHOWN = 64, 1.15 * SPAN  # values a side of the plane; the largest coordinate
MISTAKES = 12
MOST_FILTERS = 64


def picture(training: Any, version: int) -> bytes:
    """All that the page shows of a training, as one answer."""
    task, model = training.task, training.model
    x, y = (part[:TESTED] for part in task.test)
    measured = report(model, (x, y), classes=task.classes)
    training.tests.append([training.step, float(measured.loss.mean()), measured.accuracy])
    if len(training.tests) > 1200:
        training.tests = training.tests[::2]
    header = {
        "version": version,
        "plan": asdict(training.plan),
        "running": training.running,
        "trouble": training.trouble,
        "step": training.step,
        "epoch": training.epoch,
        "classes": list(task.classes),
        "parameters": sum(p.size for p in model.parameters()),
        "trained_on": len(task.train[0]),
        "tested": len(x),
    }
    arrays = {"losses": np.reshape(training.losses, (-1, 2)), "tests": np.reshape(training.tests, (-1, 3))}
    arrays["confusion"] = measured.confusion
    layers, counts = _activations(model, x[:LOOKED_AT])
    header |= {"activations": layers, "gradients": []}
    for name, p in model.named_parameters():
        if p.grad is not None and name.endswith("weight"):
            found, counts[f"gradient {name}"] = histogram(p.grad.numpy())
            header["gradients"].append({"name": name, **found})
    arrays |= counts
    if training.plan.images:
        arrays |= _mistakes(measured, x) | _filters(model)
        header["mistakes"] = [
            [int(measured.labels[i]), int(measured.predictions[i])] for i in measured.worst[:MISTAKES]
        ]
    else:
        header |= {"axes": task.axes, "shown": SHOWN}
        arrays |= {"x": task.train[0], "y": task.train[1], "x test": task.test[0], "y test": task.test[1]}
        arrays |= boundary(model)
    return packed(header, arrays)


def _activations(model: Module, x: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A histogram of each layer's outputs."""
    layers, counts, named = [], {}, dict(model.named_modules())
    for name, maps in feature_maps(model, x).items():
        layer = named.get(name.split("#")[0])
        if layer is not None and not isinstance(layer, nn.Flatten):
            found, counts[f"activation {name}"] = histogram(maps)
            layers.append({"name": name, "title": title(layer), **found})
    return layers, counts


def histogram(values: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Where the values lie, and how many of them: counts (BINS,) from `low` to `high`; the share of zeros apart."""
    values = values[np.isfinite(values)].ravel().astype(np.float64)  # whose ranges do not overflow
    zero = float((values == 0).mean()) if len(values) else 0.0
    kept = values[values != 0] if zero < 1 else values
    low, high = (float(kept.min()), float(kept.max())) if len(kept) else (0.0, 0.0)
    counts = np.histogram(kept, BINS, (low, high if high > low else low + 1e-6))[0]
    return {"low": low, "high": high, "zero": zero}, counts


def _mistakes(measured: Report, x: np.ndarray) -> dict[str, np.ndarray]:
    return {"mistakes": x[measured.worst[:MISTAKES]]}


def _filters(model: Module) -> dict[str, np.ndarray]:
    """The weights of the first convolution, (F, KH, KW, C)."""
    first = next((w for w in filters(model).values() if w.ndim == 4), None)
    return {} if first is None else {"filters": first[..., :MOST_FILTERS].transpose(3, 0, 1, 2)}


def boundary(model: Module) -> dict[str, np.ndarray]:
    """The probabilities (GRID, GRID, K) over the plane, rows from the top, and each hidden unit's values there,
    (units, GRID / 2, GRID / 2), as "hidden 0", …."""
    side = ((np.arange(GRID, dtype=np.float32) + 0.5) / GRID * 2 - 1) * SHOWN
    at = np.stack(np.meshgrid(side, -side), axis=-1).reshape(-1, 2)
    found = {"plane": predict(model, at).reshape(GRID, GRID, -1)}
    *hidden, _ = feature_maps(model, at).values()
    for i, values in enumerate(hidden):
        found[f"hidden {i}"] = values.reshape(GRID, GRID, -1)[::2, ::2].transpose(2, 0, 1)
    return found
