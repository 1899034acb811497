"""What the layers see: maps, filters, what they attend to and like best, and how they tell samples apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import grad, no_grad
from ..integers import count
from ..nn import Conv1d
from ..nn.module import Module
from ..tensor import Tensor
from .watching import as_leaf, checked, hosts, inspecting, layer_outputs, no_gradient, one_array, operations

BATCH = 256  # samples at once


def feature_maps(model: Module, x: np.ndarray | tuple | dict) -> dict[str, np.ndarray]:
    """What each layer makes of x, in eval mode.

    Args: x: a batch (N, …); a tuple or a dict of arrays for a model of several inputs.
    Returns: {layer's dotted name: output (N, …)}, copies, in the order in which the layers end. A layer that is called
        again is `name#2`; of several outputs each is `name.0`, `name.1`; the model itself is called by its class, where
        its output is not that of a layer inside. Layers that pass on what they are given are left out.
    """
    checked("feature_maps", model)
    with inspecting(model), no_grad():
        return hosts(layer_outputs(model, x)[1])


def filters(model: Module) -> dict[str, np.ndarray]:
    """The weights of the model's convolutions.

    Returns: {layer's dotted name: (KH, KW, C // groups, F)}, (K, C // groups, F) along one axis, copies. Where a layer
        has several, or does not call it `weight`, the parameter's name: `3.depthwise`.
    """
    checked("filters", model)
    named = dict(model.named_modules())
    found = {}
    for name, p in model.named_parameters():
        owner, _, own = name.rpartition(".")
        if p.ndim == 4 or (p.ndim == 3 and isinstance(named.get(owner), Conv1d)):
            found[(owner or type(model).__name__) if own == "weight" else name] = np.array(p.numpy())
    return found


def attention_maps(model: Module, x: np.ndarray | tuple | dict) -> dict[str, np.ndarray]:
    """What each query attends to, in eval mode.

    Args: x: as of `feature_maps`.
    Returns: {layer's dotted name: (N, heads, T, S)}, rows that sum to 1 (0 where a query may attend to nothing); where
        a layer attends several times, `name#2`. By class for the model itself. {} where nothing attends.
    """
    checked("attention_maps", model)
    found: dict[str, np.ndarray] = {}
    waiting: list[np.ndarray] = []

    def around(name: str, function: Callable, be: Any, inputs: list, options: dict) -> tuple[Any, Any]:
        if name == "scaled_dot_product_attention":
            q, k, _, mask = (None if a is None else be.numpy(be.asarray(a)) for a in inputs[:4])
            waiting.append(_attention(q, k, mask, inputs[4]))
        return function(be, *inputs, **options)

    def ended(name: str) -> None:
        for p in waiting:
            times = 1 + sum(key.split("#")[0] == name for key in found)
            found[name if times == 1 else f"{name}#{times}"] = p
        waiting.clear()

    with inspecting(model), no_grad(), operations(around):
        layer_outputs(model, x, ended=ended)
    return found


def _attention(q: Any, k: Any, mask: Any, causal: bool) -> np.ndarray:
    """softmax(q kᵀ / √D), 0 where the mask is False, and, if causal, for later keys."""
    s = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]).astype(q.dtype)
    allowed = np.broadcast_to(True if mask is None else mask, s.shape)
    if causal:
        allowed = allowed & np.tri(*s.shape[-2:], dtype=np.bool_)
    s = np.exp(s - np.max(s, -1, keepdims=True, where=allowed, initial=np.finfo(s.dtype).min), where=allowed, out=s * 0)
    total = s.sum(-1, keepdims=True)
    return np.divide(s, total, out=s, where=total > 0)


def activation_maximization(
    model: Module,
    unit: int,
    *,
    layer: str | None = None,
    steps: int = 128,
    rate: float = 0.05,
    decay: float = 0.01,
    limits: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """An input that a class, or a channel of a layer, likes: uphill from noise (Erhan et al. 2009), with a little decay
    (Simonyan et al. 2013) and smoothed gradients, so that not every pixel goes its own way.

    Args:
        unit: the number of the class or channel. layer: its dotted name, as in `feature_maps`; None: the output.
        steps: so many; rate: each one's length, as a share of the limits' distance; decay: the share of the distance to
            their middle that each step goes back. limits: of the input's values. seed: of the noise.
    Returns: an array of the shape that the model was built for, (H, W, C).
    Raises: ValueError where the model is not built, or there is no such layer or unit; TypeError where it reads ids or
        takes several arrays.
    """
    name = "activation_maximization"
    checked(name, model)
    if not model.built:
        raise ValueError(f"{name}: the model is not built; call model.build((28, 28, 1)) with your input's shape")
    if len(model.built_for or ()) > 1:
        one_array(name, model.built_for)
    if np.dtype(model.input_dtype or np.float32).kind != "f":
        raise no_gradient(name, np.dtype(model.input_dtype))
    low, high = limits
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.45, 0.55, (1, *model.built)) * (high - low) + low
    with inspecting(model):
        for _ in range(count(name, "steps", steps, 1)):
            leaf = as_leaf(name, model, x)
            out, found = layer_outputs(model, leaf)
            values = out if layer is None else found.get(layer)
            if not isinstance(values, Tensor) or not 0 <= unit < values.shape[-1]:
                some = "the output" if layer is None else f"{layer!r} (there are {', '.join(found)})"
                raise ValueError(f"{name}: {some} has no unit {unit}")
            g = _smooth(grad(values[..., unit].sum(), leaf).numpy().astype(np.float64))
            size = np.sqrt(np.square(g).mean())
            x = (
                x + rate * (high - low) * g / size if size else rng.uniform(low, high, x.shape)
            )  # a relu sleeps: shake it
            x = np.clip(x - decay * (x - (low + high) / 2), low, high)
    return x[0].astype(leaf.dtype)


def _smooth(g: np.ndarray) -> np.ndarray:
    """Of images, the mean of each pixel and its neighbours, weighted 1 2 1 both ways."""
    for axis in (1, 2) if g.ndim == 4 else ():
        wide = np.pad(g, [(1, 1) if i == axis else (0, 0) for i in range(4)], mode="edge")
        before, after = (np.take(wide, range(a, a + g.shape[axis]), axis) for a in (0, 2))
        g = (before + 2 * g + after) / 4
    return g


def pca(model: Module, x: np.ndarray, *, layer: str | None = None, components: int = 2) -> np.ndarray:
    """Each sample as a point: the principal components of a layer's outputs (Pearson 1901), the largest first.

    Args: x: a batch (N, …). layer: its dotted name, as in `feature_maps`; None: the last but one.
    Returns: (N, components); a component's sign is such that its largest weight is positive.
    Raises: ValueError where there is no such layer, or it has fewer values, or there are fewer samples.
    """
    checked("pca", model)
    one_array("pca", x)
    rows: list[np.ndarray] = []
    axis = 0  # of the samples; the states of a recurrent layer are (layers, N, hidden)
    for first in range(0, len(x), BATCH):
        with inspecting(model), no_grad():
            found = layer_outputs(model, x[first : first + BATCH])[1]
            name = [*found][max(len(found) - 2, 0)] if layer is None else layer
            if name not in found:
                raise ValueError(f"pca: there is no layer {name!r}; there are {', '.join(found)}")
            y, n = found[name].numpy(), len(x[first : first + BATCH])
            if not rows and y.shape[:1] != (n,):
                axis = 1
            if y.shape[axis : axis + 1] != (n,):
                raise ValueError(f"pca: the output {y.shape} of layer {name!r} has no axis of {n} samples")
            rows.append(np.moveaxis(y, axis, 0).reshape(n, -1))
    values = np.concatenate(rows).astype(np.float64)
    if not 0 < components <= min(values.shape):
        raise ValueError(f"pca: components={components} of {values.shape[0]} samples with {values.shape[1]} values")
    _, _, axes = np.linalg.svd(values - values.mean(0), full_matrices=False)
    axes = axes[:components]
    axes = axes * np.sign(axes[np.arange(components), np.abs(axes).argmax(1)])[:, None]
    return (values - values.mean(0)) @ axes.T
