"""Sums of many values, wherever there are any: their error does not grow with the number of values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tests import checks
from tests.references import reference
from tinynet import ops, optim
from tinynet.backends.cpu import summation
from tinynet.backends.cpu.conv import set_conv_algorithm

EPS = float(np.finfo(np.float32).eps)
CLOSE = {"rtol": 20 * EPS}  # 64 additions that all round the same way make 16
MANY = 1 << 25  # float32 ones stop counting at half of it


def uneven(*shape: int, around: float = 0.3, spread: float = 1e-5) -> np.ndarray:
    """float32 values of which additions to a running sum round the same way, for as long as it keeps its exponent."""
    return np.random.default_rng(0).uniform(around, around * (1 + spread), shape).astype(np.float32)


LAYOUTS = {
    "C": lambda x: x,
    "F": np.asfortranarray,
    "turned": lambda x: x.transpose(2, 0, 1),
    "every second": lambda x: np.repeat(x, 2, 2)[:, :, ::2],
    "reversed": lambda x: x[::-1, :, ::-1],
    "inner part": lambda x: x[1:, :, 1:],
    "repeated": lambda x: np.broadcast_to(x[:, :1], x.shape),
}
AXES = [axes for k in range(4) for axes in itertools.combinations(range(3), k)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp", "softmax", "log_softmax"])
def test_every_reduction_over_any_axes_of_any_layout(name, layout):
    for shape in ((9000, 2, 3), (2, 9000, 3), (3, 2, 9000), (130, 3, 70)):
        x = LAYOUTS[layout](uneven(*shape, spread=1.0 if name == "var" else 1e-5))
        for axes in AXES:
            got = getattr(ops, name)(tn.Tensor(x, tn.backends.get("numpy")), axes).numpy()
            want = reference(name)(x.astype(np.float64), axes)
            assert got.dtype == np.float32 and got.shape == want.shape
            assert_allclose(got, want, atol=20 * EPS * np.abs(x).max(), **CLOSE)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5000,), (5000, 1), (4999, 3), (1, 5000, 2), (129, 2, 130), (300, 5000)])
def test_against_the_exactly_rounded_sum(shape, dtype):
    rng = np.random.default_rng(1)
    x = (rng.random(shape) * 10.0 ** rng.integers(-3, 1, shape)).astype(dtype)
    for axis in range(len(shape)):
        columns = np.moveaxis(x, axis, 0).reshape(shape[axis], -1)[:, :7]
        want = [math.fsum(column) for column in columns.T.astype(float)]
        got = np.ravel(summation.add_up(x, (axis,)))[:7]
        assert got.dtype == dtype
        assert_allclose(got, want, rtol=20 * max(float(np.finfo(dtype).eps), 1e-16))


@pytest.mark.parametrize("channels", [1, 2, 32, 5000])
def test_the_error_does_not_grow(channels):
    for n in (64, 128, 129, 1000, 4095, 30_000, 400_000):
        if n * channels > 1 << 24:
            continue
        for value in (0.1, 0.7, 1 / 3):
            x = np.full((n, channels), value, np.float32)
            assert_allclose(summation.add_up(x, (0,)), n * float(np.float32(value)), **CLOSE)
            assert_allclose(summation.add_up(x.T[:, ::2], (1,)), -(-n // 2) * float(np.float32(value)), **CLOSE)


def test_special_values_and_out():
    x = np.ones((1000, 3), np.float32)
    x[7, 0], x[9, 1], x[500, 1] = np.nan, np.inf, np.inf
    out = np.empty(3, np.float32)
    assert summation.add_up(x, (0,), out=out) is out
    assert np.isnan(out[0]) and out[1] == np.inf and out[2] == 1000
    assert summation.add_up(x, (0,), True).shape == (1, 3)
    assert summation.add_up(np.broadcast_to(np.float32(0.5), (1000, 3)), (0, 1)) == 1500


def test_two_to_the_25_values_of_a_channel():
    """The mean of ones, and the variance of values far from 0, of which a million would be enough for a wrong digit."""
    x = np.random.default_rng(0).standard_normal((MANY, 2), np.float32)
    want = x.var(0, dtype=np.float64)
    x += 1000
    var = tn.Tensor(x, tn.backends.get("numpy")).var(0).numpy()
    assert_allclose(var, want, rtol=1e-4)
    x[:] = 1
    x = tn.Tensor(x, tn.backends.get("numpy"))
    b = tn.tensor(np.ones(2, np.float32), requires_grad=True)
    assert x.mean(0).numpy().tolist() == [1, 1]
    (x * b).sum().backward()
    assert b.grad.numpy().tolist() == [MANY, MANY]


def test_the_variance_of_images_far_from_black():
    x = np.random.default_rng(0).normal(1000, 1, (20_000, 16, 16, 3)).astype(np.float32)
    assert_allclose(tn.tensor(x).var((0, 1, 2)).numpy(), x.var((0, 1, 2), dtype=np.float64), rtol=1e-4)


@pytest.mark.parametrize("shape", [(40_000, 3), (3, 40_000), (200, 200, 3)])
def test_gradients_of_broadcasting(shape):
    x = uneven(*shape)
    for size in itertools.product(*[(1, n) for n in shape]):
        b = tn.tensor(np.ones(size, np.float32), requires_grad=True)
        (tn.tensor(x) * b).backward(np.ones(shape, np.float32))
        reduced = tuple(i for i, n in enumerate(size) if n != shape[i])
        assert_allclose(b.grad.numpy(), x.sum(reduced, keepdims=True, dtype=np.float64), **CLOSE)


# ---- gradients of layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["im2col", "winograd", "lines", "taps", "depthwise"])
@pytest.mark.parametrize("fused", [None, False, True])
def test_gradients_of_convolutions_of_many_pixels(algorithm, fused):
    """512 images of 128 × 128: 8.4 million values a channel. `fused` is whether conv_relu_pool pools, None conv2d."""
    n, side, f = 512, 128, 2
    groups = 2 if algorithm == "depthwise" else 1
    x = tn.tensor(uneven(n, side, side, groups))
    w = tn.tensor(np.full((3, 3, 1, f), 1e-3, np.float32), requires_grad=True)
    b = tn.tensor(np.ones(f, np.float32), requires_grad=True)
    with set_conv_algorithm("auto" if algorithm == "depthwise" else algorithm):
        if fused is None:
            y = ops.conv2d(x, w, b, padding=1, groups=groups)
        else:
            y = ops.conv_relu_pool(x, w, b, padding=1, groups=groups, pool=fused)
        g = uneven(*y.shape, around=0.7)
        y.backward(g)
    assert_allclose(b.grad.numpy(), g.sum((0, 1, 2), dtype=np.float64), rtol=100 * EPS)
    if not fused:  # under the middle of the kernel each pixel has its own gradient
        for k in range(f):
            want = np.einsum("i,i", x.numpy()[..., k % groups].ravel(), g[..., k].ravel(), dtype=np.float64)
            assert_allclose(w.grad.numpy()[1, 1, 0, k], want, rtol=1e-4)


def test_gradients_of_dense_layers_of_many_rows():
    x = tn.tensor(uneven(1 << 22, 2))
    w, b = (tn.tensor(np.ones(s, np.float32), requires_grad=True) for s in ((2, 3), (3,)))
    g = uneven(1 << 22, 3, around=0.7)
    ops.dense(x, w, b).backward(g)
    assert_allclose(b.grad.numpy(), g.sum(0, dtype=np.float64), **CLOSE)
    assert_allclose(w.grad.numpy(), x.numpy().T.astype(float) @ g.astype(float), rtol=100 * EPS)


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_products_of_a_long_inner_axis(rows):
    x, y = uneven(rows, 1 << 18), uneven(1 << 18, 2)
    want = x.astype(float) @ y.astype(float)
    be = tn.backends.get("numpy")
    assert_allclose(be.matmul(x, y), want, rtol=200 * EPS)
    assert_allclose(be.matmul(x[None], y), want[None], rtol=200 * EPS)
    out = np.empty((2, rows), np.float32).T
    assert be.matmul(x, y, out=out) is out
    assert_allclose(out, want, rtol=200 * EPS)


@pytest.mark.parametrize("stride", [1, 64])
def test_pools_of_large_windows(stride):
    x = tn.tensor(uneven(1, 128, 128, 2), requires_grad=True)
    y = ops.avg_pool2d(x, 64, stride=stride)
    windows = np.lib.stride_tricks.sliding_window_view(x.numpy().astype(float), (64, 64), (1, 2))[:, ::stride, ::stride]
    assert_allclose(y.numpy(), windows.mean((-2, -1)), **CLOSE)
    y.backward(np.ones(y.shape, np.float32))
    assert_allclose(x.grad.numpy()[0, 64, 64], min(stride, 64) ** -2, **CLOSE)
    top = tn.tensor(np.zeros((1, 128, 128, 1), np.float32), requires_grad=True)
    with tn.no_grad():
        top[0, 64, 64, 0] = 1
    y = ops.max_pool2d(top, 64, stride=stride)
    y.backward(g := uneven(*y.shape))
    held = g.astype(float).sum() if stride == 64 else g[0, 1:65, 1:65].astype(float).sum()
    assert_allclose(top.grad.numpy()[0, 64, 64, 0], g[0, -1, -1, 0] if stride == 64 else held, **CLOSE)
    image = tn.tensor(uneven(2, 500, 300, 3))
    assert_allclose(ops.global_avg_pool2d(image).numpy(), image.numpy().mean((1, 2), dtype=float), **CLOSE)


@pytest.mark.parametrize(
    "index",
    [
        np.zeros(1 << 18, int),
        -np.ones(1 << 18, int),
        (np.zeros(1 << 18, int), np.ones(1 << 18, int)),
        (slice(None), np.ones(1 << 18, int)),
        (np.arange(1 << 18) % 2, slice(1, 3)),
        np.zeros((512, 512), int),
    ],
    ids=["one row", "the last row", "one element", "one column", "parts of rows", "two axes"],
)
def test_repeated_indices(index):
    x = tn.tensor(np.zeros((4, 5), np.float32), requires_grad=True)
    y = x[index]
    y.backward(g := uneven(*y.shape))
    want = np.zeros((4, 5))
    np.add.at(want, index, g.astype(float))
    assert_allclose(x.grad.numpy(), want, **CLOSE)
    total = np.ones((4, 5), np.float32)
    tn.backends.get("numpy").add_at_inplace(total, index, g)
    assert_allclose(total, 1 + want, **CLOSE)


def test_rows_that_are_taken_often():
    checks.repeated_rows()


# ---- losses, norms, parts ------------------------------------------------------------------------------------------


def test_losses_of_many_samples():
    n = 1 << 20
    logits = np.asfortranarray(uneven(n, 4))
    be = tn.backends.get("numpy")
    got = ops.softmax_cross_entropy(tn.Tensor(logits, be), np.zeros(n, int))
    want = (np.log(np.exp(logits.astype(float)).sum(1)) - logits[:, 0]).mean()
    assert_allclose(got.item(), want, **CLOSE)
    turned = tn.Tensor(uneven(4, n).T[:, ::2], be)
    squares = turned.numpy().astype(float) ** 2
    assert_allclose(ops.mse(turned, np.zeros((n, 2), np.float32)).item(), squares.mean(), **CLOSE)
    wide = tn.Tensor(uneven(300_000, 3), be)
    assert_allclose(
        ops.softmax_cross_entropy(tn.Tensor(wide.data.T, be), np.zeros(3, int)).item(),
        reference("logsumexp")(wide.data.astype(float), 0).mean() - wide.data[0].mean(),
        **CLOSE,
    )


def test_the_norm_of_gradients():
    params = [tn.tensor(np.zeros(s, np.float32), requires_grad=True) for s in ((1 << 20, 3), *[(3, 4)] * 1000)]
    for p in params:
        p.grad = tn.tensor(uneven(*p.shape))
    want = math.sqrt(math.fsum((p.grad.numpy().astype(float) ** 2).sum() for p in params))
    assert_allclose(optim.clip_grad_norm(params, 1.0).item(), want, **CLOSE)
    assert_allclose(math.sqrt(math.fsum((p.grad.numpy().astype(float) ** 2).sum() for p in params)), 1, **CLOSE)


@pytest.mark.parametrize("n", [0, 1, 1023, 1024, (1 << 22) + 5])
def test_sum_of_squares(n):
    x = uneven(n)
    assert_allclose(summation.sum_of_squares(x), (x.astype(float) ** 2).sum(), **CLOSE)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 5000])
def test_sums_of_parts(n):
    """Each part goes through log₂ n additions: the error of n parts is not that of a chain."""
    sums, other = summation.Sums(), summation.Sums()
    for _ in range(n):
        sums.add(np.full(2, 0.1, np.float32))
        assert len(sums.parts) == sums.count.bit_count()
    assert_allclose(sums.total(np.zeros(2)), n * float(np.float32(0.1)), rtol=max(n.bit_length(), 1) * EPS)
    other.join(summation.Sums())
    assert other.total(np.zeros(2)).tolist() == [0, 0]


def test_the_mean_of_float16_does_not_overflow():
    x = tn.tensor(np.full((70_000, 2), 3, np.float16), requires_grad=True)
    y = x.mean(0)
    assert y.dtype == np.float16 and y.numpy().tolist() == [3, 3] and x.var(0).numpy().tolist() == [0, 0]
    y.backward(np.ones(2, np.float16))
    assert x.grad.dtype == np.float16


# ---- the CUDA kernels ------------------------------------------------------------------------------------------
# Large values come first, so that each thread holds one; then come small ones, which float would round away one by one.

BIG = 2.0**24


@pytest.fixture(scope="module", params=["simulator", pytest.param("cupy", marks=pytest.mark.gpu)])
def be(request):
    if reason := tn.backends.why_not(request.param):
        pytest.skip(reason)
    return tn.backends.get(request.param)


@pytest.mark.parametrize(("first", "n"), [(32, 250), (1, 3000), (2048, 40_000)])
def test_kernels_sum_rows_and_columns(be, first, n):
    x = np.ones((n, 2), np.float32)
    x[:first] = BIG
    want = np.full(2, first * BIG + n - first)
    rows = np.ascontiguousarray(x.T)
    for array, axes in ((x, (0,)), (x.T, (1,)), (rows, (1,)), (x[None], (0, 1)), (x[:, :1], (0, 1))):
        result = be.numpy(be.sum(be.asarray(array), axes))
        assert_allclose(result, want[: result.size].reshape(result.shape), rtol=EPS)
    assert_allclose(be.numpy(be.sum_to(be.asarray(x), (2,))), want, rtol=EPS)


def test_kernels_of_exponentials(be):
    n = 20_000
    x = np.zeros((1, n), np.float32)
    x[:, :32] = np.log(BIG)
    x[:, 500:510] = np.log(BIG)  # the label's among them
    exact = x.astype(float)
    for name in ("softmax", "log_softmax", "logsumexp"):
        assert_allclose(be.numpy(getattr(be, name)(be.asarray(x), (1,))), reference(name)(exact, (1,)), rtol=2e-6)
    losses, saved = be.softmax_cross_entropy(be.asarray(x), be.asarray(np.array([n - 1])))
    assert_allclose(be.numpy(losses), reference("logsumexp")(exact, (1,)), rtol=EPS)
    slope = be.numpy(be.softmax_cross_entropy_grad(be.asarray(np.ones(1, np.float32)), saved))
    assert_allclose(slope[0, :-1], reference("softmax")(exact, (1,))[0, :-1], rtol=2e-6)
    y = np.exp(exact).astype(np.float32)
    y = np.minimum(y, BIG)
    dx = be.numpy(be.softmax_grad(be.asarray(np.ones((1, n), np.float32)), be.asarray(y), (1,)))
    assert_allclose(dx, y * (1 - y.sum(dtype=float)), rtol=2 * EPS)
    dx = be.numpy(be.log_softmax_grad(be.asarray(y), be.asarray(np.zeros((1, n), np.float32)), (1,)))
    assert_allclose(dx, y - y.sum(dtype=float), rtol=2 * EPS)


def test_kernels_that_collect_many_gradients(be):
    g = np.ones(20_000, np.float32)
    g[0] = BIG
    want = g.sum(dtype=float)
    places = np.zeros(len(g), int)
    assert_allclose(be.numpy(be.getitem_grad(be.asarray(g), places, (3,))), [want, 0, 0], rtol=EPS)
    edge = be.numpy(be.pad_edge_grad(be.asarray(g), ((9_000, 9_000),)))[0]
    assert_allclose(edge, g[:9001].sum(dtype=float), rtol=EPS)
    image = g[: 128 * 128].reshape(1, 128, 128, 1)
    pads, two = ((0, 0), (0, 0)), (128, 128)
    mean = be.avg_pool2d(be.asarray(image), two, two, pads, True)
    assert_allclose(be.numpy(mean), image.mean(dtype=float, keepdims=True), rtol=EPS)


def test_the_second_pass_of_a_product(be):
    """Slices of the depth meet there; each holds one value."""
    x = np.zeros((1, 512 * 256), np.float32)
    x[:, ::256] = 1
    x[:, 0] = BIG
    y = np.ones((x.size, 1), np.float32)
    assert_allclose(be.numpy(be.matmul(be.asarray(x), be.asarray(y))), BIG + 511, rtol=EPS)
