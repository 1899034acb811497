"""A loss that is not finite: the update is voided, and the message names the step and the layer."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops
from tinynet.ops import random
from tinynet.saving.checkpoint import CheckpointError
from tinynet.training import fit
from tinynet.training.nonfinite import NonFiniteError, NonFiniteWarning


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


# ---- the loss is finite, a gradient is not ------------------------------------------------------------------------


def rmse(prediction, y):
    """Its gradient is 0 / 0 at a perfect fit."""
    return tn.ops.mse(prediction, y).sqrt()


def perfect_at(batches, bad):
    """Samples for Dense(1, bias=False), whose fit is perfect in batch `bad` (of 8 samples each), of zeros, only."""
    x = np.random.default_rng(0).standard_normal((8 * batches, 2)).astype(np.float32)
    y = np.ones((8 * batches, 1), np.float32)
    x[8 * bad : 8 * bad + 8] = y[8 * bad : 8 * bad + 8] = 0
    return tn.data.Loader(x, y, batch_size=8, shuffle=False)


def line():
    model = nn.Sequential(nn.Dense(1, bias=False), input_shape=2)
    return model.load_state_dict({"0.weight": np.ones((2, 1), np.float32)})


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("workers", "backend", "options"),
    [
        (1, "numpy", {}),
        (2, "numpy", {}),
        (1, "simulator", {}),
        (1, "numpy", {"clip_norm": 1.0}),
        (2, "numpy", {"clip_norm": 1.0}),
        (1, "simulator", {"clip_norm": 1.0}),
        (3, "numpy", {"optimizer": "sgd"}),
    ],
)
def test_an_update_is_voided_and_explained_and_training_goes_on(workers, backend, options, tmp_path):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    with tn.use(backend):
        model = line()
    path, before = tmp_path / "run.safetensors", model.state_dict()
    with pytest.warns(NonFiniteWarning) as caught:
        history = fit(
            model,
            perfect_at(3, 0),
            loss=rmse,
            workers=workers,
            verbose=False,
            checkpoint=path,
            epochs=1,
            checkpoint_every=1,
            callbacks=[lambda row: None],
            **options,
        )
    messages = [str(w.message) for w in caught if w.category is NonFiniteWarning]
    assert len(messages) == 1 and np.isfinite(history[0]["loss"])
    assert "epoch 1, batch 1 was voided" in messages[0] and "parameter 0.weight (2, 1)" in messages[0]
    assert "sqrt, output shape ()" in messages[0]
    after = tn.load(path).state_dict()
    assert np.isfinite(after["0.weight"]).all() and np.array_equal(after["0.weight"], model.state_dict()["0.weight"])
    assert not np.array_equal(after["0.weight"], before["0.weight"])  # by batches 2 and 3


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_voided_step_leaves_weights_and_state_as_they_were(workers):
    model = line()
    optimizer = tn.optim.Adam(model.parameters())
    loader = perfect_at(3, 1)
    seen = []
    with tn.parallel.trainer(model, optimizer, rmse, workers=workers) as step:
        for x, y in loader:
            loss = step(x, y)
            seen.append((step.voided, loss.item(), model.state_dict(), optimizer.state_dict()))
    assert [voided for voided, *_ in seen] == [False, True, False] and seen[1][1] == 0
    for k in 2, 3:
        assert all(np.array_equal(v, seen[0][k][name]) for name, v in seen[1][k].items())
        assert any(not np.array_equal(v, seen[1][k][name]) for name, v in seen[2][k].items())


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("sample", [0, 7])
def test_one_replicas_gradient_voids_the_step_of_all(sample):
    """Only the first or only the last replica's share makes it."""

    def loss(out, y):
        return (out * y).sqrt().mean()  # sqrt'(0) is infinite where y is 0

    model = line()
    before = model.state_dict()
    x, y = np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)
    y[sample] = 0
    with tn.parallel.trainer(model, tn.optim.SGD(model.parameters()), loss, workers=2) as step:
        assert np.isfinite(step(x, y).item()) and step.voided
        assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
        step(x, np.ones_like(y))
        assert not step.voided and np.isfinite(model.state_dict()["0.weight"]).all()


def test_what_is_too_large_to_square_is_named():
    def loss(out, y):
        return (out * 1e30).mean() + 0 * y.sum()

    with pytest.warns(NonFiniteWarning, match=r"0.weight has a value of size .*, more than the 1.84e\+19"):
        fit(line(), perfect_at(2, 0), loss=loss, verbose=False)


def test_nothing_that_is_not_finite_takes_a_good_checkpoints_place(tmp_path):
    path, model = tmp_path / "model.safetensors", line()
    tn.save(model, path)
    good = path.read_bytes()
    for bad in np.nan, np.inf:
        with tn.no_grad():
            model[0].weight[0] = bad
        with pytest.raises(
            CheckpointError,
            match=r"model.safetensors: is not written, as the parameter 0.weight "
            r"\(2, 1\) holds . NaN and . infinite of 2 values",
        ):
            tn.save(model, path)
    with tn.no_grad():
        model[0].weight[...] = 1

    def overflow(row):  # what a caller does to the weights between two epochs
        with tn.no_grad():
            model[0].weight[...] = np.inf

    with pytest.raises(CheckpointError, match=r"0\.weight"):
        fit(model, perfect_at(1, 1), verbose=False, checkpoint=path, loss=tn.ops.mse, callbacks=[overflow])
    assert path.read_bytes() == good and [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_buffer_may_be_infinite_but_not_nan(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            self.mask = tn.tensor([0.0, -np.inf])

        def forward(self, x):
            return x + self.mask

    model = nn.Sequential(Masked(), nn.Dense(1), input_shape=2)
    tn.save(model, tmp_path / "a")
    model[0].mask[0] = np.nan
    with pytest.raises(CheckpointError, match=r"the buffer 0\.mask"):
        tn.save(model, tmp_path / "b")


class Twice(nn.Module):
    """An operation of two outputs, and slices of one tensor."""

    def __init__(self):
        self.lstm = nn.LSTM(3)

    def forward(self, x):
        y, _ = self.lstm(x.reshape(x.shape[0], 3, 1))
        return y[:, 0] + y[:, 2]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("layer", [nn.BatchNorm, Twice])
def test_a_gradient_of_several_outputs_is_explained_too(layer, workers):
    x, y = data()
    model = nn.Sequential(nn.Dense(3), layer(), nn.Dense(1), input_shape=3)
    with (
        np.errstate(all="ignore"),
        pytest.warns(NonFiniteWarning, match=r"was voided.*training went on: the gradient of"),
    ):
        fit(model, (x, y), loss=lambda out, _: (out * out).mean() * 1e36, batch_size=16, epochs=1, verbose=False,
            workers=workers)  # fmt: skip
    with (
        np.errstate(all="ignore"),
        pytest.warns(NonFiniteWarning, match="the first operation that made such a gradient"),
    ):
        fit(model, (x, y), loss=lambda out, _: ((out * 0) * 1e30 * 1e30).sqrt().mean(), batch_size=64, epochs=1,
            verbose=False, workers=workers)  # fmt: skip


@pytest.mark.parametrize("explained", ["loss", "gradient"])
def test_a_diagnosis_leaves_the_running_statistics_alone(explained):
    x, y = data()
    model = nn.Sequential(nn.Dense(3), nn.BatchNorm(), nn.Dense(2), input_shape=3)
    seen = []

    def loss(out, y):
        seen.append(model[1].running_mean.numpy().copy())
        if explained == "loss":
            return ops.softmax_cross_entropy(out, y) * np.inf
        return ops.softmax_cross_entropy(out, y) * 1e38

    options = {"loss": loss, "batch_size": 64, "epochs": 1, "verbose": False}
    with np.errstate(all="ignore"):
        if explained == "loss":
            with pytest.raises(NonFiniteError):
                fit(model, (x, y), **options)
        else:
            with pytest.warns(NonFiniteWarning):
                fit(model, (x, y), **options)
    assert len(seen) == 2 and not np.array_equal(seen[0], seen[1]), "the step was replayed"
    np.testing.assert_array_equal(model[1].running_mean.numpy(), seen[0])
