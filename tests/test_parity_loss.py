"""Losses beside PyTorch's, forward and backward, over drawn settings: float64 to 1e-9, float32 to 2e-5."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests import strategies as draw
from tests.test_parity_layers import DTYPES, EXAMPLES, near, same
from tests.test_parity_torch import F, torch
from tinynet import ops

pytestmark = pytest.mark.parity
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
LEADING = st.lists(st.integers(1, 4), max_size=3).map(tuple)  # the axes before the classes
SMOOTHING = st.sampled_from([0.0, 0.1, 0.7, 1.0])


def second(x):
    """(N, …, K) → (N, K, …), where PyTorch has the classes."""
    return x.movedim(-1, 1) if x.ndim > 2 else x


@EXAMPLES
@given(LEADING, st.integers(1, 5), REDUCTIONS, SMOOTHING, st.booleans(), st.booleans(), DTYPES, draw.seeds)
def test_cross_entropy_of_class_numbers(leading, k, reduction, smoothing, weighted, ignoring, dtype, seed):
    rng = np.random.default_rng(seed)
    labels = np.asarray(rng.integers(0, k, leading))
    options = {"reduction": reduction, "label_smoothing": smoothing}
    theirs = dict(options)
    if weighted:
        options["weight"] = rng.uniform(0.1, 2, k).astype(dtype)
        theirs["weight"] = torch.tensor(options["weight"])
    if ignoring:
        ignored = rng.random(leading) < 0.4
        ignored.flat[0] = False  # of none that count PyTorch's mean is NaN
        options["ignore_index"] = theirs["ignore_index"] = int(rng.choice([-100, -1, k, 0]))
        labels = np.where(ignored, options["ignore_index"], np.where(labels == 0, k - 1, labels))
        assume(labels.flat[0] != options["ignore_index"])
    same(
        lambda x: ops.softmax_cross_entropy(x, labels, **options),
        lambda x: F.cross_entropy(second(x), torch.tensor(labels), **theirs),
        [rng.uniform(-4, 4, (*leading, k))],
        dtype,
    )


@EXAMPLES
@given(LEADING.filter(bool), st.integers(1, 5), REDUCTIONS, SMOOTHING, st.booleans(), st.booleans(), DTYPES, draw.seeds)
def test_cross_entropy_of_probabilities(leading, k, reduction, smoothing, weighted, learnt, dtype, seed):
    """The probabilities may have a gradient, too."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, (*leading, k))
    t = (t / t.sum(-1, keepdims=True)).astype(dtype)
    w = rng.uniform(0.1, 2, k).astype(dtype) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}

    def ours(x, *given):
        return ops.softmax_cross_entropy(x, *(given or (t,)), weight=w, **options)

    def theirs(x, *given):
        target = given[0] if given else torch.tensor(t)
        return F.cross_entropy(second(x), second(target), None if w is None else torch.tensor(w), **options)

    same(ours, theirs, [rng.uniform(-4, 4, (*leading, k)), *[t] * learnt], dtype)


def arrays(count, shape, seed):
    return [draw.values(shape, seed + i) for i in range(count)]


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@EXAMPLES
@given(SHAPES, REDUCTIONS, st.sampled_from([0.3, 1.0, 2.5]), DTYPES, draw.seeds)
def test_l1_and_huber(shape, reduction, delta, dtype, seed):
    pair = arrays(2, shape, seed)
    same(lambda y, t: ops.l1(y, t, reduction=reduction), lambda y, t: F.l1_loss(y, t, reduction=reduction), pair, dtype)
    same(
        lambda y, t: ops.huber(y, t, delta, reduction=reduction),
        lambda y, t: F.huber_loss(y, t, delta=delta, reduction=reduction),
        pair,
        dtype,
    )


@EXAMPLES
@given(st.integers(1, 5), st.integers(1, 5), REDUCTIONS, st.sampled_from([0.2, 1.0]), DTYPES, draw.seeds)
def test_hinge(n, k, reduction, margin, dtype, seed):
    labels = np.random.default_rng(seed).integers(0, k, n)
    same(
        lambda x: ops.hinge(x, labels, margin=margin, reduction=reduction),
        lambda x: F.multi_margin_loss(x, torch.tensor(labels), p=1, margin=margin, reduction=reduction),
        arrays(1, (n, k), seed),
        dtype,
    )


@EXAMPLES
@given(SHAPES, st.sampled_from(["mean", "sum", "none", "batchmean"]), st.booleans(), DTYPES, draw.seeds)
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")  # PyTorch's own, about "mean"
def test_kl_divergence(shape, reduction, zeros, dtype, seed):
    log_p, t = draw.values(shape, seed), np.random.default_rng(seed).uniform(0.1, 1, shape)
    if zeros:
        t.flat[0] = 0
        same(
            lambda x: ops.kl_divergence(x, t.astype(dtype), reduction=reduction),
            lambda x: F.kl_div(x, torch.tensor(t.astype(dtype)), reduction=reduction),
            [log_p],
            dtype,
        )
    else:
        same(
            lambda x, t: ops.kl_divergence(x, t, reduction=reduction),
            lambda x, t: F.kl_div(x, t, reduction=reduction),
            [log_p, t],
            dtype,
        )


@EXAMPLES
@given(st.data(), SHAPES, DTYPES, draw.seeds)
def test_cosine_similarity(data, shape, dtype, seed):
    """Gradients where no length is below eps: PyTorch's are those of the lengths themselves there."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    pair = arrays(2, shape, seed)
    assume(min(np.linalg.norm(v, axis=axis).min() for v in pair) > 0.01)
    same(lambda x, y: ops.cosine_similarity(x, y, axis), lambda x, y: F.cosine_similarity(x, y, axis), pair, dtype)
    values = F.cosine_similarity(*map(torch.tensor, pair), axis, 1.5)
    near(ops.cosine_similarity(*pair, axis, 1.5).numpy(), values.numpy(), 1e-6)


@EXAMPLES
@given(st.integers(1, 5), st.integers(2, 5), REDUCTIONS, st.sampled_from([-0.3, 0.0, 0.4]), DTYPES, draw.seeds)
def test_cosine_embedding(n, features, reduction, margin, dtype, seed):
    labels = np.random.default_rng(seed).choice([-1, 1], n)
    same(
        lambda x, y: ops.cosine_embedding(x, y, labels, margin=margin, reduction=reduction),
        lambda x, y: F.cosine_embedding_loss(x, y, torch.tensor(labels), margin, reduction=reduction),
        arrays(2, (n, features), seed),
        dtype,
    )


@EXAMPLES
@given(
    SHAPES, REDUCTIONS, st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([0.1, 1.0]), st.booleans(), DTYPES, draw.seeds
)
def test_triplet_margin(shape, reduction, p, margin, swap, dtype, seed):
    options = {"reduction": reduction, "p": p, "margin": margin, "swap": swap}
    same(
        lambda *xs: ops.triplet_margin(*xs, **options),
        lambda *xs: F.triplet_margin_loss(*xs, **options),
        arrays(3, shape, seed),
        dtype,
    )
