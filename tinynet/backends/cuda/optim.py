"""Optimiser launches: the step is counted on the device, then one kernel updates the flat vector."""

from __future__ import annotations

import numpy as np

from .arrays import Array, Arrays

MOST_BLOCKS = 1024  # of the passes over the gradient: each of their warps leaves one value, which a block adds up


class Optim(Arrays):
    def guard(self, g: Array, loss: Array | None, most: float) -> Array:
        loss = None if loss is None else self.asarray(loss, g.dtype)
        blocks = self._blocks(g.size)
        verdicts = self.empty((blocks * 8,), g.dtype)
        self.launch("guard", g, loss, verdicts, most, g.size, grid=blocks, block=256)
        return self.sum(verdicts, (0,), False)

    def squares(self, x: Array) -> Array:
        blocks = self._blocks(x.size)
        parts = self.empty((blocks * 8,), np.dtype(np.float64))
        self.launch("squares", self.contiguous(x), parts, x.size, grid=blocks, block=256)
        return self.sum(parts, (0,), False)

    @staticmethod
    def _blocks(n: int) -> int:
        """How many blocks of eight warps go through a flat vector."""
        return max(1, min(-(-n // 1024), MOST_BLOCKS))

    def _advance(self, lr_count: Array, loss: Array | None, w: Array) -> Array | None:
        """Count the step unless the loss voids it; gives the loss in w's dtype."""
        loss = None if loss is None else self.asarray(loss, w.dtype)
        T = {"float32": "float", "float64": "double"}[str(w.dtype)]
        self.launch("advance", lr_count, loss, grid=1, block=1, T=T)
        return loss

    def sgd_step(
        self,
        w: Array,
        g: Array,
        velocity: Array | None,
        lr_count: Array,
        loss: Array | None,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("sgd", w, g, velocity, lr_count, loss, momentum, nesterov, weight_decay, w.size)

    def adam_step(
        self,
        w: Array,
        g: Array,
        m: Array,
        v: Array,
        lr_count: Array,
        loss: Array | None,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("adam", w, g, m, v, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, w.size)

    def rmsprop_step(
        self,
        w: Array,
        g: Array,
        v: Array,
        velocity: Array | None,
        lr_count: Array,
        loss: Array | None,
        alpha: float,
        eps: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("rmsprop", w, g, v, velocity, lr_count, loss, alpha, eps, momentum, weight_decay, w.size)

    def adagrad_step(
        self,
        w: Array,
        g: Array,
        v: Array,
        lr_count: Array,
        loss: Array | None,
        eps: float,
        lr_decay: float,
        weight_decay: float,
    ) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("adagrad", w, g, v, lr_count, loss, eps, lr_decay, weight_decay, w.size)
