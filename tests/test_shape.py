"""Operations that move values: indexing, joining, padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import strategies as draw
from tinynet import ops

STRICT = {"rtol": 1e-6, "atol": 1e-8}


@given(st.data(), draw.shapes(least=1, largest=3), draw.seeds)
def test_basic_indexing(data, shape, seed):
    """Ints, slices with any step, … and None, from any layout."""
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    x = data.draw(draw.laid_out(draw.values(shape, seed)))
    assert_array_equal(tn.tensor(x)[index].numpy(), x[index])
    tn.gradcheck(lambda x: x[index], x, **STRICT)


@given(st.data(), draw.shapes(least=1, most=3, largest=3), draw.seeds)
def test_integer_indexing(data, shape, seed):
    """Arrays of integers, repeated and negative ones, before, after and between slices: gradients add up."""
    index = data.draw(hnp.integer_array_indices(shape[:1], result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    if len(shape) > 1 and data.draw(st.booleans()):
        index = (slice(None), data.draw(st.sampled_from([[0, 0, -1], [0]])))
        index = (slice(None), np.array(index[1]))
    x = draw.values(shape, seed)
    assert_array_equal(tn.tensor(x)[index].numpy(), x[index])
    tn.gradcheck(lambda x: x[index], x, **STRICT)


def test_repeated_indices_add_up():
    x = tn.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[[0, 2, 2, 2]].sum().backward()
    assert x.grad.numpy().tolist() == [1, 0, 3]


def test_slices_add_to_one_gradient(monkeypatch):
    """A tensor that is taken apart costs one array of its size on the way back, not one for each slice."""
    from tinynet.backends import cpu

    calls: list[tuple] = []
    whole = cpu.getitem_grad
    monkeypatch.setattr(cpu, "getitem_grad", lambda g, index, shape: calls.append(index) or whole(g, index, shape))
    x = tn.tensor(np.arange(24.0).reshape(6, 4), requires_grad=True)
    total = x.sum()
    for row in x:
        total = total + (row * row).sum()
    table = x[[0, 2, 2]] * 3 + x[:, 1:3][np.array([True, False] * 3)].sum()
    (total + table.sum()).backward()
    expected = 1 + 2 * x.numpy()
    expected[0] += 3
    expected[2] += 6
    expected[::2, 1:3] += 12
    assert_allclose(x.grad.numpy(), expected)
    assert len(calls) <= 3
    x.grad = None
    y = x[2]
    assert tn.grad(y.sum(), x).numpy().tolist() == [[float(i == 2)] * 4 for i in range(6)]


def test_a_tensor_as_index():
    x, rows = tn.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), tn.tensor([1, 1])
    x[rows, tn.tensor([0, 1])].sum().backward()
    assert x.grad.numpy().tolist() == [[0, 0], [1, 1]]
    assert x[x > 2].numpy().tolist() == [3, 4]
    assert [row.numpy().tolist() for row in x] == [[1, 2], [3, 4]]


@given(st.data(), draw.shapes(least=1, most=3, smallest=0, largest=3), draw.seeds)
def test_joining(data, shape, seed):
    """concatenate and stack along any axis, of parts of any size, empty ones too; split undoes it."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = [
        draw.values(tuple(n if i == axis % len(shape) else m for i, m in enumerate(shape)), seed + k)
        for k, n in enumerate(sizes)
    ]
    whole = ops.concatenate([tn.tensor(p) for p in parts], axis)
    assert_array_equal(whole.numpy(), np.concatenate(parts, axis))
    for part, again in zip(parts, ops.split(whole, np.cumsum(sizes)[:-1].tolist(), axis), strict=True):
        assert_array_equal(part, again.numpy())
    assert_array_equal(ops.stack([tn.tensor(parts[0])] * 2, axis).numpy(), np.stack([parts[0]] * 2, axis))
    tn.gradcheck(lambda *xs: ops.concatenate(xs, axis), parts, **STRICT)


def test_joining_arrays_and_tensors():
    array, x = np.ones((2, 2)), tn.tensor(np.zeros((1, 2)), requires_grad=True)
    assert ops.concatenate([array, x]).shape == (3, 2)
    assert ops.stack([x, x]).shape == (2, 1, 2)


@given(draw.shapes(least=1, most=3, largest=3), st.sampled_from(["constant", "edge"]), st.data(), draw.seeds)
def test_pad(shape, mode, data, seed):
    widths = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in shape]
    x = data.draw(draw.laid_out(draw.values(shape, seed)))
    assert_array_equal(ops.pad(tn.tensor(x), widths, mode).numpy(), np.pad(x, widths, mode=mode))
    tn.gradcheck(lambda x: ops.pad(x, widths, mode), x, **STRICT)


@given(st.data(), draw.shapes(smallest=0), draw.seeds)
def test_transpose_and_reshape(data, shape, seed):
    order = data.draw(st.permutations(range(len(shape))))
    x = data.draw(draw.laid_out(draw.values(shape, seed)))
    t = tn.tensor(x)
    assert_array_equal(t.transpose(order).numpy(), x.transpose(order))
    assert_array_equal(t.T.numpy(), x.T)
    assert_array_equal(t.T.reshape(x.size).numpy(), x.T.reshape(x.size))
    tn.gradcheck(lambda x: x.transpose(order).reshape(x.size), x, **STRICT)


def test_reshape_of_nothing():
    assert tn.tensor(np.zeros((0, 3))).reshape(-1, 3).shape == (0, 3)
    assert tn.tensor(np.zeros((0, 3))).reshape(3, 0).shape == (3, 0)
    assert tn.tensor(np.zeros((2, 3))).flatten().shape == (2, 3)


MISTAKES = [
    (lambda x: x.reshape(4, 2), r"reshape: shape \(2, 3\) holds 6 values, which do not fit \(4, 2\)"),
    (lambda x: x.reshape(-1, -1), r"reshape: shape \(2, 3\) holds 6"),
    (lambda x: x.transpose((0, 0)), r"transpose: axes \(0, 0\) are no permutation of the 2 axes"),
    (lambda x: x.squeeze(0), r"squeeze: axis 0 of shape \(2, 3\) is not of size 1"),
    (lambda x: ops.concatenate([]), "concatenate: needs at least one tensor"),
    (lambda x: ops.concatenate([x, x.T]), r"concatenate: shapes \[\(2, 3\), \(3, 2\)\] differ outside axis 0"),
    (lambda x: ops.stack([x, x.T]), r"stack: the shapes \[\(2, 3\), \(3, 2\)\] must be equal"),
    (lambda x: ops.split(x, 4), r"split: axis 0 of shape \(2, 3\) has size 2, not divisible into 4 parts"),
    (lambda x: ops.pad(x, -1), "pad: the widths -1 must not be negative"),
    (lambda x: ops.pad(x, 1, "mirror"), "pad: mode 'mirror' is unknown"),
    (lambda x: ops.pad(x[:0], 1, "edge"), r"pad: shape \(0, 3\) has no edge"),
    (lambda x: x.broadcast_to((3, 2)), "broadcast_to: "),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_messages(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake(tn.tensor(np.ones((2, 3))))


def test_index_out_of_range():
    with pytest.raises(IndexError, match=r"getitem: .*out of bounds.*\(2, 3\)"):
        tn.tensor(np.ones((2, 3)))[5]


def test_indices_in_tuples_and_lists_add_up():
    for index in (((0, 0),), ([0, 0],), (slice(0, 2), (1, 1)), (Ellipsis, [])):
        x = tn.tensor(np.zeros((4, 3)), requires_grad=True)
        y = x[index]
        expected = np.zeros((4, 3))
        np.add.at(expected, tuple(np.array(i, int) if isinstance(i, tuple | list) else i for i in index), 1)
        y.sum().backward()
        assert_array_equal(x.grad.numpy(), expected)
    assert tn.tensor([1.0, 2.0])[[]].shape == (0,)


def test_sizes_as_numpy_gives_them():
    x = tn.tensor(np.arange(6.0))
    assert x.reshape(np.array([2, 3])).shape == (2, 3)
    assert [part.shape for part in ops.split(x, np.int64(3))] == [(2,)] * 3
    with pytest.raises(ValueError, match="flatten: the input is 0-d"):
        tn.tensor(1.0).flatten()
