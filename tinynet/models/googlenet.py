"""GoogLeNet: windows of several sizes side by side (Szegedy et al., "Going Deeper with Convolutions", 2015)."""

from __future__ import annotations

from ..nn import Concatenate, Dense, Dropout, GlobalAvgPool2d, MaxPool2d, Module, Sequential
from .parts import conv_norm_relu


def _conv(channels: int, kernel: int = 1, stride: int = 1) -> list[Module]:
    return conv_norm_relu(channels, kernel, stride=stride, eps=1e-3)


def _inception(ones: int, before3: int, threes: int, before5: int, fives: int, pooled: int) -> Module:
    """1×1 convolutions, 3×3 and "5×5" ones behind 1×1 that make the channels fewer, and a pool with 1×1 behind it."""
    return Concatenate(
        Sequential(*_conv(ones)),
        Sequential(*_conv(before3), *_conv(threes, 3)),
        Sequential(*_conv(before5), *_conv(fives, 3)),
        Sequential(MaxPool2d(3, 1, padding=1), *_conv(pooled)),
    )


def googlenet(classes: int = 1000, *, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """Nine inception modules, for images of 31×31 at least, without the auxiliary classifiers.

    6,624,904 parameters, 1,498,376,192 multiply-adds. It is torchvision's: with batch normalisation (Ioffe & Szegedy
    2015), and 3×3 windows for those of 5×5.
    """
    return Sequential(
        *_conv(64, 7, stride=2),
        MaxPool2d(3, 2, ceil_mode=True),
        *_conv(64),
        *_conv(192, 3),
        MaxPool2d(3, 2, ceil_mode=True),
        _inception(64, 96, 128, 16, 32, 32),
        _inception(128, 128, 192, 32, 96, 64),
        MaxPool2d(3, 2, ceil_mode=True),
        _inception(192, 96, 208, 16, 48, 64),
        _inception(160, 112, 224, 24, 64, 64),
        _inception(128, 128, 256, 24, 64, 64),
        _inception(112, 144, 288, 32, 64, 64),
        _inception(256, 160, 320, 32, 128, 128),
        MaxPool2d(2, ceil_mode=True),
        _inception(256, 160, 320, 32, 128, 128),
        _inception(384, 192, 384, 48, 128, 128),
        GlobalAvgPool2d(),
        Dropout(0.2),
        Dense(classes),
        input_shape=input_shape,
    )
