"""tinynet: the trainer with a replica a core, a hand-written loop, and that loop without the fast paths."""

from __future__ import annotations

import time

import numpy as np
from networks import Model, Network

import tinynet as tn
from tinynet import nn, optim, parallel, training
from tinynet.data import Loader


def build(network: Network | Model, dropout: bool = True) -> nn.Module:
    """The network: a model of tn.models, or a Sequential."""
    if isinstance(network, Model):
        if network.kind != "conv_bn_relu":
            make = getattr(tn.models, network.kind)
            return make(network.classes, **network.options).build(network.input)
        parts = [
            part
            for _ in range(network.options["count"])
            for part in (nn.Conv2d(network.options["channels"], 3, padding=1, bias=False), nn.BatchNorm(), nn.ReLU())
        ]
        return nn.Sequential(*parts, nn.GlobalAvgPool2d(), nn.Dense(network.classes), input_shape=network.input)
    layers: list[nn.Module] = []
    for layer, before, _ in network.shapes():
        if "conv" in layer:
            layers.append(
                nn.Conv2d(
                    layer["conv"],
                    layer["kernel"],
                    stride=layer["stride"],
                    padding=layer["padding"],
                    groups=layer["groups"],
                    activation="relu",
                )
            )
        elif "pool" in layer:
            layers.append(nn.MaxPool2d(layer["pool"]))
        elif "mean" in layer:
            layers.append(nn.GlobalAvgPool2d())
        elif "dropout" in layer:
            layers.append(nn.Dropout(layer["dropout"] if dropout else 0.0))
        else:
            layers += [nn.Flatten()] if len(before) == 3 else []
            layers.append(nn.Dense(layer["dense"], activation="relu" if layer["relu"] else None))
    return nn.Sequential(*layers, input_shape=network.input)


def weights(network: Network | Model, seed: int = 0) -> list[np.ndarray]:
    """The weights that all contenders start from; biases are small numbers, so that a lost one shows."""
    tn.seed(seed)
    arrays = [p.numpy() for p in build(network).parameters()]
    rng = np.random.default_rng(seed)
    return [a if a.ndim > 1 else a + 0.05 * rng.standard_normal(a.shape, np.float32) for a in arrays]


def exact() -> None:
    """Every operation on its own, and no Winograd."""
    nn.set_fusion(False)
    tn.set_conv_algorithm("exact")


class Clock:
    """A callback of fit: times from the end of a step to that of the next one of the epoch."""

    def __init__(self):
        self.times: list[float] = []
        self.last = 0.0

    def on_step_end(self, info: dict) -> None:
        now = time.perf_counter()
        if info["batch"] > 1:
            self.times.append(now - self.last)
        self.last = now


class Contender:
    """mode: "trainer" (tn.parallel.trainer), "fit", "loop", or "exact", which is "loop" after `exact()`."""

    def __init__(self, network: Network | Model, arrays: list, data: list, *, dropout: bool, cores: int, mode: str):
        if mode == "exact":
            exact()
        self.model = build(network, dropout)
        if isinstance(network, Network) and network.name in tn.models.MODELS:  # the description is that of tn.models
            shapes = [p.shape for p in tn.models.MODELS[network.name]().parameters()]
            assert shapes == [p.shape for p in self.model.parameters()], f"{network.name} differs from tn.models"
        names = [name for name, _ in self.model.named_parameters()]
        self.model.load_state_dict(self.model.state_dict() | dict(zip(names, arrays, strict=True)))
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)
        self.data, self.trainer, self.note = data, None, None
        if mode == "trainer":
            self.trainer = parallel.trainer(self.model, self.optimizer, tn.ops.softmax_cross_entropy, workers="auto")
            self.note = self.trainer.note  # why there is only one process, where there is
        if mode == "fit":
            whole = [np.concatenate(parts) for parts in zip(*data, strict=True)]
            self.loader = Loader(*whole, batch_size=network.batch, shuffle=False)
            self.data = list(zip(*(np.split(a, len(data)) for a in whole), strict=True))  # views
            self.turn = self._fit

    def step(self, i: int):
        x, y = self.data[i]
        if self.trainer is not None:
            return self.trainer(x, y)
        loss = tn.ops.softmax_cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def _fit(self, seconds: float) -> list[float]:
        """The times of fit's steps, in as many epochs over the batches as take this long."""
        clock, start, epochs = Clock(), time.perf_counter(), 1
        while True:
            training.fit(
                self.model,
                self.loader,
                epochs=epochs,
                optimizer=self.optimizer,
                workers="auto",
                callbacks=[clock],
                verbose=False,
            )
            left = seconds - (time.perf_counter() - start)
            if left <= 0 and clock.times:
                return clock.times
            epochs = max(1, min(100, int(left / (sum(clock.times[-len(self.data) :]) + 1e-4))))

    @staticmethod
    def value(loss) -> float:
        return loss.item()

    def close(self) -> None:
        if self.trainer is not None:
            self.trainer.close()
