"""Pooling: any window, ties, padding that never wins."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import references
from tests import strategies as draw
from tinynet import ops
from tinynet.backends.cpu import pool

STRICT = {"rtol": 1e-6, "atol": 1e-8}


@st.composite
def pool_windows(draw_from):
    window = draw_from(draw.windows())
    del window["dilation"]
    kernel, padding = window["kernel"], window["padding"]
    if not isinstance(padding, str):  # at least one pixel in every window
        window["padding"] = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    window["size"] = tuple(n + 1 for n in window["size"])
    window["kernel_size"] = window.pop("kernel")
    return window


@settings(max_examples=30)
@given(st.data(), pool_windows(), st.integers(0, 2), st.integers(1, 2), draw.seeds)
def test_max_pool(data, window, n, c, seed):
    """Overlapping and skipping windows, padding: the loop's values, gradients that differences confirm."""
    x = draw.separated((n, *window.pop("size"), c), seed) - 100  # all negative: a padded zero would win
    x = data.draw(draw.laid_out(x))
    y = ops.max_pool2d(tn.tensor(x), **window)
    if n:
        assert_array_equal(y.numpy(), references.max_pool2d(x, **window))
    tn.gradcheck(lambda x: ops.max_pool2d(x, **window), x, **STRICT)


@pytest.mark.parametrize("part_bytes", [1, 500, 2000])
@pytest.mark.parametrize("shape", [(3, 7, 6, 2), (2, 4, 9, 5)])
def test_max_pool_in_parts(monkeypatch, shape, part_bytes):
    """Large images are worked on by lines, small ones some at a time; which changes nothing."""
    monkeypatch.setattr(pool, "PART_BYTES", part_bytes)
    x = np.random.default_rng(0).integers(-3, 3, shape).astype(float)  # ties
    y, saved = pool.max_pool2d(x, (2, 2), (2, 2), pool.NO_PADS)
    general, winner = pool._max_pool_any(x, (2, 2), (2, 2), pool.NO_PADS)
    assert_array_equal(y, general)
    g = np.random.default_rng(1).standard_normal(y.shape)
    expected = pool.max_pool2d_grad(g, (winner, shape, (2, 2), (2, 2), pool.NO_PADS))
    assert_array_equal(pool.max_pool2d_grad(g, saved), expected)


@settings(max_examples=30)
@given(st.data(), pool_windows(), st.booleans(), st.integers(0, 2), st.integers(1, 2), draw.seeds)
def test_avg_pool(data, window, include, n, c, seed):
    x = data.draw(draw.laid_out(draw.values((n, *window.pop("size"), c), seed)))
    y = ops.avg_pool2d(tn.tensor(x), count_include_pad=include, **window)
    if n:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nanmean of a window of padding alone
            expected = np.nan_to_num(references.avg_pool2d(x, count_include_pad=include, **window))
        assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-13)
    tn.gradcheck(lambda x: ops.avg_pool2d(x, count_include_pad=include, **window), x, **STRICT)


@settings(max_examples=30)
@given(pool_windows(), draw.seeds)
def test_ties_conserve_mass(window, seed):
    """Of equal values in a window the first gets the gradient: what comes in goes out."""
    x = tn.tensor(np.random.default_rng(seed).integers(0, 2, (2, *window.pop("size"), 2)) - 1.0, requires_grad=True)
    y = ops.max_pool2d(x, **window)
    g = draw.values(y.shape, seed, 1, 2)
    y.backward(g)
    assert_allclose(x.grad.numpy().sum(), g.sum())


@pytest.mark.parametrize("kernel", [2, 3])
def test_the_first_maximum_wins(kernel):
    x = tn.tensor(np.zeros((1, kernel, kernel, 1)), requires_grad=True)
    ops.max_pool2d(x, kernel).backward(np.ones((1, 1, 1, 1)))
    assert np.flatnonzero(x.grad.numpy()).tolist() == [0]


def test_global_average():
    x = draw.values((2, 3, 4, 5), 0)
    assert_allclose(ops.global_avg_pool2d(tn.tensor(x)).numpy(), x.mean((1, 2)))


def ones(*shape):
    return tn.tensor(np.ones(shape))


MISTAKES = [
    (
        lambda: ops.max_pool2d(ones(1, 2, 2, 1), 3),
        r"max_pool2d: the kernel \(3, 3\) covers 3×3, more than the image of 2×2",
    ),
    (lambda: ops.avg_pool2d(ones(2, 2, 1), 2), r"avg_pool2d: input \(2, 2, 1\) must be \(N, H, W, C\)"),
    (lambda: ops.max_pool2d(ones(1, 4, 4, 1), 2, padding=2), r"padding=2 must be smaller than the kernel \(2, 2\)"),
    (lambda: ops.max_pool2d(ones(1, 4, 4, 1), 0), "kernel_size=0 must be an int >= 1"),
    (lambda: ops.global_avg_pool2d(ones(4, 4)), r"global_avg_pool2d: input \(4, 4\)"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_messages(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int16])
def test_where_the_maxima_are(backend, dtype):
    """h·W + w of each image, of equal values the first; integers without a gradient, on every backend."""
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    x = np.random.default_rng(0).integers(-3, 3, (2, 5, 6, 3)).astype(dtype)
    t = tn.tensor(x, backend=backend, requires_grad=dtype in (np.float32, np.float64))
    for found in (
        ops.max_pool2d(t, (2, 3), stride=(2, 1), padding=1, return_indices=True),
        ops.adaptive_max_pool2d(t, (2, 4), return_indices=True),
        ops.adaptive_max_pool2d(t, (5, 3), return_indices=True),
    ):
        y, places = found
        assert places.dtype == np.int64 and not places.requires_grad and y.requires_grad == t.requires_grad
        flat = places.numpy().reshape(2, -1, 3)
        assert_array_equal(np.take_along_axis(x.reshape(2, 30, 3), flat, 1).reshape(y.shape), y.numpy())
    y, places = ops.max_pool2d(tn.tensor(np.zeros((1, 2, 2, 1)), backend=backend), 2, return_indices=True)
    assert places.item() == 0
    y, places = ops.max_pool2d(
        tn.tensor(np.full((1, 3, 3, 1), -np.inf), backend=backend), 2, padding=1, return_indices=True
    )
    assert places.numpy().ravel().tolist() == [0, 1, 3, 4]
    if t.requires_grad:
        tn.grad(ops.max_pool2d(t, 2, return_indices=True)[0].sum(), [t])


def test_unpooling_refuses_what_does_not_fit():
    y, places = ops.max_pool2d(np.zeros((1, 4, 4, 2)), 2, return_indices=True)
    with pytest.raises(ValueError, match=r"max_unpool2d: input \(1, 2, 2, 2\) must be"):
        ops.max_unpool2d(y, places[:, :1], 2)
    with pytest.raises(IndexError):
        ops.max_unpool2d(y, places + 100, 2)
