"""MyGrad: a plain loop; Adam in NumPy, as it brings no optimisers. Its memory guard, a debugging aid, is off."""

from __future__ import annotations

import mygrad as mg
import numpy as np
from mygrad.nnet.activations import relu
from mygrad.nnet.layers import conv_nd, max_pool
from mygrad.nnet.losses import softmax_crossentropy
from networks import Network, Unsupported, channels_first


class Contender:
    """Pools here must fit their input, so rows and columns that a pool drops are sliced off before it."""

    def __init__(self, network: Network, arrays: list, data: list, *, dropout: bool, cores: int):
        mg.turn_memory_guarding_off()
        for layer, before, _ in network.shapes():
            if "conv" in layer:
                pad = network.same(layer["kernel"], layer["padding"])
                if layer["groups"] > 1:
                    raise Unsupported("has no groups")
                if any((n + 2 * pad - layer["kernel"]) % layer["stride"] for n in before[:2]):
                    raise Unsupported("its strides must divide the image")
        self.network, self.dropout, self.t = network, dropout, 0
        self.rng = np.random.default_rng(0)
        self.w = [mg.tensor(a) for a in channels_first(network, arrays)]
        self.m, self.v = ([np.zeros_like(p.data) for p in self.w] for _ in range(2))
        self.data = [(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y) for x, y in data]

    def _forward(self, x: np.ndarray) -> mg.Tensor:
        rest = iter(self.w)
        for layer, before, _ in self.network.shapes():
            if "conv" in layer:
                pad = self.network.same(layer["kernel"], layer["padding"])
                x = conv_nd(x, next(rest), stride=layer["stride"], padding=pad)
                x = relu(x + next(rest).reshape(1, -1, 1, 1))
            elif "pool" in layer:
                size = layer["pool"]
                h, w = (n // size * size for n in before[:2])
                x = max_pool(x[:, :, :h, :w] if (h, w) != before[:2] else x, (size, size), size)
            elif "mean" in layer:
                x = x.mean(axis=(2, 3))
            elif "dropout" in layer:
                if self.dropout:
                    keep = np.float32(1 - layer["dropout"])
                    x = x * ((self.rng.random(x.shape, np.float32) < keep) / keep)
            else:
                x = mg.matmul(x.reshape(len(x), -1), next(rest)) + next(rest)
                x = relu(x) if layer["relu"] else x
        return x

    def step(self, i: int) -> mg.Tensor:
        x, y = self.data[i]
        loss = softmax_crossentropy(self._forward(x), y)
        loss.backward()
        self.t += 1
        rate, away = 1e-3 / (1 - 0.9**self.t), 1 / (1 - 0.999**self.t)
        for p, m, v in zip(self.w, self.m, self.v, strict=True):
            g = p.grad
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * (g * g)
            p.data[...] -= rate * m / (np.sqrt(v * away) + 1e-8)
            p.null_grad()
        return loss

    @staticmethod
    def value(loss: mg.Tensor) -> float:
        return float(loss.item())

    def close(self) -> None:
        """Nothing to end."""
