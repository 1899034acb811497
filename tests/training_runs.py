"""A small network and its data, for tests of training."""

from __future__ import annotations

import numpy as np

from tinynet import nn
from tinynet.training import fit


def data(n=200, seed=0):
    """Points in the plane; the class tells on which side of a line they are."""
    x = np.random.default_rng(seed).standard_normal((n, 2)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64)


def network():
    return nn.Sequential(nn.Dense(8, activation="relu"), nn.Dense(2), input_shape=2)


def quiet(model, train, **options):
    return fit(model, train, verbose=False, **options)
