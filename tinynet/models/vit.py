"""The vision transformer: an image is a sentence of patches (Dosovitskiy et al. 2021)."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..integers import count
from ..nn import Conv2d, Dense, Dropout, LayerNorm, Module, Parameter, Sequential, TransformerBlock, init
from ..tensor import Tensor
from .parts import normal


class ViT(Module):
    """Images (N, H, W, C) → logits (N, classes), H and W divisible by `patch`. `vit` makes one.

    Parameters: token (1, 1, width), the step whose output is the class's; positions (1 + patches, width); those of
        `patches`, `blocks`, `norm` and `head`.
    """

    token: Parameter
    positions: Parameter
    input_dtype = np.float32

    def __init__(self, classes: int, width: int, patch: int, *blocks: Module, dropout: float = 0.0):
        self.patch = count("vit", "patch", patch, 1)
        self.patches = Conv2d(width, patch, stride=patch, kernel_init="lecun_normal")
        self.drop = Dropout(dropout)
        self.blocks, self.norm = Sequential(*blocks), LayerNorm()
        self.head = Dense(classes, kernel_init="zeros")

    def create(self, shape: tuple) -> None:
        height, across, width = self._cut(shape)
        self.token = self.parameter((1, 1, width), init.zeros)
        self.positions = self.parameter((1 + height * across, width), init.normal)

    def forward(self, x: Tensor) -> Tensor:
        self._cut(x.shape[1:])
        x = self.patches(x)
        n, height, across, width = x.shape
        token = ops.broadcast_to(self.token, (n, 1, width))
        x = ops.concatenate([token, x.reshape(n, height * across, width)], 1) + self.positions
        return self.head(self.norm(self.blocks(self.drop(x)))[:, 0])

    def output_size(self, shape: tuple) -> tuple:
        height, across, width = self._cut(shape)
        steps = self.norm.output_size(self.blocks.output_size(self.drop.output_size((1 + height * across, width))))
        return self.head.output_size(steps[1:])

    def _cut(self, shape: tuple) -> tuple:
        """(rows of patches, patches a row, width) of images of `shape`. ValueError where patches do not fill them."""
        if len(shape) == 3 and (shape[0] % self.patch or shape[1] % self.patch):
            raise ValueError(f"ViT: the sides of images {shape} must be divisible by patch={self.patch}")
        return self.patches.output_size(shape)


def vit(
    classes: int = 1000,
    *,
    patch: int = 16,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    hidden: int | None = None,
    dropout: float = 0.0,
    input_shape: tuple = (224, 224, 3),
) -> ViT:
    """ViT-Base with patches of 16×16: 86,567,656 parameters, 17,563,828,224 multiply-adds.

    The head begins at 0, the positions with N(0, 0.02²). Args: patch: a patch's side. hidden: the features between the
    dense layers of a block; 4 · width by default.
    """
    layers = count("vit", "layers", layers, 1)
    blocks = (TransformerBlock(heads, hidden or 4 * width, dropout=dropout) for _ in range(layers))
    model = ViT(classes, width, patch, *blocks, dropout=dropout)
    model.build(input_shape)
    normal(model.positions, 0.02)
    return model
