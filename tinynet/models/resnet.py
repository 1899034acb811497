"""Residual networks: layers learn what is to be added to their input (He et al., "Deep Residual Learning", 2016)."""

from __future__ import annotations

from .. import ops
from ..nn import Dense, GlobalAvgPool2d, MaxPool2d, Module, ReLU, Residual, Sequential
from ..nn.fields import Field, windowed
from ..tensor import Tensor
from .parts import conv_norm, conv_norm_relu


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


def _basic(channels: int, stride: int) -> list[Module]:
    """Two convolutions."""
    return [*conv_norm_relu(channels, stride=stride), *conv_norm(channels)]


def _bottleneck(channels: int, stride: int) -> list[Module]:
    """A convolution between two of 1×1, of which one makes the channels fewer, the other four times as many."""
    return [*conv_norm_relu(channels, 1), *conv_norm_relu(channels, stride=stride), *conv_norm(4 * channels, 1)]


def _resnet(counts: tuple, bottleneck: bool, classes: int, width: int, input_shape: tuple) -> Sequential:
    """Four stages of so many blocks. The first block of a stage halves the image, but for the first stage's, and has a
    1×1 convolution for its shortcut where the channels change (option B)."""
    layers = [*conv_norm_relu(width, 7, stride=2), MaxPool2d(3, 2, padding=1)]
    for stage, count in enumerate(counts):
        channels = width * 2**stage
        for i in range(count):
            stride = 2 if stage and i == 0 else 1
            shortcut = None
            if i == 0 and (stage or bottleneck):
                shortcut = Sequential(*conv_norm(4 * channels if bottleneck else channels, 1, stride=stride))
            body = (_bottleneck if bottleneck else _basic)(channels, stride)
            layers += [Residual(*body, shortcut=shortcut), ReLU()]
    return Sequential(*layers, GlobalAvgPool2d(), Dense(classes), input_shape=input_shape)


def resnet18(classes: int = 1000, *, width: int = 64, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """Four stages of two blocks of two convolutions, from 64 to 512 channels, for images of any size.

    11,689,512 parameters, 1,814,073,344 multiply-adds. Args: width: the channels of the first stage.
    """
    return _resnet((2, 2, 2, 2), False, classes, width, input_shape)


def resnet34(classes: int = 1000, *, width: int = 64, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """`resnet18` with 3, 4, 6 and 3 blocks: 21,797,672 parameters, 3,663,761,408 multiply-adds."""
    return _resnet((3, 4, 6, 3), False, classes, width, input_shape)


def resnet50(classes: int = 1000, *, width: int = 64, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """`resnet34` with bottlenecks, and so up to 2,048 channels: 25,557,032 parameters, 4,089,184,256 multiply-adds.

    A block's stride is that of its 3×3 convolution, as in torchvision; in the paper it is the first 1×1's.
    """
    return _resnet((3, 4, 6, 3), True, classes, width, input_shape)


def resnet20(classes: int = 10, *, width: int = 16, input_shape: tuple = (32, 32, 3)) -> Sequential:
    """The network for CIFAR-10 of §4.2: three stages of three blocks, with 16, 32 and 64 channels.

    269,722 parameters, 40,551,040 multiply-adds. Args: width: the channels of the first stage.
    """
    layers = conv_norm_relu(width)
    for stage in range(3):
        channels = width * 2**stage
        for i in range(3):
            halves = stage > 0 and i == 0
            shortcut = PaddedShortcut(channels) if halves else None
            layers += [Residual(*_basic(channels, 2 if halves else 1), shortcut=shortcut), ReLU()]
    return Sequential(*layers, GlobalAvgPool2d(), Dense(classes), input_shape=input_shape)
