"""The checker is checked: it passes what is right, and names what is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tinynet as tn
from tests import checks
from tinynet import ops
from tinynet.gradcheck import GradientError
from tinynet.ops.cases import Case, away

X = np.random.default_rng(0).standard_normal((2, 3))


def test_it_takes_what_users_have():
    x = tn.tensor(X, requires_grad=True)
    x.grad = tn.tensor(np.ones((2, 3)))
    assert tn.gradcheck(lambda x: x * x, x) is True
    assert tn.gradcheck(lambda x: x * x, X)
    assert tn.gradcheck(lambda x, y: (x * y, y.sum(), [x][0]), [x, X])
    assert tn.gradcheck(lambda x, i: x[i], (X, np.array([0, 0, 1])))
    assert tn.gradcheck(lambda x, c: ops.where(c, x, 0.0), (X, X > 0))
    assert tn.gradcheck(lambda x: x.exp(), 0.5) and tn.gradcheck(lambda x: x * 2, np.zeros((0, 3)))
    assert tn.gradcheck(lambda x: x.sum(0), X[:, ::-1].T)
    assert x.grad.numpy().tolist() == [[1] * 3] * 2 and x.requires_grad


def test_it_leaves_random_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    tn.gradcheck(lambda x: x * x, X)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert ops.random.state.steps["dropout"] == 0


def test_a_wrong_element_is_shown(declare):
    @declare
    def wrong(be, x):
        def vjp(g, need):
            dx = be.multiply(g, 2.0)
            dx[1, 2] *= 1.5
            return (dx,)

        return be.multiply(x, 2.0), vjp

    with pytest.raises(GradientError) as caught:
        tn.gradcheck(lambda y, x: wrong(x) * 1.0 + y, [X, X])
    message = str(caught.value)
    assert "input 1 of shape (2, 3)" in message and "worst at [1, 2]" in message and "1 of 6 elements" in message
    g = np.random.default_rng(0).standard_normal((2, 3))[1, 2]
    assert f"analytic {3 * g:.6g}"[:14] in message and f"numerical {2 * g:.6g}"[:14] in message
    assert isinstance(caught.value, AssertionError)


def test_cotangents_are_not_ones(declare):
    """A product that permutes the gradient is invisible to a cotangent of ones."""

    @declare
    def permuted(be, x):
        return be.multiply(x, 2.0), lambda g, need: (be.multiply(g[::-1, ::-1], 2.0),)

    with pytest.raises(GradientError, match="is wrong"):
        tn.gradcheck(permuted, X)


@pytest.mark.parametrize("factor", [1.001, 0.999, 1 + 3e-6])
def test_the_strict_tolerance_sees_small_factors(declare, factor):
    @declare
    def scaled(be, x):
        return be.multiply(x, 2.0), lambda g, need: (be.multiply(g, 2.0 * factor),)

    assert tn.gradcheck(scaled, X, rtol=1e-2)
    with pytest.raises(GradientError):
        tn.gradcheck(scaled, X, rtol=1e-6, atol=1e-8)


def test_sharing_memory_is_found(declare):
    @declare
    def keeps(be, x):
        slope = be.full(x.shape, 2.0, x.dtype)
        return be.multiply(x, 2.0), lambda g, need: (slope,)

    @declare
    def own_input(be, x):
        return be.multiply(x, 0.5), lambda g, need: (x,)

    with pytest.raises(GradientError, match="gradient of input 0 shares memory with input 0"):
        tn.gradcheck(own_input, X.copy())
    with pytest.raises(GradientError):
        tn.gradcheck(keeps, X)


def test_changed_arrays_are_found(declare):
    @declare
    def spoils_input(be, x):
        def vjp(g, need):
            x[...] = 0
            return (be.multiply(g, 2.0),)

        return be.multiply(x, 2.0), vjp

    @declare
    def spoils_cotangent(be, x):
        def vjp(g, need):
            return (be.multiply(g, 2.0, out=g),)

        return be.multiply(x, 2.0), vjp

    with pytest.raises(GradientError, match=r"input 0 of shape .* was changed"):
        tn.gradcheck(spoils_input, X.copy())
    with pytest.raises(GradientError, match="changed the cotangent of output 0"):
        tn.gradcheck(spoils_cotangent, X.copy())


def test_nan_is_wrong(declare):
    @declare
    def gives_nan(be, x):
        return be.multiply(x, 2.0), lambda g, need: (be.multiply(g, np.nan),)

    with pytest.raises(GradientError, match="analytic nan"):
        tn.gradcheck(gives_nan, X)


def test_refusals():
    with pytest.raises(ValueError, match=r"two values for the same inputs.*dropout"):
        tn.gradcheck(lambda x: ops.dropout(x, 0.5), np.ones((30, 30)))
    with pytest.raises(TypeError, match="input 0 has dtype float32; central differences need float64"):
        tn.gradcheck(lambda x: x * x, tn.tensor([1.0]))
    with pytest.raises(TypeError, match="output 0 has dtype float32"):
        tn.gradcheck(lambda x: x.astype(np.float32), X)
    with pytest.raises(TypeError, match="gave a ndarray; it must give tensors"):
        tn.gradcheck(lambda x: x.numpy(), X)
    with pytest.raises(ValueError, match="no output depends on an input"):
        tn.gradcheck(lambda x: x > 0, X)
    with pytest.raises(ValueError, match="no output depends on an input"):
        tn.gradcheck(lambda x: x.detach() * 2, X)


def test_a_lost_gradient_is_found():
    with pytest.raises(GradientError, match="analytic 0"):
        tn.gradcheck(lambda x, y: x * y.detach(), [X, X])


def test_the_cases_ship_with_the_package():
    from tinynet.ops.cases import CASES, missing

    assert not missing() and len({str(c) for c in CASES}) == len(CASES), "two cases look the same in a table"


# ---- operations with several outputs ---------------------------------------------------------------------------------


def polar(be, x, y):
    """(r, angle) of the point (x, y)."""
    r = be.sqrt(be.add(be.multiply(x, x), be.multiply(y, y)))

    def vjp(gs, need):
        gr, ga = (be.full(r.shape, 0, r.dtype) if g is None else g for g in gs)
        c, s = be.divide(x, r), be.divide(y, r)
        dx = be.subtract(be.multiply(gr, c), be.divide(be.multiply(ga, s), r)) if need[0] else None
        dy = be.add(be.multiply(gr, s), be.divide(be.multiply(ga, c), r)) if need[1] else None
        return dx, dy

    return (r, np.arctan2(y, x)), vjp


POLAR = Case("polar", None, (away(2, 3), away(2, 3)))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_an_operation_with_several_outputs_passes_every_check(declare, check):
    """Each output alone, both at once, one input alone: what every operation is held to."""
    with checks.poisoned():
        check(dataclasses.replace(POLAR, fn=declare(polar)))


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("change", [lambda g: None, lambda g: None if g is None else g * 1.001], ids=["lost", "scaled"])
def test_a_gradient_of_one_of_several_outputs_that_is_wrong_is_found(declare, k, change):
    @declare
    def broken(be, x, y):
        outputs, vjp = polar(be, x, y)
        return outputs, lambda gs, need: vjp(tuple(change(g) if i == k else g for i, g in enumerate(gs)), need)

    with pytest.raises(GradientError, match="is wrong"):
        dataclasses.replace(POLAR, fn=broken).check()


def test_several_outputs_at_once_are_checked_too(declare):
    """A product that takes one gradient where it got both is right for each output alone."""

    @declare
    def forgets(be, x):
        def vjp(gs, need):
            g = gs[0] if gs[0] is not None else be.multiply(gs[1], 2.0)
            return (be.multiply(g, 1.0),)

        return (be.copy(x), be.multiply(x, 2.0)), vjp

    with pytest.raises(GradientError, match="from all outputs at once"):
        tn.gradcheck(forgets, X)


def test_integer_outputs_take_no_gradient(declare):
    @declare
    def with_count(be, x):
        return (be.multiply(x, 2.0), be.astype(x, np.int64)), lambda gs, need: (be.multiply(gs[0], 2.0),)

    y, whole = with_count(tn.tensor(X, requires_grad=True))
    assert y.requires_grad and not whole.requires_grad
    assert tn.gradcheck(with_count, X)
