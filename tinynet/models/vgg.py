"""VGG: deep, of 3×3 convolutions alone (Simonyan & Zisserman, "Very Deep Convolutional Networks", 2015)."""

from __future__ import annotations

from ..nn import AdaptiveAvgPool2d, BatchNorm, Conv2d, Dense, Dropout, Flatten, MaxPool2d, ReLU, Sequential


def _vgg(counts: tuple, classes: int, batch_norm: bool, width: int, hidden: int, input_shape: tuple) -> Sequential:
    """Stages of so many convolutions, each with twice the channels of the one before, but for the last, and a pool."""
    layers: list = []
    for stage, count in enumerate(counts):
        channels = width * min(2**stage, 8)
        for _ in range(count):
            layers += [Conv2d(channels, 3, padding=1), *([BatchNorm()] if batch_norm else []), ReLU()]
        layers.append(MaxPool2d(2))
    return Sequential(
        *layers,
        AdaptiveAvgPool2d(7),
        Flatten(),
        Dense(hidden, activation="relu"),
        Dropout(0.5),
        Dense(hidden, activation="relu"),
        Dropout(0.5),
        Dense(classes),
        input_shape=input_shape,
    )


def vgg11(
    classes: int = 1000,
    *,
    batch_norm: bool = False,
    width: int = 64,
    hidden: int = 4096,
    input_shape: tuple = (224, 224, 3),
) -> Sequential:
    """VGG with 8 convolutions and 3 dense layers, configuration A, for images of 32×32 at least.

    132,863,336 parameters, 7,609,090,048 multiply-adds. Weights begin as Glorot & Bengio's, as the paper suggests.
    Args:
        batch_norm: normalise behind each convolution (Ioffe & Szegedy 2015); 5,504 parameters more.
        width: the channels of the first stage. hidden: the features of the hidden dense layers.
    """
    return _vgg((1, 1, 2, 2, 2), classes, batch_norm, width, hidden, input_shape)


def vgg16(
    classes: int = 1000,
    *,
    batch_norm: bool = False,
    width: int = 64,
    hidden: int = 4096,
    input_shape: tuple = (224, 224, 3),
) -> Sequential:
    """VGG with 13 convolutions and 3 dense layers, configuration D; all else is `vgg11`'s.

    138,357,544 parameters, 15,470,264,320 multiply-adds; 8,448 parameters more with batch_norm.
    """
    return _vgg((2, 2, 3, 3, 3), classes, batch_norm, width, hidden, input_shape)
