"""Images in other sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..ops.resize import upsampled
from ..tensor import Tensor
from .module import Module


class Upsample(Module):
    """(N, H, W, C) → (N, ⌊H · scale⌋, ⌊W · scale⌋, C).

    Args: scale: a number, or (vertical, horizontal). mode: "nearest" or "bilinear"; align_corners: as ops.resize2d.
    """

    input_dtype = np.float32

    def __init__(self, scale: Any, *, mode: str = "nearest", align_corners: bool = False):
        self.scale, self.mode, self.align_corners = scale, mode, align_corners

    def output_size(self, shape: tuple) -> tuple:
        if len(shape) != 3:
            raise ValueError(f"Upsample: inputs must be (N, H, W, C), got {('N', *shape)}")
        return (*upsampled(shape[:2], self.scale)[0], shape[2])

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample2d(x, self.scale, mode=self.mode, align_corners=self.align_corners)
