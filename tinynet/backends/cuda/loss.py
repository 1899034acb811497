"""Softmax cross-entropy: one launch forward, which leaves the slope, and one product backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, Arrays


class Loss(Arrays):
    def softmax_cross_entropy(self, logits: Array, labels: Array) -> tuple[Array, Any]:
        rows, columns = logits.shape
        losses, slope = self.empty((rows,), logits.dtype), self.empty(logits.shape, logits.dtype)
        self.launch(
            "softmax_cross_entropy",
            self.contiguous(logits),
            self.contiguous(self.asarray(labels, np.int64)),
            losses,
            slope,
            rows,
            columns,
        )
        return losses, slope

    def softmax_cross_entropy_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        return self.into(
            out,
            saved.shape,
            saved.dtype,
            lambda dx: self.launch("scale_rows", saved, self.contiguous(g), dx, saved.shape[1], dx.size),
        )
