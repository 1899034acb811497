"""Gradient clipping."""

import itertools

import numpy as np
import pytest

import tinynet as tn
from tests.optimising import parameters, set_grads
from tinynet import nn, optim


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_clipping_hides_no_gradient_that_is_not_finite(backend):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    be = tn.backends.get(backend)
    for bad, clip in itertools.product((np.nan, np.inf), (optim.clip_grad_norm, optim.clip_grad_value)):
        params = [nn.Parameter(be.asarray(p.numpy()), be) for p in parameters(dtype=np.float32)]
        optimizer = optim.SGD(params, 0.1)
        before = [p.numpy().copy() for p in params]
        for p in params:
            p.grad = tn.tensor(np.ones(p.shape, np.float32), backend=be)
        params[1].grad = tn.tensor(np.array([1, 2, 3, 4, bad], np.float32), backend=be)
        norm = clip(params, 0.5)
        assert norm is None or not np.isfinite(norm.item())
        optimizer.step()
        assert optimizer.voided == (np.isnan(bad) or clip is optim.clip_grad_norm)
        for p, b in zip(params, before, strict=True):
            assert np.array_equal(p.numpy(), b) == optimizer.voided
            assert np.isfinite(p.numpy()).all()


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_the_norm_of_large_gradients_does_not_overflow(backend):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    be = tn.backends.get(backend)
    params = [nn.Parameter(be.asarray(p.numpy()), be) for p in parameters(dtype=np.float32)]
    for p in params:
        p.grad = tn.tensor(np.full(p.shape, 1e30, np.float32), backend=be)
    assert optim.clip_grad_norm(params, 1.0).item() == pytest.approx(5e30, rel=1e-6)  # 25 values
    for p in params:
        np.testing.assert_allclose(p.grad.numpy(), np.full(p.shape, 0.2), rtol=1e-6)
        assert p.grad.dtype == np.float32


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clip_grad_norm(limit):
    params = parameters()
    grads = set_grads(params, np.random.default_rng(0))
    total = np.sqrt(sum((g**2).sum() for g in grads))
    assert float(optim.clip_grad_norm(params, limit)) == pytest.approx(total)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g * min(1, limit / (total + 1e-6)))


def test_clip_grad_value():
    params = parameters()
    grads = set_grads(params, np.random.default_rng(0))
    optim.clip_grad_value(params, 0.5)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g.clip(-0.5, 0.5))
    for bad in (
        lambda: optim.clip_grad_value(params, 0),
        lambda: optim.clip_grad_norm(params, -1.0),
        lambda: optim.clip_grad_norm(parameters(), 1.0),
    ):
        with pytest.raises(ValueError, match="clip_grad"):
            bad()
