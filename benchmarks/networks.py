"""The networks that are measured, described once; every contender builds its own from these lists of layers.

A layer is a dict with one of the keys "conv", "pool", "dropout", "dense", "mean". A convolution is followed by
relu, pools are maxima whose stride is their size, "dense" is followed by relu but for the last, and "mean" is the
mean over an image. The first dense layer after images flattens them, as does the text of DESIGN §6.

Weights travel as a list of arrays, [weight, bias, weight, bias, ...], in tinynet's layouts: convolutions
(KH, KW, C // groups, F), dense (in, out), images (N, H, W, C). `channels_first` turns them for the peers that
want (F, C // groups, KH, KW) and images (N, C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Layer = dict[str, Any]


class Unsupported(Exception):
    """The contender cannot build this network; the message says which layer it lacks."""


def conv(filters: int, kernel: int = 3, *, stride: int = 1, padding: int | str = 0, groups: int = 1) -> Layer:
    """A convolution and relu; padding is a number of pixels or "same"."""
    return {"conv": filters, "kernel": kernel, "stride": stride, "padding": padding, "groups": groups}


def dense(*features: int) -> list[Layer]:
    """Dense layers, relu after each but the last."""
    return [{"dense": n, "relu": i < len(features) - 1} for i, n in enumerate(features)]


POOL: Layer = {"pool": 2}
MEAN: Layer = {"mean": True}


@dataclass(frozen=True)
class Network:
    """A network with its input's shape and its batch."""

    name: str
    input: tuple[int, int, int]
    batch: int
    layers: list[Layer]

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return self.layers[-1]["dense"]

    def same(self, kernel: int, padding: int | str) -> int:
        """The padding in pixels on every side; "same" is only used with stride 1 and odd kernels here."""
        return kernel // 2 if padding == "same" else padding  # type: ignore[return-value]

    def shapes(self) -> list[tuple[Layer, tuple, tuple]]:
        """(layer, its input's shape, its output's shape) of each layer; the batch axis is left out."""
        rows, shape = [], tuple(self.input)
        for layer in self.layers:
            before = shape
            if "conv" in layer:
                pad = self.same(layer["kernel"], layer["padding"])
                h, w = ((n + 2 * pad - layer["kernel"]) // layer["stride"] + 1 for n in shape[:2])
                shape = (h, w, layer["conv"])
            elif "pool" in layer:
                shape = (shape[0] // layer["pool"], shape[1] // layer["pool"], shape[2])
            elif "mean" in layer:
                shape = (shape[2],)
            elif "dense" in layer:
                shape = (layer["dense"],)
            rows.append((layer, before, shape))
        return rows

    def flops(self) -> int:
        """Multiplications and additions of a step by the plain method: forward, input and weight gradients."""
        total, first = 0, True
        for layer, before, after in self.shapes():
            if "conv" in layer:
                size = 2 * np.prod(after) * layer["kernel"] ** 2 * before[2] // layer["groups"]
            elif "dense" in layer:
                size = 2 * np.prod(before) * after[0]
            else:
                continue
            total += int(size) * (2 if first else 3)
            first = False
        return total * self.batch


_MNIST = [
    conv(32),
    POOL,
    conv(64),
    POOL,
    {"dropout": 0.25},
    {"dense": 128, "relu": True},
    {"dropout": 0.5},
    {"dense": 10, "relu": False},
]

# DESIGN §6
DESIGN = [
    Network("mnist_small", (28, 28, 1), 32, [conv(32), POOL, *dense(10)]),
    Network("mnist_cnn", (28, 28, 1), 64, _MNIST),
    Network("cifar_small", (32, 32, 3), 16, [conv(32), POOL, *dense(64, 10)]),
    Network("cifar_cnn", (32, 32, 3), 32, [conv(32), POOL, conv(64), POOL, conv(64), *dense(64, 10)]),
    Network("image128_cnn", (128, 128, 3), 32, [conv(32), POOL, conv(64), POOL, conv(128), POOL, *dense(128, 5)]),
    Network(
        "deep_cnn", (32, 32, 3), 64, [conv(32), conv(32), POOL, conv(64), conv(64), POOL, conv(128), *dense(128, 10)]
    ),
]

# what else people build: other kernels, borders, strides, groups, and batches from one image to 512
OTHERS = [
    Network("kernel5", (28, 28, 1), 64, [conv(32, 5), POOL, conv(64, 5), POOL, *dense(128, 10)]),
    Network(
        "padding_same",
        (32, 32, 3),
        32,
        [
            conv(32, padding="same"),
            conv(32, padding="same"),
            POOL,
            conv(64, padding="same"),
            conv(64, padding="same"),
            POOL,
            *dense(128, 10),
        ],
    ),
    Network(
        "stride2",
        (32, 32, 3),
        32,
        [conv(32, padding=1), conv(64, stride=2, padding=1), conv(128, stride=2, padding=1), MEAN, *dense(10)],
    ),
    Network(
        "groups4",
        (32, 32, 3),
        32,
        [conv(32, padding=1), conv(64, padding=1, groups=4), POOL, conv(64, padding=1, groups=4), POOL, *dense(64, 10)],
    ),
    Network(
        "depthwise",
        (32, 32, 3),
        32,
        [
            conv(32, padding=1),
            conv(32, padding=1, groups=32),
            conv(64, 1),
            POOL,
            conv(64, padding=1, groups=64),
            conv(128, 1),
            MEAN,
            *dense(10),
        ],
    ),
    *(Network(f"mnist_cnn@{n}", (28, 28, 1), n, _MNIST) for n in (1, 8, 128, 512)),
]


@dataclass(frozen=True)
class Model:
    """A network that is more than a list of plain layers: `kind` names the function that builds it in each peer's file
    of models. `input` is an image's shape, or (T,) for ids. Weights travel in the order of tinynet's parameters."""

    name: str
    kind: str
    input: tuple[int, ...]
    batch: int
    classes: int
    multiply_adds: int  # of one sample, forward
    options: dict[str, int] = field(default_factory=dict)
    layers: tuple = ()

    def shapes(self) -> list:
        """What the peers ask that build lists of layers."""
        raise Unsupported("builds lists of plain layers only")

    def flops(self) -> int:
        """Multiplications and additions of a step: forward, input and weight gradients."""
        return 6 * self.multiply_adds * self.batch


# convolutions with batch norm, alone and in ResNet-20; sequences of characters
MODELS = [
    Model("conv_bn_relu", "conv_bn_relu", (32, 32, 3), 64, 10, 77_267_584, {"channels": 64, "count": 3}),
    Model("resnet20", "resnet20", (32, 32, 3), 64, 10, 40_551_040),
    Model("char_lstm", "char_lstm", (100,), 32, 65, 10_662_400, {"hidden": 128}),
    Model("char_lstm512", "char_lstm", (100,), 32, 65, 121_292_800, {"hidden": 512}),
    Model("gpt", "gpt", (64,), 12, 65, 55_058_432),
]

NETWORKS = {network.name: network for network in (*DESIGN, *OTHERS, *MODELS)}


def batches(network: Network | Model, count: int, seed: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` different (images, labels): grey shapes on black with a little noise, labels at random; or (ids, ids).

    As in real pictures a part of each is exactly constant, so that the maxima of pools tie.
    """
    rng, result = np.random.default_rng(seed), []
    if len(network.input) == 1:
        text = rng.integers(0, network.classes, (count, 2, network.batch, *network.input))
        return [(x, y) for x, y in text]
    h, w, c = network.input
    for _ in range(count):
        coarse = rng.standard_normal((network.batch, -(-h // 4), -(-w // 4), c), np.float32)
        shapes = np.maximum(np.repeat(np.repeat(coarse, 4, 1), 4, 2)[:, :h, :w], 0)
        noise = 0.1 * rng.standard_normal(shapes.shape, np.float32)
        x = np.ascontiguousarray(np.where(shapes > 0, shapes + noise, 0), np.float32)
        result.append((x, rng.integers(0, network.classes, network.batch)))
    return result


def batch_count(network: Network | Model) -> int:
    """How many different batches a step cycles through: 8, fewer where they are large (32 MB in all)."""
    return int(np.clip(32e6 // (4 * network.batch * np.prod(network.input)), 3, 8))


def channels_first(network: Network, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Weights for images (N, C, H, W): (F, C // groups, KH, KW); dense rows in the order that flattening then gives."""
    result, rest = [], iter(arrays)
    for layer, before, _ in network.shapes():
        if "conv" not in layer and "dense" not in layer:
            continue
        w, b = next(rest), next(rest)
        if "conv" in layer:
            w = w.transpose(3, 2, 0, 1)
        elif len(before) == 3:
            w = w.reshape(*before, -1).transpose(2, 0, 1, 3).reshape(w.shape)
        result += [np.array(w, order="C"), np.array(b)]
    return result
