"""The networks that people meet first, a few lines each; logits out.

All convolutions are 3×3 without padding, followed by relu; pools are 2×2 maximum; hidden dense layers are
followed by relu. The convolutional ones come built, for other images with `input_shape=`; the others are built by
their first input, by `.build(shape)`, or by `features=`.
"""

from __future__ import annotations

from ..nn import Conv2d, Dense, Dropout, Flatten, MaxPool2d, Module, Sequential


def _conv(filters: int) -> Module:
    return Conv2d(filters, 3, activation="relu")


def linear_regression(features: int | None = None, outputs: int = 1) -> Sequential:
    """One dense layer; train it with mse."""
    return Sequential(Dense(outputs), input_shape=features)


def logistic_regression(features: int | None = None, classes: int = 10) -> Sequential:
    """One dense layer of logits; images are flattened."""
    return Sequential(Flatten(), Dense(classes), input_shape=features)


def mlp(features: int | None = None, classes: int = 10, hidden: tuple[int, ...] = (64, 64)) -> Sequential:
    """Dense layers with relu between; images are flattened."""
    return Sequential(Flatten(), *(Dense(n, activation="relu") for n in hidden), Dense(classes), input_shape=features)


def mnist_small(classes: int = 10, *, input_shape: tuple = (28, 28, 1)) -> Sequential:
    """28×28×1: conv 32, pool, dense `classes`."""
    return Sequential(_conv(32), MaxPool2d(2), Flatten(), Dense(classes), input_shape=input_shape)


def mnist_cnn(classes: int = 10, *, input_shape: tuple = (28, 28, 1)) -> Sequential:
    """28×28×1: conv 32, pool, conv 64, pool, dropout, dense 128, dropout, dense `classes`."""
    return Sequential(
        _conv(32),
        MaxPool2d(2),
        _conv(64),
        MaxPool2d(2),
        Dropout(0.25),
        Flatten(),
        Dense(128, activation="relu"),
        Dropout(0.5),
        Dense(classes),
        input_shape=input_shape,
    )


def cifar_small(classes: int = 10, *, input_shape: tuple = (32, 32, 3)) -> Sequential:
    """32×32×3: conv 32, pool, dense 64, dense `classes`."""
    return Sequential(
        _conv(32), MaxPool2d(2), Flatten(), Dense(64, activation="relu"), Dense(classes), input_shape=input_shape
    )


def cifar_cnn(classes: int = 10, *, input_shape: tuple = (32, 32, 3)) -> Sequential:
    """32×32×3: conv 32, pool, conv 64, pool, conv 64, dense 64, dense `classes`."""
    return Sequential(
        _conv(32),
        MaxPool2d(2),
        _conv(64),
        MaxPool2d(2),
        _conv(64),
        Flatten(),
        Dense(64, activation="relu"),
        Dense(classes),
        input_shape=input_shape,
    )


def image128_cnn(classes: int = 5, *, input_shape: tuple = (128, 128, 3)) -> Sequential:
    """128×128×3: conv 32, pool, conv 64, pool, conv 128, pool, dense 128, dense `classes`."""
    return Sequential(
        _conv(32),
        MaxPool2d(2),
        _conv(64),
        MaxPool2d(2),
        _conv(128),
        MaxPool2d(2),
        Flatten(),
        Dense(128, activation="relu"),
        Dense(classes),
        input_shape=input_shape,
    )


def deep_cnn(classes: int = 10, *, input_shape: tuple = (32, 32, 3)) -> Sequential:
    """32×32×3: conv 32, conv 32, pool, conv 64, conv 64, pool, conv 128, dense 128, dense `classes`."""
    return Sequential(
        _conv(32),
        _conv(32),
        MaxPool2d(2),
        _conv(64),
        _conv(64),
        MaxPool2d(2),
        _conv(128),
        Flatten(),
        Dense(128, activation="relu"),
        Dense(classes),
        input_shape=input_shape,
    )
