"""PyTorch: eager or torch.compile, contiguous or channels_last."""

from __future__ import annotations

import numpy as np
import torch
from networks import Model, Network, Unsupported, channels_first
from torch import nn

from . import torch_models


def build(network: Network, dropout: bool = True) -> nn.Sequential:
    """The network as a Sequential."""
    layers: list[nn.Module] = []
    for layer, before, _ in network.shapes():
        if "conv" in layer:
            layers += [
                nn.Conv2d(
                    before[2],
                    layer["conv"],
                    layer["kernel"],
                    stride=layer["stride"],
                    padding=layer["padding"],
                    groups=layer["groups"],
                ),
                nn.ReLU(),
            ]
        elif "pool" in layer:
            layers.append(nn.MaxPool2d(layer["pool"]))
        elif "mean" in layer:
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        elif "dropout" in layer:
            layers.append(nn.Dropout(layer["dropout"] if dropout else 0.0))
        else:
            layers += [nn.Flatten()] if len(before) == 3 else []
            layers.append(nn.Linear(int(np.prod(before)), layer["dense"]))
            layers += [nn.ReLU()] if layer["relu"] else []
    return nn.Sequential(*layers)


class Contender:
    """channels_last: memory format of the model and of the host's images; compiled: torch.compile; fused: Adam."""

    def __init__(
        self,
        network: Network | Model,
        arrays: list,
        data: list,
        *,
        dropout: bool,
        cores: int,
        channels_last: bool = False,
        compiled: bool = False,
        fused: bool = False,
    ):
        torch.set_num_threads(cores)
        if isinstance(network, Model):
            self.model = torch_models.build(network, arrays)
        else:
            self.model = build(network, dropout)
            with torch.no_grad():
                for p, a in zip(self.model.parameters(), channels_first(network, arrays), strict=True):
                    p.copy_(torch.from_numpy(a if a.ndim != 2 else np.ascontiguousarray(a.T)))
        if len(network.input) == 1:
            if channels_last:
                raise Unsupported("is for images")
            self.data = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in data]
        elif channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.data = [(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)) for x, y in data]
        else:
            self.data = [
                (torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(y)) for x, y in data
            ]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=1e-3, fused=fused or None)
        self.loss = self._loss
        if compiled:
            torch._dynamo.reset()
            self.loss = torch.compile(self._loss)

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.model(x).flatten(0, -2), y.flatten())

    def step(self, i: int) -> torch.Tensor:
        loss = self.loss(*self.data[i])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    @staticmethod
    def value(loss: torch.Tensor) -> float:
        return loss.item()

    def close(self) -> None:
        """Nothing to end."""
