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
    cut = _Cut(model, layer)
    with inspecting(model):
        out, found = layer_outputs(model, x, each=cut)
        if cut.maps is None:
            raise ValueError(f"grad_cam: {cut.lacking}; there are {', '.join(found)}")
        gradient, maps = score_gradient("grad_cam", out, target, cut.maps), cut.maps
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


class _Cut:
    """Finds the layer's output as the model runs, and lets the graph begin there: what is before it need not be
    recorded, and no gradient is computed that is not looked at."""

    def __init__(self, model: Module, layer: Module | str | None):
        self.maps: Tensor | None = None
        self.size: tuple | None = None  # of the last convolution's maps
        self.wanted = {layer} if isinstance(layer, str) else None
        self.lacking = "no layer's output is maps (N, H, W, channels), name one by layer="
        if layer is not None:
            names = {id(module): name or type(model).__name__ for name, module in model.named_modules()}
            self.wanted = self.wanted or {names.get(id(layer), repr(layer))}
            self.lacking = f"{next(iter(self.wanted))!r} is no layer whose output is maps (N, …, channels) of floats"

    def __call__(self, name: str, module: Module, y: Tensor) -> None:
        if y.ndim < 3 or y.dtype.kind != "f":
            return
        if self.wanted is None:
            if isinstance(module, CONVOLUTIONS):
                self.size = y.shape[1:-1]
            chosen = y.shape[1:-1] == self.size or (self.size is None and y.ndim == 4 and y.shape[1] * y.shape[2] > 1)
        else:
            chosen = name in self.wanted or name.split("#")[0] in self.wanted
        if chosen:
            y.node = None
            self.maps = y.requires_grad_()
