"""fit and evaluate: history, callbacks, early stopping, Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

import tinynet as tn
from tests.training_runs import data, network, quiet
from tinynet import nn, ops, optim, parallel
from tinynet.data import Loader
from tinynet.training import STOP, EarlyStopping, evaluate


def test_history_learns_and_is_complete():
    history = quiet(network(), data(), validation=data(50, 1), epochs=4, lr=0.02)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert list(history[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "lr",
        "seconds",
        "images_per_second",
    ]
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["val_accuracy"] > 0.8
    assert history[0]["lr"] == 0.02 and history[0]["seconds"] > 0


def test_one_epoch_is_the_plain_loop():
    """fit does what the loop that everybody writes does."""
    x, y = data()
    ours, theirs = network(), network()
    theirs.load_state_dict(ours.state_dict())
    quiet(ours, (x, y), epochs=2, batch_size=32, optimizer="sgd", lr=0.1, seed=5)
    optimizer = optim.SGD(theirs.parameters(), 0.1)
    loader = Loader(x, y, batch_size=32, seed=5, prefetch=0)
    for _ in range(2):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = tn.ops.softmax_cross_entropy(theirs(xb), yb)
            loss.backward()
            optimizer.step(loss)
    for name, value in ours.state_dict().items():
        assert np.array_equal(value, theirs.state_dict()[name])


def test_two_workers_train_as_one_up_to_rounding():
    results = []
    for workers in 1, 2:
        tn.seed(0)
        model = nn.Sequential(nn.Dense(8, activation="relu"), nn.Dropout(0.3), nn.Dense(2), input_shape=2)
        history = quiet(model, data(), epochs=2, workers=workers)
        results.append((model.state_dict(), history[-1]["accuracy"]))
    assert results[0][1] == results[1][1]
    for name, value in results[0][0].items():
        np.testing.assert_allclose(results[1][0][name], value, rtol=1e-4, atol=1e-5)


def test_loaders_bring_batch_size_and_epoch():
    loader = Loader(*data(), batch_size=50, seed=1)
    steps = []

    class Count:
        def on_step_end(self, info):
            steps.append((info["epoch"], info["batch"], info["step"]))

    quiet(network(), loader, epochs=2, callbacks=[Count()])
    assert steps == [(1, 1, 1), (1, 2, 2), (1, 3, 3), (1, 4, 4), (2, 1, 5), (2, 2, 6), (2, 3, 7), (2, 4, 8)]
    assert loader.epoch == 2  # a second fit sees the samples in another order


def test_evaluate_is_the_mean_over_samples_and_leaves_modes_alone():
    x, y = data(37)
    model = nn.Sequential(nn.Dense(2), nn.Dropout(0.9), input_shape=2)
    model.layers[0].training = False
    measured = evaluate(model, (x, y), batch_size=10)
    assert measured == evaluate(model, (x, y), batch_size=10)
    assert [m.training for m in model.modules()] == [True, False, True]
    model.eval()
    assert measured["loss"] == pytest.approx(tn.ops.softmax_cross_entropy(model(x), y).item(), rel=1e-6)
    assert measured["accuracy"] == np.mean(model(x).numpy().argmax(1) == y)


def test_regression_has_no_accuracy():
    x, _ = data()
    y = (x @ np.array([[2.0], [-1.0]])).astype(np.float64)  # float64 targets of a float32 model
    model = nn.Sequential(nn.Dense(1), input_shape=2)
    history = quiet(model, (x, y), validation=(x, y), epochs=20, optimizer="sgd", lr=0.1, loss=tn.ops.mse)
    assert history[-1]["accuracy"] is None and history[-1]["val_accuracy"] is None and history[-1]["loss"] < 1e-3
    assert model.parameters()[0].dtype == np.float32


@pytest.mark.parametrize("optimizer", ["sgd", lambda p, **k: optim.SGD(p, momentum=0.9, **k), "instance"])
def test_optimizers_by_name_function_and_instance(optimizer):
    model = network()
    if optimizer == "instance":
        optimizer = optim.AdamW(model.parameters())
    quiet(model, data(), optimizer=optimizer, lr=0.1, epochs=2)
    if not isinstance(optimizer, optim.Optimizer):
        optim.SGD(model.parameters())  # the model is free again
    assert evaluate(model, data())["accuracy"] > 0.7


def test_schedule_scales_the_rate_at_each_step():
    rates = []

    class Rates:
        def on_step_end(self, info):
            rates.append(info["lr"])

    quiet(
        network(),
        data(),
        batch_size=100,
        epochs=2,
        lr=0.5,
        optimizer="sgd",
        callbacks=[Rates()],
        schedule=lambda step: 0.5**step,
    )
    assert rates == [0.5, 0.25, 0.125, 0.0625]


def test_a_schedule_leaves_the_optimisers_rate_as_it_was():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    quiet(model, data(), optimizer=optimizer, schedule=lambda step: 0.1)
    assert optimizer.lr == 0.5
    with pytest.raises(ZeroDivisionError):
        quiet(model, data(), optimizer=optimizer, schedule=lambda step: 0.1 / (step < 1))
    assert optimizer.lr == 0.5 and optimizer.state_dict()["0.counts"][0, 0] == 0.5


@pytest.mark.parametrize("workers", [1, 2])
def test_accuracy_is_of_class_numbers_and_of_nothing_else(workers):
    """Labels (N, 1), one-hot rows, and classes of other places than the outputs have none, nor has validation."""
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)

    def squares(out, y):
        return ops.mse(out, tn.tensor(np.asarray(y, np.float32)))

    class Places(nn.Module):
        def __init__(self):
            self.dense = nn.Dense(6)

        def forward(self, x):
            return self.dense(x).reshape(len(x), 3, 2)

    for model, y, loss in (
        (nn.Sequential(nn.Dense(1), input_shape=6), (x[:, :1] > 0).astype(int), squares),
        (nn.Sequential(nn.Dense(3), input_shape=6), np.eye(3, dtype=int)[np.arange(40) % 3], squares),
        (Places(), (x[:, :2] > 0).astype(int), lambda out, y: (out[:, :2, 0] - np.asarray(y, np.float32)).var()),
    ):
        row = quiet(model, (x, y), validation=(x, y), loss=loss, workers=workers)[0]
        assert row["accuracy"] is None and row["val_accuracy"] is None and np.isfinite(row["val_loss"])


def test_clip_norm_bounds_the_update():
    model = network()
    before = model.state_dict()
    quiet(model, data(100), batch_size=100, optimizer="sgd", lr=1.0, clip_norm=1e-3)
    moved = sum(np.sum((v - before[k]) ** 2) for k, v in model.state_dict().items()) ** 0.5
    assert 0.9e-3 < moved < 1.1e-3


def test_callbacks_get_rows_and_can_stop():
    rows = []
    history = quiet(
        network(), data(), epochs=9, callbacks=[rows.append, lambda row: STOP if row["epoch"] == 3 else None]
    )
    assert len(history) == 3 and rows == history


def test_early_stopping_restores_the_best_weights(monkeypatch):
    model, values = network(), iter([0.5, 0.4, 0.6, 0.45, 0.1])
    weights = []

    def evaluate(trainer, x, y):
        weights.append(model.state_dict())
        return next(values), {"accuracy": len(x)}

    monkeypatch.setattr(parallel.Trainer, "evaluate", evaluate)
    history = quiet(model, data(), validation=data(8), epochs=9, early_stopping=2)
    assert [row["val_loss"] for row in history] == [0.5, 0.4, 0.6, 0.45]
    for name, value in model.state_dict().items():
        assert np.array_equal(value, weights[1][name])


def test_early_stopping_judges():
    accuracy = EarlyStopping(monitor="val_accuracy", min_delta=0.01)
    assert accuracy.improved(0.5, None) and accuracy.improved(0.52, 0.5) and not accuracy.improved(0.505, 0.5)
    loss = EarlyStopping()
    assert loss.improved(0.4, 0.5) and not loss.improved(0.5, 0.5) and not loss.improved(float("nan"), 0.5)
    assert loss.improved(0.4, float("nan"))


def test_csv_is_the_history(tmp_path):
    path = tmp_path / "new" / "history.csv"
    history = quiet(network(), data(), validation=data(9), epochs=2, csv=path)
    head, *rows = path.read_text().splitlines()
    assert head.split(",") == list(history[0])
    assert [[float(v) for v in row.split(",")] for row in rows] == [list(row.values()) for row in history]
    assert os.listdir(path.parent) == ["history.csv"]  # nothing temporary is left


def test_ctrl_c_ends_after_the_step_with_a_checkpoint(tmp_path):
    path, model = tmp_path / "run.safetensors", network()
    handler, threads = signal.getsignal(signal.SIGINT), threading.active_count()

    class Interrupt:
        def on_step_end(self, info):
            if info["step"] == 5:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        quiet(model, data(), epochs=3, batch_size=50, checkpoint=path, callbacks=[Interrupt()], optimizer="sgd")
    assert signal.getsignal(signal.SIGINT) is handler and threading.active_count() == threads
    optim.SGD(model.parameters())  # the model can be used on
    straight, resumed = network(), network()
    straight.load_state_dict(model.state_dict())
    history = quiet(resumed, data(), epochs=3, batch_size=50, checkpoint=path, resume=True, optimizer="sgd")
    assert len(history) == 3


def test_frozen_layers_stay():
    model = network()
    model.layers[0].freeze()
    before = model.state_dict()
    quiet(model, data())
    after = model.state_dict()
    assert np.array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["1.weight"], after["1.weight"])
