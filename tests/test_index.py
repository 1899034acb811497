"""Places, scans and contractions beside NumPy: empty ones, ties, NaN, every form of einsum, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tinynet import ops

BACKENDS = ("numpy", "simulator")
rng = np.random.default_rng(0)


@pytest.fixture(params=BACKENDS)
def backend(request):
    if reason := tn.backends.why_not(request.param):
        pytest.skip(reason)
    with tn.use(request.param):
        yield request.param


@pytest.mark.parametrize("name", ["sum", "prod", "any", "all", "max", "min", "argmax", "argmin", "cumsum", "cumprod"])
def test_nothing_reduces_as_in_numpy(name, backend):
    for shape in (0,), (0, 3), (2, 0), (0, 0), (2, 0, 3):
        for axis in (None, *range(len(shape)), -1):
            x = np.zeros(shape, np.float32)
            try:
                expected = getattr(np, name)(x, axis)
            except ValueError:
                with pytest.raises(ValueError, match=f"^{name}: shape .* has no values along axis"):
                    getattr(ops, name)(tn.tensor(x), axis)
                continue
            found = getattr(ops, name)(tn.tensor(x), axis)
            assert found.dtype == expected.dtype
            assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("axis", [None, -1, ()])
def test_softmax_of_one_number(axis, backend):
    for operation, value in (ops.softmax, 1), (ops.log_softmax, 0):
        x = tn.tensor(3.0, requires_grad=True)
        y = operation(x, axis)
        y.backward()
        assert y.shape == () and y.item() == value and x.grad.item() == 0
    with pytest.raises(ValueError, match="axis 1 is out of range"):
        ops.softmax(tn.tensor(3.0), 1)


def test_places_of_ties_and_nan(backend):
    x = np.array([[1, np.nan, 3, np.nan], [2, 5, 5, 2]])
    t = tn.tensor(x)
    for axis in None, 0, 1, -1:
        assert_array_equal(t.argmax(axis).numpy(), np.argmax(x, axis), strict=True)
        assert_array_equal(t.argmin(axis).numpy(), np.argmin(x, axis), strict=True)
        assert_array_equal(t.argsort(axis).numpy(), np.argsort(x, axis, kind="stable"), strict=True)
        assert_array_equal(t.sort(axis).numpy(), np.sort(x, axis))
    assert t.argmax(keepdims=True).shape == (1, 1)
    assert t.argsort(descending=True).numpy().tolist() == [[1, 3, 2, 0], [1, 2, 0, 3]]
    values, places = ops.topk(t, 3)
    assert places.numpy().tolist() == [[1, 3, 2], [1, 2, 0]] and values.numpy()[1].tolist() == [5, 5, 2]
    assert t.any().item() and t.all().item() and not tn.tensor([0.0, -0.0]).any().item()
    assert_array_equal(ops.cummax(t, 1).numpy(), np.maximum.accumulate(x, 1))


def test_moved_as_in_numpy(backend):
    x = np.arange(12, dtype=np.int16).reshape(3, 4)
    for axis in None, 0, 1, (0, 1), ():
        assert_array_equal(ops.flip(x, axis).numpy(), np.flip(x, axis), strict=True)
    for shift, axis in (1, None), (-5, 0), (9, 1), ((1, 2), (1, 0)), ((1, 2), (0, 0)), (2, (0, 1)):
        assert_array_equal(ops.roll(x, shift, axis).numpy(), np.roll(x, shift, axis), strict=True)
    for repeats, axis in (2, None), (0, 1), ([1, 0, 3], 0), (np.arange(12), None), ([2], 1):
        assert_array_equal(ops.repeat(x, repeats, axis).numpy(), np.repeat(x, repeats, axis), strict=True)
    for reps in 2, (1, 2), (2, 1, 3), (0,), ():
        assert_array_equal(ops.tile(x, reps).numpy(), np.tile(x, reps), strict=True)
    for k in -5, -1, 0, 2, 5:
        assert_array_equal(ops.tril(x, k).numpy(), np.tril(x, k))
        assert_array_equal(ops.triu(x, k).numpy(), np.triu(x, k))
    for indices in 1, -1, [], [[0, -1]], np.uint8(2), tn.tensor([1, 1]):
        plain = indices.numpy() if isinstance(indices, tn.Tensor) else np.asarray(indices, int)
        for axis in None, 0, -1:
            assert_array_equal(ops.take(x, indices, axis).numpy(), np.take(x, plain, axis), strict=True)


def test_scatter_gives_the_gradient_to_what_stays(backend):
    x = tn.tensor([1.0, 5.0, 2.0], requires_grad=True)
    v = tn.tensor([2.0, 2.0, 5.0, 3.0], requires_grad=True)
    wanted = {
        None: ([2, 5, 3], [0, 0, 0], [0, 1, 1, 1]),
        "add": ([5, 10, 5], [1, 1, 1], [1, 1, 1, 1]),
        "max": ([2, 5, 3], [0, 1, 0], [1, 0, 0, 1]),
        "min": ([1, 5, 2], [1, 1, 1], [0, 0, 0, 0]),
    }
    for reduce, (y, dx, dv) in wanted.items():
        found = ops.scatter(x, [0, 0, 1, 2], v, 0, reduce=reduce)
        gradients = tn.grad(found.sum(), [x, v])
        assert found.numpy().tolist() == y
        assert [g.numpy().tolist() for g in gradients] == [dx, dv], reduce
    assert ops.scatter(tn.tensor([1, 2]), [0], 0.5, 0).numpy().tolist() == [0.5, 2]


def test_norm_of_half_precision(backend):
    x = tn.tensor(np.full(4, 300, np.float16), requires_grad=True)
    y = ops.norm(x)
    y.backward()
    assert y.dtype == x.grad.dtype == np.float16 and y.item() == 600 and x.grad.numpy().tolist() == [0.5] * 4


SPECS = [
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ji", [(2, 3)]),
    ("...", [(2, 3)]),
    ("...ii->...i", [(2, 3, 3)]),
    ("i...->...", [(2, 3)]),
    (" i j , ...j -> i ... ", [(2, 3), (4, 3)]),
    ("...a,...a->...", [(4, 1, 3), (2, 3)]),
    ("Ab,bA", [(2, 3), (3, 2)]),
    ("ii,ii,i", [(3, 3), (3, 3), (3,)]),
    ("ij,kl,mn->", [(2, 1), (2, 3), (2, 2)]),
    ("ab,bc,cd,de,ea->c", [(2, 3), (3, 2), (2, 2), (2, 3), (3, 2)]),
    ("ij,ij,jk->ki", [(1, 3), (2, 1), (3, 2)]),
    ("...,...->...", [(), (2,)]),
    ("ijkl,kj->il", [(2, 3, 2, 2), (2, 3)]),
]


@pytest.mark.parametrize(("spec", "shapes"), SPECS)
def test_every_form_of_einsum(spec, shapes, backend):
    arrays = [rng.standard_normal(s) for s in shapes]
    xs = [tn.tensor(a, requires_grad=True) for a in arrays]
    y = ops.einsum(spec, *xs)
    assert_allclose(y.numpy(), np.einsum(spec, *arrays), rtol=1e-12, atol=1e-13, strict=True)
    y.sum().backward()
    for x, a in zip(xs, arrays, strict=True):  # linear in each operand, so <x, dx> is the sum
        assert_allclose((x.grad.numpy() * a).sum(), y.numpy().sum(), rtol=1e-10, atol=1e-12)


def test_einsum_of_lists_of_axes(backend):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((4, 3, 5))
    x, y = tn.tensor(a), tn.tensor(b)
    assert_allclose(ops.einsum(x, [0, 1], y, [..., 1, 2]).numpy(), np.einsum(a, [0, 1], b, [..., 1, 2]), rtol=1e-12)
    found = ops.einsum(x, [0, 1], y, [2, 1, 3], [3, 0]).numpy()
    assert_allclose(found, np.einsum(a, [0, 1], b, [2, 1, 3], [3, 0]), rtol=1e-12)


X, V = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
MISTAKES = [
    (lambda: ops.einsum("ij,jk", X), ValueError, "names 2 operands; 1 are given"),
    (lambda: ops.einsum("ijk", X), ValueError, "does not fit an operand of 2 axes"),
    (lambda: ops.einsum("i", X), ValueError, "does not fit an operand of 2 axes"),
    (lambda: ops.einsum("ij->k", X), ValueError, "must name axes of the operands"),
    (lambda: ops.einsum("ij->ii", X), ValueError, "each once"),
    (lambda: ops.einsum("i1", X), ValueError, "must consist of letters"),
    (lambda: ops.einsum("ij,i", X, V), ValueError, "axis 'i' of .* has the sizes 2 and 3"),
    (lambda: ops.einsum("ii", X), ValueError, "sizes 2 and 3"),
    (lambda: ops.take(X, [3], 1), IndexError, "take: indices run from 3 to 3; axis 1 has size 3"),
    (lambda: ops.take(X, [True], 1), TypeError, "take: the indices have dtype bool"),
    (lambda: ops.take(X, 0.5), IndexError, "take: .* is no index"),
    (lambda: ops.take_along_axis(X, [0, 1], 1), ValueError, "must be equal in all axes but 1"),
    (lambda: ops.scatter(X, [[0]], np.zeros((2, 2)), 1), ValueError, "values .* do not broadcast"),
    (lambda: ops.scatter(X, [[0]], 1, 1, reduce="mean"), ValueError, 'must be None, "add", "max" or "min"'),
    (lambda: ops.topk(X, 4), ValueError, "topk: k=4 is more than the size 3"),
    (lambda: ops.one_hot([0, 3], 3), IndexError, "one_hot: ids run from 0 to 3"),
    (lambda: ops.one_hot([0.5], 3), TypeError, "one_hot: ids have dtype float32"),
    (lambda: ops.norm(X, 0.5), ValueError, "norm: ord=0.5 must be a number >= 1"),
    (lambda: ops.norm(X[:0], np.inf), ValueError, "norm: shape .* has no values"),
    (lambda: ops.tril(V), ValueError, "tril: shape"),
    (lambda: ops.tile(V, -1), ValueError, "tile: reps=-1 must be >= 0"),
    (lambda: ops.repeat(V, [1, 2]), ValueError, "must be one int >= 0, or 3"),
    (lambda: ops.roll(X, (1, 2, 3), (0, 1)), ValueError, "3 shifts do not fit 2 axes"),
    (lambda: ops.cumsum(X, 2), ValueError, "cumsum: axis 2 is out of range"),
    (lambda: ops.cumsum(X, (0, 1)), ValueError, "must be None or one int"),
    (lambda: ops.argmax(X, 2), ValueError, "argmax: axis 2 is out of range"),
    (lambda: ops.sort(X, 2), ValueError, "sort: axis 2 is out of range"),
    (lambda: ops.outer(np.ones(2, np.uint64), V.astype(int)), TypeError, "outer: an input has dtype uint64"),
]


@pytest.mark.parametrize(("call", "error", "words"), MISTAKES)
def test_mistakes_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    "spec", ["ij,jk->ik", "ji,jkl->ikl", "bij,bj->ib", "ij,j->j", "i,j->ji", "i,i->", "abc,cad->bd"]
)
def test_a_product_of_two_is_one_operation(spec, backend):
    """However its axes lie: one record on the tape, and derivatives that are products of two as well."""
    rng = np.random.default_rng(0)
    sizes = dict(zip("abcdijkl", (2, 3, 4, 2, 3, 4, 2, 5), strict=True))
    terms = spec.partition("->")[0].split(",")
    xs = [tn.tensor(rng.standard_normal([sizes[c] for c in t]), requires_grad=True) for t in terms]
    y = ops.einsum(spec, *xs)
    assert [parent.is_leaf for parent in y.node.parents if parent] == [True, True]
    g = rng.standard_normal(y.shape)
    np.testing.assert_allclose(y.numpy(), np.einsum(spec, *[x.numpy() for x in xs]), rtol=1e-12)
    y.backward(g)
    for i, x in enumerate(xs):
        nudge = rng.standard_normal(x.shape)
        moved = np.einsum(spec, *[nudge if k == i else x.numpy() for k, x in enumerate(xs)])
        np.testing.assert_allclose((x.grad.numpy() * nudge).sum(), (moved * g).sum(), rtol=1e-10)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["distinct", "ties", "nan", "zeros", "ints"])
def test_order_and_the_largest_of_many(kind, axis):
    """The quick ways, of distinct values and of few that are wanted, are the stable ones."""
    x = np.random.default_rng(5).standard_normal((40, 50, 3)).astype(np.float32)
    if kind == "ties":
        x = np.round(x, 1)
    elif kind == "nan":
        x[::7, ::5] = np.nan
    elif kind == "zeros":
        x[x < 0.2] = -0.0
        x[::2][x[::2] == 0] = 0.0
    elif kind == "ints":
        x = (9 * x).astype(np.int64)
    expected = np.argsort(x, axis, kind="stable")
    np.testing.assert_array_equal(ops.argsort(tn.tensor(x), axis).numpy(), expected)
    np.testing.assert_array_equal(ops.sort(tn.tensor(x), axis).numpy(), np.take_along_axis(x, expected, axis))
    down = np.argsort(-x, axis, kind="stable")
    if kind == "nan":  # the largest
        number = np.where(np.isnan(x), np.inf, x)
        down = np.argsort(-number, axis, kind="stable")
    for k in 1, 2, 5:
        if k <= x.shape[axis]:
            values, places = ops.topk(tn.tensor(x), k, axis)
            np.testing.assert_array_equal(places.numpy(), np.take(down, range(k), axis))
            np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, places.numpy(), axis))
