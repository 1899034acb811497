"""Attention: masks, rows that attend nothing, dropout; the layers beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import strategies as draw
from tests.test_parity_layers import DTYPES, near, same
from tests.test_parity_torch import F, torch
from tinynet import nn, ops


@pytest.mark.parity
@settings(max_examples=25)
@given(*[st.integers(1, 4)] * 4, st.sampled_from(["none", "causal", "mask", "heads"]), DTYPES, draw.seeds)
def test_as_pytorch(t, s, d, e, kind, dtype, seed):
    """Random sizes and masks; each query attends something."""
    rng = np.random.default_rng(seed)
    s = t if kind == "causal" else s
    mask = None
    if kind in ("mask", "heads"):
        mask = rng.uniform(size=(t, s) if kind == "mask" else (1, 2, t, s)) < 0.6
        mask[..., 0] = True
    arrays = [rng.standard_normal((2, 2, *size)) for size in ((t, d), (s, d), (s, e))]
    same(
        lambda *a: ops.scaled_dot_product_attention(*a, mask, causal=kind == "causal"),
        lambda *a: F.scaled_dot_product_attention(
            *a, None if mask is None else torch.tensor(mask), is_causal=kind == "causal"
        ),
        arrays,
        dtype,
    )


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_who_attends_nothing_gets_zeros(backend):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    with tn.use(backend):
        q, k, v = (tn.tensor(draw.values((1, 3, 4), i), requires_grad=True) for i in range(3))
        mask = np.array([[True, True, False], [False, False, False], [False, True, True]])
        y = ops.scaled_dot_product_attention(q, k, v, mask)
        y.sum().backward()
        assert (y.numpy()[0, 1] == 0).all() and (q.grad.numpy()[0, 1] == 0).all()
        assert all(np.isfinite(x.grad.numpy()).all() for x in (q, k, v))
        together = ops.scaled_dot_product_attention(q, k, v, tn.tensor(mask), causal=True).numpy()
    assert (together[0, 1] == 0).all()
    assert_allclose(together[0, 2], together[0, 2])


def test_dropout_is_that_of_the_samples():
    q, k, v = (tn.tensor(draw.values((4, 2, 5, 3), i)) for i in range(3))
    tn.seed(1)
    whole = ops.scaled_dot_product_attention(q, k, v, dropout=0.5).numpy()
    tn.seed(1)
    ops.random.state.first = 2
    try:
        assert_array_equal(ops.scaled_dot_product_attention(q[2:], k[2:], v[2:], dropout=0.5).numpy(), whole[2:])
    finally:
        ops.random.state.first = 0
    assert (whole != ops.scaled_dot_product_attention(q, k, v).numpy()).any()


@pytest.mark.parity
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cross", [True, False])
def test_multi_head_attention_beside_pytorchs(bias, cross):
    ours = nn.MultiHeadAttention(2, bias=bias).build((3, 4))
    theirs = torch.nn.MultiheadAttention(4, 2, bias=bias, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight[:] = torch.tensor(ours.in_weight.numpy().T)
        theirs.out_proj.weight[:] = torch.tensor(ours.out_weight.numpy().T)
        if bias:
            ours.in_bias.data[...] = np.linspace(-1, 1, 12)
            theirs.in_proj_bias[:] = torch.tensor(ours.in_bias.numpy())
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 3, 4)).astype(np.float32), rng.standard_normal((2, 5, 4)).astype(np.float32)
    x, t = tn.tensor(q, requires_grad=True), torch.tensor(q, requires_grad=True)
    keys = (torch.tensor(k), torch.tensor(k)) if cross else (t, t)
    y, u = ours(x, k) if cross else ours(x), theirs(t, *keys)[0]
    near(y.numpy(), u.detach().numpy(), 2e-5)
    y.sum().backward()
    u.sum().backward()
    near(x.grad.numpy(), t.grad.numpy(), 2e-5)
    near(ours.in_weight.grad.numpy().T, theirs.in_proj_weight.grad.numpy(), 2e-5)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_causal_block_does_not_look_ahead(norm_first):
    block = nn.TransformerBlock(2, 8, causal=True, norm_first=norm_first).build((5, 4))
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    y = block(x).numpy()
    x[:, 3:] += 1
    z = block(x).numpy()
    assert_array_equal(z[:, :3], y[:, :3])
    assert (z[:, 3:] != y[:, 3:]).any()


def test_places_are_told_apart():
    y = nn.PositionalEncoding()(np.zeros((1, 50, 6), np.float32)).numpy()[0]
    assert_allclose(y[:, 0], np.sin(np.arange(50)), rtol=1e-5, atol=1e-6)
    assert_allclose(y[:, 3], np.cos(np.arange(50) / 10000 ** (2 / 6)), rtol=1e-5, atol=1e-6)
    assert len(np.unique(y.round(4), axis=0)) == 50


def test_messages():
    x = np.ones((1, 2, 3))
    with pytest.raises(TypeError, match="the mask must hold bools"):
        ops.scaled_dot_product_attention(x, x, x, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"must be \(…, T, D\)"):
        ops.scaled_dot_product_attention(x, np.ones((1, 2, 4)), x)
    with pytest.raises(ValueError, match="divisible by heads=3"):
        nn.MultiHeadAttention(3).build((2, 4))
