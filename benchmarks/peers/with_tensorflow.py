"""TensorFlow: the whole step, Keras's Adam included, in one tf.function."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from networks import Model, Network

from . import keras_models


def convolve(x: tf.Tensor, w: tf.Variable, layer: dict, network: Network) -> tf.Tensor:
    """The layer's convolution; TensorFlow's own operation where an image's channels are a group each."""
    stride, groups = layer["stride"], layer["groups"]
    pad = network.same(layer["kernel"], layer["padding"])
    border = [[0, 0], [pad, pad], [pad, pad], [0, 0]] if pad and stride > 1 else "SAME" if pad else "VALID"
    if groups == x.shape[-1] == w.shape[-1]:
        if stride > 1:
            x, border = tf.pad(x, border), "VALID"
        return tf.nn.depthwise_conv2d(x, tf.transpose(w, (0, 1, 3, 2)), (1, stride, stride, 1), border)
    if groups > 1:  # the gradient of TensorFlow's grouped convolution does not run on a CPU
        parts = zip(tf.split(x, groups, 3), tf.split(w, groups, 3), strict=True)
        return tf.concat([tf.nn.conv2d(a, b, stride, border) for a, b in parts], 3)
    return tf.nn.conv2d(x, w, stride, border)


class Contender:
    """Host arrays become tensors within the step."""

    def __init__(self, network: Network | Model, arrays: list, data: list, *, dropout: bool, cores: int):
        if not tf.executing_eagerly():
            raise RuntimeError("TensorFlow runs without eager execution")
        self.network, self.dropout, self.data = network, dropout, data
        self.model = keras_models.build(network, arrays) if isinstance(network, Model) else None
        self.variables = self.model.trainable_variables if self.model else [tf.Variable(a) for a in arrays]
        self.optimizer = tf.keras.optimizers.Adam(1e-3, epsilon=1e-8)
        self.optimizer.build(self.variables)
        x, y = data[0]
        self.compiled = tf.function(
            self._step, input_signature=[tf.TensorSpec(x.shape, x.dtype), tf.TensorSpec(y.shape, tf.int64)]
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        if self.model:
            return self.model(x, training=True)
        rest = iter(self.variables)
        for layer, before, _ in self.network.shapes():
            if "conv" in layer:
                x = tf.nn.relu(tf.nn.bias_add(convolve(x, next(rest), layer, self.network), next(rest)))
            elif "pool" in layer:
                x = tf.nn.max_pool2d(x, layer["pool"], layer["pool"], "VALID")
            elif "mean" in layer:
                x = tf.reduce_mean(x, (1, 2))
            elif "dropout" in layer:
                x = tf.nn.dropout(x, layer["dropout"]) if self.dropout else x
            else:
                x = tf.reshape(x, (-1, int(np.prod(before))))
                x = tf.nn.bias_add(x @ next(rest), next(rest))
                x = tf.nn.relu(x) if layer["relu"] else x
        return x

    def _step(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, self._forward(x)))
        self.optimizer.apply(tape.gradient(loss, self.variables), self.variables)
        return loss

    def step(self, i: int) -> tf.Tensor:
        x, y = self.data[i]
        return self.compiled(tf.convert_to_tensor(x), tf.convert_to_tensor(y))

    @staticmethod
    def value(loss: tf.Tensor) -> float:
        return float(loss)

    def close(self) -> None:
        """Nothing to end."""
