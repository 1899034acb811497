"""Activations: elementwise functions between the layers of a network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor, tensor
from .elementwise import abs, clip, minimum

__all__ = [
    "add_relu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
]


@op(integers="float64")
def sigmoid(be, x):
    """1 / (1 + e⁻ˣ)"""
    y = be.sigmoid(x)
    return y, lambda g, need: (be.sigmoid_grad(g, y),)


@op
def relu(be, x):
    """max(x, 0); the derivative at 0 is 0."""
    y = be.relu(x)
    return y, lambda g, need: (be.relu_grad(g, y),)


@op
def add_relu(be, x, y):
    """max(x + y, 0) in one step: what ends a residual block."""
    z = be.add_relu(x, y)

    def vjp(g, need):
        g = be.relu_grad(g, z)
        return g if need[0] else None, g if need[1] else None

    return z, vjp


@op(integers="float64")
def leaky_relu(be, x, slope=0.01):
    """x where x > 0, else slope·x (Maas et al. 2013)."""
    return be.leaky_relu(x, slope), lambda g, need: (be.leaky_relu_grad(g, x, slope),)


@op(integers="float64")
def gelu(be, x, approximate=False):
    """x·Φ(x) (Hendrycks & Gimpel 2016), exactly or by x/2·(1 + tanh(√(2/π)·(x + 0.044715 x³)))."""
    if not approximate:
        return be.gelu(x), lambda g, need: (be.gelu_grad(g, x),)
    c, cubed = math.sqrt(2 / math.pi), 0.044715
    square = be.multiply(x, x)
    t = be.tanh(be.multiply(be.multiply(x, be.add(be.multiply(square, cubed), 1)), c))

    def vjp(g, need):  # d/dx = (1 + t)/2 + x/2·(1 - t²)·du/dx, with t = tanh u
        du = be.multiply(be.add(be.multiply(square, 3 * cubed), 1), c)
        bend = be.multiply(be.multiply(x, du), be.subtract(1, be.multiply(t, t)))
        return (be.multiply(be.multiply(g, be.add(be.add(t, 1), bend)), 0.5),)

    return be.multiply(be.multiply(x, be.add(t, 1)), 0.5), vjp


@op(integers="float64")
def softplus(be, x):
    """log(1 + eˣ), without overflow."""
    return be.softplus(x), lambda g, need: (be.softplus_grad(g, x),)


@op(integers="float64")
def mish(be, x):
    """x·tanh(log(1 + eˣ)) (Misra 2019)."""
    return be.mish(x), lambda g, need: (be.mish_grad(g, x),)


@op(integers="float64")
def elu(be, x, alpha=1.0):
    """x where x > 0, else alpha·(eˣ - 1) (Clevert et al. 2016)."""
    y = be.where(be.greater(x, 0), x, be.multiply(be.expm1(be.minimum(x, 0)), alpha))
    return y, lambda g, need: (be.multiply(g, be.where(be.greater(x, 0), 1.0, be.add(y, alpha))),)


def selu(x: Any) -> Tensor:
    """1.0507·elu(x, 1.6733): keeps mean 0 and variance 1 through layers (Klambauer et al. 2017)."""
    return elu(x, 1.6732632423543772) * 1.0507009873554805


@op(integers="float64")
def silu(be, x):
    """x / (1 + e⁻ˣ), also called swish (Elfwing et al. 2018)."""
    s = be.sigmoid(x)
    y = be.multiply(x, s)
    return y, lambda g, need: (be.multiply(g, be.add(s, be.multiply(y, be.subtract(1, s)))),)


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6) (Howard et al. 2017)."""
    return minimum(relu(x), 6)


def hardtanh(x: Any, low: float = -1.0, high: float = 1.0) -> Tensor:
    """x limited to [low, high]; the derivative is 1 on the limits."""
    return clip(x, low, high)


def hardsigmoid(x: Any) -> Tensor:
    """x / 6 + 1 / 2 limited to [0, 1] (Howard et al. 2019)."""
    return clip(_tensor(x) / 6 + 0.5, 0.0, 1.0)


def hardswish(x: Any) -> Tensor:
    """x · hardsigmoid(x) (Howard et al. 2019)."""
    return hardsigmoid(x) * x


def log_sigmoid(x: Any) -> Tensor:
    """log(1 / (1 + e⁻ˣ)), without overflow."""
    return -softplus(-_tensor(x))


def softsign(x: Any) -> Tensor:
    """x / (1 + |x|)"""
    return x / (abs(x) + 1)


@op(integers="float64")
def prelu(be, x, slope):
    """x where x > 0, else slope·x, with a learned slope that broadcasts: one, or (C,) for channels (He et al. 2015)."""
    if isinstance(slope, list | tuple):
        slope = be.asarray(np.asarray(slope, x.dtype))
    y = be.where(be.greater(x, 0), x, be.multiply(x, slope))
    return y, lambda g, need: (
        be.multiply(g, be.where(be.greater(x, 0), 1.0, slope)) if need[0] else None,
        be.where(be.greater(x, 0), 0.0, be.multiply(g, x)) if need[1] else None,
    )


def _tensor(x: Any) -> Tensor:
    """x as a tensor."""
    return x if isinstance(x, Tensor) else tensor(x)


T: Any = Tensor
T.relu, T.sigmoid = relu, sigmoid
