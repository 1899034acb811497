"""What is not finite, or nearly 0, does optimisers no harm."""

import itertools

import numpy as np
import pytest

import tinynet as tn
from tests.optimising import KINDS, parameters, set_grads
from tinynet import nn, optim


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_voids_the_step(kind, bad):
    params = parameters()
    optimizer = kind(params, 0.1)
    set_grads(params, np.random.default_rng(0))
    before, state = [p.numpy().copy() for p in params], optimizer.state_dict()
    optimizer.step(tn.tensor(bad))
    for p, b in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.numpy(), b)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    optimizer.step(tn.tensor(1.0))
    assert not np.array_equal(params[0].numpy(), before[0])


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_is_not_finite_voids_the_step_of_all_groups(kind, backend):
    """Also without a loss; neither the parameters, nor their state, nor the step count change."""
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    be = tn.backends.get(backend)
    params = [nn.Parameter(be.asarray(p.numpy()), be) for p in parameters(dtype=np.float32)]
    optimizer = kind([{"params": params[:1]}, {"params": params[1:]}])
    rng = np.random.default_rng(0)
    for i, bad, loss in itertools.product(range(3), (np.nan, np.inf, -np.inf), (None, 1.0)):
        for p in params:
            p.grad = tn.tensor(rng.standard_normal(p.shape).astype(np.float32), backend=be)
        values = params[i].grad.numpy().copy()
        values.flat[-1] = bad
        params[i].grad = tn.tensor(values, backend=be)
        before, state = [p.numpy().copy() for p in params], optimizer.state_dict()
        optimizer.step(None if loss is None else tn.tensor(loss, backend=be))
        assert optimizer.voided
        for p, b in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.numpy(), b)
        for name, value in optimizer.state_dict().items():
            np.testing.assert_array_equal(value, state[name])
        params[i].grad = tn.tensor(np.zeros(params[i].shape, np.float32), backend=be)
        optimizer.step()
        assert not optimizer.voided
        assert not np.array_equal(params[i - 1].numpy(), before[i - 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_whose_square_overflows_voids_where_the_rule_squares_it(kind, dtype):
    """Else the running average of squares would be infinite, and the parameter stand still, for ever."""
    params = parameters(dtype=dtype)
    optimizer = kind(params)
    for size in 0.4, 0.6, 1.0:  # of the largest number
        for p in params:
            p.grad = tn.tensor(np.full(p.shape, np.finfo(dtype).max ** dtype(size)))
        optimizer.step()
        assert optimizer.voided == (size > 0.5 and optimizer.squares)
    if not optimizer.squares:
        return
    assert all(np.isfinite(v).all() for v in optimizer.state_dict().values())
    assert all(np.isfinite(p.numpy()).all() for p in params)


def test_a_voided_step_is_that_of_all_parameters_or_of_none():
    optimizer = optim.SGD(parameters(), 0.1)
    assert not optimizer.voided
    optimizer.step()  # no gradients
    assert not optimizer.voided
    optimizer.step(tn.tensor(np.nan))
    assert optimizer.voided


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (optim.SGD, optim.Adagrad)])
def test_averages_do_not_stay_subnormal(kind):
    """Where gradients end, averages go to zero, not to the smallest numbers, which processors are slow with."""
    (p,) = parameters(shapes=((5, 10),), dtype=np.float32)
    optimizer = kind([p])
    averages = {name: flat for name, flat in optimizer.groups[0].state.items() if name != "largest"}
    for flat in averages.values():
        flat[...] = 1e-39
    for _ in range(64):
        p.grad = tn.tensor(np.zeros(p.shape, np.float32))
        optimizer.step()
    for name, flat in averages.items():
        assert (flat == 0).all() or (flat >= np.finfo(np.float32).tiny).all(), name
