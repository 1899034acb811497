"""U-Net: a class for each pixel, by what is around it and by what it shows (Ronneberger, Fischer & Brox 2015)."""

from __future__ import annotations

from ..integers import count
from ..nn import Concatenate, Conv2d, ConvTranspose2d, MaxPool2d, Module, Sequential


def _twice(channels: int) -> list[Module]:
    return [Conv2d(channels, 3, padding=1, activation="relu", kernel_init="he_normal") for _ in range(2)]


def _level(channels: int, below: int) -> list[Module]:
    """Convolutions; the levels below, of half the size and twice the channels, beside a way around; convolutions."""
    if not below:
        return _twice(channels)
    up = ConvTranspose2d(channels, 2, stride=2)
    unchanged = Sequential()
    deeper = Sequential(MaxPool2d(2), *_level(2 * channels, below - 1), up)
    return [*_twice(channels), Concatenate(unchanged, deeper), *_twice(channels)]


def unet(classes: int = 2, *, width: int = 64, depth: int = 4, input_shape: tuple = (256, 256, 1)) -> Sequential:
    """Images (N, H, W, C) → logits (N, H, W, classes), for sides divisible by 2^depth, whatever it was built for.

    31,030,658 parameters, 48,096,083,968 multiply-adds. Borders are padded, so that the size stays.
    Args: width: the channels of the uppermost level, of which each below has twice as many. depth: the pools.
    """
    depth = count("unet", "depth", depth, 0)
    if input_shape[0] % 2**depth or input_shape[1] % 2**depth:
        raise ValueError(f"unet: the sides of input_shape={input_shape} must be divisible by {2**depth}")
    return Sequential(*_level(width, depth), Conv2d(classes, 1), input_shape=input_shape)
