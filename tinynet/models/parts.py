"""What several families are made of."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

from ..autograd import no_grad
from ..hints import explained
from ..nn import BatchNorm, Conv2d, Module, Parameter, ReLU, init
from ..ops import random


def builder(function: Callable) -> Callable:
    """The same function, with errors that explain the keywords of other libraries, and an input_shape that is none."""
    named = explained(function)
    default = inspect.signature(function).parameters.get("input_shape")

    @functools.wraps(named)
    def checked(*args: Any, **options: Any) -> Any:
        if default is not None and not _is_shape(shape := options.get("input_shape", default.default)):
            raise ValueError(
                f"{function.__name__}: input_shape={shape!r} must be (H, W, C) of one image, without the batch axis, "
                f"as in the default {default.default}"
            )
        return named(*args, **options)

    return checked


def _is_shape(shape: Any) -> bool:
    """Whether these are three sizes."""
    try:
        return len(shape) == 3 and min(map(operator.index, shape)) > 0
    except TypeError:
        return False


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
