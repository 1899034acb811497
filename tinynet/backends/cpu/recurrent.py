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


def lstm_cell_grad(dh, dc, gates, c, tanh_c):
    i, f, g, o = _parts(gates, c.shape[1])
    dz = np.subtract(1, gates, out=empty(gates.shape, gates.dtype))
    dz *= gates  # a sigmoid's slope; g is a tanh
    di, df, dg, do = _parts(dz, c.shape[1])
    do *= dh
    do *= tanh_c
    dh_o, slope = dh * o, tanh_c * tanh_c
    np.subtract(1, slope, out=slope)
    slope *= dh_o
    slope += dc  # what c has after the step
    di *= g
    df *= c
    np.multiply(g, g, out=dg)
    np.subtract(1, dg, out=dg)
    dg *= i
    for d in (di, df, dg):
        d *= slope
    return dz, np.multiply(slope, f, out=slope)


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
