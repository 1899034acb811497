"""What several families are made of."""

from __future__ import annotations

from ..autograd import no_grad
from ..nn import BatchNorm, Conv2d, Module, Parameter, ReLU, init
from ..ops import random


def conv_norm(channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, eps: float = 1e-5) -> list[Module]:
    """A convolution that keeps the size but for its stride, and batch normalisation."""
    padding = (kernel - 1) // 2
    conv = Conv2d(channels, kernel, stride=stride, padding=padding, groups=groups, bias=False, kernel_init="he_normal")
    return [conv, BatchNorm(eps=eps)]


def conv_norm_relu(channels: int, kernel: int = 3, **options) -> list[Module]:
    """`conv_norm` and relu: a row that Sequential fuses."""
    return [*conv_norm(channels, kernel, **options), ReLU()]


def normal(p: Parameter, std: float, mean: float = 0.0) -> None:
    """Give a parameter new values, from N(mean, std²)."""
    with no_grad():
        p[...] = mean + std * init.normal(p.shape, random.state.generator("init"))
