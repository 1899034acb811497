"""Networks that people know, a few lines each; logits out. `MODELS` lists them by name."""

from __future__ import annotations

from collections.abc import Callable

from .basic import (
    cifar_cnn,
    cifar_small,
    deep_cnn,
    image128_cnn,
    linear_regression,
    logistic_regression,
    mlp,
    mnist_cnn,
    mnist_small,
)
from .gpt import GPT, gpt
from .recurrent import CharLSTM, char_lstm
from .resnet import PaddedShortcut, resnet20

CLASSIFIERS: dict[str, Callable] = {  # of images: a logit for each of `classes`
    f.__name__: f
    for f in (
        logistic_regression,
        mlp,
        mnist_small,
        mnist_cnn,
        cifar_small,
        cifar_cnn,
        image128_cnn,
        deep_cnn,
        resnet20,
    )
}
MODELS: dict[str, Callable] = CLASSIFIERS | {f.__name__: f for f in (linear_regression, char_lstm, gpt)}

__all__ = [
    "CLASSIFIERS",
    "GPT",
    "MODELS",
    "CharLSTM",
    "PaddedShortcut",
    "char_lstm",
    "cifar_cnn",
    "cifar_small",
    "deep_cnn",
    "gpt",
    "image128_cnn",
    "linear_regression",
    "logistic_regression",
    "mlp",
    "mnist_cnn",
    "mnist_small",
    "resnet20",
]
