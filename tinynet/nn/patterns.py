"""The patterns that Sequential fuses: which layers in a row run as one operation. One table, read from top to bottom.

A new fused operation is a row here: a test for each of the layers, and what runs in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import ops
from .activation import ReLU, Sigmoid, Tanh
from .conv import Conv2d
from .dense import Dense, in_one_step
from .functions import Lambda
from .norm import BatchNorm
from .pool import MaxPool2d

Run = Callable[[Any], Any]
Test = Callable[[Any], bool]
FUNCTIONS = {ReLU: ops.relu, Tanh: ops.tanh, Sigmoid: ops.sigmoid}


def _any(layer: Any) -> bool:
    return True


def _plain(layer: Any) -> bool:
    """A convolution or dense layer without activation."""
    return layer.activation is None


def _with_relu(layer: Any) -> bool:
    return layer.activation is ops.relu


def _function(layer: Any) -> Any:
    """The operation that the layer consists of, where it is an activation here."""
    return layer.function if type(layer) is Lambda else FUNCTIONS.get(type(layer))


def _relu(layer: Any) -> bool:
    return _function(layer) is ops.relu


def _in_one_step(layer: Any) -> bool:
    return in_one_step(_function(layer)) is not None


def _with_one_step(layer: Any) -> bool:
    return in_one_step(layer.activation) is not None


def _halving(layer: Any) -> bool:
    """A 2×2 maximum, without padding."""
    return (
        type(layer) is MaxPool2d
        and layer.kernel_size == layer.stride == (2, 2)
        and layer.padding in (0, (0, 0), "valid")
        and layer.dilation == (1, 1)
        and not layer.ceil_mode
    )


def _fixed_norm(layer: Any) -> bool:
    """Batch normalisation by its running statistics: a factor and a summand a channel."""
    return type(layer) is BatchNorm and layer.fixed


def _folded(relu: bool, pool: bool = False) -> Callable[..., Run]:
    """The convolution with the normalisation in its weights."""

    def run(conv: Conv2d, norm: BatchNorm, x: Any) -> Any:
        weights = norm.folded(conv.weight, conv.bias)
        return conv.conv(x, ops.conv_relu_pool, weights, pool=pool) if relu else conv.conv(x, ops.conv2d, weights)

    return lambda conv, norm, *_: partial(run, conv, norm)


def _conv(pool: bool) -> Callable[..., Run]:
    return lambda conv, *_: partial(conv.conv, function=ops.conv_relu_pool, pool=pool)


def _dense(dense: Dense, after: Any = None) -> Run:
    return partial(dense.dense, activation=in_one_step(dense.activation if after is None else _function(after)))


def _then_relu(layer: Any, *_: Any) -> Run:
    """Of a layer whose forward takes `relu`."""
    return partial(layer.forward, relu=True)


# By the class of the first layer itself (what a subclass does is its own): the tests of it and of those that follow,
# and a function of the layers that returns what runs in their place. The longest come first. (Residual is made of
# Sequential, which needs this table: its row is beside it in blocks.py.)
PATTERNS: dict[type, list[tuple[tuple[Test, ...], Callable[..., Run]]]] = {
    Conv2d: [
        ((_plain, _fixed_norm, _relu, _halving), _folded(relu=True, pool=True)),
        ((_plain, _fixed_norm, _relu), _folded(relu=True)),
        ((_plain, _fixed_norm), _folded(relu=False)),
        ((_plain, _relu, _halving), _conv(pool=True)),
        ((_with_relu, _halving), _conv(pool=True)),
        ((_plain, _relu), _conv(pool=False)),
        ((_with_relu,), _conv(pool=False)),
    ],
    Dense: [
        ((_plain, _in_one_step), _dense),
        ((_with_one_step,), _dense),
    ],
    BatchNorm: [((_any, _relu), _then_relu)],
}


def takes_relu(layer: type) -> type:
    """Decorates a layer whose forward takes `relu`: it and a ReLU behind it are one step."""
    PATTERNS[layer] = [((_any, _relu), _then_relu)]
    return layer


def fused(layers: list, i: int) -> tuple[Run | None, int]:
    """What does layers i, i+1, … in one step, and how many they are; (None, 1) where there is nothing.

    Layers that have not been called yet, or have hooks, run by themselves.
    """
    for tests, run in PATTERNS.get(type(layers[i]), ()):
        stop = i + len(tests)
        if stop > len(layers):
            continue
        for k, test in enumerate(tests, i):
            if not test(layer := layers[k]) or layer.built is None or layer._hooks:
                break
        else:
            return run(*layers[i:stop]), len(tests)
    return None, 1
