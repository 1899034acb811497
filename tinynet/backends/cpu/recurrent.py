"""Cells of recurrent networks, one time step each."""

from __future__ import annotations

import numpy as np

from .elementwise import sigmoid


def lstm_cell(z, c):
    width = c.shape[1]
    g = np.tanh(z[:, 2 * width : 3 * width])
    gates = sigmoid(z)
    gates[:, 2 * width : 3 * width] = g
    i, f, g, o = np.split(gates, 4, 1)
    new = f * c
    new += i * g
    tanh_c = np.tanh(new)
    return o * tanh_c, new, gates, tanh_c


def lstm_cell_grad(dh, dc, gates, c, tanh_c):
    i, f, g, o = np.split(gates, 4, 1)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    dz = gates * (1 - gates)  # a sigmoid's slope; g is a tanh
    di, df, dg, do = np.split(dz, 4, 1)
    di *= dc * g
    df *= dc * c
    np.multiply(dc * i, 1 - g * g, out=dg)
    do *= dh * tanh_c
    dc *= f
    return dz, dc


def gru_cell(zx, zh, h):
    width = h.shape[1]
    gates = zx + zh
    gates[:, : 2 * width] = sigmoid(gates[:, : 2 * width])
    r, z, n = np.split(gates, 3, 1)
    np.tanh(zx[:, 2 * width :] + r * zh[:, 2 * width :], out=n)
    return n + z * (h - n), gates


def gru_cell_grad(dh, gates, zh, h):
    r, z, n = np.split(gates, 3, 1)
    dzx = gates * (1 - gates)
    dr, dz, dn = np.split(dzx, 3, 1)
    np.multiply(dh * (1 - z), 1 - n * n, out=dn)
    dz *= dh * (h - n)
    dr *= dn * np.split(zh, 3, 1)[2]
    dzh = dzx.copy()
    np.multiply(dn, r, out=np.split(dzh, 3, 1)[2])
    return dzx, dzh, dh * z
