"""Broadcasting, dtypes, saturation and large arrays of the elementwise operations."""

from __future__ import annotations

import operator
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import strategies as draw
from tinynet import ops
from tinynet.backends.cpu import elementwise
from tinynet.ops.cases import BINARY, UNARY, formula

STRICT = {"rtol": 1e-6, "atol": 1e-8}


@given(st.data(), st.sampled_from(list(BINARY)), draw.broadcastable(), draw.seeds)
def test_binary_broadcasting(data, name, shapes, seed):
    """0-d, size-1 and empty axes, any strides: NumPy's values, and gradients that differences confirm."""
    x, y = (d(*s)(np.random.default_rng(seed + i)) for i, (d, s) in enumerate(zip(BINARY[name], shapes, strict=False)))
    x, y = data.draw(draw.laid_out(x)), data.draw(draw.laid_out(y))
    z = getattr(ops, name)(tn.tensor(x), tn.tensor(y))
    assert_allclose(z.numpy(), formula(name)(x, y), rtol=1e-14)
    assert z.shape == np.broadcast_shapes(*shapes)
    tn.gradcheck(getattr(ops, name), [x, y], **STRICT)


@given(st.data(), st.sampled_from([0, 1, 2, 3, 4, 3.0, 4.0, 5, -2, 0.5]), draw.shapes(smallest=0), draw.seeds)
def test_powers_by_numbers(data, exponent, shape, seed):
    """Also those that are a few products."""
    x = draw.separated(shape, seed)
    x = data.draw(draw.laid_out(np.abs(x) + 0.5 if exponent in (-2, 0.5) else x))
    assert_allclose((tn.tensor(x) ** exponent).numpy(), x**exponent, rtol=1e-14)
    tn.gradcheck(lambda x: x**exponent, x, **STRICT)


@given(draw.broadcastable(3), draw.seeds)
def test_where_broadcasting(shapes, seed):
    condition = draw.values(shapes[0], seed) > 0
    x, y = draw.values(shapes[1], seed + 1), draw.values(shapes[2], seed + 2)
    assert_array_equal(ops.where(condition, tn.tensor(x), tn.tensor(y)).numpy(), np.where(condition, x, y))
    tn.gradcheck(lambda x, y: ops.where(condition, x, y), [x, y], **STRICT)


@given(st.data(), st.sampled_from(list(UNARY)), draw.shapes(smallest=0), draw.seeds)
def test_unary(data, name, shape, seed):
    x = data.draw(draw.laid_out(UNARY[name][0](*shape)(np.random.default_rng(seed))))
    assert_allclose(getattr(ops, name)(tn.tensor(x)).numpy(), formula(name)(x), rtol=1e-12, atol=1e-14)
    tn.gradcheck(getattr(ops, name), x, **STRICT)


def test_cubes_in_place_and_overflow():
    x = np.array([[1e30, -2.0], [np.inf, np.nan]], np.float32)
    out = np.empty_like(x)
    assert tn.backends.get("numpy").power(x, 3, out=out) is out
    assert_array_equal(out, np.array([[np.inf, -8.0], [np.inf, np.nan]], np.float32))
    assert_array_equal(tn.backends.get("numpy").power(x, 4, out=x), [[np.inf, 16.0], [np.inf, np.nan]])
    assert (tn.tensor(-2.0) ** 3).item() == -8 and (tn.tensor([-2]) ** 3).numpy().tolist() == [-8]


@given(draw.broadcastable(), st.sampled_from(["max", "min"]), draw.seeds)
def test_ties_conserve_mass(shapes, which, seed):
    """Of equal values one gets the whole gradient: what comes in goes out, no more and no less."""
    x, y = (
        tn.tensor(np.random.default_rng(seed + i).integers(0, 3, s).astype(float), requires_grad=True)
        for i, s in enumerate(shapes)
    )
    z = getattr(ops, which + "imum")(x, y)
    g = draw.values(z.shape, seed)
    z.backward(g)
    assert_allclose(x.grad.numpy().sum() + y.grad.numpy().sum(), g.sum(), atol=1e-12)


# ---- dtypes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 2.5, np.float64(2.5), np.float32(2.5), np.int64(2), True])
@pytest.mark.parametrize("name", BINARY)
def test_numbers_never_promote(name, number):
    for x in (tn.tensor([1.0, 2.0]), tn.tensor(1.5)):
        assert getattr(ops, name)(x, number).dtype == np.float32
        assert getattr(ops, name)(number, x).dtype == np.float32


@pytest.mark.parametrize("name", [name for name in BINARY if name != "prelu"])  # whose slope is a parameter
def test_lists_of_whole_numbers_never_promote(name):
    for dtype in (np.float32, np.float64):
        x = tn.tensor(np.array([1.0, 2.0]), dtype=dtype)
        assert getattr(ops, name)(x, [1, 2]).dtype == dtype and getattr(ops, name)((1, 2), x).dtype == dtype
    assert (tn.tensor([1, 2]) * [3, 4]).dtype == np.int64 and (tn.tensor([1.0, 2.0]) * np.array([1, 2])).dtype == float


def test_operators_are_the_operations():
    x, y = tn.tensor([1.0, -2.0]), tn.tensor([3.0, 4.0])
    a, b = x.numpy(), y.numpy()
    pairs = [
        (x + y, a + b),
        (x - y, a - b),
        (x * y, a * b),
        (x / y, a / b),
        (y**x, b**a),
        (-x, -a),
        (abs(x), abs(a)),
        (2 + x, 2 + a),
        (2 - x, 2 - a),
        (2 * x, 2 * a),
        (2 / x, 2 / a),
        (2**x, 2**a),
        (x == y, a == b),
        (x != y, a != b),
        (x < y, a < b),
        (x <= y, a <= b),
        (x > y, a > b),
        (x >= y, a >= b),
    ]
    for tensor, array in pairs:
        assert isinstance(tensor, tn.Tensor)
        assert_array_equal(tensor.numpy(), array, strict=True)


@pytest.mark.parametrize(
    "reflected",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.pow,
        operator.matmul,
        operator.lt,
        operator.eq,
    ],
)
def test_an_array_on_the_left_gives_a_tensor(reflected):
    array, x = np.array([[1.0, 2.0], [3.0, 4.0]]), tn.tensor(np.eye(2) + 1, requires_grad=True)
    result = reflected(array, x)
    assert isinstance(result, tn.Tensor)
    assert_allclose(result.numpy(), reflected(array, x.numpy()))
    if result.dtype.kind == "f":
        result.sum().backward()
        assert x.grad.shape == (2, 2)


# ---- saturation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sigmoid", "softplus", "tanh", "gelu", "relu", "leaky_relu"])
def test_saturation(name, dtype):
    """At ±1e4 values and gradients are finite, and NumPy does not warn."""
    x = tn.tensor(np.array([-1e4, -100, -30, 0, 30, 100, 1e4], dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = getattr(ops, name)(x)
        y.backward(np.ones(7))
    assert np.isfinite(y.numpy()).all() and np.isfinite(x.grad.numpy()).all()
    assert x.grad.numpy()[0] == (np.dtype(dtype).type(0.01) if name == "leaky_relu" else 0)
    assert x.grad.numpy()[-1] == (1 if name in ("softplus", "gelu", "relu", "leaky_relu") else 0)


def test_poles_are_quiet():
    """log 0, 1/0 and e^1e4 are IEEE's infinities, without a warning: the trainer looks for them, not NumPy."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ops.exp(tn.tensor([1e4, -1e4])).numpy().tolist() == [np.inf, 0]
        assert ops.log(tn.tensor(0.0)).item() == -np.inf
        assert (1 / tn.tensor([0.0, -0.0])).numpy().tolist() == [np.inf, -np.inf]
        assert np.isnan(ops.sqrt(tn.tensor(-1.0)).item())


def test_nan_is_not_hidden():
    x = tn.tensor([np.nan, 1.0])
    for y in (ops.relu(x), ops.maximum(x, 0.0), ops.clip(x, 0, 1), x.max(keepdims=True)):
        assert np.isnan(y.numpy()[0])


# ---- large arrays: memory from the pool ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_large_arrays_give_what_small_ones_give(name):
    """From 64 KiB on results lie in recycled memory: the values and gradients must not know."""
    fn, rng = getattr(ops, name), np.random.default_rng(0)
    draws = UNARY[name][:1] if name in UNARY else BINARY[name][:2]
    inputs = [draw(100, 100)(rng) for draw in draws]

    def result(arrays):
        xs = [tn.tensor(a, requires_grad=True) for a in arrays]
        y = fn(*xs)
        y.backward(np.cos(arrays[0]))
        return [y.numpy(), *(x.grad.numpy() for x in xs)]

    before = [x.copy() for x in inputs]
    rows = [result([x[i] for x in inputs]) for i in range(100)]
    for large, parts in zip(result(inputs), zip(*rows, strict=True), strict=True):
        assert_allclose(large, np.stack(parts), rtol=1e-14)
    for x, copy in zip(inputs, before, strict=True):
        assert_array_equal(x, copy)


# ---- messages ---------------------------------------------------------------------------------------------------


def test_messages_name_the_operation_and_the_shapes():
    with pytest.raises(ValueError, match=r"add: .*\(2, 3\), \(4,\)"):
        tn.tensor(np.ones((2, 3))) + tn.tensor(np.ones(4))
    with pytest.raises(TypeError, match="multiply: "):
        tn.tensor([1.0]) * "text"
    with pytest.raises(TypeError, match="add: the argument 'y' is missing"):
        ops.add(x=tn.tensor(1.0))


@pytest.mark.parametrize("be", ["numpy", "simulator"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_keeps_its_digits_where_it_is_small(be, dtype):
    if reason := tn.backends.why_not(be):
        pytest.skip(reason)
    x = np.array([-1000, -80, -20, -5, 0, 5, 40, 1000, -np.inf, np.inf], dtype)
    y = tn.tensor(x, backend=be).sigmoid().numpy()
    exact = 1 / (1 + np.exp(-np.clip(x.astype(np.longdouble), -4000, 4000)))
    assert_allclose(y.astype(np.longdouble), exact, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


def test_rectify():
    rng = np.random.default_rng(8)
    for shape in ((5,), (3, 9000), (elementwise._ZEROS,)):
        x = rng.standard_normal(shape)
        x.flat[0] = np.nan
        for source in (x, x[..., ::-1]):
            out = np.empty(shape)
            assert elementwise.rectify(source, out) is out
            assert_array_equal(out, np.maximum(source, 0))


# ---- whole numbers, remainders, bits -----------------------------------------------------------------------------

ODD = np.array([-np.inf, -7.5, -2, -0.0, 0.0, 0.5, 1.5, 2.5, 7.5, 1e30, np.inf, np.nan])


@pytest.mark.parametrize("be", ["numpy", "simulator"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round", "sign", "isnan", "isfinite", "logical_not"])
def test_odd_values_of_one(name, dtype, be):
    if reason := tn.backends.why_not(be):
        pytest.skip(reason)
    x = ODD.astype(dtype)
    assert_array_equal(getattr(ops, name)(tn.tensor(x, backend=be)).numpy(), getattr(np, name)(x))


@pytest.mark.parametrize("be", ["numpy", "simulator"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(
    "name", ["mod", "fmod", "floor_divide", "copysign", "arctan2", "logaddexp", "isclose", "logical_and", "logical_or"]
)
def test_odd_values_of_two(name, kind, be):
    if reason := tn.backends.why_not(be):
        pytest.skip(reason)
    x = np.array([-9, -2, -1, 0, 1, 3, 8]) if kind is np.int64 else ODD.astype(kind)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x[:, None], x)
    found = getattr(ops, name)(tn.tensor(x[:, None], backend=be), tn.tensor(x, backend=be)).numpy()
    assert_allclose(found, expected, rtol=1e-6 if kind is np.float32 else 1e-14)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("be", ["numpy", "simulator"])
def test_operators_of_integers_and_bools(be):
    if reason := tn.backends.why_not(be):
        pytest.skip(reason)
    a, b = np.array([-9, 0, 5, 12, 1]), np.array([3, 1, -2, 10, 63])
    p, q = np.array([True, True, False, False]), np.array([True, False, True, False])
    x, y, s, t = (tn.tensor(v, backend=be) for v in (a, b, p, q))
    for found, expected in (
        (x // y, a // b),
        (x % y, a % b),
        (x & y, a & b),
        (x | y, a | b),
        (x ^ y, a ^ b),
        (~x, ~a),
        (x << abs(y), a << np.abs(b)),
        (x >> abs(y), a >> np.abs(b)),
        (7 & x, 7 & a),
        (x | 8, a | 8),
        (100 >> abs(y), 100 >> np.abs(b)),
        (17 // y, 17 // b),
        (17 % y, 17 % b),
        (s & t, p & q),
        (s | t, p | q),
        (s ^ t, p ^ q),
        (~s, ~p),
        (s & True, p & True),
        (True ^ s, True ^ p),
        (a % y, a % b),
        (a & y, a & b),
    ):
        assert isinstance(found, tn.Tensor)
        assert_array_equal(found.numpy(), expected, strict=True)
    for refused in (lambda: x & 1.5, lambda: tn.tensor([1.0], backend=be) | 1, lambda: ~tn.tensor([1.0], backend=be)):
        with pytest.raises(TypeError, match=r"bitwise_\w+: an input is floating; bits are those of integers or bools"):
            refused()
    assert (tn.tensor([7.5, -7.5]) // 2).numpy().tolist() == [3, -4] and (tn.tensor([-7.5]) % 2).item() == 0.5


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1, 5, 40])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 2 * 8192 + 5)])
def test_gelu_of_float32_is_that_of_float64(scale, shape):
    """The short way of float32 beside the long one, also of arrays that are longer than a block, and of views."""
    rng = np.random.default_rng(3)
    x, g = (np.asarray(scale * rng.standard_normal(shape)).T for _ in range(2))
    be = tn.tensor(0.0).backend
    short = [be.gelu(x.astype(np.float32)), be.gelu_grad(g.astype(np.float32), x.astype(np.float32))]
    for a, b in zip(short, [be.gelu(x), be.gelu_grad(g, x)], strict=True):
        assert a.dtype == np.float32 and a.shape == x.shape
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6 * scale)
