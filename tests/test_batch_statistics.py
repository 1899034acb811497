"""Batch normalisation in replicas: statistics of the whole batch, running ones kept once, failures amid the sums."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests.replica_runs import adam, assert_same_run, batches, double, train
from tinynet import nn, ops, parallel
from tinynet.ops.norm import shares
from tinynet.parallel import following

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")
SIZES = (8, 7, 2, 5, 11, 3, 4)


def network(**options):
    model = nn.Sequential(
        nn.Conv2d(4, 3, bias=False),  # it would have no gradient, of whose rounding Adam makes steps
        nn.BatchNorm(**options),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dense(5, bias=False),
        nn.BatchNorm(**options),
        nn.Dense(3),
        input_shape=(8, 8, 1),
    )
    double(model)
    for layer in model.modules():
        for name in getattr(layer, "follows_batch", ()):
            if name in vars(layer):
                setattr(layer, name, tn.tensor(getattr(layer, name).numpy().astype(np.float64)))
    return model


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}], ids=str)
def test_any_number_of_workers_computes_the_same(workers, options):
    """Losses, parameters and running statistics, with batches smaller than the team too."""
    runs = [train(w, make=lambda: network(**options), count=12, sizes=SIZES) for w in (1, workers)]
    assert_same_run(*runs)
    assert shares.gather is None and shares.leads and shares.samples == (1, 1)


def test_the_same_bits_in_every_run():
    runs = [train(2, make=network, count=6, sizes=SIZES) for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    for name, value in runs[0][2].items():
        assert_array_equal(value, runs[1][2][name])


def test_large_sums_go_in_parts(monkeypatch):
    monkeypatch.setattr(following, "MOST", 3)
    assert_same_run(*[train(w, make=network, count=3, sizes=SIZES) for w in (1, 2)])


def test_evaluation_and_outside_use_the_running_statistics_of_all():
    model = network()
    x, y = next(batches(sizes=(9,)))
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        for _ in range(3):
            step(x, y)
        loss = step.evaluate(x, y)[0]
        assert step.note is None
        model.eval()
        assert_allclose(ops.softmax_cross_entropy(model(tn.tensor(x)), y).item(), loss, rtol=1e-12)
        model.train()
        step(x, y)
        during = model.state_dict()
    for name, value in model.state_dict().items():
        assert_array_equal(value, during[name])


def test_each_share_by_itself_where_it_is_asked_for():
    model = network(sync=False)
    x, y = next(batches(sizes=(8,)))
    mean = tn.tensor(x[:4])
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        first = model.layers[0](mean).numpy().mean((0, 1, 2))
        step(x, y)
        assert step.note is None and step.workers == 2
    assert_allclose(model.layers[1].running_mean.numpy(), 0.1 * first, rtol=1e-12)


def test_statistics_as_outputs_reach_the_loss():
    """A loss of mean and variance, too: their gradients are shared likewise."""

    class Odd(nn.Module):
        def create(self, shape):
            self.weight = self.parameter((1, 3), nn.init.get("glorot_uniform"))

        def forward(self, x):
            y, mean, var = ops.batch_norm(x.reshape(-1, 1) @ self.weight, None, None)
            return (y * y * y).reshape(len(x), -1).mean(1, True) + (mean * var).sum() + (var * var).sum()

    def run(workers):
        tn.seed(0)
        model = double(Odd().build((8, 8, 1)))
        losses = []
        with parallel.trainer(model, adam(model.parameters()), lambda out, y: out.mean(), workers=workers) as step:
            for x, y in batches(4, sizes=(8, 5)):
                losses.append(step(x + 1, y).item())
            assert step.note is None
        return losses, model.state_dict()["weight"]

    for a, b in zip(run(1), run(2), strict=True):
        assert_allclose(b, a, rtol=1e-11)


class Stumbling(nn.Module):
    """Fails, between two normalisations, where a sample says so."""

    def output_size(self, shape):
        return shape

    def forward(self, x):
        if (x.numpy() > 1e6).any():
            raise ValueError("a stumbling block")
        return x


@pytest.mark.parametrize("place", [0, 5], ids=["the leader's share", "the other's"])
def test_a_replica_that_fails_between_the_sums_stops_all(place):
    tn.seed(1)
    model = double(
        nn.Sequential(Stumbling(), nn.Flatten(), nn.Dense(4), nn.BatchNorm(), nn.Dense(3), input_shape=(8, 8, 1))
    )
    x, y = next(batches(sizes=(6,)))
    with parallel.trainer(model, adam(model.parameters()), workers=2) as step:
        step(x, y)
        before = model.state_dict()
        bad = x.copy()
        bad[place] = 1e7
        with pytest.raises(ValueError, match="stumbling block"):
            step(bad, y)
        for name, value in model.state_dict().items():
            assert_array_equal(value, before[name], err_msg=name)
        assert np.isfinite(step(x, y).item()) and step.note is None


def test_a_batch_of_one_is_refused_by_all_alike():
    for workers in 1, 2:
        model = double(nn.Sequential(nn.Flatten(), nn.Dense(4), nn.BatchNorm(), nn.Dense(3), input_shape=(8, 8, 1)))
        x, y = next(batches(sizes=(4,)))
        with parallel.trainer(model, adam(model.parameters()), workers=workers) as step:
            step(x, y)
            before = model.state_dict()
            with pytest.raises(ValueError, match="one value a channel has no variance"):
                step(x[:1], y[:1])
            for name, value in model.state_dict().items():
                assert_array_equal(value, before[name], err_msg=name)
            assert np.isfinite(step(x[:2], y[:2]).item())  # a sample a replica is enough
