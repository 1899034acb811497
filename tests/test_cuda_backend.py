"""The CUDA backend, kernel by kernel, against the numpy backend: every name of the contract, on the simulator in its
checking mode (every access looked at, each launch in four orders of its threads) and on a GPU where there is one."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

import tinynet as tn
from tests import checks, cuda_calls, cuda_parity
from tinynet.backends.cuda import Cuda, conv, sources
from tinynet.backends.cuda.arrays import Arrays
from tinynet.backends.cuda.table import TABLE

BACKENDS = ["simulator", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(scope="session")
def checking():
    """The simulator in checking mode. In CI it must be there."""
    from tinynet.backends.cuda.simulator import SimulatorLauncher

    try:
        launcher = SimulatorLauncher(check=True)
    except tn.backends.BackendError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must run the simulator: {error}")
        pytest.skip(str(error))
    launcher.prepare()
    return Cuda("simulator", launcher)


@pytest.fixture(params=BACKENDS)
def be(request):
    return request.getfixturevalue("checking") if request.param == "simulator" else tn.backends.get("cupy")


# ---- every name of the contract ------------------------------------------------------------------------------

OTHERWISE = {"empty": "test_arrays", "owns": "test_views_and_owners", "bounds": "test_views_and_owners"}
EXAMPLES = {"conv2d": 15, "conv2d_grad": 15, "conv_relu_pool": 8, "conv_relu_pool_grad": 12, "dense": 12}


def test_every_kernel_of_the_contract_is_called():
    assert set(cuda_calls.NAMES) == set(cuda_calls.CALLS) | set(OTHERWISE)
    assert all(test in globals() for test in OTHERWISE.values())


def test_topics_are_siblings():
    """Each stands on the arrays alone, all are composed, and none hides what another one has."""
    assert set(Cuda.__bases__) == set(Arrays.__subclasses__())
    assert all(topic.__bases__ == (Arrays,) for topic in Cuda.__bases__)
    names = Counter(name for kind in (Arrays, *Cuda.__bases__) for name in vars(kind) if not name.startswith("__"))
    assert not [name for name, times in names.items() if times > 1]


@pytest.mark.parametrize("name", cuda_calls.CALLS)
def test_kernel(be, name):
    cuda_calls.each(name, EXAMPLES.get(name, 20), lambda call: cuda_parity.check(be, name, call))


@pytest.mark.parametrize("name", ["conv2d", "conv2d_grad", "conv_relu_pool_grad"])
def test_convolution_by_im2col(be, name, monkeypatch):
    """The teaching path computes the same."""
    monkeypatch.setattr(be, "conv_path", "im2col")
    cuda_calls.each(name, 12, lambda call: cuda_parity.check(be, name, call))


def test_arrays(be):
    x = be.empty((2, 0, 3), np.float32)
    assert (x.shape, x.dtype) == ((2, 0, 3), np.dtype(np.float32)) and be.empty((), "float64").shape == ()
    assert be.asarray(x) is x and be.asarray([1.5, 2]).dtype == np.float64
    host = np.arange(6.0)
    mine = be.asarray(host)
    host[:] = 0
    assert be.numpy(mine).tolist() == [0, 1, 2, 3, 4, 5], "shares memory with the host's array"


@pytest.mark.parametrize("axes", [1, 2, 5, 7, 8])
def test_up_to_eight_axes(be, axes):
    """The kernels that move values go through their axes in a loop of fixed length."""
    shape = (2, 1, 3, 1, 2, 2, 1, 2)[-axes:]
    host = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = be.asarray(host)
    np.testing.assert_array_equal(be.numpy(be.copy(be.transpose(x, tuple(range(axes))[::-1]))), host.T)
    widths = tuple((d % 2, d % 3) for d in range(axes))
    np.testing.assert_array_equal(be.numpy(be.pad(x, widths, "edge")), np.pad(host, widths, "edge"))
    small = be.asarray(host[..., :1])
    np.testing.assert_array_equal(be.numpy(be.add(x, small)), host + host[..., :1])


def test_views_and_owners(be):
    x, other = be.asarray(np.zeros((3, 4), np.float32)), be.asarray(np.zeros((3, 4), np.float32))
    views = [
        x[1:],
        x[:, ::2],
        x[::-1, ::-1],
        be.reshape(x, (4, 3)),
        be.transpose(x, (1, 0)),
        x[1:2],
        be.broadcast_to(x, (2, 3, 4)),
        be.broadcast_to(x[1:2, :1], (5, 4)),
        be.getitem(x, (1, 2)),
    ]
    assert be.owns(x) and be.owns(be.copy(x[1:]))
    for view in views:
        assert not be.owns(view) and checks.share(be, x, view) and checks.share(be, view, view)
        assert not checks.share(be, view, other) and not checks.share(be, other, view)
    assert not checks.share(be, x[:1], x[2:]) and not checks.share(be, x, x[:0])


def test_views_are_views(be):
    """reshape, transpose, broadcast_to and basic indices share memory where NumPy's do."""
    x = be.asarray(np.zeros((2, 3), np.float32))
    for y in (
        be.reshape(x, (6,)),
        be.reshape(x, (3, 2)),
        be.transpose(x, (1, 0)),
        be.getitem(x, (0, slice(1, 2))),
        be.reshape(be.transpose(x[:1], (1, 0)), (3,)),
    ):
        be.copyto(y, 5.0)
        assert be.numpy(x).max() == 5
        be.copyto(x, 0.0)


def test_more_axes_than_kernels_take(be):
    x = be.asarray(np.zeros((1,) * 9, np.float32))
    for mistake in (lambda: be.copyto(x, x[..., ::-1]), lambda: be.add(x, be.asarray(np.zeros(2, np.float32)))):
        with pytest.raises(ValueError, match="9 axes; the CUDA kernels take up to 8"):
            mistake()


def test_more_pixels_than_32_bits_count():
    with pytest.raises(ValueError, match="more than 2147483647 pixels; use a smaller batch"):
        conv._sizes((2**21, 32, 32, 1), (3, 3), 1, conv.Geometry((1, 1), ((1, 1), (1, 1)), (1, 1)))


def test_division_by_multiplication():
    """conv.cu's quotient, computed as there, for every divisor's hardest numerators."""
    for d in (*range(1, 300), 1023, 65537, 2**30 + 1, 2**31 - 1):
        packed = conv._divisor(d)
        magic, shift = packed & 0xFFFFFFFF, packed >> 32
        for n in (0, 1, d - 1, d, d + 1, 2**31 // d * d - 1, 2**31 - 1):
            assert min(n, 2**31 - 1) // d == (((magic * min(n, 2**31 - 1)) >> 32) + min(n, 2**31 - 1)) >> shift


def test_integer_arrays_as_index_are_refused_for_writing(be):
    with pytest.raises(IndexError, match="takes ints and slices"):
        be.setitem_inplace(be.asarray(np.zeros(3)), np.array([0, 0]), 1.0)


def test_indices_on_the_device(be):
    x = np.arange(12.0).reshape(4, 3)
    assert be.numpy(be.getitem(be.asarray(x), be.asarray(np.array([2, 0])))).tolist() == x[[2, 0]].tolist()


def test_integers_and_mixed_types(be):
    """Integers are computed as int64, float16 in float32; a mixture as NumPy promotes it."""
    i, f = np.arange(6).reshape(2, 3), np.ones((3, 2), np.float32)
    for x, y in ((i, i.T), (i, f), (i.astype(np.int32), f.astype(np.float64))):
        z = be.matmul(be.asarray(x), be.asarray(y))
        cuda_parity.agree(be.numpy(z), x @ y)
    assert be.add(be.asarray(i.astype(np.int32)), 1).dtype == np.int64
    assert be.numpy(be.divide(be.asarray(i), 2)).tolist() == (i / 2).tolist()
    x, y = np.ones((2, 1, 3, 2)), np.arange(24.0).reshape(3, 2, 4)  # each is broadcast along one axis
    cuda_parity.agree(be.numpy(be.matmul(be.asarray(x), be.asarray(y))), x @ y)
    assert be.sum(be.asarray(f.astype(np.float16)), (0,)).dtype in (np.float16, np.float32)


# ---- the rungs of the ladders, which no backend uses ---------------------------------------------------------------


def test_draws_that_a_graph_has_moved_on(be):
    """The number on the device is added to the step that a captured launch repeats; other streams stay."""
    x = be.asarray(np.ones((3, 20), np.float32))

    def draws(step):
        return be.numpy(be.random_bits((2, 9), 1, 2, step, 0)), be.numpy(be.dropout(x, 0.5, 1, 2, step, 0)[0])

    expected, other = draws(9), be.numpy(be.random_bits((2, 9), 1, 3, 4, 0))
    be.moved = {2: be.full((1,), 5, np.int64)}
    try:
        for got, right in zip(draws(4), expected, strict=True):
            np.testing.assert_array_equal(got, right)
        np.testing.assert_array_equal(be.numpy(be.random_bits((2, 9), 1, 3, 4, 0)), other)
    finally:
        be.moved = None


@pytest.mark.parametrize("kernel", ["row_sum_naive", "row_sum_warp", "row_sum"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 0), (7, 33), (3, 1100), (300, 2)])
@pytest.mark.parametrize("dtype", cuda_calls.FLOATS)
def test_sums_on_the_ladder(be, kernel, shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    y = be.empty(shape[:1], dtype)
    be.launch(kernel, be.asarray(x), y, *shape)
    cuda_parity.agree(be.numpy(y), x.sum(1))
    be.launch(kernel, be.asarray(x), y, *shape, grid=2, block=64)  # a block for many rows
    cuda_parity.agree(be.numpy(y), x.sum(1))


@pytest.mark.parametrize("kernel", ["gemm_naive", "gemm_tiled"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 0, 2), (17, 5, 33), (16, 16, 16), (5, 40, 20)])
@pytest.mark.parametrize("dtype", cuda_calls.FLOATS)
def test_products_on_the_ladder(be, kernel, sizes, dtype):
    m, k, n = sizes
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    z = be.empty((m, n), dtype)
    be.launch(kernel, be.asarray(x), be.asarray(y), z, m, n, k)
    cuda_parity.agree(be.numpy(z), x @ y)


def test_half_types_add_up_in_float(checking):
    """2049 ones: in half, whose integers are exact up to 2048, the sum would stop there. And products, functions."""
    be, rng = checking, np.random.default_rng(0)

    def launched(kernel: str, shape: tuple, *args, **template) -> np.ndarray:
        y = be.empty(shape, np.float16)
        arrays = [be.asarray(a) if isinstance(a, np.ndarray) else a for a in args]
        be.launch(kernel, *(y if a is ... else a for a in arrays), **template)
        return be.numpy(y)

    ones = np.ones((2, 2049), np.float16)
    for kernel in ("row_sum_naive", "row_sum_warp", "row_sum"):
        assert launched(kernel, (2,), ones, ..., 2, 2049).tolist() == [2048, 2048]  # 2049, rounded once: to even
        assert launched(kernel, (2,), ones[:, :2047] * np.float16(2), ..., 2, 2047).tolist() == [4094, 4094]
    x, y = (rng.standard_normal(shape).astype(np.float16) for shape in ((9, 70), (70, 6)))
    product = (x.astype(np.float32) @ y.astype(np.float32)).astype(np.float16)
    for kernel in ("gemm_naive", "gemm_tiled"):
        np.testing.assert_allclose(launched(kernel, (9, 6), x, y, ..., 9, 6, 70), product, rtol=1e-3, atol=1e-6)
    gemm = launched("gemm", (9, 6), x, y, None, ..., 9, 6, 70, 1, 70, False, 0, 0, TX="false", TY="false")
    np.testing.assert_allclose(gemm, product, rtol=1e-3, atol=1e-6)
    exponential = launched("unary", (630,), x.ravel(), ..., 0, 0, 630, Op="Exp")
    np.testing.assert_allclose(exponential, np.exp(x.ravel().astype(np.float32)), rtol=5e-4)


@pytest.mark.parametrize("shape", [(3, 1, 1, 70), (1, 9, 5, 1), (2, 4, 3, 2)])
@pytest.mark.parametrize("centered", [True, False])
def test_the_ladder_of_moments(be, shape, centered):
    """A thread a statistic finds what the kernels in use find."""
    x = be.asarray(np.random.default_rng(0).standard_normal(shape) + 100)
    mean, var = (be.empty((shape[0], shape[2]), np.float64) for _ in range(2))
    be.launch("moments_naive", x, mean if centered else None, var, shape[1:], centered, shape[0] * shape[2])
    expected = be.moments(x, centered)
    np.testing.assert_allclose(be.numpy(var), be.numpy(expected[1]), rtol=1e-10)
    if centered:
        np.testing.assert_allclose(be.numpy(mean), be.numpy(expected[0]), rtol=1e-13)


def test_the_ladder_of_an_embeddings_gradient(be):
    rng = np.random.default_rng(0)
    g, index = be.asarray(rng.standard_normal((2, 40, 35))), be.asarray(rng.integers(0, 5, 40))
    dx = be.empty((2, 5, 35), np.float64)
    be.launch("take_rows_grad_naive", g, index, dx, 5, 40, 35, 2 * 5 * 35)
    np.testing.assert_array_equal(be.numpy(dx), be.numpy(be.take_rows_grad(g, index, 5)))


LADDER = {"row_sum_naive", "gemm_naive", "gemm_tiled", "moments_naive", "take_rows_grad_naive"}


def ladders(be: Cuda, kernel: str) -> Iterator[Callable[[], None]]:
    """The tests above of a kernel that is a rung of a ladder, in double."""
    if kernel.startswith("row_sum"):
        for shape in ((7, 33), (300, 2), (3, 1100)):
            yield lambda shape=shape: test_sums_on_the_ladder(be, kernel, shape, np.float64)
    elif kernel in ("gemm_naive", "gemm_tiled"):
        for sizes in ((17, 5, 33), (5, 40, 20)):
            yield lambda sizes=sizes: test_products_on_the_ladder(be, kernel, sizes, np.float64)
    elif kernel == "moments_naive":
        for shape, centered in itertools.product(((2, 4, 3, 2), (1, 9, 5, 1)), (True, False)):
            yield lambda shape=shape, centered=centered: test_the_ladder_of_moments(be, shape, centered)
    elif kernel == "take_rows_grad_naive":
        yield lambda: test_the_ladder_of_an_embeddings_gradient(be)


def test_every_kernel_of_the_table_is_launched(checking, monkeypatch):
    """By some kernel of the contract, or above as a rung of a ladder. (Not checking: it is only counted here.)"""
    fast, launched = tn.backends.get("simulator"), set()
    fast.launcher.prepare()
    real = fast.launch
    monkeypatch.setattr(fast, "launch", lambda name, *a, **k: (launched.add(name), real(name, *a, **k)))
    for name in cuda_calls.CALLS:
        cuda_calls.each(name, 10, lambda call, name=name: cuda_parity.run(fast, name, call))
    assert launched | LADDER == {kernel for entries in TABLE.values() for kernel in entries}


@pytest.mark.parametrize(
    ("file", "function", "rule", "name"),
    [("reduce.cu", "column_sum", "no barrier", "sum"), ("conv.cu", "col2im", "SH for SW", "col2im")],
)
def test_a_broken_kernel_is_noticed(checking, file, function, rule, name, monkeypatch):
    """A sample of `python -m tests.mutate_kernels`; and the unbroken file passes."""
    from tests import mutate_kernels as mutate

    monkeypatch.setattr(mutate, "EXAMPLES", 8)
    monkeypatch.setattr(cuda_calls, "FLOATS", cuda_calls.FLOATS[1:])
    mutant = next(m for m in mutate.mutants(file, False) if m.where.endswith(f" {function}") and m.rule == rule)
    launches = {(function, None): [name]}
    assert mutate.noticed(checking, mutant, launches) == 1
    assert mutate.noticed(checking, replace(mutant, text=sources.read(file)), launches) == 0
