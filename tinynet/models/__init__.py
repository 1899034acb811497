"""Networks that people know, a few lines each; logits out. `MODELS` lists them by name.

Those of papers that read images come built for `input_shape` (H, W, C), and most take another; those of text are built
by their first input. The docstrings count the multiply-adds of one sample.
"""

from __future__ import annotations

from collections.abc import Callable

from .alexnet import alexnet
from .autoencoder import autoencoder
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
from .dcgan import dcgan
from .densenet import densenet121
from .googlenet import googlenet
from .gpt import GPT, gpt
from .lenet import lenet5
from .mobilenet import mobilenet_v1, mobilenet_v2
from .parts import builder
from .recurrent import CharLSTM, TextClassifier, char_lstm, text_classifier
from .resnet import PaddedShortcut, resnet18, resnet20, resnet34, resnet50
from .shufflenet import ChannelShuffle, shufflenet_v1
from .squeezenet import squeezenet
from .unet import unet
from .vgg import vgg11, vgg16
from .vit import ViT, vit

CLASSIFIERS: dict[str, Callable] = {  # of images: a logit for each of `classes`
    f.__name__: builder(f)
    for f in (
        logistic_regression,
        mlp,
        mnist_small,
        mnist_cnn,
        cifar_small,
        cifar_cnn,
        image128_cnn,
        deep_cnn,
        lenet5,
        resnet20,
        alexnet,
        vgg11,
        vgg16,
        googlenet,
        squeezenet,
        resnet18,
        resnet34,
        resnet50,
        densenet121,
        mobilenet_v1,
        mobilenet_v2,
        shufflenet_v1,
        vit,
    )
}
MODELS: dict[str, Callable] = CLASSIFIERS | {
    f.__name__: builder(f) for f in (linear_regression, autoencoder, unet, dcgan, char_lstm, text_classifier, gpt)
}

globals().update(MODELS)  # as they are called from outside: with errors that explain

__all__ = [
    "CLASSIFIERS",
    "MODELS",
    "GPT",
    "ChannelShuffle",
    "CharLSTM",
    "PaddedShortcut",
    "TextClassifier",
    "ViT",
    *MODELS,
]
