"""The networks of the tutorials: parameter counts by hand, and a few steps of training each."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import models, ops, optim

# conv: 3·3·in·out + out. dense: in·out + out. Image sizes: 28 → 26 → 13 → 11 → 5; 32 → 30 → 15 → 13 → 6 → 4;
# 128 → 126 → 63 → 61 → 30 → 28 → 14; deep: 32 → 30 → 28 → 14 → 12 → 10 → 5 → 3.
COUNTS = {
    "linear_regression": (13, 1, 13 * 1 + 1),
    "logistic_regression": (784, 10, 784 * 10 + 10),
    "mlp": (20, 10, (20 * 64 + 64) + (64 * 64 + 64) + (64 * 10 + 10)),
    "mnist_small": ((28, 28, 1), 10, (9 * 1 * 32 + 32) + (13 * 13 * 32 * 10 + 10)),
    "mnist_cnn": ((28, 28, 1), 10, (9 * 1 * 32 + 32) + (9 * 32 * 64 + 64) + (5 * 5 * 64 * 128 + 128) + (128 * 10 + 10)),
    "cifar_small": ((32, 32, 3), 10, (9 * 3 * 32 + 32) + (15 * 15 * 32 * 64 + 64) + (64 * 10 + 10)),
    "cifar_cnn": (
        (32, 32, 3),
        10,
        (9 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 64 + 64) + (4 * 4 * 64 * 64 + 64) + (64 * 10 + 10),
    ),
    "image128_cnn": (
        (128, 128, 3),
        5,
        (9 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128) + (14 * 14 * 128 * 128 + 128) + (128 * 5 + 5),
    ),
    "deep_cnn": (
        (32, 32, 3),
        10,
        (9 * 3 * 32 + 32)
        + (9 * 32 * 32 + 32)
        + (9 * 32 * 64 + 64)
        + (9 * 64 * 64 + 64)
        + (9 * 64 * 128 + 128)
        + (3 * 3 * 128 * 128 + 128)
        + (128 * 10 + 10),
    ),
}


def make(name):
    shape, _, _ = COUNTS[name]
    model = models.MODELS[name]()
    return model if model.built else model.build(shape)


def test_the_table_is_complete():
    assert set(COUNTS) == {name for name, f in models.MODELS.items() if f.__module__ == models.basic.__name__}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_parameter_count(name):
    assert sum(p.size for p in make(name).parameters()) == COUNTS[name][2]


@pytest.mark.parametrize("name", [name for name in sorted(COUNTS) if isinstance(COUNTS[name][0], tuple)])
def test_other_images_and_classes(name):
    model = getattr(models, name)(classes=3, input_shape=(33, 30, 2))
    assert model(np.zeros((2, 33, 30, 2), np.float32)).shape == (2, 3)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_it_trains(name):
    shape, outputs, _ = COUNTS[name]
    tn.seed(0)
    model = make(name)
    rng = np.random.default_rng(0)
    n = 4
    x = rng.standard_normal((n, *((shape,) if isinstance(shape, int) else shape))).astype(np.float32)
    y = rng.standard_normal((n, 1)).astype(np.float32) if outputs == 1 else np.arange(n) % outputs
    loss_of = ops.mse if outputs == 1 else ops.softmax_cross_entropy
    optimizer = optim.Adam(model.parameters(), 1e-2 if isinstance(shape, int) else 1e-3)
    before = float(loss_of(model.eval()(x), y))
    assert model(x).shape == (n, outputs)
    model.train()
    for _ in range(6):
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step(loss)
    assert float(loss_of(model.eval()(x), y)) < before
