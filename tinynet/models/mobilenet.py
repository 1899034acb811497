"""MobileNets: convolutions of each channel by itself, then 1×1 ones, for a fraction of the work."""

from __future__ import annotations

from .. import ops
from ..nn import Dense, Dropout, GlobalAvgPool2d, Lambda, Module, Residual, Sequential
from .parts import conv_norm, conv_norm_relu, normal


def mobilenet_v1(classes: int = 1000, *, width: float = 1.0, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """Thirteen separable convolutions (Howard et al. 2017), for images of any size.

    4,231,976 parameters, 568,740,352 multiply-adds. Args: width: the factor α for the channels of all layers.
    """
    channels = int(32 * width)
    layers = conv_norm_relu(channels, stride=2)
    for count, stride in (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ):
        layers += conv_norm_relu(channels, stride=stride, groups=channels)
        channels = int(count * width)
        layers += conv_norm_relu(channels, 1)
    return Sequential(*layers, GlobalAvgPool2d(), Dense(classes), input_shape=input_shape)


def _conv_norm_relu6(channels: int, kernel: int = 3, **options: int) -> list[Module]:
    return [*conv_norm(channels, kernel, **options), Lambda(ops.relu6)]


def _inverted(before: int, after: int, expansion: int, stride: int) -> Module:
    """More channels by a 1×1 convolution, each by itself through a 3×3 one, and fewer again, without relu; beside a
    shortcut where the shape stays."""
    inner = before * expansion
    layers = _conv_norm_relu6(inner, 1) if expansion > 1 else []
    layers += [*_conv_norm_relu6(inner, stride=stride, groups=inner), *conv_norm(after, 1)]
    return Residual(*layers) if stride == 1 and before == after else Sequential(*layers)


def mobilenet_v2(classes: int = 1000, *, width: float = 1.0, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """Inverted residuals with linear bottlenecks (Sandler et al. 2018), for images of any size.

    3,504,872 parameters, 300,774,272 multiply-adds. Args: width: the factor for the channels of all layers but, where
    it is below 1, the last.
    """
    if not width > 0:
        raise ValueError(f"mobilenet_v2: width={width} must be above 0")

    def scaled(channels: int) -> int:
        """A multiple of 8, and no less than 90%."""
        found = max(8, int(channels * width + 4) // 8 * 8)
        return found if found >= 0.9 * channels * width else found + 8

    before = scaled(32)
    layers = _conv_norm_relu6(before, stride=2)
    for expansion, channels, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(count):
            layers.append(_inverted(before, before := scaled(channels), expansion, stride if i == 0 else 1))
    layers += [*_conv_norm_relu6(scaled(int(1280 * max(1.0, width) / width)), 1), GlobalAvgPool2d(), Dropout(0.2)]
    model = Sequential(*layers, Dense(classes), input_shape=input_shape)
    normal(model[-1].weight, 0.01)
    return model
