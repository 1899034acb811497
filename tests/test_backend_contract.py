"""Every backend has the contract's kernels, with its signatures, and they keep its promises."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import checks
from tinynet.backends.contract import KERNELS
from tinynet.backends.elementwise import ARRAYS, ELEMENTWISE
from tinynet.ops import cases


@pytest.fixture(params=["numpy", "simulator", pytest.param("cupy", marks=pytest.mark.gpu)])
def be(request):
    if reason := tn.backends.why_not(request.param):
        pytest.skip(reason)
    return tn.backends.get(request.param)


def parameters(function) -> list[tuple]:
    """(name, kind, has a default) of each parameter, without self."""
    return [
        (p.name, p.kind, p.default is not p.empty)
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]


@pytest.mark.parametrize("name", KERNELS)
def test_signatures(be, name):
    kernel = getattr(be, name, None)
    assert kernel is not None, f"the backend {be.name!r} lacks {name}"
    if not inspect.isroutine(kernel):
        return  # in C, with a signature of its own; it is called below
    found = parameters(kernel)
    if any(kind is inspect.Parameter.VAR_POSITIONAL for _, kind, _ in found):
        assert "out" in parameters_of(KERNELS[name])  # a wrapper around a kernel: called below
    else:
        assert found == parameters(KERNELS[name])


def test_the_name(be):
    assert be.name in tn.backends.NAMES and be.name in tn.backends.available()


X = np.linspace(0.25, 2.0, 6).reshape(2, 3)
G = np.linspace(-1.0, 1.5, 6).reshape(2, 3)
PADS, SAME = ((0, 0), (0, 0)), ((1, 1), (0, 0))
IMAGE = np.linspace(-1, 1, 2 * 4 * 4 * 2).reshape(2, 4, 4, 2)
SAMPLES, CHANNELS = np.linspace(0.5, 2, 8).reshape(2, 4), np.linspace(-1, 1, 8).reshape(4, 2)

BITS = np.array([[1, 5], [12, 63]])
# Of elementwise kernels, by the contract's names of arguments; other numbers are 0.3.
ARGUMENTS = {"x": X / 2.25, "y": X, "g": G, "condition": X > 1, "low": 0.5, "high": 1.0}

# For each kernel with out=: a call, as positional arguments.
CALLS: dict[str, tuple] = {
    **{
        name: (BITS, BITS)
        if name in cases.BITS
        else tuple(ARGUMENTS[a] if a in ARRAYS else ARGUMENTS.get(a, 0.3) for a in arguments.split(" ->")[0].split())
        for names, arguments, _ in ELEMENTWISE
        for name in names.split()
    },
    "copy": (X,),
    "astype": (X, np.float32),
    "sum": (X, (1,)),
    "sum_to": (X, (3,)),
    "logsumexp": (X, (0,)),
    "softmax": (X, (1,)),
    "softmax_grad": (G, X, (1,)),
    "log_softmax": (X, (1,)),
    "log_softmax_grad": (G, X, (1,)),
    "concatenate": ([X, G], 1),
    "pad": (X, ((1, 0), (0, 2)), "constant", 3.0),
    "pad_edge_grad": (X, ((1, 0), (0, 1))),
    "getitem_grad": (X, (slice(1, 3),), (4, 3)),
    "matmul": (X, G, False, True),
    "dense": (X, G.T, np.ones(2), True),
    "im2col": (IMAGE, (2, 2), (1, 1), SAME, (1, 1)),
    "col2im": (np.ones((2, 3, 3, 2, 2, 2)), (2, 4, 4, 2), (1, 1), PADS, (1, 1)),
    "avg_pool2d": (IMAGE, (2, 2), (2, 2), PADS, True),
    "avg_pool2d_grad": (IMAGE, (2, 8, 8, 2), (2, 2), (2, 2), PADS, True),
    "take_rows": (IMAGE[0], np.array([2, 0, 2])),
    "take_rows_grad": (IMAGE[0], np.array([2, 0, 2, 1]), 3),
    "random_bits": ((2, 3), 1, 2, 3, 4),
    "normalize": (IMAGE, SAMPLES, SAMPLES**2, CHANNELS, CHANNELS, 0.1),
    "normalize_grad": (IMAGE[::-1], IMAGE, SAMPLES, SAMPLES**2, CHANNELS, 0.1, None, None),
}
SAVED: dict[str, tuple] = {  # these take what their forward kernel saved
    "max_grad": ("max", (X, (1,))),
    "max_pool2d_grad": ("max_pool2d", (IMAGE, (2, 2), (2, 2), PADS)),
    "softmax_cross_entropy_grad": ("softmax_cross_entropy", (X, np.array([0, 2]))),
    "dropout_grad": ("dropout", (X, 0.5, 1, 1, 0, 0)),
}


def on(be, value):
    """Arrays, also in lists, on the backend."""
    if isinstance(value, list):
        return [on(be, v) for v in value]
    return be.asarray(value) if isinstance(value, np.ndarray) else value


def test_every_kernel_with_out_is_called_here():
    assert {name for name, f in KERNELS.items() if "out" in parameters_of(f)} == set(CALLS) | set(SAVED)


def parameters_of(function) -> set[str]:
    return set(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", [*CALLS, *SAVED])
def test_out_is_filled_and_given_back(be, name):
    """With out= the result lies there, and is what the kernel gives without; the inputs are as before."""
    if name in SAVED:
        forward, arguments = SAVED[name]
        y, saved = getattr(be, forward)(*(on(be, a) for a in arguments))
        arguments = (be.asarray(np.asarray(be.numpy(y)) * 0.5), saved)
    else:
        arguments = tuple(on(be, a) for a in CALLS[name])
    arrays = [a for a in arguments if hasattr(a, "strides") and not isinstance(a, type)]
    before = [np.array(be.numpy(a)) for a in arrays]
    expected = getattr(be, name)(*arguments)
    out = be.full(expected.shape, 1, expected.dtype)
    result = getattr(be, name)(*arguments, out=out)
    assert result is out or checks.share(be, result, out)
    assert_allclose(be.numpy(out), be.numpy(expected), rtol=1e-12)
    for a, b in zip(arrays, before, strict=True):
        assert (be.numpy(a) == b).all()


def test_arrays(be):
    x = be.asarray(X)
    assert (be.numpy(be.copy(x)) == X).all() and not checks.share(be, be.copy(x), x)
    assert be.empty((2, 3), np.float32).shape == (2, 3) and be.numpy(be.full((2,), 7, np.float64)).tolist() == [7, 7]
    view = be.reshape(x, (3, 2))
    assert checks.share(be, view, x) and not be.owns(view) and be.owns(be.copy(x))
    y = be.empty((2, 3), np.float32)
    be.copyto(y, X)
    assert_allclose(be.numpy(y), X, rtol=1e-6)
    be.copyto(y, 3)
    be.setitem_inplace(y, (0, slice(1, None)), 5)
    assert be.numpy(y).tolist() == [[3, 5, 5], [3, 3, 3]]


def test_im2col_and_col2im_are_transposes(be):
    checks.adjoint(be.name)


# ---- the optimisers' kernels against the formulas of their docstrings ----------------------------------------------


def state_of(be, lr=0.1):
    return be.asarray(np.array([lr, 0.0]))


W, D = np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.25, -1.0])


def test_sgd_step(be):
    w, velocity = be.asarray(W.copy()), be.asarray(np.zeros(3))
    state = state_of(be)
    expected, v = W.copy(), None
    for _ in range(3):
        be.sgd_step(w, be.asarray(D), velocity, state, None, 0.9, 0.0, True, 0.01, False)
        d = D + 0.01 * expected
        v = d if v is None else 0.9 * v + d
        expected = expected - 0.1 * (d + 0.9 * v)
    assert_allclose(be.numpy(w), expected, rtol=1e-12)
    assert be.numpy(state).tolist() == [0.1, 3]


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_step(be, decoupled):
    w, m, v = be.asarray(W.copy()), be.asarray(np.zeros(3)), be.asarray(np.zeros(3))
    state, expected, a, b = state_of(be), W.copy(), 0, 0
    for t in (1, 2, 3):
        be.adam_step(w, be.asarray(D), m, v, None, state, None, 0.9, 0.99, 1e-8, 0.1, decoupled, False)
        d = D if decoupled else D + 0.1 * expected
        expected = expected * (1 - 0.1 * 0.1) if decoupled else expected
        a, b = 0.9 * a + 0.1 * d, 0.99 * b + 0.01 * d * d
        expected = expected - 0.1 * (a / (1 - 0.9**t)) / (np.sqrt(b / (1 - 0.99**t)) + 1e-8)
    assert_allclose(be.numpy(w), expected, rtol=1e-10)


def test_rmsprop_and_adagrad_steps(be):
    w, v, velocity = be.asarray(W.copy()), be.asarray(np.zeros(3)), be.asarray(np.zeros(3))
    state, expected, a, b = state_of(be), W.copy(), 0, 0
    for _ in range(3):
        be.rmsprop_step(w, be.asarray(D), v, None, velocity, state, None, 0.9, 1e-8, 0.5, 0.0, False)
        a = 0.9 * a + 0.1 * D * D
        b = 0.5 * b + D / (np.sqrt(a) + 1e-8)
        expected = expected - 0.1 * b
    assert_allclose(be.numpy(w), expected, rtol=1e-10)
    w, v, state, expected, a = be.asarray(W.copy()), be.asarray(np.zeros(3)), state_of(be), W.copy(), 0
    for t in (1, 2, 3):
        be.adagrad_step(w, be.asarray(D), v, state, None, 1e-10, 0.5, 0.0, False)
        a = a + D * D
        expected = expected - 0.1 / (1 + (t - 1) * 0.5) * D / (np.sqrt(a) + 1e-10)
    assert_allclose(be.numpy(w), expected, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 5000])
def test_guard_is_the_loss_unless_an_element_is_not_finite_or_too_large(be, n, dtype):
    most = float(np.finfo(dtype).max)
    for loss in None, 0.25, np.nan:
        given = None if loss is None else be.asarray(np.array(loss, dtype))
        for place in {0, n // 2, n - 1} if n else {None}:
            for value, limit in (
                (0.0, most),
                (most, most),
                (-most, most),
                (2.0, 2.0),
                (np.nan, most),
                (np.inf, most),
                (-np.inf, most),
                (3.0, 2.0),
                (-3.0, 2.0),
            ):
                g = np.ones(n, dtype)
                g[slice(0) if place is None else place] = value
                guard = be.guard(be.asarray(g), given, limit)
                sound = place is None or abs(value) <= limit
                assert guard.shape == () and guard.dtype == dtype
                assert_array_equal(be.numpy(guard), (0 if loss is None else loss) if sound else np.nan)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_do_not_overflow(be, dtype):
    for shape in (), (0, 3), (7, 5), (3000,):
        x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        total = be.squares(be.asarray(x))
        assert total.shape == () and total.dtype == np.float64
        assert_allclose(be.numpy(total), (x.astype(np.float64) ** 2).sum(), rtol=1e-5)
        huge = be.numpy(be.squares(be.asarray(x * dtype(1e30))))
        assert_allclose(huge, ((x * dtype(1e30)).astype(np.float64) ** 2).sum(), rtol=1e-5)
    assert np.isnan(be.numpy(be.squares(be.asarray(np.array([1, np.nan], dtype)))))
    assert np.isinf(be.numpy(be.squares(be.asarray(np.array([1, -np.inf], dtype)))))


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_step_with_a_loss_that_is_not_finite_changes_nothing(be, loss):
    w, state = be.asarray(W.copy()), state_of(be)
    be.sgd_step(w, be.asarray(D), None, state, be.asarray(np.array(loss)), 0.0, 0.0, False, 0.0, False)
    assert be.numpy(w).tolist() == W.tolist() and be.numpy(state).tolist() == [0.1, 0]
