"""DeZero 0.0.13: its functions, Parameters and Adam. It was written for an older NumPy, hence `np.int`."""

from __future__ import annotations

import numpy as np

np.int = int  # type: ignore[attr-defined]  # noqa: NPY001

import dezero.functions as F  # noqa: E402
from dezero import Layer, Parameter, optimizers, using_config  # noqa: E402
from networks import Network, Unsupported, channels_first  # noqa: E402


class Contender:
    """Labels are int16, with which all of DeZero's arithmetic stays float32."""

    def __init__(self, network: Network, arrays: list, data: list, *, dropout: bool, cores: int):
        if any(layer.get("groups", 1) > 1 for layer in network.layers):
            raise Unsupported("has no groups")
        self.network, self.dropout = network, dropout
        self.model = Layer()
        self.w = [Parameter(a) for a in channels_first(network, arrays)]
        for i, p in enumerate(self.w):
            setattr(self.model, f"w{i}", p)
        self.optimizer = optimizers.Adam(alpha=1e-3).setup(self.model)
        self.data = [(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y.astype(np.int16)) for x, y in data]

    def _forward(self, x: np.ndarray):
        rest = iter(self.w)
        for layer, before, _ in self.network.shapes():
            if "conv" in layer:
                pad = self.network.same(layer["kernel"], layer["padding"])
                x = F.relu(F.conv2d(x, next(rest), next(rest), layer["stride"], pad))
            elif "pool" in layer:
                x = F.pooling(x, layer["pool"], layer["pool"])
            elif "mean" in layer:
                x = F.sum(F.reshape(x, (*x.shape[:2], -1)), axis=2) / np.float32(before[0] * before[1])
            elif "dropout" in layer:
                x = F.dropout(x, layer["dropout"]) if self.dropout else x
            else:
                x = F.linear(F.reshape(x, (x.shape[0], -1)), next(rest), next(rest))
                x = F.relu(x) if layer["relu"] else x
        return x

    def step(self, i: int):
        x, y = self.data[i]
        with using_config("train", True):
            loss = F.softmax_cross_entropy(self._forward(x), y)
        self.model.cleargrads()
        loss.backward()
        self.optimizer.update()
        return loss

    @staticmethod
    def value(loss) -> float:
        return float(loss.data)

    def close(self) -> None:
        """Nothing to end."""
