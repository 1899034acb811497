"""tinynet, in three modes: the trainer with a replica a core, a hand-written loop, and that loop without the fast paths."""

from __future__ import annotations

import numpy as np
import tinynet as tn
from networks import Network
from tinynet import nn, optim


def build(network: Network, dropout: bool = True) -> nn.Sequential:
    """The network as a Sequential."""
    layers: list[nn.Module] = []
    for layer, before, _ in network.shapes():
        if "conv" in layer:
            layers.append(nn.Conv2d(layer["conv"], layer["kernel"], stride=layer["stride"], padding=layer["padding"],
                                    groups=layer["groups"], activation="relu"))
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


def weights(network: Network, seed: int = 0) -> list[np.ndarray]:
    """The weights that all contenders start from; biases are small numbers, so that a lost one shows."""
    tn.seed(seed)
    arrays = list(build(network).state_dict().values())
    rng = np.random.default_rng(seed)
    return [a if a.ndim > 1 else 0.05 * rng.standard_normal(a.shape, np.float32) for a in arrays]


class Contender:
    """mode: "trainer" (tn.parallel.trainer), "loop", or "exact": no fusion, im2col instead of the fast algorithms."""

    def __init__(self, network: Network, arrays: list, data: list, *, dropout: bool, cores: int, mode: str):
        if mode == "exact":
            nn.set_fusion(False)
            tn.set_conv_algorithm("im2col")
        self.model = build(network, dropout)
        if network.name in tn.models.MODELS:   # the description is that of tn.models
            shapes = [p.shape for p in tn.models.MODELS[network.name]().parameters()]
            assert shapes == [p.shape for p in self.model.parameters()], f"{network.name} differs from tn.models"
        self.model.load_state_dict(dict(zip(self.model.state_dict(), arrays, strict=True)))
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)
        self.data, self.trainer = data, None
        if mode == "trainer":
            self.trainer = tn.parallel.trainer(self.model, self.optimizer, tn.ops.softmax_cross_entropy, workers="auto")
            self.run = self.trainer.__enter__()

    def step(self, i: int):
        x, y = self.data[i]
        if self.trainer is not None:
            return self.run(x, y)
        loss = tn.ops.softmax_cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    @staticmethod
    def value(loss) -> float:
        return float(loss if isinstance(loss, float) else loss.item())

    def close(self) -> None:
        if self.trainer is not None:
            self.trainer.__exit__(None, None, None)
