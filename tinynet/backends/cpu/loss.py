"""Softmax cross-entropy, in NumPy: forward leaves the softmax, from which the gradient is one step."""

from __future__ import annotations

import numpy as np

from .summation import add_up


def softmax_cross_entropy(logits, labels, scale=None):
    rows = np.arange(len(labels))
    shifted = logits - (logits.max(axis=1, keepdims=True) if logits.size else 0)
    losses = -shifted[rows, labels]
    softmax = np.exp(shifted, out=shifted)
    total = add_up(softmax, (1,))
    losses += np.log(total)
    softmax /= total[:, None]
    if scale is not None:
        losses = np.asarray(np.multiply(add_up(losses, (0,)), scale))
    return losses, (softmax, labels, scale)


def softmax_cross_entropy_grad(g, saved, *, out=None):
    softmax, labels, scale = saved
    factor = np.reshape(g, (-1, 1)) if scale is None else np.multiply(g, scale)  # a row's own, or one for all
    dx = np.multiply(softmax, factor, out=out)
    dx[np.arange(len(labels)), labels] -= factor if scale is not None else factor[:, 0]
    return dx
