"""DenseNet: each layer sees the outputs of all before it (Huang et al., "Densely Connected Networks", 2017)."""

from __future__ import annotations

from ..nn import AvgPool2d, BatchNorm, Concatenate, Conv2d, Dense, GlobalAvgPool2d, MaxPool2d, Module, ReLU, Sequential
from .parts import conv_norm_relu


def _conv(channels: int, kernel: int) -> list[Module]:
    """Here normalisation and relu come first."""
    padding = (kernel - 1) // 2
    return [BatchNorm(), ReLU(), Conv2d(channels, kernel, padding=padding, bias=False, kernel_init="he_normal")]


def densenet121(classes: int = 1000, *, growth: int = 32, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """Four stages of 6, 12, 24 and 16 layers, each with `growth` channels more, for images of 29×29 at least.

    7,978,856 parameters, 2,834,161,664 multiply-adds.
    """
    channels = 2 * growth
    layers = [*conv_norm_relu(channels, 7, stride=2), MaxPool2d(3, 2, padding=1)]
    for stage, count in enumerate((6, 12, 24, 16)):
        if stage:
            channels //= 2
            layers += [*_conv(channels, 1), AvgPool2d(2)]
        for _ in range(count):
            unchanged = Sequential()
            layers.append(Concatenate(unchanged, Sequential(*_conv(4 * growth, 1), *_conv(growth, 3))))
            channels += growth
    return Sequential(*layers, BatchNorm(), ReLU(), GlobalAvgPool2d(), Dense(classes), input_shape=input_shape)
