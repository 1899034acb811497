"""Recurrent layers: sequences (N, T, C) → (N, T, H), and the state after the last step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..integers import count
from ..tensor import Tensor
from .fields import ALL, Field
from .module import Module, Parameter


class _Recurrent(Module):
    """Base of `RNN`, `LSTM` and `GRU`: layers on one another, in one or both directions.

    Args:
        hidden: H, the size of the state.
        layers: each but the first reads the outputs of the one below.
        bidirectional: besides, each layer has a second part that reads from the end; outputs are (N, T, 2H).
        dropout: the rate between layers, in training.
    Call: `y, state = layer(x, state=None, lengths=None)`. x is (N, T, C); a state is (layers · directions, N, H), zeros
        by default, in PyTorch's order; lengths (N,) ints: steps beyond a sample's length change nothing. To go on
        from batch to batch, pass the state on, detached: gradients then stop at the batch's first step.
    Parameters: `weights`, for each layer and direction a dict: wx (C, gates·H), wh (H, gates·H), and the biases, drawn
        from U(-1/√H, 1/√H).
    """

    input_dtype = np.float32
    operation: Callable
    gates: int
    states = 1
    biases: tuple[str, ...] = ("b",)
    weights: list[dict[str, Parameter]]

    def __init__(self, hidden: int, *extra: Any, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0):
        name = type(self).__name__
        if extra:
            raise TypeError(
                f"{name} takes (hidden): the input's features are inferred. Write nn.{name}({extra[0]!r}) for "
                f"PyTorch's nn.{name}({hidden}, {extra[0]!r})."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"{name}: dropout={dropout!r} must be in [0, 1)")
        self.hidden, self.layers = count(name, "hidden", hidden, 1), count(name, "layers", layers, 1)
        self.directions, self.dropout = 1 + bool(bidirectional), dropout

    def create(self, shape: tuple) -> None:
        if len(shape) != 2:
            raise ValueError(f"{type(self).__name__}: inputs must be (N, T, C), got {('N', *shape)}")
        bound = 1 / math.sqrt(self.hidden)
        wide = self.gates * self.hidden

        def uniform(shape: tuple, rng: np.random.Generator) -> np.ndarray:
            return rng.uniform(-bound, bound, shape).astype(np.float32)

        self.weights = []
        for layer in range(self.layers):
            features = shape[1] if layer == 0 else self.hidden * self.directions
            for _ in range(self.directions):
                shapes = {"wx": (features, wide), "wh": (self.hidden, wide)} | dict.fromkeys(self.biases, (wide,))
                self.weights.append({name: self.parameter(s, uniform) for name, s in shapes.items()})

    by_arithmetic = False  # the size is that of y, without the state

    def output_size(self, shape: tuple) -> tuple:
        if len(shape) != 2:
            raise ValueError(f"{type(self).__name__}: inputs must be (N, T, C), got {('N', *shape)}")
        return (shape[0], self.hidden * self.directions)

    def multiply_adds(self, shape: tuple) -> int:
        return shape[0] * sum(w[name].size for w in self.weights for name in ("wx", "wh"))

    def receptive(self, field: Field) -> Field:
        """Of the last step, or of any where there are both directions: the whole sequence."""
        return ALL

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        given = self._given(x, state)
        last = []
        for layer in range(self.layers):
            ys = []
            for direction in range(self.directions):
                i = layer * self.directions + direction
                w = self.weights[i]
                y, *states = type(self).operation(
                    x, *(s[i] for s in given), *w.values(), lengths=lengths, reverse=direction == 1
                )
                ys.append(y)
                last.append(states)
            x = ys[0] if len(ys) == 1 else ops.concatenate(ys, -1)
            if self.dropout and self.training and layer < self.layers - 1:
                x = ops.dropout(x, self.dropout)
        stacked = tuple(ops.stack([states[k] for states in last]) for k in range(self.states))
        return x, stacked if self.states > 1 else stacked[0]

    def _given(self, x: Tensor, state: Any) -> tuple:
        """The state to begin with, zeros by default, as a tuple of (layers · directions, N, H)."""
        shape = (self.layers * self.directions, x.shape[0], self.hidden)
        if state is None:
            return (Tensor(x.backend.full(shape, 0, self.weights[0]["wx"].dtype), x.backend),) * self.states
        states = state if isinstance(state, tuple | list) else (state,)
        if len(states) != self.states or any(np.shape(s) != shape for s in states):
            wanted = "(h, c), each" if self.states > 1 else "h,"
            raise ValueError(
                f"{type(self).__name__}: the state must be {wanted} of shape {shape}, got "
                f"{', '.join(str(np.shape(s)) for s in states)}"
            )
        return tuple(states)


class RNN(_Recurrent):
    __doc__ = f"h' = tanh(x wx + h wh + b), see `ops.rnn`.\n{_Recurrent.__doc__}"
    operation, gates = ops.rnn, 1


class LSTM(_Recurrent):
    __doc__ = f"Long short-term memory; its state is (h, c), see `ops.lstm`.\n{_Recurrent.__doc__}"
    operation, gates, states = ops.lstm, 4, 2


class GRU(_Recurrent):
    __doc__ = f"Gated recurrent unit, see `ops.gru`.\n{_Recurrent.__doc__}"
    operation, gates, biases = ops.gru, 3, ("bx", "bh")
