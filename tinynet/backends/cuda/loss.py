"""Softmax cross-entropy: one launch forward, which leaves the slope, and one product backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, Arrays

FEW = 1 << 15  # logits: one block works through so many in the time of a launch or two


class Loss(Arrays):
    def softmax_cross_entropy(self, logits: Array, labels: Array, scale: float | None = None) -> tuple[Array, Any]:
        rows, columns = logits.shape
        logits, labels = self.contiguous(logits), self.contiguous(self.asarray(labels, np.int64))
        slope, saved = self.empty(logits.shape, logits.dtype), 1.0 if scale is None else scale
        if scale is not None and logits.size <= FEW:
            loss = self.empty((), logits.dtype)
            warps = min(32, max(rows, 1))
            more = {"grid": 1, "block": 32 * warps}
            self.launch("softmax_cross_entropy_sum", logits, labels, loss, slope, scale, rows, columns, **more)
            return loss, (slope, saved)
        losses = self.empty((rows,), logits.dtype)
        self.launch("softmax_cross_entropy", logits, labels, losses, slope, rows, columns)
        return losses if scale is None else self.multiply(self.sum(losses, (0,)), scale), (slope, saved)

    def softmax_cross_entropy_grad(self, g: Array, saved: Any, *, out: Array | None = None) -> Array:
        slope, scale = saved
        g, step = self.contiguous(g), int(g.ndim > 0)
        return self.into(
            out,
            slope.shape,
            slope.dtype,
            lambda dx: self.launch("scale_rows", slope, g, dx, scale, step, slope.shape[1], dx.size),
        )
