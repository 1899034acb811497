"""Fused layers against the same layers one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tinynet as tn
from tinynet import nn


def images(n=2, h=6, w=5, c=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, h, w, c)).astype(np.float32)


@given(
    h=st.integers(5, 11),
    w=st.integers(5, 11),
    c=st.sampled_from([1, 2, 3]),
    filters=st.sampled_from([1, 4]),
    k=st.sampled_from([1, 2, 3]),
    separate_relu=st.booleans(),
    pool=st.booleans(),
    padding=st.sampled_from([0, "same"]),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_fused_equals_unfused(h, w, c, filters, k, separate_relu, pool, padding, ties, seed):
    tn.seed(seed)
    layers = [nn.Conv2d(filters, k, padding=padding, activation=None if separate_relu else "relu")]
    layers += [nn.ReLU()] if separate_relu else []
    layers += [nn.MaxPool2d(2)] if pool else []
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dense(5, activation="relu"), input_shape=(h, w, c))
    x = images(3, h, w, c, seed)
    if ties:
        x = np.round(x)
        x[0] = 1.0
        for p in model.parameters():
            p.data[...] = np.round(p.data * 4) / 4  # exact sums: ties stay ties in every order
    g = images(1, 3, 5, 1, seed)[0, ..., 0]
    got = []
    for fused in (True, False):
        with nn.set_fusion(fused):
            t = tn.tensor(x, requires_grad=True)
            for p in model.parameters():
                p.grad = None
            y = model(t)
            y.backward(g)
            got.append([y.numpy(), t.grad.numpy(), *(p.grad.numpy() for p in model.parameters())])
    for a, b in zip(*got, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_fusion_lets_nan_through():
    model = nn.Sequential(nn.Conv2d(2, 3, activation="relu"), nn.MaxPool2d(2), input_shape=(8, 8, 1))
    x = images(1, 8, 8, 1)
    x[0, 4, 4, 0] = np.nan
    with nn.set_fusion(False):
        plain = model(x).numpy()
    assert np.isnan(plain).any()
    np.testing.assert_array_equal(np.isnan(model(x).numpy()), np.isnan(plain))


def test_fusion_can_be_switched_off_for_good_and_back():
    from tinynet.nn.fusion import fusing

    nn.set_fusion(False)
    assert not fusing()
    nn.set_fusion(True)
    assert fusing()
