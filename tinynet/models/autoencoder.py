"""An autoencoder: a network that must put its input through a few numbers (Hinton & Salakhutdinov 2006)."""

from __future__ import annotations

from ..nn import Conv2d, ConvTranspose2d, Sequential


def autoencoder(code: int = 32, *, width: int = 16, input_shape: tuple = (28, 28, 1)) -> Sequential:
    """Images whose sides are divisible by 4 → logits of their pixels, of the same shape, by way of `code` numbers.

    113,681 parameters, 805,952 multiply-adds. Train it with binary_cross_entropy_with_logits on pixels in [0, 1];
    `model[:3]` encodes, `model[3:]` decodes. Args: width: the channels of the outermost layers.
    """
    height, across, channels = input_shape
    if height % 4 or across % 4:
        raise ValueError(f"autoencoder: the sides of input_shape={input_shape} must be divisible by 4")
    quarter = height // 4, across // 4
    return Sequential(
        Conv2d(width, 3, stride=2, padding=1, activation="relu"),
        Conv2d(2 * width, 3, stride=2, padding=1, activation="relu"),
        Conv2d(code, quarter),
        ConvTranspose2d(2 * width, quarter, activation="relu"),
        ConvTranspose2d(width, 4, stride=2, padding=1, activation="relu"),
        ConvTranspose2d(channels, 4, stride=2, padding=1),
        input_shape=input_shape,
    )
