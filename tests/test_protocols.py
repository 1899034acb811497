"""NumPy's own functions and tensors: no gradient is lost without a word, and operators with arrays stay on the tape."""

from __future__ import annotations

import operator
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests.strategies import named
from tinynet import ops

A = np.array([1.0, 2.0], np.float32)

# What would take w off the tape, and the remedy that the error names.
LOSING = {
    "np.exp": (np.exp, "ops.exp"),
    "np.sqrt": (np.sqrt, "ops.sqrt"),
    "np.abs": (np.abs, "ops.abs"),
    "np.negative": (np.negative, "ops.negative"),
    "np.square": (np.square, "ops.square"),
    "np.sin": (np.sin, "ops"),
    "np.clip": (lambda w: np.clip(w, 0, 1), "ops.clip"),
    "np.where": (lambda w: np.where(A > 1, w, A), "ops.where"),
    "np.concatenate": (lambda w: np.concatenate([A, w]), "ops.concatenate"),
    "np.stack": (lambda w: np.stack((w, w)), "ops.stack"),
    "np.vstack": (lambda w: np.vstack([w, A]), "ops.concatenate"),
    "np.mean": (np.mean, "ops.mean"),
    "np.sum": (np.sum, "ops.sum"),
    "np.max": (np.max, "ops.max"),
    "np.var": (lambda w: np.var(a=w), "ops.var"),
    "np.add.reduce": (np.add.reduce, "ops.sum"),
    "np.maximum.reduce": (np.maximum.reduce, "ops.max"),
    "np.dot": (lambda w: np.dot(A, w), "x @ y"),
    "np.reshape": (lambda w: np.reshape(w, (2, 1)), "ops.reshape"),
    "np.einsum": (lambda w: np.einsum("i,i", A, w), "ops.einsum"),
    "np.linalg.norm": (np.linalg.norm, "ops.norm"),
    "np.argmax": (np.argmax, "ops.argmax"),
    "np.save": (lambda w: np.save("never", w), "ops"),
    "np.asarray": (np.asarray, "ops.stack"),
    "np.array of a list": (lambda w: np.array([w, w]), "ops.stack"),
    "np.mean of a list": (lambda w: np.mean([w.sum(), w.sum()]), "ops.stack"),
    "float64": (np.float64, "ops"),
    "an array's method": (lambda w: A.dot(w), "ops.stack"),
    "tensor of a list": (lambda w: tn.tensor([w, w]), "ops.stack"),
    "a slice": (lambda w: A.copy().__setitem__(slice(None), w), "ops.stack"),
    "array +=": (lambda w: operator.iadd(A.copy(), w), "x = x + y in place of x += y"),
    "out=": (lambda w: np.add(A, w, out=A.copy()), "ops.add"),
    "dtype=": (lambda w: np.add(A, w, dtype=np.float64), "ops.add"),
}


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("name", LOSING)
def test_what_would_lose_a_gradient_names_the_remedy(name, backend):
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    call, remedy = LOSING[name]
    w = tn.tensor(A, backend=backend, requires_grad=True)
    for t in (w, w * 2):
        with pytest.raises(TypeError, match=f"its gradient would be lost; use .*{re.escape(remedy)}.*detach"):
            call(t)
    if "an array" not in name and "+=" not in name:  # those are refused elsewhere, or give a Tensor
        with tn.no_grad():  # nothing is recorded there, so nothing is lost
            call(w) if name != "np.save" else None
        call(w.detach()) if name != "np.save" else None


def test_tensors_without_gradients_convert():
    c = tn.tensor(A)
    assert_array_equal(np.asarray(c), A, strict=True)
    assert np.asarray(c, np.float64).dtype == np.float64 and np.array(c, copy=True) is not c.data
    assert type(np.exp(c)) is np.ndarray and np.exp(c).dtype == np.float32
    assert_array_equal(np.concatenate([c, A]), [1, 2, 1, 2])
    assert_array_equal(np.stack((c, c), axis=1), [[1, 1], [2, 2]])
    assert np.mean(a=c) == 1.5 and np.linalg.norm(c) > 2 and np.add.reduce(c) == 3
    assert_allclose(c, A)
    filled = A.copy()
    filled += c
    assert type(filled) is np.ndarray and filled.tolist() == [2, 4]
    assert [p.shape for p in np.split(c, 2)] == [(1,), (1,)]


def test_shapes_may_be_asked_for():
    w = tn.tensor(A, requires_grad=True)
    assert np.shape(w) == (2,) and np.ndim(w) == 1 and np.size(w) == 2
    assert_array_equal(np.zeros_like(w), np.zeros(2, np.float32), strict=True)
    assert np.result_type(w, np.float64) == np.float64


OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "@": operator.matmul,
}


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize(
    "left",
    [
        A,
        np.array([1.0, 2.0]),
        np.array([1, 2], np.int8),
        np.float64(2),
        np.float32(2),
        np.int8(2),
        np.array([[1.0, 2.0]]),
        np.array(2.0),
    ],
    ids=named,
)
def test_an_array_first_gives_a_tensor_on_the_tape(sign, left):
    if sign == "@" and np.ndim(left) == 0:
        return
    w = tn.tensor(A, requires_grad=True)
    for y in (
        OPERATORS[sign](left, w),
        {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power, "@": np.matmul}[sign](
            left, w
        ),
    ):
        assert type(y) is tn.Tensor and y.requires_grad
        assert_allclose(y.numpy(), OPERATORS[sign](left, A), rtol=1e-6)
        assert y.dtype == np.float32 or isinstance(left, np.ndarray)  # a NumPy scalar is a number
    (g,), (expected,) = [tn.grad(y.sum(), [w]) for y in (OPERATORS[sign](left, w), OPERATORS[sign](tn.tensor(left), w))]
    assert_allclose(g.numpy(), expected.numpy(), rtol=1e-6)


def test_comparisons_and_maxima_with_an_array_first():
    w = tn.tensor(A, requires_grad=True)
    for compare in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        assert compare(A, w).numpy().tolist() == compare(A, A).tolist()
    assert np.maximum(np.array([3.0, 0.0], np.float32), w).requires_grad


def test_out_is_no_tensor():
    with pytest.raises(TypeError, match=r"np\.add: out= is a tensor"):
        np.add(A, A, out=tn.tensor(A))


def test_each_remedy_exists():
    from tinynet.ops import protocols

    assert set(protocols.OURS.values()) | set(protocols.BINARY) <= set(ops.__all__)
