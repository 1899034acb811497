"""LeNet-5, which read the digits on cheques (LeCun et al., "Gradient-based learning", 1998)."""

from __future__ import annotations

from ..nn import AvgPool2d, Conv2d, Dense, Flatten, Sequential


def lenet5(classes: int = 10, *, input_shape: tuple = (28, 28, 1)) -> Sequential:
    """Two convolutions and three dense layers with tanh; 28×28 images get the border that makes them 32×32.

    61,706 parameters, 416,520 multiply-adds. As it is taught today: means for the trained subsampling, each filter
    sees all channels, and logits for the radial basis functions.
    """
    return Sequential(
        Conv2d(6, 5, padding=2 if input_shape[0] < 32 else 0, activation="tanh", kernel_init="lecun_uniform"),
        AvgPool2d(2),
        Conv2d(16, 5, activation="tanh", kernel_init="lecun_uniform"),
        AvgPool2d(2),
        Flatten(),
        Dense(120, activation="tanh", kernel_init="lecun_uniform"),
        Dense(84, activation="tanh", kernel_init="lecun_uniform"),
        Dense(classes, kernel_init="lecun_uniform"),
        input_shape=input_shape,
    )
