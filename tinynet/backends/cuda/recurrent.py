"""Launches of recurrent networks' cells: one a time step."""

from __future__ import annotations

from .arrays import Array, Arrays


class Recurrent(Arrays):
    def lstm_cell(self, z: Array, c: Array) -> tuple:
        z, c = self.contiguous(z), self.contiguous(c)
        h, new, gates, tanh_c = (self.empty(v.shape, v.dtype) for v in (c, c, z, c))
        self.launch("lstm_cell", z, c, h, new, gates, tanh_c, c.shape[1], c.size)
        return h, new, gates, tanh_c

    def lstm_slopes(self, gates: Array, c: Array, tanh_c: Array) -> Array:
        slopes = self.empty((c.shape[0], 5 * c.shape[1]), c.dtype)
        inputs = [self.contiguous(v) for v in (gates, c, tanh_c)]
        self.launch("lstm_slopes", *inputs, slopes, c.shape[1], c.size)
        return slopes

    def lstm_cell_grad(self, dh: Array, dc: Array, gates: Array, slopes: Array) -> tuple:
        dz, before = self.empty(gates.shape, gates.dtype), self.empty(dc.shape, dc.dtype)
        inputs = [self.contiguous(v) for v in (dh, dc, gates, slopes)]
        self.launch("lstm_cell_grad", *inputs, dz, before, dc.shape[1], dc.size)
        return dz, before

    def gru_cell(self, zx: Array, zh: Array, h: Array) -> tuple:
        new, gates = self.empty(h.shape, h.dtype), self.empty(zx.shape, zx.dtype)
        inputs = [self.contiguous(v) for v in (zx, zh, h)]
        self.launch("gru_cell", *inputs, new, gates, h.shape[1], h.size)
        return new, gates

    def gru_cell_grad(self, dh: Array, gates: Array, zh: Array, h: Array) -> tuple:
        dzx, dzh, before = (self.empty(v.shape, v.dtype) for v in (zh, zh, h))
        inputs = [self.contiguous(v) for v in (dh, gates, zh, h)]
        self.launch("gru_cell_grad", *inputs, dzx, dzh, before, h.shape[1], h.size)
        return dzx, dzh, before
