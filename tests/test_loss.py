"""Losses: values, saturation, and the labels they refuse."""

from __future__ import annotations

import functools
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tinynet as tn
from tests import checks, references
from tests import strategies as draw
from tinynet import nn, ops, optim, parallel
from tinynet.ops.cases import CASES
from tinynet.ops.norm import shares

NEEDS_SIMULATOR = pytest.mark.skipif(bool(tn.backends.why_not("simulator")), reason="no simulator")
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


OPTIONS = [
    {"label_smoothing": 0.1},
    {"weight": [0.5, 2.0, 1.0, 3.0]},
    {"ignore_index": 2},
    {"ignore_index": -100, "weight": np.array([0.5, 2.0, 1.0, 3.0])},
    {"ignore_index": 1, "weight": [0.5, 2.0, 1.0, 3.0], "label_smoothing": 0.3},
]


@pytest.mark.parametrize("backend", ["numpy", pytest.param("simulator", marks=NEEDS_SIMULATOR)])
@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
def test_class_numbers_are_target_weights(backend, options):
    """One formula, -Σ q log p, for all options, on every backend; labels of any shape, on the device too."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 5, 4)), rng.integers(0, 4, (3, 5))
    y[0, :2] = options.get("ignore_index", 0)
    counted = y != options.get("ignore_index", -1)
    w, smooth = np.asarray(options.get("weight", np.ones(4))), options.get("label_smoothing", 0.0)
    hot = np.eye(4)[np.where(counted, y, 0)]
    q = (hot * (1 - smooth) + smooth / 4) * w * counted[..., None]
    log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
    losses, total = -(q * log_p).sum(-1), (hot @ w * counted).sum()
    slope = q.sum(-1, keepdims=True) * np.exp(log_p) - q
    for on_device in (False, True):
        for reduction, value, scale in (
            ("none", losses, 1),
            ("sum", losses.sum(), 1),
            ("mean", losses.sum() / total, total),
        ):
            logits = tn.tensor(x, backend=backend, requires_grad=True)
            labels = tn.tensor(y, backend=backend) if on_device else y.astype(np.int16)
            loss = ops.softmax_cross_entropy(logits, labels, reduction=reduction, **options)
            assert loss.backend.name == backend and loss.dtype == np.float64
            assert_allclose(loss.numpy(), value, rtol=1e-12, atol=1e-13)
            loss.backward(np.ones(loss.shape))
            assert_allclose(logits.grad.numpy(), slope / scale, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", [{}, {"weight": [1.0, 0.0, 2.0]}, {"label_smoothing": 0.2}], ids=str)
def test_what_is_ignored_has_no_loss_and_no_gradient(options, reduction):
    """Whatever its logits: infinite ones too; where nothing counts the mean is 0."""
    x = tn.tensor(np.array([[-np.inf, 0.0, 1.0], [0.0, 1.0, 2.0]]), requires_grad=True)
    if "label_smoothing" in options:
        x = tn.tensor(np.zeros((2, 3)), requires_grad=True)
    loss = ops.softmax_cross_entropy(x, np.array([-1, -1]), ignore_index=-1, reduction=reduction, **options)
    loss.backward(np.ones(loss.shape))
    assert not loss.numpy().any() and not x.grad.numpy().any()
    assert ops.softmax_cross_entropy(x[:0], np.zeros(0, int), ignore_index=0, reduction=reduction).numpy().sum() == 0


def test_labels_that_weigh_nothing_have_a_mean_of_0():
    x = tn.tensor(np.array([[1.0, 2.0]]), requires_grad=True)
    loss = ops.softmax_cross_entropy(x, [0], weight=[0.0, 1.0])
    loss.backward()
    assert loss.item() == 0 and not x.grad.numpy().any()


@pytest.mark.parametrize("k", [2, 3])
def test_half_precision_is_added_up_in_float32(k):
    x = np.random.default_rng(0).standard_normal((4000, k)).astype(np.float16)
    y = np.arange(4000) % k
    loss = ops.softmax_cross_entropy(tn.tensor(x), y, ignore_index=0, weight=np.full(k, 50.0))
    exact = ops.softmax_cross_entropy(tn.tensor(x.astype(float)), y, ignore_index=0)
    assert loss.dtype == np.float16
    assert_allclose(loss.item(), exact.item(), rtol=2e-3)


def test_smoothed_labels_and_probabilities_are_one():
    x = tn.tensor(np.random.default_rng(0).standard_normal((6, 3)))
    y = np.arange(6) % 3
    smooth = np.eye(3)[y] * 0.7 + 0.1
    for reduction in ("mean", "sum", "none"):
        assert_allclose(
            ops.softmax_cross_entropy(x, smooth, reduction=reduction).numpy(),
            ops.softmax_cross_entropy(x, y, reduction=reduction, label_smoothing=0.3).numpy(),
            rtol=1e-12,
        )
    assert_allclose(ops.softmax_cross_entropy(x, np.eye(3)[y]).numpy(), ops.softmax_cross_entropy(x, y).numpy())
    two_steps = ops.nll_loss(ops.log_softmax(x).reshape((2, 3, 3)), y.reshape(2, 3), reduction="none")
    assert_allclose(two_steps.numpy().reshape(-1), ops.softmax_cross_entropy(x, y, reduction="none").numpy())
    one = ops.softmax_cross_entropy(x[0], 2)  # a row, a number
    assert one.shape == () and one.item() == pytest.approx(ops.softmax_cross_entropy(x[:1], [2]).item())


# ---- the others ------------------------------------------------------------------------------------------------------

OWN = [c for c in CASES if c.name in vars(ops.loss) and c.smooth]


@NEEDS_SIMULATOR
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", OWN, ids=str)
def test_the_same_on_the_simulator(case, dtype):
    """Values and gradients of every loss, labels on the host and on the device."""
    tolerance = 1e-12 if dtype is np.float64 else 2e-5
    arrays = case.arrays(dtype)
    values, gradients = checks.run(case, arrays)
    for moved in (False, True):
        inputs = [
            tn.tensor(x, backend="simulator", requires_grad=x.dtype.kind == "f") if moved or x.dtype.kind == "f" else x
            for x in arrays
        ]
        y = case(*inputs)
        assert y.backend.name == "simulator" and y.dtype == dtype
        assert_allclose(y.numpy(), values[0], rtol=tolerance, atol=tolerance)
        y.backward(checks.cotangent(y))
        for x, g in zip(inputs, gradients, strict=True):
            if g is not None:
                assert_allclose(x.grad.numpy(), g, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("case", [c for c in OWN if c.options.get("reduction") == "none"], ids=str)
def test_reductions(case, reduction):
    """Mean and sum are those of the losses that "none" returns; the weighted mean has a formula above."""
    leaves = checks.as_leaves(case.arrays())
    losses = case(*leaves).numpy()
    if reduction == "sum" or not ({"weight", "ignore_index"} & {k for k, v in case.options.items() if v is not None}):
        found = case.fn(*leaves, **case.options | {"reduction": reduction})
        assert found.shape == () and found.item() == pytest.approx(getattr(np, reduction)(losses), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_focal_saturates(dtype):
    """At ±1e4: what is right costs nothing, what is wrong costs its logit; no inf, NaN or warning."""
    x = tn.tensor(np.array([1e4, 1e4, -1e4, -1e4], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = ops.focal(x, np.array([1, 0, 1, 0]), alpha=None, reduction="none")
        losses.backward(np.ones(4))
    assert losses.numpy().tolist() == [0, 1e4, 1e4, 0] and losses.dtype == dtype
    assert x.grad.numpy().tolist() == [0, 1, -1, 0]


def test_focal_without_focus_is_the_cross_entropy():
    x, t = np.random.default_rng(0).standard_normal((2, 5)), np.array([0, 1, 1, 0, 1])
    plain = ops.binary_cross_entropy_with_logits(tn.tensor(x), np.stack([t, t]), reduction="none").numpy()
    assert_allclose(ops.focal(x, [t, t], alpha=None, gamma=0.0, reduction="none").numpy(), plain, rtol=1e-12)
    balanced = ops.focal(x, [t, t], alpha=0.9, gamma=0.0, reduction="none").numpy()
    assert_allclose(balanced, plain * np.where(t == 1, 0.9, 0.1), rtol=1e-12)


def test_dice_of_masks():
    """Right, wrong, half right, and empty ones: 0."""
    mask = np.zeros((4, 2, 2))
    mask[:3, 0] = 1
    p = tn.tensor(np.array([mask[0], 1 - mask[1], mask[2], mask[3]]), requires_grad=True)
    p.data[2, 0, 0] = 0
    losses = ops.dice(p, mask, reduction="none")
    losses.backward(np.ones(4))
    assert_allclose(losses.numpy(), [0, 1, 1 / 3, 0])
    assert np.isfinite(p.grad.numpy()).all() and not p.grad.numpy()[[0, 3]].any()
    assert ops.dice(p, mask, axis=(1, 2), reduction="none").shape == (4,)
    assert ops.dice(p, mask, axis=(0, 1), reduction="none").shape == (2,)


def test_vectors_of_length_0():
    """Of no direction: the cosine is 0, gradients are finite; a triplet of one point costs the margin."""
    x = tn.tensor(np.zeros((2, 3)), requires_grad=True)
    y = ops.cosine_similarity(x, np.ones((2, 3)))
    y.backward(np.ones(2))
    assert y.numpy().tolist() == [0, 0] and np.isfinite(x.grad.numpy()).all()
    assert ops.triplet_margin(x, x, x, margin=0.5, eps=0.0).item() == 0.5
    assert ops.cosine_similarity(np.ones((4, 1, 3)), np.ones((5, 3)), axis=2).shape == (4, 5)


def test_a_distribution_has_no_divergence_from_itself():
    p = np.random.default_rng(0).dirichlet(np.ones(5), 3)
    p[0, :2] = 0, p[0, 0] + p[0, 1]
    with np.errstate(divide="ignore"):
        log_p = np.maximum(np.log(p), -700)
    assert_allclose(ops.kl_divergence(tn.tensor(log_p), p, reduction="none").numpy(), 0, atol=1e-15)


# ---- in training ------------------------------------------------------------------------------------------------


def tagger(dtype=np.float64):
    """Logits (N, T, 4) of sequences (N, T, 3)."""
    tn.seed(0)
    return nn.Sequential(nn.Dense(8, activation="tanh"), nn.Dense(4), input_shape=(6, 3)).astype(dtype)


def sequences(n, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, (n, 6))
    return rng.standard_normal((n, 6, 3)), y


LOSSES = [functools.partial(ops.softmax_cross_entropy, **options) for options in [{}, *OPTIONS]]


@pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux only")
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: str(loss.keywords))
def test_replicas_share_the_weighted_mean(loss):
    """Steps and evaluations of two and three workers are those of one, though the first batch's shares weigh the same
    and later ones' do not."""

    def run(workers):
        model, seen = tagger(), []
        with parallel.trainer(model, optim.SGD(model.parameters(), 0.5), loss, workers=workers) as step:
            for i, n in enumerate((6, 6, 5, 9, 2, 1)):
                x, y = sequences(n, i)
                y[:] = 3 if i == 0 else y
                if i > 1:
                    y[: n // 2, 1:] = loss.keywords.get("ignore_index", 0)
                seen += [step(x, y).item(), step.evaluate(x, y)[0], step.correct]
            assert step.workers == workers and step.note is None
        return seen, model.state_dict()

    (expected, weights), *others = [run(workers) for workers in (1, 2, 3)]
    for seen, found in others:
        assert_allclose(seen, expected, rtol=1e-11)
        for name, value in found.items():
            assert_allclose(value, weights[name], rtol=1e-10)
    assert shares.gather is None and not shares.parts


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: str(loss.keywords))
def test_fit_and_evaluate_sequences(loss):
    """(N, T, K) logits and (N, T) labels: the loss falls, and the accuracy is that of all labels."""
    x, _ = sequences(64)
    y = (x[..., 0] > 0) + 2 * (x[..., 1] > 0)
    model = tagger(np.float32)
    history = tn.fit(
        model, (x, y), validation=(x, y), loss=loss, epochs=3, batch_size=16, optimizer=optim.Adam, verbose=False
    )
    assert history[-1]["loss"] < history[0]["loss"]
    measured = tn.evaluate(model, (x, y))
    out = model.eval()(tn.tensor(x.astype(np.float32)))
    assert measured["accuracy"] == pytest.approx((out.numpy().argmax(-1) == y).mean())
    assert measured["accuracy"] == pytest.approx(history[-1]["val_accuracy"])
    assert measured["loss"] == pytest.approx(loss(out, y).item(), rel=1e-5)


def test_parts_of_a_batch_have_no_weighted_mean():
    """accumulate= adds up parts' means: where they are not the batch's, it is refused, and says what to do."""
    x, y = sequences(8)

    def step(loss):
        model = tagger()
        return parallel.trainer(model, optim.SGD(model.parameters(), 0.1), loss, workers=1, accumulate=2)(x, y).item()

    with pytest.raises(ValueError, match=r"not the mean of a batch's parts \(accumulate=\): use reduction=\"none\""):
        step(LOSSES[2])
    assert not shares.parts
    assert step(LOSSES[1]) == pytest.approx(LOSSES[1](tagger()(tn.tensor(x)), y).item())
    every = lambda out, y: ops.softmax_cross_entropy(out, y, ignore_index=1, reduction="none").mean()  # noqa: E731
    assert step(every) == pytest.approx(every(tagger()(tn.tensor(x)), y).item())


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
    (
        lambda: ops.softmax_cross_entropy(X, np.eye(2, 3, dtype=int)),
        ValueError,
        r"one-hot rows: use labels.argmax\(1\)",
    ),
    (lambda: ops.softmax_cross_entropy(X, np.zeros((2, 1), int)), ValueError, r"rows of one: use labels\[:, 0\]"),
    (lambda: ops.softmax_cross_entropy(X, np.ones((2, 3), bool)), ValueError, "one-hot rows"),
    (lambda: ops.softmax_cross_entropy(X, np.full((2, 3), -0.5)), ValueError, r"probabilities and run from -0.5 .*mse"),
    (lambda: ops.softmax_cross_entropy(X, 2 * np.eye(2, 3)), ValueError, r"must be in \[0, 1\]"),
    (lambda: ops.softmax_cross_entropy(X[0], np.ones(3)), ValueError, r"one axis: write logits\[None\].*binary"),
    (lambda: ops.softmax_cross_entropy(X, np.eye(2, 3), ignore_index=0), ValueError, "ignore_index=0 is for class"),
    (lambda: ops.softmax_cross_entropy(X, [0, 1], ignore_index=0.5), TypeError, "ignore_index=0.5 must be an int"),
    (lambda: ops.softmax_cross_entropy(X, [0, 1], label_smoothing=1.5), ValueError, r"1.5 must be a number in \[0, 1"),
    (lambda: ops.softmax_cross_entropy(X, [0, 1], label_smoothing=np.nan), ValueError, r"nan must be a number"),
    (lambda: ops.softmax_cross_entropy(X, [0, 1], weight=[1, 2]), ValueError, r"weight \(2,\) must be \(3,\)"),
    (lambda: ops.softmax_cross_entropy(X, [0, 5], ignore_index=0), ValueError, "labels run from 0 to 5"),
    (lambda: ops.softmax_cross_entropy(X, [[0, 1]]), ValueError, r"labels \(1, 2\) \(…\)"),
    (lambda: ops.nll_loss(X.reshape((1, 2, 3)), [[0, 3]]), ValueError, "nll_loss: labels run from 0 to 3"),
    (lambda: ops.softmax_cross_entropy(X, np.array([0.0, 1.0])), TypeError, "must be integers"),
    (lambda: ops.softmax_cross_entropy(X, np.array([0])), ValueError, r"logits \(2, 3\) must be .* labels \(1,\)"),
    (
        lambda: ops.softmax_cross_entropy(X, np.array([0, 1]), reduction="median"),
        ValueError,
        "reduction='median' must be",
    ),
    (lambda: ops.nll_loss(X, np.array([0, 9])), ValueError, "nll_loss: labels run"),
    (lambda: ops.l1(X, np.zeros(3)), ValueError, r"l1: prediction \(2, 3\) and target \(3,\)"),
    (lambda: ops.huber(X, X, 0.0), ValueError, "huber: delta=0.0 must be a number > 0"),
    (lambda: ops.hinge(X, [0, 3]), ValueError, "hinge: labels run from 0 to 3"),
    (lambda: ops.hinge([0, 1], X), ValueError, r"other way round.*write hinge\(scores, labels\)"),
    (lambda: ops.hinge(X, [0, 1], reduction="all"), ValueError, "hinge: reduction='all' must be"),
    (lambda: ops.kl_divergence(X, X[0]), ValueError, "kl_divergence: prediction"),
    (lambda: ops.cosine_similarity(X, X, axis=2), ValueError, "cosine_similarity: axis 2 is out of range"),
    (lambda: ops.cosine_embedding(X, X, [0, 1]), ValueError, r"neither 1 nor -1; from 0 and 1 .* 2 \* labels - 1"),
    (lambda: ops.cosine_embedding(X, X, [1]), ValueError, r"labels \(1,\) must be \(2,\), one a pair"),
    (lambda: ops.triplet_margin(X, X, X[0]), ValueError, "triplet_margin: prediction"),
    (lambda: ops.dice(X, X, axis=5), ValueError, "axis 5 is out of range"),
    (lambda: ops.focal(X, [0, 1]), ValueError, "focal: prediction"),
    (lambda: ops.mse(X, np.zeros(6)), ValueError, r"prediction \(2, 3\) and target \(6,\).*reshape"),
    (lambda: ops.binary_cross_entropy_with_logits(X, np.zeros(3)), ValueError, "must have one shape"),
]


@pytest.mark.parametrize(("mistake", "kind", "message"), MISTAKES)
def test_messages(mistake, kind, message):
    with pytest.raises(kind, match=message):
        mistake()
