"""What the layers see: their maps, their filters, and what they like best."""

from __future__ import annotations

import numpy as np

from ..autograd import no_grad
from ..nn import Conv1d
from ..nn.module import Module
from .watching import checked, hosts, inspecting, layer_outputs


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
