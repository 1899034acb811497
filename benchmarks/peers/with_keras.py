"""Keras on TensorFlow: model.fit on arrays, as its users call it."""

from __future__ import annotations

import time

import keras
import numpy as np
from networks import Model, Network

from . import keras_models


def build(network: Network, dropout: bool = True) -> keras.Sequential:
    """The network as a Sequential."""
    layers = [keras.Input(network.input)]
    for layer, before, _ in network.shapes():
        if "conv" in layer:
            pad = network.same(layer["kernel"], layer["padding"])
            same = bool(pad) and layer["stride"] == 1
            if pad and not same:
                layers.append(keras.layers.ZeroPadding2D(pad))
            options = {"strides": layer["stride"], "padding": "same" if same else "valid", "activation": "relu"}
            if layer["groups"] == before[2] == layer["conv"]:
                layers.append(keras.layers.DepthwiseConv2D(layer["kernel"], **options))
            else:
                layers.append(keras.layers.Conv2D(layer["conv"], layer["kernel"], groups=layer["groups"], **options))
        elif "pool" in layer:
            layers.append(keras.layers.MaxPooling2D(layer["pool"]))
        elif "mean" in layer:
            layers.append(keras.layers.GlobalAveragePooling2D())
        elif "dropout" in layer:
            layers.append(keras.layers.Dropout(layer["dropout"] if dropout else 0.0))
        else:
            layers += [keras.layers.Flatten()] if len(before) == 3 else []
            layers.append(keras.layers.Dense(layer["dense"], activation="relu" if layer["relu"] else None))
    return keras.Sequential(layers)


def compiled(model: keras.Model) -> keras.Model:
    """With Adam and the loss."""
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


class Clock(keras.callbacks.Callback):
    """Times from the begin of a step to the begin of the next one; what happens between epochs is left out."""

    def __init__(self):
        super().__init__()
        self.times: list[float] = []
        self.last = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        now = time.perf_counter()
        if batch > 0:
            self.times.append(now - self.last)
        self.last = now


class Contender:
    """`step` (for the comparison of losses) is train_on_batch; turns call fit."""

    def __init__(self, network: Network | Model, arrays: list, data: list, *, dropout: bool, cores: int):
        self.data, self.batch = data, network.batch
        if isinstance(network, Model):
            self.model = compiled(keras_models.build(network, arrays))
        else:
            self.model = compiled(build(network, dropout))
            for variable, a in zip(self.model.trainable_variables, arrays, strict=True):
                variable.assign(a if tuple(variable.shape) == a.shape else a.transpose(0, 1, 3, 2))
        self.x, self.y = (np.concatenate(arrays) for arrays in zip(*data, strict=True))

    def step(self, i: int) -> float:
        return self.model.train_on_batch(*self.data[i])

    def turn(self, seconds: float) -> list[float]:
        """The times of the steps of as many epochs over the batches as take this long."""
        clock = Clock()
        start = time.perf_counter()
        self.model.fit(self.x, self.y, batch_size=self.batch, shuffle=False, verbose=0, callbacks=[clock])
        while (left := seconds - (time.perf_counter() - start)) > 0:
            epochs = max(1, min(100, int(left / (sum(clock.times[-len(self.data) :]) + 1e-4))))
            self.model.fit(
                self.x, self.y, batch_size=self.batch, epochs=epochs, shuffle=False, verbose=0, callbacks=[clock]
            )
        return clock.times

    @staticmethod
    def value(loss: float) -> float:
        return float(loss)

    def close(self) -> None:
        """Nothing to end."""
