"""Gradients of a batch that is computed in parts: the step of the whole, in less memory."""

import sys

import numpy as np
import pytest

import tinynet as tn
from tests.replica_runs import adam, assert_same_run, batches, small_net, train
from tinynet import nn, optim, parallel

replicas = pytest.param(2, marks=pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked"))


@pytest.mark.parametrize("workers", [1, replicas])
@pytest.mark.parametrize("accumulate", [2, 3, 50])
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_parts_make_the_steps_of_the_whole(workers, accumulate, clip_norm):
    """Dropout masks, losses, metrics, weights, the optimiser's state and the random state; batches of odd sizes."""
    assert_same_run(train(1, clip_norm=clip_norm), train(workers, clip_norm=clip_norm, accumulate=accumulate))


@pytest.mark.parametrize("workers", [1, replicas])
def test_fit_adds_the_gradients_of_so_many_batches(workers):
    x, y = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32), np.arange(50) % 2

    def run(**settings):
        tn.seed(2)
        model = nn.Sequential(nn.Dense(8, activation="relu"), nn.Dropout(0.3), nn.Dense(2), input_shape=(3,))
        history = tn.fit(model, (x, y), epochs=3, seed=1, verbose=False, workers=workers, **settings)
        return [(row["loss"], row["accuracy"]) for row in history], model.state_dict()

    (losses, weights), (expected, same) = run(batch_size=4, accumulate=4), run(batch_size=16)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(value, same[name], rtol=1e-4, atol=1e-6)


def test_no_part_is_larger_than_it_must_be():
    seen = []

    class Watched(nn.Dense):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    model = Watched(2).build(3)
    seen.clear()
    step = parallel.trainer(model, optim.SGD(model.parameters()), workers=1, accumulate=4)
    x, y = np.ones((10, 3), np.float32), np.zeros(10, int)
    step(x, y)
    assert seen == [2, 3, 2, 3] and step.correct in (0, 10)
    step(x[:2], y[:2])
    assert seen[4:] == [1, 1]


@pytest.mark.parametrize("workers", [1, replicas])
def test_a_part_whose_loss_is_not_finite_voids_the_step(workers):
    model = nn.Dense(2).build(3)
    x, y = np.ones((8, 3), np.float32), np.zeros(8, int)
    x[1] = np.nan
    with parallel.trainer(model, adam(model.parameters()), workers=workers, accumulate=2) as step:
        before = model.state_dict()
        step(x, y)
        assert step.voided
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])
        step(x[2:], y[2:])
        assert not step.voided


@pytest.mark.parametrize("workers", [1, replicas])
def test_an_error_in_a_part_leaves_the_random_state(workers):
    class Fails(nn.Module):
        def forward(self, x):
            if x.numpy().max() > 5:
                raise ValueError("too large")
            return x

    model = nn.Sequential(nn.Dropout(0.5), Fails(), nn.Dense(2), input_shape=(3,))
    x, y = np.ones((8, 3), np.float32), np.zeros(8, int)
    x[5] = 100
    with parallel.trainer(model, adam(model.parameters()), workers=workers, accumulate=4) as step:
        step(x[:4], y[:4])
        with pytest.raises(ValueError, match="too large"):
            step(x, y)
        assert tn.ops.random.state.first == 0
        step(x[:4], y[:4])


def test_on_the_simulator(monkeypatch):
    if reason := tn.backends.why_not("simulator"):
        pytest.skip(reason)
    runs = []
    for accumulate in (1, 3):
        tn.seed(0)
        with tn.use("simulator"):
            model = nn.Sequential(nn.Dense(4, activation="relu"), nn.Dropout(0.5), nn.Dense(2), input_shape=(3,))
            x, y = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32), np.arange(8) % 2
            step = parallel.trainer(model, adam(model.parameters()), workers=1, accumulate=accumulate)
            runs.append([step(tn.tensor(x), tn.tensor(y)).item() for _ in range(3)])
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5)


def test_wrong_counts_are_refused():
    model = small_net()
    x, y = next(iter(batches(1)))
    for bad in (0, -1, 1.5, "2"):
        with pytest.raises((ValueError, TypeError), match="accumulate"):
            parallel.trainer(model, adam(model.parameters()), workers=1, accumulate=bad)
        with pytest.raises((ValueError, TypeError), match="accumulate"):
            tn.fit(model, (x, y), accumulate=bad)
