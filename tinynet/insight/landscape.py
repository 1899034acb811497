"""The loss around the weights that training found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..integers import count
from ..nn.module import Module
from ..training.evaluate import evaluate
from .watching import checked


def loss_plane(
    model: Module,
    data: Any,
    *,
    loss: Callable | None = None,
    span: float = 1.0,
    points: int = 21,
    batch_size: int = 256,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The loss on a plane through the weights, along two random directions in which each filter is as long as the
    model's own (Li et al. 2018, §4); biases and what normalises stay where they are.

    Args: data: arrays (x, y), some hundred samples, or what else `tn.evaluate` takes; loss: by default the one that
        `fit` used. span: the plane reaches so far, 1 is the length of the weights. points: along each side, odd to have
        the weights themselves among them. seed: of the directions.
    Returns: (places, losses): (points,) from -span to span, and (points, points); losses[i, j] is that of the weights +
        places[i] · first + places[j] · second direction.
    """
    checked("loss_plane", model)
    places = np.linspace(-span, span, count("loss_plane", "points", points, 2))
    rng = np.random.default_rng(seed)
    parameters = [p for p in model.parameters() if p.ndim > 1]
    home = [p.data for p in parameters]
    weights = [p.numpy().copy() for p in parameters]
    ways = [(_direction(w, rng), _direction(w, rng)) for w in weights]
    losses = np.empty((len(places), len(places)))
    try:
        for i, a in enumerate(places):
            for j, b in enumerate(places):
                for p, w, (first, second) in zip(parameters, weights, ways, strict=True):
                    p.data = p.backend.asarray((w + a * first + b * second).astype(w.dtype))
                with np.errstate(over="ignore", invalid="ignore"):  # far out, the loss may be infinite
                    losses[i, j] = evaluate(model, data, loss=loss, batch_size=batch_size, metrics=[])["loss"]
    finally:
        for p, array in zip(parameters, home, strict=True):
            p.data = array
    return places, losses


def _direction(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random numbers, each filter (the last axis counts them) as long as that of w."""
    d = rng.standard_normal(w.shape)
    axes = tuple(range(w.ndim - 1))
    norms = [np.sqrt(np.square(v, dtype=np.float64).sum(axes, keepdims=True)) for v in (w, d)]
    return d * norms[0] / np.maximum(norms[1], np.finfo(np.float64).tiny)
