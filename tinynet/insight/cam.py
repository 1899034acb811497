"""Grad-CAM: where in the image a class was seen (Selvaraju et al. 2017)."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..autograd import no_grad
from ..nn import Conv1d, Conv2d, ConvTranspose2d, SeparableConv2d
from ..nn.module import Module
from ..tensor import Tensor
from .attribution import guided_backprop
from .targets import Target, score_gradient
from .watching import checked, inspecting, layer_outputs

CONVOLUTIONS = (Conv1d, Conv2d, ConvTranspose2d, SeparableConv2d)


def grad_cam(
    model: Module,
    x: np.ndarray,
    *,
    layer: Module | str | None = None,
    target: Target = None,
    guided: bool = False,
    upsample: bool = True,
) -> np.ndarray:
    """The sum of a layer's maps, each weighted by the mean of its gradient, where it is positive (eq. 1 and 2).

    Args:
        x: images (N, H, W, C); of other inputs (sequences, several arrays) only `upsample=False` has a meaning.
        layer: whose output is looked at, a module or its dotted name, whose output is (N, …, channels). None: the
            last one whose maps are as large as those of the last convolution (the activation behind it, a block).
        target: a class number, one for each image (N,), None for the likeliest class, or a function of the model's
            outputs that returns (N,) scores.
        guided: times `guided_backprop`: finer, with the input's channels.
    Returns: (N, H, W), not negative, in the score's unit, brought to the images' size by bilinear interpolation; with
        upsample=False (N, h, w) as the layer has it; guided: (N, H, W, C).
    Raises: ValueError where there is no such layer, or the outputs do not depend on it.
    """
    checked("grad_cam", model)
    with inspecting(model):
        out, found = layer_outputs(model, x, learn=True)
        maps = found[_chosen(model, found, layer)]
        if maps.ndim < 3 or maps.dtype.kind != "f":
            raise ValueError(f"grad_cam: the layer's output {maps.shape} must be maps (N, …, channels) of floats")
        gradient = score_gradient("grad_cam", out, target, maps)
    space = tuple(range(1, maps.ndim - 1))
    with no_grad():
        weights = gradient.mean(space, keepdims=True)
        cam = ops.relu((maps.detach() * weights).sum(-1))
        if not upsample and not guided:
            return np.array(cam.numpy())
        if cam.ndim != 3 or np.ndim(x) != 4:
            raise ValueError(f"grad_cam: maps {maps.shape} of an input {np.shape(x)}: pass upsample=False")
        large = ops.resize2d(cam[..., None], np.shape(x)[1:3], mode="bilinear").numpy()
    return large * guided_backprop(model, x, target=target) if guided else np.array(large[..., 0])


def _chosen(model: Module, found: dict[str, Tensor], layer: Module | str | None) -> str:
    """The name of the layer that was asked for, or of the one to take by default."""
    names = dict(model.named_modules())
    if layer is None:
        convolutions = [n for n in found if isinstance(names.get(n.split("#")[0]), CONVOLUTIONS)]
        sizes = [found[n].shape[1:-1] for n in convolutions] or [
            y.shape[1:-1] for y in found.values() if y.ndim == 4 and y.shape[1] * y.shape[2] > 1
        ]
        if not sizes:
            raise ValueError("grad_cam: no layer's output is maps (N, H, W, channels); name one by layer=")
        return next(n for n in reversed(found) if found[n].shape[1:-1] == sizes[-1])
    wanted = {layer} if isinstance(layer, str) else {n or type(model).__name__ for n, m in names.items() if m is layer}
    if hits := [n for n in found if n.split("#")[0] in wanted or n in wanted]:
        return hits[-1]
    shown = next(iter(wanted), repr(layer))
    raise ValueError(f"grad_cam: {shown!r} is no layer with an output of its own; there are {', '.join(found)}")
