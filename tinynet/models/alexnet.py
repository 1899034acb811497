"""AlexNet, which began the present age (Krizhevsky, Sutskever & Hinton 2012; for one GPU: Krizhevsky 2014)."""

from __future__ import annotations

from typing import Any

from ..nn import AdaptiveAvgPool2d, Conv2d, Dense, Dropout, Flatten, MaxPool2d, Sequential
from .parts import normal


def alexnet(
    classes: int = 1000, *, width: int = 64, hidden: int = 4096, input_shape: tuple = (224, 224, 3)
) -> Sequential:
    """Five convolutions and three dense layers, of 2014, for images of 63×63 at least.

    61,100,840 parameters, 714,188,480 multiply-adds. Weights are drawn from N(0, 0.01²); the biases of the second,
    fourth and fifth convolution and of the hidden dense layers are 1, so that relu begins with positive inputs.
    Args: width: the channels of the first convolution. hidden: the features of the hidden dense layers.
    """
    model = Sequential(
        Conv2d(width, 11, stride=4, padding=2, activation="relu"),
        MaxPool2d(3, 2),
        Conv2d(3 * width, 5, padding=2, activation="relu"),
        MaxPool2d(3, 2),
        Conv2d(6 * width, 3, padding=1, activation="relu"),
        Conv2d(4 * width, 3, padding=1, activation="relu"),
        Conv2d(4 * width, 3, padding=1, activation="relu"),
        MaxPool2d(3, 2),
        AdaptiveAvgPool2d(6),
        Flatten(),
        Dropout(0.5),
        Dense(hidden, activation="relu"),
        Dropout(0.5),
        Dense(hidden, activation="relu"),
        Dense(classes),
        input_shape=input_shape,
    )
    layers: list[Any] = [layer for layer in model if isinstance(layer, Conv2d | Dense)]
    for i, layer in enumerate(layers):
        normal(layer.weight, 0.01)
        if i in (1, 3, 4, 5, 6):
            normal(layer.bias, 0.0, mean=1.0)
    return model
