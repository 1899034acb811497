"""Counter-based randomness: dropout that depends on nothing but (seed, draw, sample)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import checks
from tests import strategies as draw
from tinynet import nn, ops
from tinynet.ops.random import state


def ones(*shape):
    return tn.tensor(np.ones(shape))


@given(draw.shapes(least=1), st.floats(0.01, 0.99), draw.seeds)
def test_dropout_keeps_or_scales(shape, rate, seed):
    """Each value becomes 0 or x / (1 - rate), and its gradient likewise."""
    tn.seed(seed)
    x = tn.tensor(draw.values(shape, seed, 1, 2), requires_grad=True)
    y = ops.dropout(x, rate)
    kept = y.numpy() != 0
    assert_allclose(y.numpy(), np.where(kept, x.numpy() / (1 - rate), 0))
    y.backward(np.ones(shape))
    assert_allclose(x.grad.numpy(), np.where(kept, 1 / (1 - rate), 0))


def test_dropout_scale():
    checks.dropout_scale()


def test_dropout_rate():
    for rate in (0.1, 0.5, 0.9):
        share = (ops.dropout(ones(1000, 100), rate) == 0).mean().item()
        assert abs(share - rate) < 0.01
    x = ones(3)
    assert ops.dropout(x, 0.5, training=False) is x and ops.dropout(x, 0) is x


def test_masks_differ_by_draw_and_repeat_by_seed():
    tn.seed(7)
    first, second = ops.dropout(ones(50, 7), 0.5).numpy(), ops.dropout(ones(50, 7), 0.5).numpy()
    assert (first != second).any()
    tn.seed(7)
    assert_array_equal(first, ops.dropout(ones(50, 7), 0.5).numpy())
    tn.seed(8)
    assert (first != ops.dropout(ones(50, 7), 0.5).numpy()).any()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 40), draw.seeds)
def test_a_batch_may_be_split_over_replicas(sizes, width, seed):
    """The mask of a sample depends on its global index alone, however the batch is shared out."""
    tn.seed(seed)
    whole = ops.dropout(ones(sum(sizes), width), 0.5).numpy()
    parts = []
    for size in sizes:
        tn.seed(seed)
        state.first = sum(len(p) for p in parts)
        parts.append(ops.dropout(ones(size, width), 0.5).numpy())
    state.first = 0
    assert_array_equal(np.concatenate(parts), whole)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 in Python's integers (Salmon et al. 2011, section 3.3)."""
    word = (1 << 64) - 1
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = b >> 64 ^ c1 ^ k0, b & word, a >> 64 ^ c3 ^ k1, a & word
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & word, k1 + 0xBB67AE8584CAA73B & word
    return [c0, c1, c2, c3]


@given(st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 40))
def test_bits_are_philox(seed, stream, step, first, size):
    """The words that the contract names: row r starts at block r · ceil(size / 16), low bits first."""
    bits = tn.backends.get("numpy").random_bits((2, size), seed, stream, step, first)
    blocks = -(-size // 16)
    for row in range(2):
        words = [w for k in range(blocks) for w in philox([(first + row) * blocks + k, 0, step, 0], [seed, stream])]
        assert bits[row].tolist() == [w >> shift & 0xFFFF for w in words for shift in (0, 16, 32, 48)][:size]


def test_bits_are_frozen():
    """Saved runs depend on them."""
    assert tn.backends.get("numpy").random_bits((1, 4), 0, 1, 0, 0).tolist() == FROZEN


FROZEN = [[45329, 1520, 9993, 40043]]


def test_mistakes():
    with pytest.raises(ValueError, match=r"dropout: rate=1 must be in \[0, 1\)"):
        ops.dropout(ones(2), 1)
    with pytest.raises(ValueError, match="dropout: the input is 0-d"):
        ops.dropout(ones(), 0.5)


def test_gaussian_noise_is_normal_and_follows_the_samples():
    x = tn.tensor(np.zeros((500, 40)))
    tn.seed(3)
    y = ops.gaussian_noise(x, 2.0).numpy()
    assert abs(y.mean()) < 0.05 and abs(y.std() - 2) < 0.05 and abs((y**4).mean() / 16 - 3) < 0.2
    assert len(np.unique(y)) > 19_900
    tn.seed(3)
    ops.random.state.first = 200
    try:
        np.testing.assert_array_equal(ops.gaussian_noise(x[200:], 2.0).numpy(), y[200:])
    finally:
        ops.random.state.first = 0
    assert ops.gaussian_noise(x, 2.0, training=False) is x


def test_dropout2d_drops_whole_channels():
    tn.seed(0)
    layer = nn.Dropout2d(0.25).build((4, 4, 50))
    y = layer(tn.tensor(np.ones((20, 4, 4, 50), np.float32))).numpy()
    assert ((y == y[:, :1, :1]).all(), set(np.unique(y).round(4))) == (True, {0, np.float32(1.3333)})
    assert abs((y == 0).mean() - 0.25) < 0.05
    assert (layer.eval()(np.ones((2, 4, 4, 50), np.float32)).numpy() == 1).all()
