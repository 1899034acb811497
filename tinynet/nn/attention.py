"""Attention layers and the block of a transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..integers import count
from ..tensor import Tensor
from . import activation as activations
from . import init
from .activation import SameSize
from .module import Parameter
from .norm import LayerNorm
from .random import Dropout


class MultiHeadAttention(SameSize):
    """q (N, T, C), by default also k and v (N, S, C) → (N, T, C): attention in `heads` parts of the features, each with
    projections of its own (Vaswani et al. 2017).

    Called as m(q, k=None, v=None, *, mask=None, causal=False); mask: bools that broadcast to (N, heads, T, S).
    Args: dropout: the share of attention weights that is dropped in training.
    Parameters: in_weight (C, 3 C): those of queries, keys, values side by side; in_bias (3 C,), out_weight (C, C),
        out_bias (C,).
    """

    in_weight: Parameter
    out_weight: Parameter
    in_bias: Parameter | None = None
    out_bias: Parameter | None = None
    input_dtype = np.float32

    def __init__(self, heads: int, *, dropout: float = 0.0, bias: bool = True):
        self.heads, self.dropout, self.has_bias = count("MultiHeadAttention", "heads", heads, 1), dropout, bias

    def create(self, shape: tuple, *_: Any) -> None:
        if len(shape) != 2 or shape[1] % self.heads:
            raise ValueError(
                f"MultiHeadAttention: inputs must be (N, T, C), C divisible by heads={self.heads}, got {('N', *shape)}"
            )
        c, glorot = shape[1], init.get("glorot_uniform")
        self.in_weight = self.parameter((c, 3 * c), glorot)
        self.out_weight = self.parameter((c, c), glorot)
        if self.has_bias:
            self.in_bias, self.out_bias = self.parameter((3 * c,), init.zeros), self.parameter((c,), init.zeros)

    def forward(
        self, q: Tensor, k: Tensor | None = None, v: Tensor | None = None, *, mask: Any = None, causal: bool = False
    ) -> Tensor:
        if k is None and v is None:
            parts = ops.split(ops.dense(q, self.in_weight, self.in_bias), 3, -1)
        else:
            k = q if k is None else k
            parts = [self._projected(x, i) for i, x in enumerate((q, k, k if v is None else v))]
        heads = [x.reshape(*x.shape[:2], self.heads, -1).transpose(0, 2, 1, 3) for x in parts]
        rate = self.dropout if self.training else 0.0
        y = ops.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask, causal=causal, dropout=rate)
        return ops.dense(y.transpose(0, 2, 1, 3).reshape(*q.shape), self.out_weight, self.out_bias)

    def multiply_adds(self, shape: tuple) -> int:
        steps, c = shape  # of self-attention: the projections, then each step with each
        return steps * (self.in_weight.size + self.out_weight.size) + 2 * steps * steps * c

    def _projected(self, x: Tensor, i: int) -> Tensor:
        """x as queries (0), keys (1) or values (2)."""
        part = slice(i * x.shape[-1], (i + 1) * x.shape[-1])
        return ops.dense(x, self.in_weight[:, part], None if self.in_bias is None else self.in_bias[part])


class TransformerBlock(SameSize):
    """x (N, T, C) → (N, T, C): attention, then two dense layers with `hidden` features between, each beside a shortcut.

    Called as block(x, mask=None).
    Args: norm_first: x + f(norm(x)), as GPT-2; otherwise norm(x + f(x)), as published (Vaswani et al. 2017).
        dropout: of the attention's weights, and of what each part adds. causal: a step attends to none after it.
        activation: between the dense layers, by name or a function.
    Parameters: attention's and the norms'; weight1 (C, hidden), bias1, weight2 (hidden, C), bias2.
    """

    input_dtype = np.float32
    weight1: Parameter
    bias1: Parameter
    weight2: Parameter
    bias2: Parameter

    def __init__(
        self,
        heads: int,
        hidden: int,
        *,
        dropout: float = 0.0,
        norm_first: bool = True,
        causal: bool = False,
        activation: str | Callable = "gelu",
    ):
        self.attention = MultiHeadAttention(heads, dropout=dropout)
        self.norm1, self.norm2, self.drop = LayerNorm(), LayerNorm(), Dropout(dropout)
        self.hidden, self.activation = count("TransformerBlock", "hidden", hidden, 1), activations.get(activation)
        self.norm_first, self.causal = norm_first, causal

    def create(self, shape: tuple, *_: Any) -> None:
        c, glorot = shape[-1], init.get("glorot_uniform")
        self.weight1, self.bias1 = self.parameter((c, self.hidden), glorot), self.parameter((self.hidden,), init.zeros)
        self.weight2, self.bias2 = self.parameter((self.hidden, c), glorot), self.parameter((c,), init.zeros)

    def output_size(self, shape: tuple) -> tuple:
        for part in (self.norm1, self.attention, self.norm2, self.drop):
            shape = part.output_size(shape)
        return shape

    def multiply_adds(self, shape: tuple) -> int:
        return shape[0] * (self.weight1.size + self.weight2.size)

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        attend = lambda x: self.drop(self.attention(x, mask=mask, causal=self.causal))  # noqa: E731
        for part, norm in (attend, self.norm1), (self._dense, self.norm2):
            x = x + part(norm(x)) if self.norm_first else norm(x + part(x))
        return x

    def _dense(self, x: Tensor) -> Tensor:
        y = ops.dense(x, self.weight1, self.bias1)
        return self.drop(ops.dense(y if self.activation is None else self.activation(y), self.weight2, self.bias2))


class PositionalEncoding(SameSize):
    """x (N, T, C) + the place of each step: sines in the even features, cosines in the odd ones, of wavelengths from 2π
    to 10000 · 2π (Vaswani et al. 2017)."""

    input_dtype = np.float32

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3:
            raise ValueError(f"PositionalEncoding: the input {x.shape} must be (N, T, C)")
        steps, features = np.arange(x.shape[1])[:, None], np.arange(x.shape[2])
        angles = steps / 10000.0 ** (features // 2 * 2 / x.shape[2])
        return x + np.where(features % 2, np.cos(angles), np.sin(angles)).astype(x.dtype)
