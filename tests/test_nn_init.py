"""Initial weights: their variance, and the seed."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn


def small_net(**kwargs):
    return nn.Sequential(nn.Conv2d(4, 3, activation="relu"), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(3), **kwargs)


@pytest.mark.parametrize("name", sorted({*nn.init.INITIALISERS} - {"ones"}))
def test_initial_variance(name):
    shape = (3, 3, 40, 60)
    w = nn.init.get(name)(shape, np.random.default_rng(0))
    assert w.shape == shape
    assert w.dtype == np.float32
    fan_in, fan_out = 9 * 40, 9 * 60
    want = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in, "zeros": 0}[name.split("_")[0]]
    assert w.var() == pytest.approx(want, rel=0.03)
    assert abs(w.mean()) <= 0.01 * np.sqrt(want)
    if name.endswith("uniform"):
        assert abs(w).max() <= np.sqrt(3 * want) * (1 + 1e-6)


def test_the_seed_fixes_the_weights():
    tn.seed(5)
    a = small_net(input_shape=(8, 8, 3)).state_dict()
    tn.seed(5)
    b = small_net(input_shape=(8, 8, 3)).state_dict()
    tn.seed(6)
    c = small_net(input_shape=(8, 8, 3)).state_dict()
    np.testing.assert_array_equal(a["0.weight"], b["0.weight"])
    assert not np.array_equal(a["0.weight"], c["0.weight"])
