"""What in the input made the score: by the gradient, and by covering parts of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..integers import count, counts
from ..nn.module import Module
from ..tensor import Tensor
from .targets import Target, class_targets, input_gradient, scores
from .watching import as_leaf, checked, inspecting, operations

CHUNK = 64  # samples that are computed at once


def saliency(model: Module, x: np.ndarray, *, target: Target = None) -> np.ndarray:
    """|d score / dx|: by how much the score changes with each value of the input (Simonyan et al. 2013).

    Args: x: a batch (N, …) of floats. target: a class number, one for each sample (N,), None for the likeliest class,
        or a function of the model's outputs that returns (N,) scores.
    Returns: an array of x's shape; the map of an image is the largest over its channels, `.max(-1)`.
    """
    with explained("saliency", model, x, target) as (leaf, target):
        return np.abs(input_gradient("saliency", model, leaf, target).numpy())


def integrated_gradients(
    model: Module, x: np.ndarray, *, target: Target = None, baseline: Any = 0.0, steps: int = 64
) -> np.ndarray:
    """(x - baseline) times the mean gradient on the straight way from the baseline to x (Sundararajan et al. 2017).

    The values of a sample sum to score(x) - score(baseline) (completeness), as closely as `steps` points, those of
    Gauss and Legendre, integrate the gradient.

    Args: x, target: as of `saliency`. baseline: what stands for nothing to be seen, a number or an array that
        broadcasts to x.
    Returns: an array of x's shape.
    """
    nodes, weights = np.polynomial.legendre.leggauss(count("integrated_gradients", "steps", steps, 1))
    with explained("integrated_gradients", model, x, target) as (leaf, target):
        start = np.broadcast_to(np.asarray(baseline, leaf.dtype), leaf.shape)
        way = leaf.numpy() - start
        points = (start + (t + 1) / 2 * way for t in nodes)
        return way * _mean_gradient("integrated_gradients", model, leaf, target, points, weights / 2)


def smooth_grad(
    model: Module, x: np.ndarray, *, target: Target = None, noise: float = 0.15, samples: int = 32, seed: int = 0
) -> np.ndarray:
    """The mean gradient at x with noise: less ragged than the gradient itself (Smilkov et al. 2017).

    Args: x, target: as of `saliency`. noise: its standard deviation, as a share of the input's range. samples: how many
        are drawn, by a generator of `seed`.
    Returns: an array of x's shape, with signs.
    """
    samples, rng = count("smooth_grad", "samples", samples, 1), np.random.default_rng(seed)
    with explained("smooth_grad", model, x, target) as (leaf, target):
        values = leaf.numpy()
        std = noise * float(np.ptp(values))
        points = (values + std * rng.standard_normal(values.shape) for _ in range(samples))
        return _mean_gradient("smooth_grad", model, leaf, target, points, np.full(samples, 1 / samples))


def guided_backprop(model: Module, x: np.ndarray, *, target: Target = None) -> np.ndarray:
    """The gradient, where each relu on the way back lets positive values pass alone (Springenberg et al. 2014).

    Args: x, target: as of `saliency`.
    Returns: an array of x's shape, with signs.
    """

    def around(name: str, function: Callable, be: Any, inputs: list, options: dict) -> tuple[Any, Any]:
        y, vjp = function(be, *inputs, **options)
        relu = name in ("relu", "add_relu", "conv_relu_pool") or (name == "dense" and inputs[3])
        return (y, lambda g, need: vjp(be.maximum(g, 0), need)) if relu else (y, vjp)

    with explained("guided_backprop", model, x, target) as (leaf, target), operations(around):
        return np.array(input_gradient("guided_backprop", model, leaf, target).numpy())


def occlusion(
    model: Module,
    x: np.ndarray,
    *,
    target: Target = None,
    size: int | tuple | None = None,
    stride: int | tuple | None = None,
    value: Any = 0.0,
) -> np.ndarray:
    """By how much the score falls when a part of the input is covered (Zeiler & Fergus 2013).

    Args:
        x: images (N, H, W, C), sequences (N, T, C), rows (N, F). target: as of `saliency`.
        size: of the window that is covered, an int or one for each axis; by default a seventh of the input.
        stride: from one window to the next; by default half a window. value: what is put there.
    Returns: (N, H, W), (N, T), (N, F): the mean over the windows that a place is in; positive where it speaks for the
        class.
    """
    with explained("occlusion", model, x, target) as (leaf, target), no_grad():
        values = leaf.numpy()
        space = values.shape[1:-1] or values.shape[1:]
        whole = scores("occlusion", model(leaf), target).numpy()
        fall, times = np.zeros((len(values), *space), values.dtype), np.zeros(space, values.dtype)
        for window, out in covered(model, values, size, stride, value):
            gain = whole - scores("occlusion", out, target).numpy()
            fall[window] += gain.reshape(-1, *(1 for _ in space))
            times[window[1:]] += 1
        return fall / np.maximum(times, 1)


def covered(model: Module, x: np.ndarray, size: Any, stride: Any, value: Any) -> Iterator[tuple[tuple, Tensor]]:
    """(the window as an index of x, the model's output with that covered) for windows all over x."""
    places = iter(windows(x.shape, size, stride))
    while some := list(itertools.islice(places, max(1, CHUNK // max(len(x), 1)))):
        parts = np.repeat(x[None], len(some), 0)
        for part, window in zip(parts, some, strict=True):
            part[window] = value
        out = model(parts.reshape(-1, *x.shape[1:]))
        yield from ((window, out[i * len(x) : (i + 1) * len(x)]) for i, window in enumerate(some))


def windows(shape: tuple, size: Any = None, stride: Any = None) -> list[tuple]:
    """Windows all over a batch of that shape, as indices; the last one along an axis ends at the border. For the
    defaults see `occlusion`."""
    space = shape[1:-1] or shape[1:]
    sizes = [min(n, s) for n, s in zip(space, _each("size", size, [max(1, n // 7) for n in space]), strict=True)]
    steps = _each("stride", stride, [max(1, s // 2) for s in sizes])
    axes = [
        [slice(a, a + s) for a in (*range(0, n - s, step), n - s)]
        for n, s, step in zip(space, sizes, steps, strict=True)
    ]
    return list(itertools.product([slice(None)], *axes))


def _each(what: str, given: Any, default: list[int]) -> list[int]:
    """A number for each axis."""
    if given is None:
        return default
    values = counts("occlusion", what, given)
    values = values * len(default) if len(values) == 1 else values
    if len(values) != len(default) or min(values) < 1:
        raise ValueError(f"occlusion: {what}={given!r} must be an int > 0, or {len(default)} of them")
    return list(values)


@contextmanager
def explained(name: str, model: Module, x: Any, target: Target) -> Iterator[tuple[Tensor, Any]]:
    """(x as a leaf, the target as the class numbers that the model's answer to x makes it), within `inspecting`."""
    checked(name, model)
    with inspecting(model):
        leaf = as_leaf(name, model, x)
        if not callable(target):
            with no_grad():
                out = model(leaf)
            if isinstance(out, Tensor) and out.ndim == 2:
                target = class_targets(name, out, target)
        yield leaf, target


def _mean_gradient(
    name: str, model: Module, leaf: Tensor, target: Any, points: Iterable[np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Σ weight · (the gradient at a point), points like `leaf`; several points at once, where samples are few."""
    n = len(leaf)
    together = 1 if callable(target) else max(1, CHUNK // max(n, 1))
    total = np.zeros(leaf.shape, leaf.dtype)
    rest, done = iter(points), 0
    while some := list(itertools.islice(rest, together)):
        x = as_leaf(name, model, np.concatenate(some).astype(leaf.dtype, copy=False))
        labels = target if callable(target) or target is None else np.tile(target, len(some))
        g = input_gradient(name, model, x, labels).numpy().reshape(len(some), *leaf.shape)
        total += np.tensordot(weights[done : done + len(some)].astype(leaf.dtype), g, 1)
        done += len(some)
    return total
