"""Short training runs with any number of replicas, for tests of what they compute and of what happens to them."""

from __future__ import annotations

import numpy as np

import tinynet as tn
from tinynet import nn, optim, parallel

SIZES = (8, 7, 8, 1, 3, 11, 2, 8, 5, 4)  # of batches: uneven shares, fewer samples than replicas, growing


def double(model):
    """The model in float64, where sums in another order agree to 1e-12."""
    for p in model.parameters():
        p.requires_grad_(False)
        p.data = p.data.astype(np.float64)
        p.requires_grad_()
    return model


def small_net():
    return double(
        nn.Sequential(
            nn.Conv2d(4, 3, activation="relu"),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Dense(9, activation="relu"),
            nn.Dropout(0.5),
            nn.Dense(3),
            input_shape=(8, 8, 1),
        )
    )


def batches(count=20, seed=0, sizes=SIZES):
    rng = np.random.default_rng(seed)
    for i in range(count):
        n = sizes[i % len(sizes)]
        yield rng.standard_normal((n, 8, 8, 1)), rng.integers(0, 3, n)


def adam(params):
    return optim.Adam(params, 1e-2)


def train(workers, *, make=small_net, optimizer=adam, count=20, between=None, seed=3, sizes=SIZES, **options):
    """Losses, counts of right predictions, and the final states of a short run."""
    tn.seed(seed)
    model = make()
    opt = optimizer(model.parameters())
    losses, correct = [], []
    with parallel.trainer(model, opt, workers=workers, **options) as step:
        assert step.workers == workers and step.note is None
        for i, (x, y) in enumerate(batches(count, sizes=sizes)):
            if between is not None:
                between(i, model, opt)
            losses.append(step(x, y).item())
            correct.append(step.correct)
    return losses, correct, model.state_dict(), opt.state_dict(), dict(tn.ops.random.state.steps)


def assert_same_run(one, other):
    np.testing.assert_allclose(other[0], one[0], rtol=1e-12, atol=1e-12)
    assert other[1] == one[1]
    for a, b in zip(one[2:4], other[2:4], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-11, atol=1e-12, err_msg=name)
    assert other[4] == one[4] and tn.ops.random.state.first == 0


def trainer(workers=2, loss=tn.ops.softmax_cross_entropy, **options):
    model = small_net()
    opt = adam(model.parameters())
    return model, parallel.trainer(model, opt, loss, workers=workers, **options)
