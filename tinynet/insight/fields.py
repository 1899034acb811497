"""Receptive fields: which part of the image a value of a layer has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..nn.fields import ALL, START, Field, joined, windowed
from ..nn.module import Module
from ..ops import activation, elementwise
from .watching import as_leaf, checked, inspecting, layer_outputs, operations

POINTWISE = {
    *elementwise.__all__,
    *activation.__all__,
    *("normalize", "batch_norm", "rms_norm", "dropout", "dense", "dense_then"),
}
WHOLE = {"mean", "sum", "max", "min", "norm", "reshape", "group_norm"}  # where pixels, or their axes, go


def receptive_field(model: Module) -> dict[str, Field]:
    """For each layer of a model of images, what one value of its output has seen: found by running it once, on zeros,
    operation by operation, so it holds for modules of your own, too.

    Returns: {layer's dotted name: Seen(size, jump, start)} as in `feature_maps`: (vertical, horizontal) pixels of one
        window, from one to the next, and where the first begins; `.box(row, column)` is that of one value. inf: the
        whole image. None: not known, behind operations that move pixels in other ways.
    Raises: ValueError where the model is not built for images (H, W, C).
    """
    checked("receptive_field", model)
    shape = model.built
    if type(shape) is not tuple or len(shape) != 3:
        raise ValueError(f"receptive_field: the model is built for {shape}; call model.build((H, W, C)) first")
    x = as_leaf("receptive_field", model, np.zeros((1, *shape), np.float32))
    known: dict[int, tuple[Any, Field]] = {id(x.data): (x.data, START)}  # the array is kept, so that its id stays its

    def around(name: str, function: Callable, be: Any, inputs: list, options: dict) -> tuple[Any, Any]:
        y, vjp = function(be, *inputs, **options)
        fields = [known[id(a)][1] for a in inputs if id(a) in known]
        if fields:
            for part in y if type(y) is tuple else (y,):
                known.setdefault(id(part), (part, _behind(name, fields, inputs, options, part)))
        return y, vjp

    with inspecting(model), no_grad(), operations(around):
        found = layer_outputs(model, x)[1]
    return {name: known.get(id(y.data), (None, None))[1] for name, y in found.items()}


def _behind(name: str, fields: list[Field], inputs: list, options: dict, y: Any) -> Field:
    """The field of an operation's output y, from those of its inputs."""
    field, x = fields[0], inputs[0]
    if all(f == ALL for f in fields):
        return ALL
    if name in ("conv2d", "conv_relu_pool"):
        field = windowed(field, inputs[1].shape[:2], inputs[3], inputs[5], _before(inputs[4]))
        return windowed(field, (2, 2), (2, 2)) if name == "conv_relu_pool" and inputs[7] else field
    if name in ("max_pool2d", "avg_pool2d"):
        dilation = inputs[4] if name == "max_pool2d" else (1, 1)
        return windowed(field, inputs[1], inputs[2], dilation, _before(inputs[3]))
    if name == "pad" and y.ndim == 4:
        return windowed(field, (1, 1), (1, 1), before=_before(inputs[1][1:3]))
    if name == "getitem" and y.ndim == 4 and isinstance(index := inputs[1], tuple) and _slices(index):
        rows, columns = (s.indices(n) for s, n in zip((*index, *2 * [slice(None)])[1:3], x.shape[1:3], strict=True))
        return windowed(field, (1, 1), (rows[2], columns[2]), before=(-rows[0], -columns[0]))
    if name in POINTWISE or (name == "concatenate" and inputs[0] in (-1, 3)) or (name == "matmul" and len(fields) == 1):
        return joined(*fields)
    return ALL if name in WHOLE and (y.ndim < 4 or name == "group_norm") else None


def _before(pads: Any) -> tuple[int, int]:
    """What is put above and to the left."""
    return pads[0][0], pads[1][0]


def _slices(index: tuple) -> bool:
    """Whether an index takes every n-th pixel along its axes, in order."""
    return all(isinstance(s, slice) and (s.step or 1) > 0 for s in index)
