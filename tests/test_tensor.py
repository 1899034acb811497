"""Tensor: making, looking at, copying; what is attached to it."""

from __future__ import annotations

import ast
import copy
import inspect
import sys

import numpy as np
import pytest

import tinynet as tn
from tinynet.tensor import Tensor

tensor_module = sys.modules["tinynet.tensor"]  # tinynet.tensor is the function


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32),
        ([1.0, 2.0], np.float32),
        ([[1.0], [2.0]], np.float32),
        ([], np.float32),
        (3, np.int64),
        ([1, 2], np.int64),
        (True, bool),
        (np.float64(1.5), np.float64),
        (np.ones(2), np.float64),
        ([np.float64(1)], np.float64),
        (np.ones(2, np.float32), np.float32),
        (np.ones(2, np.int32), np.int32),
        (np.ones(2, np.uint8), np.uint8),
    ],
)
def test_dtypes(data, dtype):
    """Python's floats become float32; whatever has a dtype keeps it."""
    x = tn.tensor(data)
    assert x.dtype == dtype and x.shape == np.shape(data) and type(x.data) is np.ndarray
    assert tn.tensor(data, dtype=np.float64).dtype == np.float64


def test_tensor_copies():
    array = np.ones(3)
    x = tn.tensor(array)
    y = tn.tensor(x)
    array[0] = 5
    x.numpy()[1] = 7
    assert y.numpy().tolist() == [1, 1, 1] and x.numpy().tolist() == [1, 7, 1]
    assert tn.tensor(np.ones((4, 4))[::2, ::-1]).data.flags.c_contiguous


def test_nested_sequences_must_be_numbers_of_equal_length():
    with pytest.raises(ValueError):
        tn.tensor([[1.0], [1.0, 2.0]])
    assert tn.tensor([tn.tensor(1.0), tn.tensor(2.0)]).numpy().tolist() == [1, 2]


def test_looking_at_a_tensor():
    x = tn.tensor([[1.0, 2.0, 3.0]])
    assert (x.shape, x.ndim, x.size, len(x), x.backend.name) == ((1, 3), 2, 3, 1, "numpy")
    assert np.asarray(x) is x.numpy() and np.asarray(x, np.float64).dtype == np.float64
    assert float(tn.tensor(2.5)) == 2.5 and int(tn.tensor([3])) == 3 and bool(tn.tensor(1))
    assert f"{tn.tensor(0.125):.2f}" == "0.12"
    with pytest.raises(ValueError, match=r"item: the tensor has shape \(1, 3\), 3 values; item\(\) needs one"):
        x.item()
    with pytest.raises(ValueError, match=r"truth value of a tensor of shape \(1, 3\) is ambiguous"):
        bool(x == 1)
    with pytest.raises(TypeError, match="0-d"):
        len(tn.tensor(1.0))
    with pytest.raises(TypeError, match="0-d"):
        iter(tn.tensor(1.0))


def test_repr():
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4.], op=multiply)"
    assert repr(tn.tensor(np.ones(1))) == "tensor([1.], dtype=float64)"
    assert repr(tn.tensor(2)) == "tensor(2, dtype=int64)"
    assert len(repr(tn.tensor(np.zeros((1000, 1000))))) < 1000


def test_tensors_are_hashed_by_identity():
    x, y = tn.tensor(1.0), tn.tensor(1.0)
    assert len({x, y, x}) == 2


def test_copies():
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    (x * 3).sum().backward()
    y = copy.deepcopy(x)
    y.numpy()[0] = 9
    y.grad.numpy()[0] = 9
    assert y.requires_grad and x.numpy()[0] == 1 and x.grad.numpy()[0] == 3
    with pytest.raises(ValueError, match=r"only leaf tensors can be copied; use .detach\(\)"):
        copy.deepcopy(x * 2)
    d = x.detach()
    assert not d.requires_grad and d.data is x.data
    assert x.to("numpy") is x
    with pytest.raises(ValueError, match="backend 'abacus' is unknown; choose one of 'numpy', 'cupy', 'simulator'"):
        x.to("abacus")


def test_the_list_for_type_checkers_is_what_is_attached():
    """tensor.py imports no operation, so its TYPE_CHECKING block lists what others attach: no more, no less."""
    tree = ast.parse(inspect.getsource(tensor_module))
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor")
    block = next(n for n in cls.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name))
    listed = {n.target.id for n in block.body if isinstance(n, ast.AnnAssign)}
    listed |= {target.id for n in block.body if isinstance(n, ast.Assign) for target in n.targets}
    written = {n.name for n in ast.walk(cls) if isinstance(n, ast.FunctionDef)} - {"_operation"}
    default = set(vars(type("Empty", (), {"__slots__": ("__weakref__",)})))
    attached = (
        set(vars(Tensor))
        - written
        - default
        - {
            "__slots__",
            "__array_ufunc__",
            "__annotations__",
            "__hash__",
            "__firstlineno__",
            "__static_attributes__",
            *Tensor.__slots__,
        }
    )
    assert listed == attached


def test_methods_are_the_operations():
    for name in (
        "exp",
        "log",
        "relu",
        "sigmoid",
        "sqrt",
        "tanh",
        "abs",
        "clip",
        "sum",
        "mean",
        "max",
        "min",
        "var",
        "logsumexp",
        "softmax",
        "log_softmax",
        "reshape",
        "transpose",
        "squeeze",
        "flatten",
        "broadcast_to",
        "astype",
    ):
        assert inspect.unwrap(getattr(Tensor, name)) is inspect.unwrap(getattr(tn.ops, name))  # of lists, ops only


def test_everything_public_in_tensor_is_documented():
    for name in ("Tensor", "tensor"):
        assert inspect.getdoc(getattr(tensor_module, name))


def test_arrays_in_the_other_byte_order_become_native():
    for kind in (">f4", ">f8", ">i4"):
        x = tn.tensor(np.arange(6).reshape(2, 3).astype(kind))
        assert x.dtype.isnative and x.sum().item() == 15 and x.mean().item() == 2.5


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
def test_a_tensor_never_shares_what_it_was_made_of(backend):
    """Whatever the layout, also where nothing has to be converted; `numpy()` shares, on the numpy backend alone."""
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    base = np.arange(6, dtype=np.float32).reshape(2, 3)
    for data in (
        base.copy(),
        base.T.copy().T,
        base[:, ::-1].copy()[:, ::-1],
        base.astype(np.float64),
        [base.copy()],
        base.astype(np.int64),
        np.asfortranarray(base),
        base.astype(">f4"),
    ):
        x = tn.tensor(data, backend=backend)
        again = tn.tensor(x)
        values = x.numpy().copy()
        (data[0] if isinstance(data, list) else data)[...] = 9
        np.testing.assert_array_equal(x.numpy(), values)
        with tn.no_grad():
            x[...] = 7
        np.testing.assert_array_equal(again.numpy(), values)
        assert np.shares_memory(x.numpy(), x.numpy()) == (backend == "numpy")
