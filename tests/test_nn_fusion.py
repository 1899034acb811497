"""Fused layers against the same layers one by one."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet import nn, ops, optim, parallel


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


BLOCKS = {
    "conv norm relu pool": lambda: (nn.Conv2d(3, 3, padding=1), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2)),
    "conv norm relu": lambda: (nn.Conv2d(3, 3, bias=False), nn.BatchNorm(momentum=None), ops.relu),
    "norm relu conv": lambda: (nn.BatchNorm(affine=False), nn.ReLU(), nn.Conv2d(3, 3, activation="relu")),
    "frozen norm relu": lambda: (nn.Conv2d(3, 1), nn.ReLU(), nn.BatchNorm(), nn.ReLU()),
    "residual relu": lambda: (nn.Residual(nn.Conv2d(2, 3, padding=1), nn.BatchNorm()), nn.ReLU()),
    "shortcut relu": lambda: (
        nn.Residual(nn.Conv2d(3, 3, stride=2, padding=1), nn.BatchNorm(), shortcut=nn.Conv2d(3, 1, stride=2)),
        ops.relu,
    ),
    **{
        f"dense {name}": lambda name=name: (nn.Flatten(), nn.Dense(3, activation=name))
        for name in ("relu", "tanh", "sigmoid", "gelu")
    },
    "dense layers": lambda: (nn.Flatten(), nn.Dense(3), nn.Tanh(), nn.Dense(3, bias=False), ops.sigmoid),
}


def block(name, seed):
    """A network with the layers of BLOCKS in float64, whose rounding is far below what a fault would change."""
    tn.seed(seed)
    model = nn.Sequential(*BLOCKS[name](), nn.Flatten(), nn.Dense(3))
    model.build((6, 6, 2)).astype(np.float64)
    if "frozen" in name:
        model[2].freeze()
    return model


def trained(name, fused, workers, backend="numpy", seed=0):
    """The outputs, gradients, and the state after a few steps."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((5, 6, 6, 2)), rng.integers(0, 3, 5)
    with nn.set_fusion(fused):
        model = block(name, seed).to(backend)
        t = tn.tensor(x, requires_grad=True, backend=backend)
        out = model(t)
        out.backward(tn.tensor(rng.standard_normal(out.shape), backend=backend))
        found = [out, t.grad, *(p.grad for p in model.parameters() if p.requires_grad)]
        model = block(name, seed).to(backend)
        if workers:
            trainer = parallel.trainer(model, optim.SGD(model.parameters(), 0.1, momentum=0.9), workers=workers)
            with trainer as step:
                found += [step(x, y) for _ in range(3)]
    return [*(v.numpy() for v in found), *model.state_dict().values()]


@settings(max_examples=30)
@given(st.sampled_from(list(BLOCKS)), st.integers(0, 99))
def test_training_is_the_same_fused_and_unfused(name, seed):
    """Values, gradients, losses, parameters and running statistics of a few steps."""
    for a, b in zip(*(trained(name, fused, 1, seed=seed) for fused in (True, False)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")
@pytest.mark.parametrize("name", ["conv norm relu pool", "residual relu", "dense layers"])
def test_fused_in_two_workers(name):
    for a, b in zip(*(trained(name, *how) for how in ((True, 2), (False, 1))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", BLOCKS)
def test_fused_on_the_simulator(name):
    if reason := tn.backends.why_not("simulator"):
        pytest.skip(reason)
    for a, b in zip(trained(name, True, 0, "simulator"), trained(name, False, 0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


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
