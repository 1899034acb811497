"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters (Iandola et al. 2016)."""

from __future__ import annotations

from ..nn import Concatenate, Conv2d, Dropout, GlobalAvgPool2d, MaxPool2d, Module, Sequential
from .parts import normal


def _fire(squeeze: int, expand: int) -> list[Module]:
    """Few channels by 1×1 convolutions, then many, half of them by 3×3 ones."""
    return [
        Conv2d(squeeze, 1, activation="relu"),
        Concatenate(Conv2d(expand, 1, activation="relu"), Conv2d(expand, 3, padding=1, activation="relu")),
    ]


def squeezenet(classes: int = 1000, *, input_shape: tuple = (224, 224, 3)) -> Sequential:
    """Version 1.0: eight fire modules, and a convolution for the classes, for images of 29×29 at least.

    1,248,424 parameters, 818,924,576 multiply-adds. The last convolution's weights are drawn from N(0, 0.01²).
    """
    model = Sequential(
        Conv2d(96, 7, stride=2, activation="relu"),
        MaxPool2d(3, 2, ceil_mode=True),
        *_fire(16, 64),
        *_fire(16, 64),
        *_fire(32, 128),
        MaxPool2d(3, 2, ceil_mode=True),
        *_fire(32, 128),
        *_fire(48, 192),
        *_fire(48, 192),
        *_fire(64, 256),
        MaxPool2d(3, 2, ceil_mode=True),
        *_fire(64, 256),
        Dropout(0.5),
        Conv2d(classes, 1, activation="relu"),
        GlobalAvgPool2d(),
        input_shape=input_shape,
    )
    normal(model[-2].weight, 0.01)
    return model
