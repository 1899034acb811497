"""Random bits and dropout. The mask is not kept: backward draws it again from its place in the sequence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array, Arrays

_WORD = (1 << 64) - 1


class Random(Arrays):
    moved: dict[int, Array] | None = None  # while a graph is recorded: by stream, the draws made since, on the device

    def random_bits(
        self, shape: tuple, seed: int, stream: int, step: int, first: int, *, out: Array | None = None
    ) -> Array:
        size = math.prod(shape[1:])
        blocks = -(-size // 16)
        return self.into(
            out,
            shape,
            np.dtype(np.uint16),
            lambda bits: self.launch(
                "random_bits",
                bits,
                seed & _WORD,
                stream & _WORD,
                step,
                self._moved(stream),
                first,
                size,
                blocks,
                shape[0] * blocks,
            ),
        )

    def _moved(self, stream: int) -> Array | None:
        return None if self.moved is None else self.moved.get(stream)

    def dropout(self, x: Array, rate: float, seed: int, stream: int, step: int, first: int) -> tuple[Array, Any]:
        scale, moved = 1 / (1 - rate) if rate < 1 else 0.0, self._moved(stream)
        saved = (round(rate * 65536), scale, seed & _WORD, stream & _WORD, step, moved, first)
        return self.dropout_grad(x, saved), saved

    def dropout_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        size = math.prod(g.shape[1:])
        blocks = -(-size // 16)
        return self.into(
            out,
            g.shape,
            g.dtype,
            lambda dx: self.launch("dropout", self.contiguous(g), dx, *saved, size, blocks, g.shape[0] * blocks),
        )
