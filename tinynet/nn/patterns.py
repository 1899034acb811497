"""The patterns that Sequential fuses: which layers in a row run as one operation. One table, read from top to bottom.

A new fused operation is a row here: a test for each of the layers, and what runs in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import ops
from .activation import ReLU
from .conv import Conv2d
from .dense import Dense
from .functions import Lambda
from .pool import MaxPool2d

Run = Callable[[Any], Any]
Test = Callable[[Any], bool]


def _plain(layer: Any) -> bool:
    """A convolution or dense layer without activation."""
    return layer.activation is None


def _with_relu(layer: Any) -> bool:
    return layer.activation is ops.relu


def _relu(layer: Any) -> bool:
    return type(layer) is ReLU or (type(layer) is Lambda and layer.function is ops.relu)


def _halving(layer: Any) -> bool:
    """A 2×2 maximum, without padding."""
    return (
        type(layer) is MaxPool2d
        and layer.kernel_size == layer.stride == (2, 2)
        and layer.padding in (0, (0, 0), "valid")
    )


def _conv(pool: bool) -> Callable[..., Run]:
    return lambda conv, *_: partial(conv.conv, function=ops.conv_relu_pool, pool=pool)


def _dense(dense: Dense, *_: Any) -> Run:
    return lambda x: ops.dense(x, dense.weight, dense.bias, relu=True)


# By the class of the first layer itself (what a subclass does is its own): the tests of it and of those that follow,
# and a function of the layers that returns what runs in their place. The longest come first.
PATTERNS: dict[type, list[tuple[tuple[Test, ...], Callable[..., Run]]]] = {
    Conv2d: [
        ((_plain, _relu, _halving), _conv(pool=True)),
        ((_with_relu, _halving), _conv(pool=True)),
        ((_plain, _relu), _conv(pool=False)),
        ((_with_relu,), _conv(pool=False)),
    ],
    Dense: [
        ((_plain, _relu), _dense),
        ((_with_relu,), _dense),
    ],
}


def fused(layers: list, i: int) -> tuple[Run | None, int]:
    """What does layers i, i+1, … in one step, and how many they are; (None, 1) where there is nothing.

    Layers that have not been called yet, or have hooks, run by themselves.
    """
    for tests, run in PATTERNS.get(type(layers[i]), ()):
        found = layers[i : i + len(tests)]
        if len(found) < len(tests):
            continue
        for layer, test in zip(found, tests, strict=True):
            if not test(layer) or layer.built is None or layer._hooks:
                break
        else:
            return run(*found), len(found)
    return None, 1
