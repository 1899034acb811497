"""Normalisation, in NumPy: the statistics of a batch or of each sample, and both derivatives.

x comes as (N, L, G, K), one statistic for each (n, g), of L·K values. Blocks that stay in the cache are summed, centred
and squared, and the blocks' moments merged (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979): memory is read once, and no large mean is ever squared. Rows of few values are seen
as long lines, which NumPy works on many times as fast.
"""

from __future__ import annotations

import functools

import numpy as np

from .elementwise import rectify
from .images import bands
from .memory import empty
from .summation import add_up

LINE = 4096  # elements of the lines that rows are seen as
PART_BYTES = 1 << 21  # of x, worked on at one time: longer calls pay more than the nearer cache


def reference_normalize(x, mean, var, gamma, beta, eps):
    """`normalize` as it is defined, for a reader and for the tests; mean and var (N, G), gamma and beta (G, K)."""
    y = (x - mean[:, None, :, None]) / np.sqrt(var[:, None, :, None] + eps)
    return y * gamma + beta


def moments(x, centered=True):
    lines, rows = _lines(x)
    n, _, g, k = x.shape
    mean, squares, seen = np.zeros((n, g)), np.zeros((n, g)), np.zeros((n, 1))
    for images, part in _parts(lines):
        block = lines[images, part]
        size = (part.stop - part.start) * rows * k
        if centered:
            own = _sums(block, rows, g, k) / size
            away = np.subtract(block, _line(own.astype(x.dtype), rows, k), out=empty(block.shape, x.dtype))
            delta, total = own - mean[images], seen[images] + size
            mean[images] += delta * (size / total)
            squares[images] += delta * delta * (seen[images] * size / total)
            seen[images] = total
            np.multiply(away, away, out=away)
        else:
            away = np.multiply(block, block, out=empty(block.shape, x.dtype))
        squares[images] += _sums(away, rows, g, k)
    var = squares / max(x.shape[1] * k, 1)
    return mean.astype(x.dtype) if centered else None, var.astype(x.dtype)


def normalize(x, mean, var, gamma, beta, eps, relu=False, *, out=None):
    lines, rows = _lines(x)
    k = x.shape[3]
    y = empty(lines.shape, x.dtype)
    centre = None if mean is None else _line(mean, rows, k)
    scales = _scales(_root(var, eps), gamma, rows, k)
    shift = None if beta is None else np.tile(beta.reshape(-1), rows)
    for images, part in _parts(lines):
        z, block = y[images, part], lines[images, part]
        if centre is not None:
            block = np.subtract(block, centre[images], out=z)
        for scale in scales:
            block = np.multiply(block, scale[images] if len(scale) > 1 else scale, out=z)
        if shift is not None:
            z += shift
        if relu:
            rectify(z, z)
    return _shaped(y, x.shape, out)


def normalize_grad(g, x, mean, var, gamma, eps, g_mean, gx_mean, *, out=None):
    if gx_mean is not None and len(x) == 1:
        return _of_batch(g, x, mean, var, gamma, eps, g_mean, gx_mean, out)
    (lines, rows), k, count = _lines(x), x.shape[3], max(x.shape[1] * x.shape[3], 1)
    slopes, dx, root = _lines(g)[0], empty(lines.shape, x.dtype), _root(var, eps)
    scale = None if gamma is None else np.tile(gamma.reshape(-1), rows)
    for images, part in _parts(lines, whole=gx_mean is None):
        block, z, r = lines[images, part], dx[images, part], root[images]
        gg = slopes[images, part]
        if scale is not None:
            gg = np.multiply(gg, scale, out=empty(gg.shape, x.dtype))
        away = block if mean is None else np.subtract(block, _line(mean[images], rows, k), out=empty(z.shape, x.dtype))
        if gx_mean is None:
            a = _sums(gg, rows, *x.shape[2:]) / count
            b = _sums(np.multiply(gg, away, out=z), rows, *x.shape[2:]) * r / count
        else:
            a, b = g_mean if g_mean is None else g_mean[images], gx_mean[images]
        np.multiply(away, _line((b * r).astype(x.dtype), rows, k), out=z)
        np.subtract(gg, z, out=z)
        if mean is not None:
            z -= _line(a.astype(x.dtype), rows, k)
        z *= _line(r, rows, k)
    return _shaped(dx, x.shape, out)


def _of_batch(g, x, mean, var, gamma, eps, g_mean, gx_mean, out):
    """`normalize_grad` where all of x shares its statistics: the factors of a channel are multiplied first,

    dx = g (gamma r) - (x - mean) (gx_mean r²) - g_mean r,   r = 1 / √(variance + eps).
    """
    (lines, rows), k = _lines(x), x.shape[3]
    direct = out is not None and out.flags.c_contiguous and out.dtype == x.dtype
    dx = out.reshape(lines.shape) if direct else empty(lines.shape, x.dtype)
    slopes, root = _lines(g)[0], _root(var, eps)
    (steep,), along = _scales(root, gamma, rows, k), _line(gx_mean * root * root, rows, k)
    centre, level = (None, None) if mean is None else (_line(v, rows, k) for v in (mean, g_mean * root))
    for images, part in _parts(lines):
        z, block = dx[images, part], lines[images, part]
        slope = np.multiply(slopes[images, part], steep, out=empty(z.shape, x.dtype))
        away = block if centre is None else np.subtract(block, centre, out=z)
        np.subtract(slope, np.multiply(away, along, out=z), out=z)
        if level is not None:
            z -= level
    return out if direct else _shaped(dx, x.shape, out)


def normalize_scale_grad(g, x, mean, var, eps):
    (lines, rows), shape = _lines(x), x.shape[2:]
    slopes, root = _lines(g)[0], _root(var, eps)
    dgamma, dbeta = np.zeros((rows, *shape)), np.zeros((rows, *shape))
    one = len(x) == 1  # one centre and one root for all rows: the root waits until they are summed
    centre = _line(mean, rows, shape[1]) if one and mean is not None else None
    for images, part in _parts(lines):
        block, gg = lines[images, part], slopes[images, part]
        away = empty(block.shape, x.dtype)
        if mean is None:
            np.multiply(block, gg, out=away)
        else:
            np.subtract(block, _line(mean[images], rows, shape[1]) if centre is None else centre, out=away)
            away *= gg
        if not one:
            away *= _line(root[images], rows, shape[1])
        dgamma += add_up(away, (0, 1)).reshape(dgamma.shape)
        dbeta += add_up(gg, (0, 1)).reshape(dbeta.shape)
    if one:
        dgamma *= root.reshape(-1, 1)
    return dgamma.sum(0).astype(x.dtype), dbeta.sum(0).astype(x.dtype)


def _lines(x):
    """x as (N, lines, elements), and how many rows (G·K) make a line."""
    n, length, g, k = x.shape
    rows = _together(length, g * k)
    return np.ascontiguousarray(x).reshape(n, length // rows, rows * g * k), rows


@functools.lru_cache(maxsize=1024)
def _together(length, width):
    """The largest divisor of `length` that makes lines of at most LINE elements."""
    most = max(LINE // max(width, 1), 1)
    return next(r for r in range(min(most, max(length, 1)), 0, -1) if length % r == 0)


def _parts(lines, whole=False):
    """(samples, lines) that are worked on together; all lines of a sample if `whole`."""
    n, count, width = lines.shape
    if not lines.size:
        return ()
    if whole:
        return ((images, slice(0, count)) for images, _ in bands(n, 1, count * width * lines.itemsize, PART_BYTES))
    return bands(n, count, width * lines.itemsize, PART_BYTES)


def _sums(z, rows, g, k):
    """The sums (n, G), float64, of lines z (n, …, rows·G·K)."""
    z = z[:, 0] if z.shape[1] == 1 else add_up(z, (1,))
    if g == 1:
        return add_up(z, (1,)).astype(np.float64)[:, None]
    return np.add.reduce(z.reshape(len(z), rows, g, k), (1, 3), np.float64)


def _line(v, rows, k):
    """v (N, G) for lines of so many rows: (N, 1, rows·G·K), or (N, 1, 1) where a line has one value."""
    if v.shape[1] == 1:
        return v[:, None]
    row = v if k == 1 else np.repeat(v, k, 1)
    return row[:, None].repeat(rows, 1).reshape(len(v), 1, rows * row.shape[1])  # np.tile takes four times as long


def _scales(root, gamma, rows, k):
    """What lines are multiplied by: root · gamma, two factors where their product would be as large as x."""
    root = _line(root, rows, k)
    if gamma is None:
        return (root,)
    gamma = np.tile(gamma.reshape(-1), rows)[None, None]
    return (root, gamma) if root.shape[2] == 1 and len(root) > 1 else (root * gamma,)


def _root(var, eps):
    return (1 / np.sqrt(var.astype(np.float64) + eps)).astype(var.dtype)


def _shaped(y, shape, out):
    y = y.reshape(shape)
    if out is None:
        return y
    np.copyto(out, y)
    return out
