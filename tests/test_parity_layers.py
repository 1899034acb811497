"""Layers' operations beside PyTorch's, forward and backward, over drawn settings: float64 to 1e-9, float32 to 2e-5
(norms to 5e-5)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import strategies as draw
from tests.test_parity_torch import F, first, last, torch
from tinynet import nn, ops

pytestmark = pytest.mark.parity
TOLERANCE = {np.float64: 1e-9, np.float32: 2e-5}
DTYPES = st.sampled_from([np.float64, np.float32])
EXAMPLES = settings(max_examples=25)


def same(ours, theirs, arrays, dtype, loose=1.0, integers=()):
    """Outputs, and the gradients of one random cotangent each, of two functions of the same arrays."""
    arrays = [np.asarray(a, dtype) for a in arrays]
    xs = [tn.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = ours(*xs), theirs(*ts)
    assert y.shape == tuple(t.shape) and y.dtype == dtype
    near(y.numpy(), t.detach().numpy(), loose * TOLERANCE[dtype])
    g = np.asarray(np.random.default_rng(3).standard_normal(y.shape), dtype)
    y.backward(g)
    t.backward(torch.tensor(g))
    for x, theirs_x in zip(xs, ts, strict=True):
        near(x.grad.numpy(), theirs_x.grad.numpy(), loose * TOLERANCE[dtype])


def near(a, b, tolerance):
    """Relative to the largest element, as results are sums that may cancel."""
    assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0)))


def pair(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


SHAPES = st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(2, 6), st.integers(1, 4))


@EXAMPLES
@given(SHAPES, st.booleans(), st.sampled_from([1e-5, 0.1]), DTYPES, draw.seeds)
def test_batch_norm(shape, scaled, eps, dtype, seed):
    arrays = [draw.values(shape, seed), *(draw.values(shape[-1:], seed + i) for i in range(1, 3) if scaled)]
    same(
        lambda x, *wb: ops.batch_norm(x, *(wb or (None, None)), eps=eps)[0],
        lambda x, *wb: last(F.batch_norm(first(x), None, None, *(wb or (None, None)), True, eps=eps)),
        arrays,
        dtype,
        2.5,
    )


@EXAMPLES
@given(SHAPES, st.integers(1, 3), DTYPES, draw.seeds)
def test_layer_and_rms_norm(shape, count, dtype, seed):
    shape = (*shape[:3], shape[3] + 1)  # of one value PyTorch leaves some rounding
    x, w, b = draw.values(shape, seed), *(draw.values(shape[-count:], seed + i) for i in (1, 2))
    axes = tuple(range(-count, 0))
    same(
        lambda *a: ops.layer_norm(*a, axes=axes),
        lambda *a: F.layer_norm(a[0], shape[-count:], *a[1:]),
        [x, w, b],
        dtype,
        2.5,
    )
    w = draw.values(shape[-1:], seed)
    same(ops.rms_norm, lambda x, w: F.rms_norm(x, shape[-1:], w, 1e-6), [x, w], dtype, 2.5)


@EXAMPLES
@given(SHAPES, st.integers(1, 3), DTYPES, draw.seeds)
def test_group_norm(shape, groups, dtype, seed):
    shape = (*shape[:3], shape[3] * groups)
    arrays = [draw.values(shape, seed), *(draw.values(shape[-1:], seed + i) for i in (1, 2))]
    theirs = lambda x, w, b: last(F.group_norm(first(x), groups, w, b))  # noqa: E731
    same(lambda x, w, b: ops.group_norm(x, groups, w, b), theirs, arrays, dtype, 2.5)


@EXAMPLES
@given(
    st.integers(5, 12),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.integers(1, 2),
    DTYPES,
    draw.seeds,
)
def test_conv1d(length, kernel, stride, padding, dilation, groups, dtype, seed):
    x, w, b = (
        draw.values((2, length, 2 * groups), seed),
        draw.values((kernel, 2, 3 * groups), seed + 1),
        draw.values((3 * groups,), seed + 2),
    )
    same(
        lambda *a: ops.conv1d(*a, stride=stride, padding=padding, dilation=dilation, groups=groups),
        lambda x, w, b: F.conv1d(x.permute(0, 2, 1), w.permute(2, 1, 0), b, stride, padding, dilation, groups).permute(
            0, 2, 1
        ),
        [x, w, b],
        dtype,
    )


@EXAMPLES
@given(st.data(), pair(1, 4), pair(1, 3), pair(1, 3), pair(0, 2), pair(1, 4), st.integers(1, 2), DTYPES, draw.seeds)
def test_conv_transpose2d(data, size, kernel, stride, padding, dilation, groups, dtype, seed):
    output_padding = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    extent = [
        (n - 1) * s - 2 * p + (k - 1) * d + 1
        for n, s, p, k, d in zip(size, stride, padding, kernel, dilation, strict=True)
    ]
    assume(min(extent) > 0)
    x, w, b = (
        draw.values((2, *size, 2 * groups), seed),
        draw.values((*kernel, 3, 2 * groups), seed + 1),
        draw.values((3 * groups,), seed + 2),
    )
    options = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
        "groups": groups,
    }
    same(
        lambda *a: ops.conv_transpose2d(*a, **options),
        lambda x, w, b: last(F.conv_transpose2d(first(x), w.permute(3, 2, 0, 1), b, **options)),
        [x, w, b],
        dtype,
    )


@EXAMPLES
@given(pair(5, 9), pair(1, 3), pair(1, 3), pair(1, 2), st.booleans(), st.data(), DTYPES, draw.seeds)
def test_max_pool2d(size, kernel, stride, dilation, ceil_mode, data, dtype, seed):
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    same(
        lambda x: ops.max_pool2d(x, kernel, **options),
        lambda x: last(F.max_pool2d(first(x), kernel, **options)),
        [draw.separated((2, *size, 2), seed)],
        dtype,
    )


@EXAMPLES
@given(pair(4, 9), pair(1, 3), pair(1, 3), pair(1, 2), st.booleans(), st.data(), DTYPES, draw.seeds)
def test_where_maxima_lie(size, kernel, stride, dilation, ceil_mode, data, dtype, seed):
    """Flat places in the image, with ties, -inf and a NaN among the values; max_unpool2d puts the values back."""
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    x = np.random.default_rng(seed).integers(-3, 4, (2, *size, 2)).astype(dtype)
    x[x < -1] = -np.inf
    if data.draw(st.booleans()):
        x[1, 2, 3, 0] = np.nan  # of several PyTorch takes the last
    y, places = ops.max_pool2d(tn.tensor(x), kernel, **options, return_indices=True)
    t, theirs = F.max_pool2d(first(torch.tensor(x)), kernel, **options, return_indices=True)
    assert_array_equal(y.numpy(), last(t).numpy())
    assert_array_equal(places.numpy(), last(theirs).numpy())
    assert places.dtype == np.int64 and y.dtype == dtype
    for output in kernel, (2, 3):
        y, places = ops.adaptive_max_pool2d(tn.tensor(x), output, return_indices=True)
        t, theirs = F.adaptive_max_pool2d(first(torch.tensor(x)), output, return_indices=True)
        assert_array_equal(y.numpy(), last(t).numpy())
        assert_array_equal(places.numpy(), last(theirs).numpy())
    lines = dict(zip(options, (stride[0], padding[0], dilation[0], ceil_mode), strict=True))
    y, places = ops.max_pool1d(tn.tensor(x[:, 0]), kernel[0], **lines, return_indices=True) if size[1] > 6 else (0, 0)
    if size[1] > 6:
        t, theirs = F.max_pool1d(torch.tensor(x[:, 0]).permute(0, 2, 1), kernel[0], **lines, return_indices=True)
        assert_array_equal(places.numpy(), theirs.permute(0, 2, 1).numpy())


@EXAMPLES
@given(pair(4, 9), pair(1, 3), st.booleans(), DTYPES, draw.seeds)
def test_max_unpool2d(size, kernel, own_size, dtype, seed):
    x = draw.separated((2, *size, 2), seed)
    _, places = ops.max_pool2d(tn.tensor(x), kernel, return_indices=True)
    output_size = size if own_size else None
    assume(own_size or places.numpy().max() < np.prod([n // k * k for n, k in zip(size, kernel, strict=True)]))
    same(
        lambda x: ops.max_unpool2d(x, places, kernel, output_size=output_size),
        lambda x: last(F.max_unpool2d(first(x), first(torch.tensor(places.numpy())), kernel, output_size=output_size)),
        [draw.values(places.shape, seed)],
        dtype,
    )


@EXAMPLES
@given(pair(4, 9), pair(1, 3), pair(1, 3), st.booleans(), st.booleans(), st.data(), DTYPES, draw.seeds)
def test_avg_pool2d(size, kernel, stride, ceil_mode, include, data, dtype, seed):
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": include}
    same(
        lambda x: ops.avg_pool2d(x, kernel, **options),
        lambda x: last(F.avg_pool2d(first(x), kernel, **options)),
        [draw.values((2, *size, 2), seed)],
        dtype,
    )


@EXAMPLES
@given(pair(1, 9), pair(1, 6), DTYPES, draw.seeds)
def test_adaptive_pools(size, output, dtype, seed):
    x = draw.separated((2, *size, 2), seed)
    same(
        lambda x: ops.adaptive_avg_pool2d(x, output),
        lambda x: last(F.adaptive_avg_pool2d(first(x), output)),
        [x],
        dtype,
    )
    same(
        lambda x: ops.adaptive_max_pool2d(x, output),
        lambda x: last(F.adaptive_max_pool2d(first(x), output)),
        [x],
        dtype,
    )


@EXAMPLES
@given(pair(1, 6), pair(1, 9), st.sampled_from(["nearest", "bilinear", "corners"]), DTYPES, draw.seeds)
def test_resize2d(size, output, mode, dtype, seed):
    corners = {"align_corners": mode == "corners"} if mode != "nearest" else {}
    mode = "bilinear" if mode == "corners" else mode
    same(
        lambda x: ops.resize2d(x, output, mode=mode, **corners),
        lambda x: last(F.interpolate(first(x), output, mode=mode, **corners)),
        [draw.values((2, *size, 2), seed)],
        dtype,
    )


@EXAMPLES
@given(
    pair(1, 6),
    st.sampled_from([1, 2, 1.5, (3.0, 0.7), 2.3]),
    st.sampled_from(["nearest", "bilinear"]),
    DTYPES,
    draw.seeds,
)
def test_upsample2d(size, scale, mode, dtype, seed):
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    assume(min(int(n * s) for n, s in zip(size, scales, strict=True)) > 0)
    same(
        lambda x: ops.upsample2d(x, scale, mode=mode),
        lambda x: last(F.interpolate(first(x), scale_factor=tuple(map(float, scales)), mode=mode)),
        [draw.values((2, *size, 2), seed)],
        dtype,
    )


@EXAMPLES
@given(st.sampled_from(["reflect", "wrap"]), st.data(), DTYPES, draw.seeds)
def test_borders(mode, data, dtype, seed):
    size = data.draw(pair(2, 5))
    most = [n - (mode == "reflect") for n in size]
    widths = [tuple(data.draw(st.integers(0, m)) for _ in range(2)) for m in most]
    same(
        lambda x: ops.pad(x, ((0, 0), *widths, (0, 0)), mode=mode),
        lambda x: last(F.pad(first(x), (*widths[1], *widths[0]), mode={"wrap": "circular"}.get(mode, mode))),
        [draw.values((2, *size, 2), seed)],
        dtype,
    )


@EXAMPLES
@given(st.lists(st.integers(1, 4), max_size=3).map(tuple), st.integers(1, 6), st.integers(1, 5), DTYPES, draw.seeds)
def test_embedding(shape, count, features, dtype, seed):
    ids = np.random.default_rng(seed).integers(0, count, shape)
    same(
        lambda w: ops.embedding(ids, w),
        lambda w: F.embedding(torch.tensor(ids), w),
        [draw.values((count, features), seed)],
        dtype,
    )


@EXAMPLES
@given(st.sampled_from([0.1, 0.5, None]), st.booleans(), st.integers(2, 4), draw.seeds)
def test_batch_norms_running_statistics(momentum, affine, channels, seed):
    """Through training and evaluation, as PyTorch's layer keeps them."""
    ours = nn.BatchNorm(momentum=momentum, affine=affine).build((3, 2, channels))
    theirs = torch.nn.BatchNorm2d(channels, momentum=momentum, affine=affine)
    for i in range(3):
        x = draw.values((4, 3, 2, channels), seed + i).astype(np.float32)
        near(ours(x).numpy(), last(theirs(first(torch.tensor(x)))).detach().numpy(), 5e-5)
    near(ours.running_mean.numpy(), theirs.running_mean.numpy(), 2e-5)
    near(ours.running_var.numpy(), theirs.running_var.numpy(), 2e-5)
    near(ours.eval()(x).numpy(), last(theirs.eval()(first(torch.tensor(x)))).detach().numpy(), 5e-5)


def test_an_embedding_of_many_of_one_id_rounds_little():
    """Ten thousand gradients of one row, in float32."""
    w = tn.tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    g = np.random.default_rng(0).uniform(0, 1, (10_000, 3)).astype(np.float32)
    ops.embedding(np.zeros(10_000, int), w).backward(g)
    assert_allclose(w.grad.numpy()[0], g.astype(float).sum(0), rtol=1e-6)


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (lambda: ops.embedding([0, 3], np.ones((3, 2))), IndexError, "ids run from 0 to 3; the table has rows 0 to 2"),
        (lambda: ops.embedding([0.5], np.ones((3, 2))), TypeError, "must be integers"),
        (
            lambda: ops.conv_transpose2d(np.ones((1, 2, 2, 3)), np.ones((3, 3, 2, 4))),
            ValueError,
            "an input of 3 channels",
        ),
        (
            lambda: ops.conv_transpose2d(np.ones((1, 2, 2, 3)), np.ones((3, 3, 2, 3)), output_padding=1),
            ValueError,
            "output_padding=1 must be less than the stride",
        ),
        (lambda: ops.conv1d(np.ones((2, 3)), np.ones((3, 2, 4))), ValueError, r"must be \(N, L, C\)"),
        (lambda: ops.pad(np.ones((2, 3)), 2, mode="reflect"), ValueError, "are more than axis 0"),
        (lambda: ops.resize2d(np.ones((1, 2, 2, 1)), 3, mode="cubic"), ValueError, 'must be "nearest" or "bilinear"'),
        (lambda: ops.upsample2d(np.ones((1, 2, 2, 1)), 0.1), ValueError, "leaves nothing"),
        (lambda: nn.Conv2d(2, 3, padding_mode="same"), ValueError, "must be one of zeros, edge, reflect, circular"),
    ],
)
def test_messages(mistake, error, message):
    with pytest.raises(error, match=message):
        mistake()
