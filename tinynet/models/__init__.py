"""Networks that people know, a few lines each; logits out. `MODELS` lists them by name."""

from .basic import (
    MODELS,
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

__all__ = [
    "MODELS",
    "cifar_cnn",
    "cifar_small",
    "deep_cnn",
    "image128_cnn",
    "linear_regression",
    "logistic_regression",
    "mlp",
    "mnist_cnn",
    "mnist_small",
]
