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
        """Count the step unless the loss voids it; returns the loss in w's dtype."""
        loss = None if loss is None else self.asarray(loss, w.dtype)
        T = {"float32": "float", "float64": "double"}[str(w.dtype)]
        self.launch("advance", lr_count, loss, grid=1, block=1, T=T)
        return loss

    def sgd_step(self, w, g, velocity, lr_count, loss, momentum, dampening, nesterov, weight_decay, maximize) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch(
            "sgd", w, g, velocity, lr_count, loss, momentum, dampening, nesterov, weight_decay, maximize, w.size
        )

    def adam_step(
        self, w, g, m, v, largest, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, maximize
    ) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch(
            "adam", w, g, m, v, largest, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, maximize, w.size
        )

    def rmsprop_step(
        self, w, g, v, mean, velocity, lr_count, loss, alpha, eps, momentum, weight_decay, maximize
    ) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch(
            "rmsprop", w, g, v, mean, velocity, lr_count, loss, alpha, eps, momentum, weight_decay, maximize, w.size
        )

    def adagrad_step(self, w, g, v, lr_count, loss, eps, lr_decay, weight_decay, maximize) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("adagrad", w, g, v, lr_count, loss, eps, lr_decay, weight_decay, maximize, w.size)

    def adadelta_step(self, w, g, v, u, lr_count, loss, rho, eps, weight_decay, maximize) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("adadelta", w, g, v, u, lr_count, loss, rho, eps, weight_decay, maximize, w.size)

    def adamax_step(self, w, g, m, u, lr_count, loss, beta1, beta2, eps, weight_decay, maximize) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("adamax", w, g, m, u, lr_count, loss, beta1, beta2, eps, weight_decay, maximize, w.size)

    def nadam_step(
        self, w, g, m, v, rest, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, momentum_decay, maximize
    ) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch(
            "nadam",
            w,
            g,
            m,
            v,
            rest,
            lr_count,
            loss,
            beta1,
            beta2,
            eps,
            weight_decay,
            decoupled,
            momentum_decay,
            maximize,
            w.size,
        )

    def lion_step(self, w, g, m, lr_count, loss, beta1, beta2, weight_decay, maximize) -> None:
        loss = self._advance(lr_count, loss, w)
        self.launch("lion", w, g, m, lr_count, loss, beta1, beta2, weight_decay, maximize, w.size)

    def lamb_step(self, w, g, m, v, sizes, lr_count, loss, beta1, beta2, eps, weight_decay, maximize) -> None:
        loss, starts = self._advance(lr_count, loss, w), self._starts(sizes)
        blocks = max(1, min(-(-max(sizes, default=0) // 1024), MOST_BLOCKS // 16))
        sums = self.empty((len(sizes), blocks * 8, 2), np.dtype(np.float64))
        rule = beta1, beta2, eps, weight_decay
        self.launch(
            "lamb_norms",
            w,
            g,
            m,
            v,
            starts,
            lr_count,
            loss,
            sums,
            *rule,
            maximize,
            grid=(blocks, len(sizes)),
            block=256,
        )
        self.launch("lamb", w, m, v, starts, lr_count, loss, sums, *rule, grid=(blocks, len(sizes)), block=256)

    def muon_momentum_step(self, g, velocity, update, loss, momentum, nesterov, maximize) -> None:
        loss = None if loss is None else self.asarray(loss, g.dtype)
        self.launch("muon_momentum", g, velocity, update, loss, momentum, nesterov, maximize, g.size)

    def _starts(self, sizes: tuple[int, ...]) -> Array:
        """Where parameters of these sizes begin in a flat vector, and where the last ends; kept on the device."""
        kept = self.__dict__.setdefault("_kept_starts", {})
        if sizes not in kept:
            kept[sizes] = self.asarray(np.cumsum([0, *sizes], dtype=np.int64))
        return kept[sizes]
