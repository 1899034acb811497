"""Cells of recurrent networks, one time step each.

A step is short, a few dozen microseconds, so what counts is how many calls it makes: each chain of steps runs in place,
and the gates are views of one array.
"""

from __future__ import annotations

import numpy as np

from .elementwise import sigmoid
from .memory import empty


def lstm_cell(z, c):
    gates = sigmoid(z, out=empty(z.shape, z.dtype))
    i, f, g, o = _parts(gates, c.shape[1])
    np.tanh(_parts(z, c.shape[1])[2], out=g)
    new, tanh_c = f * c, i * g
    new += tanh_c
    np.tanh(new, out=tanh_c)
    return o * tanh_c, new, gates, tanh_c


def lstm_slopes(gates, c, tanh_c):
    width = c.shape[1]
    i, _, g, o = _parts(gates, width)
    slopes = empty((len(gates), 5 * width), gates.dtype)
    np.subtract(1, gates, out=slopes[:, : 4 * width])
    slopes[:, : 4 * width] *= gates  # a sigmoid's; g is a tanh
    di, df, dg, do, dc = _parts(slopes, width)
    di *= g
    df *= c
    do *= tanh_c
    for y, slope, factor in (g, dg, i), (tanh_c, dc, o):
        np.multiply(y, y, out=slope)
        np.subtract(1, slope, out=slope)
        slope *= factor
    return slopes


def lstm_cell_grad(dh, dc, gates, slopes):
    n, width = dc.shape
    d = slopes[:, 4 * width :] * dh
    d += dc
    dz = empty(gates.shape, gates.dtype)
    np.multiply(slopes[:, : 3 * width].reshape(n, 3, width), d[:, None], out=dz.reshape(n, 4, width)[:, :3])
    np.multiply(slopes[:, 3 * width : 4 * width], dh, out=dz[:, 3 * width :])
    d *= gates[:, width : 2 * width]
    return dz, d


def gru_cell(zx, zh, h):
    width = h.shape[1]
    gates = np.add(zx, zh, out=empty(zx.shape, zx.dtype))
    sigmoid(gates[:, : 2 * width], out=gates[:, : 2 * width])
    r, z, n = _parts(gates, width)
    np.multiply(r, _parts(zh, width)[2], out=n)
    n += _parts(zx, width)[2]
    np.tanh(n, out=n)
    new = h - n
    new *= z
    new += n
    return new, gates


def gru_cell_grad(dh, gates, zh, h):
    width = h.shape[1]
    r, z, n = _parts(gates, width)
    dzx = np.subtract(1, gates, out=empty(gates.shape, gates.dtype))
    dr, dz, dn = _parts(dzx, width)
    dn *= 1 + n  # a tanh's slope, 1 - n², and what is not z
    dn *= dz
    dn *= dh
    dzx[:, : 2 * width] *= gates[:, : 2 * width]  # a sigmoid's slope
    dz *= dh
    dz *= h - n
    dr *= dn
    dr *= _parts(zh, width)[2]
    dzh = empty(dzx.shape, dzx.dtype)
    dzh[:, : 2 * width] = dzx[:, : 2 * width]
    np.multiply(dn, r, out=_parts(dzh, width)[2])
    return dzx, dzh, dh * z


def _parts(gates, width):
    """Views of the gates, `width` columns each."""
    return [gates[:, start : start + width] for start in range(0, gates.shape[1], width)]
