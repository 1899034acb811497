"""Losses: values, saturation, and the labels they refuse."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tinynet as tn
from tests import references
from tests import strategies as draw
from tinynet import ops

STRICT = {"rtol": 1e-6, "atol": 1e-8}
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])


@given(st.data(), st.integers(1, 5), st.integers(1, 4), REDUCTIONS, draw.seeds)
def test_cross_entropy(data, n, k, reduction, seed):
    """The loop of the oracle; the same as log_softmax and nll_loss; any strides; labels of any integer type."""
    logits = data.draw(draw.laid_out(draw.values((n, k), seed)))
    labels = np.random.default_rng(seed).integers(0, k, n).astype(data.draw(st.sampled_from(["u1", "i4", "i8"])))
    loss = ops.softmax_cross_entropy(tn.tensor(logits), labels, reduction=reduction)
    assert_allclose(loss.numpy(), references.softmax_cross_entropy(logits, labels, reduction), rtol=1e-12, atol=1e-13)
    two_steps = ops.nll_loss(ops.log_softmax(tn.tensor(logits)), tn.tensor(labels), reduction=reduction)
    assert_allclose(loss.numpy(), two_steps.numpy(), rtol=1e-12, atol=1e-13)
    tn.gradcheck(lambda x: ops.softmax_cross_entropy(x, labels, reduction=reduction), logits, **STRICT)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_saturates(dtype):
    """At ±1e4: the loss is the difference of the logits, the gradient softmax - one-hot; no inf, NaN or warning."""
    x = tn.tensor(np.array([[1e4, -1e4], [1e4, -1e4], [-1e4, -1e4]], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = ops.softmax_cross_entropy(x, np.array([0, 1, 0]), reduction="none")
        losses.backward(np.ones(3))
    assert_allclose(losses.numpy(), [0, 2e4, np.log(2)], rtol=1e-6)
    assert_allclose(x.grad.numpy(), [[0, 0], [1, -1], [-0.5, 0.5]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_saturates(dtype):
    x = tn.tensor(np.array([1e4, 1e4, -1e4, -1e4], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = ops.binary_cross_entropy_with_logits(x, np.array([1, 0, 1, 0], dtype), reduction="none")
        losses.backward(np.ones(4))
    assert losses.numpy().tolist() == [0, 1e4, 1e4, 0]
    assert x.grad.numpy().tolist() == [0, 1, -1, 0]


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "nll_loss"])
def test_batch_of_one_and_none(name):
    loss = getattr(ops, name)
    one = loss(tn.tensor([[0.0, 0.0]]), np.array([1]))
    assert one.shape == ()
    assert loss(tn.tensor(np.zeros((0, 3))), np.zeros(0, int), reduction="none").shape == (0,)
    assert loss(tn.tensor(np.zeros((0, 3))), np.zeros(0, int), reduction="sum").item() == 0
    with pytest.raises(ValueError, match=r"shape \(0,\) has no values"):
        loss(tn.tensor(np.zeros((0, 3))), np.zeros(0, int))


def test_mean_squared_error():
    x, target = tn.tensor([1.0, 2.0, 4.0], requires_grad=True), np.array([1, 1, 1], np.float32)
    loss = ops.mse(x, target)
    assert loss.item() == pytest.approx(10 / 3) and loss.dtype == np.float32
    loss.backward()
    assert_allclose(x.grad.numpy(), [0, 2 / 3, 2], rtol=1e-6)


X = tn.tensor(np.zeros((2, 3)))
MISTAKES = [
    (lambda: ops.softmax_cross_entropy(X, np.array([0, 3])), ValueError, "labels run from 0 to 3, .* classes 0 to 2"),
    (lambda: ops.softmax_cross_entropy(X, np.array([-1, 0])), ValueError, "labels run from -1 to 0"),
    (lambda: ops.softmax_cross_entropy(X, np.eye(2, 3)), ValueError, r"not one-hot rows: use labels.argmax\(1\)"),
    (lambda: ops.softmax_cross_entropy(X, np.array([0.0, 1.0])), TypeError, "must be integers"),
    (lambda: ops.softmax_cross_entropy(X, np.array([0])), ValueError, r"logits \(2, 3\) must be .* labels \(1,\)"),
    (
        lambda: ops.softmax_cross_entropy(X, np.array([0, 1]), reduction="median"),
        ValueError,
        "reduction='median' must be",
    ),
    (lambda: ops.nll_loss(X, np.array([0, 9])), ValueError, "nll_loss: labels run"),
    (lambda: ops.mse(X, np.zeros(6)), ValueError, r"prediction \(2, 3\) and target \(6,\).*reshape"),
    (lambda: ops.binary_cross_entropy_with_logits(X, np.zeros(3)), ValueError, "must have one shape"),
]


@pytest.mark.parametrize(("mistake", "kind", "message"), MISTAKES)
def test_messages(mistake, kind, message):
    with pytest.raises(kind, match=message):
        mistake()
