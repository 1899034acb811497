"""Residual networks: layers learn what is to be added to their input (He et al., "Deep Residual Learning", 2016)."""

from __future__ import annotations

from .. import ops
from ..nn import BatchNorm, Conv2d, Dense, GlobalAvgPool2d, Module, ReLU, Residual, Sequential
from ..nn.fields import Field, windowed
from ..tensor import Tensor


class PaddedShortcut(Module):
    """x (N, H, W, C) → (N, ⌈H/2⌉, ⌈W/2⌉, channels): every other pixel, and zeros in the channels that are new.

    This is the shortcut without parameters, option A of He et al. 2016, §3.3.
    """

    def __init__(self, channels: int):
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, self.channels - x.shape[-1])))

    def output_size(self, shape: tuple) -> tuple:
        height, width, _ = shape
        return (height + 1) // 2, (width + 1) // 2, self.channels

    def receptive(self, field: Field) -> Field:
        return windowed(field, (1, 1), (2, 2))


def _conv(channels: int, kernel: int = 3, stride: int = 1) -> list[Module]:
    """A convolution that keeps the size but for its stride, and its normalisation."""
    conv = Conv2d(channels, kernel, stride=stride, padding=(kernel - 1) // 2, bias=False, kernel_init="he_normal")
    return [conv, BatchNorm()]


def resnet20(classes: int = 10, *, width: int = 16, input_shape: tuple = (32, 32, 3)) -> Sequential:
    """The network for CIFAR-10 of He et al. 2016, §4.2: three stages of three blocks, with 16, 32 and 64 channels.

    269,722 parameters, 40,551,040 multiply-adds. Args: width: the channels of the first stage.
    """
    layers = [*_conv(width), ReLU()]
    for stage in range(3):
        channels = width * 2**stage
        for block in range(3):
            halves = stage > 0 and block == 0
            body = [*_conv(channels, stride=2 if halves else 1), ReLU(), *_conv(channels)]
            layers += [Residual(*body, shortcut=PaddedShortcut(channels) if halves else None), ReLU()]
    return Sequential(*layers, GlobalAvgPool2d(), Dense(classes), input_shape=input_shape)
