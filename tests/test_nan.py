"""A loss that is not finite: the update is voided, and the message names the step and the layer."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.ops import random
from tinynet.training import fit
from tinynet.training.nonfinite import NonFiniteError


class LogOfNegative(nn.Module):
    """log(x - 100): NaN for all inputs."""

    def forward(self, x):
        return (x - 100.0).log()


def data():
    x = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def train(model, x, y, **options):
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError) as caught:
        fit(model, (x, y), batch_size=16, verbose=False, **options)
    return caught.value


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_layer_is_named_and_nothing_has_changed(workers):
    x, y = data()
    model = nn.Sequential(nn.Dense(4, activation="relu"), nn.Dropout(0.5), LogOfNegative(), nn.Dense(2), input_shape=3)
    before = model.state_dict()
    error = train(model, x, y, workers=workers)
    assert (error.epoch, error.batch, error.layer) == (1, 1, "2")
    assert "epoch 1, batch 1" in str(error) and "LogOfNegative()" in str(error) and "64 NaN" in str(error)
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._hooks for m in model.modules()) and all(m.training for m in model.modules())


def test_inner_layers_are_named_before_the_ones_around_them():
    inner = nn.Sequential(nn.Dense(4), LogOfNegative())
    error = train(nn.Sequential(nn.Flatten(), inner, nn.Dense(2), input_shape=3), *data())
    assert error.layer == "1.1"


def test_dropout_is_replayed_with_its_own_mask():
    """NaN only where the mask lets a value through: the replay must see the step's mask."""
    class Fragile(nn.Module):
        def forward(self, x):
            return (x * 1000.0).exp()

    tn.seed(11)
    x, y = np.zeros((64, 3), np.float32), np.zeros(64, np.int64)
    x[0, 0] = 1.0
    error = train(nn.Sequential(nn.Dropout(0.75), Fragile(), nn.Dense(2), input_shape=3), x, y, epochs=50)
    assert error.layer == "1", str(error)


def test_the_random_state_is_as_after_the_step():
    model = nn.Sequential(nn.Dropout(0.5), LogOfNegative(), nn.Dense(2), input_shape=3)
    before = dict(random.state.steps)
    train(model, *data())
    assert random.state.steps == {**before, "dropout": before["dropout"] + 1}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_images_are_named(value):
    x, y = data()
    x[40, 1] = value
    error = train(nn.Sequential(nn.Dense(2), input_shape=3), x, y)
    assert error.layer is None and "images or features (16, 3)" in str(error)


def test_bad_targets_are_named():
    x, _ = data()
    y = np.zeros((64, 1), np.float32)
    y[3] = np.nan
    assert "labels" in str(train(nn.Sequential(nn.Dense(1), input_shape=3), x, y, loss=tn.ops.mse))


def test_broken_parameters_are_named():
    model = nn.Sequential(nn.Dense(4), nn.Dense(2), input_shape=3)
    with tn.no_grad():
        model.layers[1].bias[0] = np.nan
    error = train(model, *data())
    assert "parameter" in str(error) and "bias" in str(error) and "(2,)" in str(error)


def test_divergence_is_explained_and_the_model_survives():
    x, y = data()
    model = nn.Sequential(nn.Dense(8), nn.Dense(8), nn.Dense(1), input_shape=3)
    error = train(model, 1e3 * x, y[:, None].astype(np.float32), loss=tn.ops.mse, optimizer="sgd", lr=1e3, epochs=50)
    assert error.epoch >= 1 and ("layer" in str(error) or "parameter" in str(error) or "loss function" in str(error))


def test_the_loss_function_itself_can_be_it():
    def loss(out, y):
        return (out - out).log().mean()

    error = train(nn.Sequential(nn.Dense(2), input_shape=3), *data(), loss=loss)
    assert error.layer is None and "the loss function" in str(error)
