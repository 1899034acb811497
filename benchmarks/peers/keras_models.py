"""The networks of networks.MODELS in Keras, each as its users write it."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops
from networks import Model


def build(network: Model, arrays: list[np.ndarray]) -> keras.Model:
    """The network with these weights, which come in the order of the variables."""
    x = inputs = keras.Input(network.input, dtype="int32" if len(network.input) == 1 else None)
    y, used = {"conv_bn_relu": conv_bn_relu, "resnet20": resnet20, "char_lstm": char_lstm, "gpt": gpt}[network.kind](
        network, x
    )
    variables = [v for layer in used for v in layer.trainable_variables]
    for variable, a in zip(variables, arrays, strict=True):
        variable.assign(a.reshape(variable.shape))
    return keras.Model(inputs, y)


def conv_norm(x, used: list, filters: int, stride: int = 1):
    """A 3×3 convolution with a pixel of zeros around, and its normalisation."""
    x = layers.ZeroPadding2D(1)(x) if stride > 1 else x
    conv = layers.Conv2D(filters, 3, stride, padding="valid" if stride > 1 else "same", use_bias=False)
    norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    used += [conv, norm]
    return norm(conv(x))


def head(x, used: list, network: Model) -> tuple:
    used.append(layers.Dense(network.classes))
    return used[-1](layers.GlobalAveragePooling2D()(x)), used


def conv_bn_relu(network: Model, x) -> tuple:
    used: list = []
    for _ in range(network.options["count"]):
        x = layers.ReLU()(conv_norm(x, used, network.options["channels"]))
    return head(x, used, network)


def resnet20(network: Model, x) -> tuple:
    used: list = []
    x = layers.ReLU()(conv_norm(x, used, 16))
    for before, after in zip([16] * 4 + [32] * 3 + [64] * 2, [16] * 3 + [32] * 3 + [64] * 3, strict=True):
        y = layers.ReLU()(conv_norm(x, used, after, 2 if after > before else 1))
        y = conv_norm(y, used, after)
        if after > before:  # option A: every other pixel, and channels of zeros
            x = ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, after - before)))
        x = layers.ReLU()(layers.Add()([x, y]))
    return head(x, used, network)


def char_lstm(network: Model, x) -> tuple:
    used = [
        layers.Embedding(network.classes, 64),
        layers.LSTM(network.options["hidden"], return_sequences=True),
        layers.Dense(network.classes),
    ]
    for layer in used:
        x = layer(x)
    return x, used


class Places(layers.Layer):
    """What a place adds."""

    def build(self, shape):
        self.positions = self.add_weight(shape=shape[1:])

    def call(self, x):
        return x + self.positions


def gpt(network: Model, x, width: int = 128, heads: int = 4) -> tuple:
    tokens, places = layers.Embedding(network.classes, width), Places()
    used: list = [places, tokens]
    x = places(tokens(x))
    for _ in range(4):
        wide, narrow = layers.Dense(4 * width, activation=exact_gelu), layers.Dense(width)
        norms = [layers.LayerNormalization(epsilon=1e-5) for _ in range(2)]
        attention = Attention(width, heads)
        used += [wide, narrow, attention, *norms]
        x = x + attention(norms[0](x))
        x = x + narrow(wide(norms[1](x)))
    used.append(layers.LayerNormalization(epsilon=1e-5))
    return Tied(tokens)(used[-1](x)), used


def exact_gelu(x):
    return keras.activations.gelu(x, approximate=False)


class Attention(layers.Layer):
    """Attention of each step to those before it, with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.width, self.heads = width, heads

    def build(self, shape):
        sizes = {"in_weight": (self.width, 3 * self.width), "out_weight": (self.width, self.width)}
        sizes |= {"in_bias": (3 * self.width,), "out_bias": (self.width,)}
        for name, size in sizes.items():
            setattr(self, name, self.add_weight(shape=size, name=name))

    def call(self, x):
        steps = x.shape[1]
        parts = ops.split(ops.matmul(x, self.in_weight) + self.in_bias, 3, -1)
        q, k, v = (ops.reshape(p, (-1, steps, self.heads, self.width // self.heads)) for p in parts)
        y = ops.dot_product_attention(q, k, v, is_causal=True)
        return ops.matmul(ops.reshape(y, (-1, steps, self.width)), self.out_weight) + self.out_bias


class Tied(layers.Layer):
    """Logits by the tokens' vectors."""

    def __init__(self, tokens: layers.Embedding):
        super().__init__()
        self.tokens = tokens

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.tokens.embeddings))
