"""Matrix products: batched, broadcast, with vectors; dense layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tinynet as tn
from tests import strategies as draw
from tinynet import ops
from tinynet.backends.cpu import matmul

STRICT = {"rtol": 1e-6, "atol": 1e-8}


@given(st.data(), draw.broadcastable(), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3), draw.seeds)
def test_batches_broadcast(data, batches, m, k, n, seed):
    x = data.draw(draw.laid_out(draw.values((*batches[0][-2:], m, k), seed)))
    y = data.draw(draw.laid_out(draw.values((*batches[1][-2:], k, n), seed + 1)))
    assert_allclose((tn.tensor(x) @ tn.tensor(y)).numpy(), x @ y, rtol=1e-12, atol=1e-13)
    tn.gradcheck(ops.matmul, [x, y], **STRICT)


@given(
    st.sampled_from([((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (4, 3, 2)), ((4, 2, 3), (3,))]), draw.seeds
)
def test_vectors(shapes, seed):
    x, y = draw.values(shapes[0], seed), draw.values(shapes[1], seed + 1)
    z = tn.tensor(x) @ tn.tensor(y)
    assert z.shape == (x @ y).shape
    assert_allclose(z.numpy(), x @ y, rtol=1e-12)
    tn.gradcheck(ops.matmul, [x, y], **STRICT)


@given(st.data(), draw.shapes(most=2, smallest=0), st.integers(1, 3), st.integers(1, 3), st.booleans(), draw.seeds)
def test_dense(data, rows, k, n, relu, seed):
    """Any number of leading axes; with and without bias; relu in the same step."""
    x, w, b = draw.values((*rows, k), seed), draw.values((k, n), seed + 1), draw.values((n,), seed + 2)
    x = data.draw(draw.laid_out(x))
    y = ops.dense(tn.tensor(x), tn.tensor(w), tn.tensor(b), relu=relu)
    expected = x @ w + b
    assert_allclose(y.numpy(), np.maximum(expected, 0) if relu else expected, rtol=1e-12, atol=1e-13)
    tn.gradcheck(lambda x, w: ops.dense(x, w), [x, w], **STRICT)
    if not relu or np.abs(expected).min(initial=1) > 1e-4:
        tn.gradcheck(lambda x, w, b: ops.dense(x, w, b, relu=relu), [x, w, b], **STRICT)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(7203, 8, 64), (3, 9001, 40), (16, 64, 7203), (1, 1200, 900), (33, 8, 7203), (70, 1, 90)]
)
def test_thin_products(shape, dtype):
    """Those that are cut into parts, and their neighbours: rows and columns that are left over, any strides, `out`."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    expected = x.astype(np.float64) @ y
    tolerance = {"rtol": 0, "atol": np.finfo(dtype).eps * k * 8}
    for a in (x, np.asfortranarray(x), x.repeat(2, 1)[:, ::2]):
        for b in (y, np.asfortranarray(y)):
            assert_allclose(matmul(a, b), expected, **tolerance)
            out = np.full((m, n), 7, dtype)
            assert matmul(a, b, out=out) is out
            assert_allclose(out, expected, **tolerance)
    out = np.full((2 * m, n), 7, dtype)
    assert_allclose(matmul(x.T, y, transpose_x=True, out=out[::2]), expected, **tolerance)
    assert (out[1::2] == 7).all()


def test_the_output_may_be_an_input():
    x, y = np.arange(9.0).reshape(3, 3), np.eye(3)[::-1].copy()
    expected = x @ y
    assert matmul(x, y, out=x) is x and (x == expected).all()


def test_arguments_by_name():
    x, w, b = tn.tensor(np.ones((2, 3))), tn.tensor(np.ones((3, 1)), requires_grad=True), tn.tensor(np.ones(1))
    ops.dense(b=b, w=w, x=x).sum().backward()
    assert w.grad.numpy().tolist() == [[2], [2], [2]]


MISTAKES = [
    (
        lambda: tn.tensor(np.ones((2, 3))) @ tn.tensor(np.ones((2, 3))),
        r"matmul: shapes \(2, 3\) and \(2, 3\).*, 3, must equal",
    ),
    (
        lambda: tn.tensor(np.ones((2, 3))) @ tn.tensor(1.0),
        r"matmul: shapes \(2, 3\) and \(\); a number is multiplied with \*",
    ),
    (
        lambda: ops.dense(tn.tensor(np.ones((2, 3))), tn.tensor(np.ones((4, 5)))),
        r"dense: input \(2, 3\) has 3 features, the weight \(4, 5\) expects 4",
    ),
    (
        lambda: ops.dense(tn.tensor(np.ones((2, 3))), tn.tensor(np.ones((3, 5))), tn.tensor(np.ones(3))),
        r"dense: bias \(3,\) does not fit weight \(3, 5\); it must be \(5,\)",
    ),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_messages(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
