"""Losses beside PyTorch's, forward and backward, over drawn settings: float64 to 1e-9, float32 to 2e-5."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests import strategies as draw
from tests.test_parity_layers import DTYPES, EXAMPLES, same
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
