"""A vector for each of a number of things: words, characters, classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..integers import count as whole
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


class Embedding(Module):
    """ids (N, …) integers in [0, count) → (N, …, features): the learnt vector of each.

    Args: kernel_init: the vectors' initialiser; the standard normal distribution by default.
    Parameters: weight (count, features).
    """

    weight: Parameter
    input_dtype = np.int64

    def __init__(self, count: int, features: int, *, kernel_init: str | Callable = "normal"):
        self.count, self.features = whole("Embedding", "count", count, 1), whole("Embedding", "features", features, 1)
        self.kernel_init = init.get(kernel_init)

    def create(self, shape: Any) -> None:
        self.weight = self.parameter((self.count, self.features), self.kernel_init)

    def output_size(self, shape: tuple) -> tuple:
        return (*shape, self.features)

    def forward(self, ids: Tensor) -> Tensor:
        return ops.embedding(ids, self.weight)
