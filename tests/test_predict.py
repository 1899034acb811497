"""`tn.predict` as others call it: with float64, lists and tables, in batches, by shap."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import pytest

import tinynet as tn
from tests.insight_models import picture_net, snapshot
from tinynet import nn

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
