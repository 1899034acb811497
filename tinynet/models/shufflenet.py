"""ShuffleNet: 1×1 convolutions in groups, whose channels are shuffled (Zhang et al., "ShuffleNet", 2018)."""

from __future__ import annotations

from ..integers import count
from ..nn import AvgPool2d, Concatenate, Dense, GlobalAvgPool2d, MaxPool2d, Module, ReLU, Residual, Sequential
from ..nn.activation import SameSize
from ..tensor import Tensor
from .parts import conv_norm, conv_norm_relu


class ChannelShuffle(SameSize):
    """x (N, H, W, C) → the same channels in another order: the first of each group, then the second of each, …"""

    def __init__(self, groups: int):
        self.groups = count("ChannelShuffle", "groups", groups, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, c = x.shape
        parts = x.reshape(n, height, width, self.groups, c // self.groups)
        return parts.transpose(0, 1, 2, 4, 3).reshape(x.shape)


def _unit(before: int, after: int, groups: int, stride: int, first: bool) -> Module:
    """Behind a mean of neighbours it adds channels, where it has a stride; otherwise it is added to its input."""
    inner = after // 4
    body = [
        *conv_norm_relu(inner, 1, groups=1 if first else groups),
        ChannelShuffle(groups),
        *conv_norm(inner, stride=stride, groups=inner),
        *conv_norm(after - before if stride > 1 else after, 1, groups=groups),
    ]
    return Concatenate(AvgPool2d(3, 2, padding=1), Sequential(*body)) if stride > 1 else Residual(*body)


def shufflenet_v1(
    classes: int = 1000, *, groups: int = 3, width: float = 1.0, input_shape: tuple = (224, 224, 3)
) -> Sequential:
    """Three stages of 4, 8 and 4 units, for images of any size.

    With three groups 1,865,728 parameters and 137,460,672 multiply-adds.
    Args: groups: 1, 2, 3, 4 or 8, for which the paper states the channels. width: the factor s for them.
    """
    table = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
    if groups not in table:
        raise ValueError(f"shufflenet_v1: groups={groups!r} must be one of {', '.join(map(str, table))}")
    before, channels = 24, int(table[groups] * width)
    layers = [*conv_norm_relu(before, stride=2), MaxPool2d(3, 2, padding=1)]
    for stage, units in enumerate((4, 8, 4)):
        after = channels * 2**stage
        for i in range(units):
            layers += [_unit(before, after, groups, 2 if i == 0 else 1, first=stage == i == 0), ReLU()]
            before = after
    return Sequential(*layers, GlobalAvgPool2d(), Dense(classes), input_shape=input_shape)
