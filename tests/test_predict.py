"""`tn.predict` as others call it: with float64, lists and tables, in batches, by shap."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import warnings

import numpy as np
import pytest

import tinynet as tn
from tests.insight_models import picture_net, snapshot
from tinynet import nn, ops

ROWS = np.random.default_rng(0).standard_normal((12, 4))


@pytest.fixture
def tabular():
    return nn.Sequential(nn.Dense(8, activation="tanh"), nn.Dropout(0.5), nn.Dense(3), input_shape=4)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "given",
    [
        ROWS,
        ROWS.astype(np.float32),
        ROWS.tolist(),
        [tuple(row) for row in ROWS.tolist()],
        list(ROWS),
        np.asfortranarray(ROWS),
        ROWS.astype(object),
    ],
)
def test_rows_of_any_kind(given, tabular):
    before = snapshot(tabular)
    got = tn.predict(tabular, given, batch_size=5)
    assert got.shape == (12, 3) and got.dtype == np.float32 and snapshot(tabular) == before
    first, last = tabular[0], tabular[2]
    z = np.tanh(ROWS @ first.weight.numpy() + first.bias.numpy()) @ last.weight.numpy() + last.bias.numpy()
    np.testing.assert_allclose(got, softmax(z), rtol=1e-4)
    assert tn.predict(tabular, given[:1]).shape == (1, 3)


def test_pictures_as_lime_gives_them():
    model = picture_net("relu")
    images = np.random.default_rng(0).random((9, 12, 12, 3))
    want = tn.predict(model, images)
    for given in (list(images), images.tolist(), images[:, ::-1][:, ::-1]):
        np.testing.assert_allclose(tn.predict(model, given, batch_size=4), want, rtol=1e-5)
    np.testing.assert_allclose(want.sum(1), 1, rtol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("shap") is None, reason="needs shap (with numba and pandas): pip install shap"
)
def test_shap_takes_a_model_as_it_is(tabular):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what shap imports
        import shap

        explainer = shap.KernelExplainer(lambda x: tn.predict(tabular, x), ROWS[:6])
        values = np.asarray(explainer.shap_values(ROWS[6:8], silent=True))
        whole = tn.predict(tabular, ROWS[6:8]) - tn.predict(tabular, ROWS[:6]).mean(0)
        np.testing.assert_allclose(values.sum(1), whole, atol=1e-5)  # its own completeness
        masked = shap.Explainer(lambda x: tn.predict(tabular, x), ROWS[:6])(ROWS[6:8], silent=True)
    np.testing.assert_allclose(masked.values.sum(1), whole, atol=1e-5)


def fitted(outputs, loss, targets, end=None):
    """A network that `fit` trained with a loss."""
    model = nn.Sequential(nn.Dense(outputs, activation=end), input_shape=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the softmax beside a loss that takes logits
        tn.fit(model, (ROWS.astype(np.float32), targets), loss=loss, epochs=3, lr=0.5, verbose=False)
    return model


@pytest.mark.parametrize("loss", [ops.mse, ops.l1, functools.partial(ops.huber, delta=2.0)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_network_trained_for_numbers_gives_them(loss, outputs, tmp_path):
    model = fitted(outputs, loss, 10 * ROWS[:, :outputs].astype(np.float32))
    np.testing.assert_array_equal(tn.predict(model, ROWS), model(ROWS).numpy())
    tn.save(model, tmp_path / "model")
    if loss in (ops.mse, ops.l1):  # of a partial the file has no name
        np.testing.assert_array_equal(tn.predict(tn.load(tmp_path / "model"), ROWS), tn.predict(model, ROWS))


@pytest.mark.parametrize("loss", [ops.binary_cross_entropy_with_logits, ops.focal])
def test_labels_that_do_not_exclude_one_another_get_a_sigmoid_each(loss):
    model = fitted(3, loss, (ROWS[:, :3] > 0).astype(np.float32))
    np.testing.assert_allclose(tn.predict(model, ROWS), 1 / (1 + np.exp(-model(ROWS).numpy())), rtol=1e-6)
    both = tn.Ensemble([model, fitted(3, loss, (ROWS[:, :3] > 0).astype(np.float32))], average="sigmoid")
    mean = np.mean([tn.predict(m, ROWS) for m in both.members], 0)
    np.testing.assert_allclose(tn.predict(both, ROWS), mean, rtol=1e-5)


def test_a_loss_of_ones_own_is_taken_for_a_classifiers():
    def mse(outputs, y):  # called like one of tinynet's
        return ops.softmax_cross_entropy(outputs, y)

    model = fitted(3, mse, np.arange(12) % 3)
    np.testing.assert_allclose(tn.predict(model, ROWS).sum(1), 1, rtol=1e-6)
    vars(model)["_fitted_loss"] = "mse"  # what a file tells of it
    np.testing.assert_allclose(tn.predict(model, ROWS).sum(1), 1, rtol=1e-6)


@dataclasses.dataclass
class Smoothed:
    """A loss with a setting, which as a dataclass is no key of a dict."""

    by: float

    def __call__(self, outputs, y):
        return ops.softmax_cross_entropy(outputs, y, label_smoothing=self.by)


@pytest.mark.parametrize("end", [None, "softmax"])
def test_a_loss_may_be_any_object(end):
    model = fitted(3, Smoothed(0.1), np.arange(12) % 3, end=end)
    np.testing.assert_allclose(tn.predict(model, ROWS).sum(1), 1, rtol=1e-6)
    assert tn.evaluate(model, (ROWS, np.arange(12) % 3))["loss"] > 0


def test_the_rows_are_in_the_datas_order(tabular):
    loader = tn.data.Loader(ROWS, np.arange(12), batch_size=5)
    assert loader.shuffle
    np.testing.assert_allclose(tn.predict(tabular, loader), tn.predict(tabular, ROWS), rtol=1e-6)
    assert loader.shuffle and loader.epoch == 0


def test_probabilities_are_no_logits_for_a_report_and_an_ensemble():
    y = np.arange(12) % 3
    model = fitted(3, ops.softmax_cross_entropy, y, end="softmax")
    both = tn.Ensemble([model, fitted(3, ops.softmax_cross_entropy, y, end="softmax")], average="outputs")
    for network in model, both:
        p = tn.predict(network, ROWS)
        np.testing.assert_array_equal(p, network(ROWS).numpy())
        report = tn.report(network, (ROWS, y))
        np.testing.assert_allclose(report.probability, p.max(1), rtol=1e-5)
        np.testing.assert_allclose(report.loss, -np.log(p[np.arange(12), y]), rtol=1e-5)
