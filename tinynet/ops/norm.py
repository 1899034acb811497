"""Normalisation: x̂ = (x - mean) / √(variance + eps), then gamma · x̂ + beta. What differs is whose mean that is.

batch_norm: a channel's, over the whole batch (Ioffe & Szegedy 2015). layer_norm: a sample's, over its features (Ba,
Kiros & Hinton 2016). group_norm: a sample's, over a group of channels (Wu & He 2018). rms_norm: like layer_norm, but
without a mean (Zhang & Sennrich 2019).

The kernels see x as (N, L, G, K), with one statistic for each (n, g). The gradient of all four is

    dx = (gamma g - ⟨gamma g⟩ - x̂ ⟨gamma g x̂⟩) / √(variance + eps),

where ⟨…⟩ is the mean over the values that share a statistic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import op
from ..integers import count
from ..tensor import Tensor
from .reduce import axes_of, floating

__all__ = ["batch_norm", "group_norm", "layer_norm", "normalize", "rms_norm"]


class Shares:
    """How this process's samples and those of others make up one batch; set by replicas.

    Attributes:
        gather: takes a float64 vector and returns those of all processes as rows, or None where there is one process.
        leads: whether this process keeps the state that follows the batch (running statistics).
        samples: how many samples (this process, the whole batch) has.
        parts: whether this process computes its samples in several parts, one after another.
    """

    gather: Callable[[np.ndarray], np.ndarray] | None = None
    leads = True
    samples = (1, 1)
    parts = False

    def whole(self, count: int) -> int:
        """How many values the whole batch has where this process's samples have `count`."""
        return count * self.samples[1] // self.samples[0]

    def divisor(self, weights: Tensor) -> Tensor:
        """What the sum of these samples' weighted losses is divided by, so that the mean over the processes is that of
        the whole batch. weights: 0-d, the sum of the weights here."""
        if self.gather is None:
            return weights
        whole = self.gather(np.asarray(weights.data, np.float64).reshape(1)).sum()
        return Tensor(np.asarray(whole * self.samples[0] / self.samples[1], weights.dtype), weights.backend)


shares = Shares()


@op
def _batch_norm(be, x, gamma, beta, eps, sync, relu):
    gather = shares.gather if sync else None
    x, gamma, beta = alike(be, x, gamma, beta)
    shape, channels = x.shape, x.shape[-1]
    x = be.reshape(x, (1, math.prod(shape[:-1]), channels, 1))
    gamma, beta = (None if v is None else be.reshape(v, (channels, 1)) for v in (gamma, beta))
    mean, var = be.moments(x)
    total = x.shape[1]
    if gather is not None:
        mean, var, total = _merged(gather, mean, var, total)
    y = be.normalize(x, mean, var, gamma, beta, eps, relu)

    def vjp(g, need):
        g_mean, g_var = (None if v is None else be.reshape(v, (1, channels)) for v in g[1:])
        g = be.full(x.shape, 0, x.dtype) if g[0] is None else be.reshape(g[0], x.shape)
        if relu:
            g = be.relu_grad(g, y)
        dgamma, dbeta = be.normalize_scale_grad(g, x, mean, var, eps)
        sums = [dbeta, dgamma, *(v for v in (g_mean, g_var) if v is not None)]
        if gather is not None:  # of the whole batch
            sums = list(gather(np.concatenate([v.ravel() for v in sums])).sum(0).astype(x.dtype).reshape(len(sums), -1))
        a, b = (be.reshape(v, (1, channels)) for v in sums[:2])
        if gamma is not None:
            a, b = (be.multiply(v, be.reshape(gamma, (1, channels))) for v in (a, b))
        if (
            len(sums) > 2
        ):  # mean and variance are outputs, too: their slopes in x are 1 / total and 2 (x - mean) / total
            root = be.sqrt(be.add(var, eps))
            if g_mean is not None:
                a = be.subtract(a, be.multiply(be.reshape(sums[2], (1, channels)), root))
            if g_var is not None:
                slope = be.multiply(be.multiply(be.reshape(sums[-1], (1, channels)), 2.0), be.add(var, eps))
                b = be.subtract(b, slope)
        dx = None
        if need[0]:
            a, b = be.multiply(a, 1 / total), be.multiply(b, 1 / total)
            dx = be.reshape(be.normalize_grad(g, x, mean, var, gamma, eps, a, b, out=g if relu else None), shape)
        return dx, *_of_scale(be, dgamma, dbeta, gamma, beta, need)

    flat = (channels,)
    return (be.reshape(y, shape), be.reshape(mean, flat), be.reshape(var, flat)), vjp


def _merged(gather: Callable, mean: np.ndarray, var: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean, variance and count of the whole batch, from those of each share of it."""
    counts, means, variances = np.split(gather(np.concatenate([[count], mean[0], var[0]])), [1, 1 + mean.size], 1)
    total = counts.sum()
    whole = (counts * means).sum(0) / total
    spread = (counts * (variances + (means - whole) ** 2)).sum(0) / total
    return whole.astype(mean.dtype)[None], spread.astype(var.dtype)[None], int(total)


def _of_scale(be: Any, dgamma: Any, dbeta: Any, gamma: Any, beta: Any, need: Any) -> tuple:
    """The gradients of gamma and beta, in the shapes in which they were given."""
    return (
        be.reshape(dgamma, need[1].shape) if gamma is not None and need[1] else None,
        be.reshape(dbeta, need[2].shape) if beta is not None and need[2] else None,
    )


@op
def _normalize(be, x, mean, var, gamma, beta, eps):
    x, mean, var, gamma, beta = alike(be, x, mean, var, gamma, beta)
    shape, channels = x.shape, x.shape[-1]
    x = be.reshape(x, (1, math.prod(shape[:-1]), channels, 1))
    mean, var = (be.reshape(v, (1, channels)) for v in (mean, var))
    gamma, beta = (None if v is None else be.reshape(v, (channels, 1)) for v in (gamma, beta))

    def vjp(g, need):
        g = be.reshape(g, x.shape)
        dx = be.reshape(be.normalize(g, None, var, gamma, None, eps), shape) if need[0] else None
        if not any(need[1:5]):
            return (dx,)
        dgamma, dbeta = be.normalize_scale_grad(g, x, mean, var, eps)
        a, b = (be.reshape(v if gamma is None else be.multiply(v, gamma), (channels,)) for v in (dbeta, dgamma))
        spread = be.add(be.reshape(var, (channels,)), eps)
        dmean = be.negative(be.divide(a, be.sqrt(spread))) if need[1] else None
        dvar = be.multiply(be.divide(b, spread), -0.5) if need[2] else None
        return dx, dmean, dvar, *_of_scale(be, dgamma, dbeta, gamma, beta, need[2:])

    return be.reshape(be.normalize(x, mean, var, gamma, beta, eps), shape), vjp


def _of_each(be, x, gamma, beta, shape, eps, centered=True):
    """(y, vjp) for statistics of each sample: x is seen as `shape` (N, L, G, K)."""
    x, gamma, beta = alike(be, x, gamma, beta)
    before = x.shape
    x = be.reshape(x, shape)
    gamma, beta = (None if v is None else be.reshape(v, shape[2:]) for v in (gamma, beta))
    mean, var = be.moments(x, centered)

    def vjp(g, need):
        g = be.reshape(g, shape)
        dx = be.normalize_grad(g, x, mean, var, gamma, eps, None, None) if need[0] else None
        dgamma, dbeta = be.normalize_scale_grad(g, x, mean, var, eps) if any(need[1:3]) else (None, None)
        return None if dx is None else be.reshape(dx, before), *_of_scale(be, dgamma, dbeta, gamma, beta, need)

    return be.reshape(be.normalize(x, mean, var, gamma, beta, eps), before), vjp


@op
def _layer_norm(be, x, gamma, beta, shape, eps):
    return _of_each(be, x, gamma, beta, shape, eps)


@op
def _group_norm(be, x, gamma, beta, shape, eps):
    return _of_each(be, x, gamma, beta, shape, eps)


@op
def _rms_norm(be, x, gamma, shape, eps):
    y, vjp = _of_each(be, x, gamma, None, shape, eps, centered=False)
    return y, lambda g, need: vjp(g, (*need[:2], None))[:2]


def alike(be: Any, *arrays: Any) -> list:
    """The arrays (or None) in the one dtype that NumPy would compute in."""
    dtype = np.result_type(*(a.dtype for a in arrays if a is not None))
    return [a if a is None or a.dtype == dtype else be.astype(a, dtype) for a in arrays]


# ---- what users call ------------------------------------------------------------------------------------


def batch_norm(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    eps: float = 1e-5,
    sync: bool = True,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, …, C) → (y of x's shape, mean (C,), var (C,)): each channel normalised over all axes but the last.

    gamma, beta (C,) or None. The variance is the biased one, Σ (x - mean)² / n. In replicas the statistics are those of
    the whole batch, or with sync=False of the replica's own share. relu: y is relu of that, in the same step.
    Raises: ValueError where there is no value to take a mean of, or the shapes do not fit.
    """
    _checked("batch_norm", x, (gamma, beta), x.shape[-1:])
    if x.ndim < 2 or not math.prod(x.shape[:-1]):
        raise ValueError(f"batch_norm: input {x.shape} must be (N, …, C) and hold at least one value a channel")
    return _batch_norm(x, gamma, beta, eps, sync, relu)  # type: ignore[return-value]


def normalize(
    x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """x (…, C) with given statistics, each (C,): (x - mean) / √(var + eps) · gamma + beta. BatchNorm in evaluation.

    Returns: a Tensor of x's shape. Raises: ValueError where shapes do not fit.
    """
    _checked("normalize", x, (mean, var, gamma, beta), x.shape[-1:])
    return _normalize(x, mean, var, gamma, beta, eps)


def layer_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, *, axes: Any = -1, eps: float = 1e-5
) -> Tensor:
    """x normalised over `axes` of each sample; gamma and beta have the shape of those axes.

    Returns: a Tensor of x's shape. Raises: ValueError where shapes do not fit.
    """
    axes = axes_of("layer_norm", axes, x.ndim)
    features = tuple(x.shape[a] for a in axes)
    _checked("layer_norm", x, (gamma, beta), features)
    order = (*(a for a in range(x.ndim) if a not in axes), *axes)
    if order != tuple(range(x.ndim)):
        back = tuple(int(a) for a in np.argsort(order))
        return layer_norm(x.transpose(order), gamma, beta, axes=tuple(range(-len(axes), 0)), eps=eps).transpose(back)
    return _layer_norm(x, gamma, beta, (*_samples(x.shape, axes), 1, 1, math.prod(features)), eps)


def group_norm(
    x: Tensor, groups: int, gamma: Tensor | None = None, beta: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """x (N, …, C) with its channels in `groups` groups, each normalised over all its values in a sample.

    gamma, beta: (C,) or None. Returns: a Tensor of x's shape. Raises: ValueError where groups does not divide C.
    """
    _checked("group_norm", x, (gamma, beta), x.shape[-1:])
    groups = count("group_norm", "groups", groups, 1)
    if x.ndim < 2 or x.shape[-1] % groups:
        raise ValueError(f"group_norm: input {x.shape} must be (N, …, C) with C divisible by groups={groups}")
    shape = (x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
    return _group_norm(x, gamma, beta, shape, eps)


def rms_norm(x: Tensor, gamma: Tensor | None = None, *, eps: float = 1e-6) -> Tensor:
    """x (…, C) → x / √(mean of x² over the last axis + eps) · gamma; gamma (C,) or None.

    Returns: a Tensor of x's shape. Raises: ValueError where shapes do not fit.
    """
    _checked("rms_norm", x, (gamma,), x.shape[-1:])
    return _rms_norm(x, gamma, (*_samples(x.shape, (x.ndim - 1,)), 1, 1, x.shape[-1]), eps)


def _samples(shape: tuple, axes: tuple) -> tuple[int]:
    return (math.prod(n for i, n in enumerate(shape) if i not in axes),)


def _checked(name: str, x: Tensor, scales: tuple, shape: tuple) -> None:
    """Raise where x is not floating, or a scale (or statistic) does not have `shape`."""
    floating(name, x)
    if not x.ndim or not math.prod(shape):
        raise ValueError(f"{name}: input {x.shape} has no values to normalise")
    for v in scales:
        if v is not None and v.shape != shape:
            raise ValueError(f"{name}: of an input {x.shape} gamma, beta and statistics must be {shape}, got {v.shape}")
