"""The language model of nanoGPT: a transformer that predicts the next token (Radford et al., "GPT-2", 2019)."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..integers import count
from ..nn import Dropout, Embedding, LayerNorm, Module, Parameter, Sequential, TransformerBlock, init
from ..tensor import Tensor
from .parts import normal


class GPT(Module):
    """ids (N, T) integers, T ≤ context → logits (N, T, vocabulary) of the token after each. `gpt` makes one.

    Parameters: positions (context, width), what a place adds; those of `tokens`, `blocks` and `norm`. The head has
        none: its weights are the tokens' vectors (Press & Wolf 2017).
    """

    positions: Parameter
    input_dtype = np.int64

    def __init__(self, vocabulary: int, width: int, context: int, *blocks: Module, dropout: float = 0.0):
        self.context = count("GPT", "context", context, 1)
        self.tokens, self.drop = Embedding(vocabulary, width), Dropout(dropout)
        self.blocks, self.norm = Sequential(*blocks), LayerNorm()

    def create(self, shape: tuple) -> None:
        self.positions = self.parameter((self.context, self.tokens.features), init.normal)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions[: self._steps(ids.shape[1:])]
        x = self.norm(self.blocks(self.drop(x)))
        return ops.dense(x, self.tokens.weight.T)

    def output_size(self, shape: tuple) -> tuple:
        self._steps(shape)
        for part in self.tokens, self.drop, self.blocks, self.norm:
            shape = part.output_size(shape)
        return (*shape[:-1], self.tokens.count)

    def multiply_adds(self, shape: tuple) -> int:
        return shape[0] * self.tokens.weight.size

    def _steps(self, shape: tuple) -> int:
        """T. ValueError where there is none, or it is too long."""
        if len(shape) != 1 or shape[0] > self.context:
            raise ValueError(f"GPT: ids must be (N, T) with T ≤ context={self.context}, got {('N', *shape)}")
        return shape[0]


def gpt(
    vocabulary: int, *, layers: int = 4, heads: int = 4, width: int = 128, context: int = 64, dropout: float = 0.0
) -> GPT:
    """The baby network of nanoGPT (Karpathy 2022): GPT-2's blocks, with learnt positions and a shared head.

    For the 65 characters of Shakespeare 809,856 parameters, and 55,058,432 multiply-adds for 64 of them. Weights are
    drawn from N(0, 0.02²), those that write into the residual stream from N(0, 0.02² / (2 · layers)).
    """
    layers = count("gpt", "layers", layers, 1)
    blocks = (TransformerBlock(heads, 4 * width, dropout=dropout, causal=True) for _ in range(layers))
    model = GPT(vocabulary, width, context, *blocks, dropout=dropout)
    model.build(context)
    for name, p in model.named_parameters():
        if p.ndim > 1:  # biases start at 0, the norms' weights at 1
            normal(p, 0.02 / math.sqrt(2 * layers) if name.endswith(("out_weight", "weight2")) else 0.02)
    return model
