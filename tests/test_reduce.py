"""Reductions over any axes."""

from __future__ import annotations

import contextlib
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tinynet as tn
from tests import strategies as draw
from tests.references import reference
from tinynet import ops

STRICT = {"rtol": 1e-6, "atol": 1e-8}
REDUCTIONS = ["sum", "mean", "max", "min", "var", "logsumexp"]


@given(st.data(), st.sampled_from(REDUCTIONS), draw.shapes(largest=3), st.booleans(), draw.seeds)
def test_axes(data, name, shape, keepdims, seed):
    """No axis, one, several, all, negative ones: NumPy's values and shapes, gradients that differences confirm."""
    axis = data.draw(draw.axes(len(shape)))
    x = data.draw(draw.laid_out(draw.separated(shape, seed)))
    y = getattr(ops, name)(tn.tensor(x), axis=axis, keepdims=keepdims)
    expected = reference(name)(x, axis=axis, keepdims=keepdims)
    assert y.shape == np.shape(expected)
    assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-13)
    tn.gradcheck(lambda x: getattr(ops, name)(x, axis, keepdims), x, **STRICT)


@given(st.data(), st.sampled_from(["softmax", "log_softmax"]), draw.shapes(largest=3), draw.seeds)
def test_softmax_axes(data, name, shape, seed):
    axis = data.draw(draw.axes(len(shape)))
    x = data.draw(draw.laid_out(draw.values(shape, seed)))
    assert_allclose(getattr(ops, name)(tn.tensor(x), axis).numpy(), reference(name)(x, axis), rtol=1e-12, atol=1e-13)
    tn.gradcheck(lambda x: getattr(ops, name)(x, axis), x, **STRICT)


@given(st.data(), st.sampled_from(["max", "min"]), draw.shapes(least=1), draw.seeds)
def test_ties_conserve_mass(data, name, shape, seed):
    """Many equal values: each output's gradient goes to exactly one of them, the first in C order."""
    axis = data.draw(draw.axes(len(shape)))
    x = tn.tensor(np.random.default_rng(seed).integers(0, 2, shape).astype(float), requires_grad=True)
    y = getattr(ops, name)(x, axis=axis, keepdims=True)
    g = draw.values(y.shape, seed, 1, 2)
    y.backward(g)
    grad = x.grad.numpy()
    reduced = tuple(a % len(shape) for a in axis) if isinstance(axis, tuple) else axis
    assert_allclose(grad.sum(axis=reduced, keepdims=True), g)
    assert_allclose((grad != 0).sum(axis=reduced, keepdims=True), np.ones(g.shape))
    if axis is None:
        assert np.flatnonzero(grad)[0] == getattr(np, "arg" + name)(x.numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_saturation(name, dtype):
    x = tn.tensor(np.array([[-1e4, 0, 1e4], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = getattr(ops, name)(x, axis=1)
        y.backward(np.ones(y.shape))
    assert np.isfinite(y.numpy()).all() and np.isfinite(x.grad.numpy()).all()


def test_masked_scores():
    """Minus infinity is a mask: it weighs nothing."""
    x = tn.tensor([[0.0, -np.inf, 0.0]])
    assert ops.softmax(x).numpy().tolist() == [[0.5, 0, 0.5]]
    assert_allclose(ops.logsumexp(x, 1).numpy(), [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize(
    "name", ["sum", "prod", "mean", "var", "std", "max", "min", "argmax", "all", "any", "logsumexp"]
)
@pytest.mark.parametrize(
    ("shape", "axis"), [((0, 3), 0), ((0, 3), 1), ((0, 3), None), ((2, 0, 3), (0, 1)), ((0, 0), 0)]
)
def test_reductions_of_nothing(name, backend, shape, axis):
    """As NumPy has them: 0, 1, True, NaN with a RuntimeWarning, -inf, or no maximum; of no rows, no results."""
    if backend == "simulator" and (reason := tn.backends.why_not("simulator")):
        pytest.skip(reason)
    if name == "argmax" and isinstance(axis, tuple):
        return
    numpys = np.logaddexp.reduce if name == "logsumexp" else getattr(np, name)
    x = tn.tensor(np.zeros(shape), backend=backend, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = numpys(np.zeros(shape), axis=axis)
        except ValueError:
            with pytest.raises(ValueError, match=rf"{name}: shape .* has no values along axis"):
                getattr(ops, name)(x, axis=axis)
            return
    empty = math.prod(shape) == 0 != math.prod(np.shape(expected)) or shape == (0, 0)
    with (
        pytest.warns(RuntimeWarning, match="no values along axis")
        if name in ("mean", "var", "std") and empty
        else (contextlib.nullcontext())
    ):
        y = getattr(ops, name)(x, axis=axis)
    np.testing.assert_array_equal(y.numpy(), expected)
    if y.requires_grad:
        y.backward(np.ones(y.shape))
        assert x.grad.shape == shape


def test_axis_mistakes():
    x = tn.tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="sum: axis 2 is out of range for a tensor with 2 axes"):
        x.sum(2)
    with pytest.raises(ValueError, match=r"max: axis \(0, -2\) names one axis twice"):
        x.max((0, -2))
    with pytest.raises(ValueError, match=r"var: 1 values .* with ddof=1"):
        tn.tensor([1.0]).var(ddof=1)


def test_integers_and_bools():
    x = tn.tensor([[1, 2], [3, 5]])
    assert x.sum().item() == 11 and x.sum().dtype == np.int64
    assert x.mean().item() == 2.75 and x.max(0).numpy().tolist() == [3, 5]
    assert (x > 1).mean().item() == 0.75


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, bool])
def test_small_integers_do_not_overflow(dtype):
    x = np.full((40, 40), 127 if dtype is not bool else 1).astype(dtype)
    assert tn.tensor(x).sum().item() == int(x.sum()) and tn.tensor(x).sum(1).dtype == np.int64
    assert tn.tensor(x).mean().item() == x.mean() and tn.tensor(x).var().item() == 0


@pytest.mark.parametrize("operation", ["softmax", "log_softmax", "logsumexp"])
def test_exponentials_of_integers_are_refused(operation):
    with pytest.raises(TypeError, match=f"{operation}: the input has dtype int64; it must be floating"):
        getattr(ops, operation)(tn.tensor([1, 2]))
