"""conv2d as users call it: any window, the loop's values, clear errors. (The kernels: test_conv_kernels.py.)"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import checks, references
from tests import strategies as draw
from tinynet import ops

STRICT = {"rtol": 1e-6, "atol": 1e-8}


@settings(max_examples=25)
@given(st.data(), draw.windows(), *[st.integers(1, 2)] * 4, draw.seeds)
def test_any_window(data, window, n, groups, inputs, filters, seed):
    """Nothing square; stride, padding, dilation and groups together: the loop's values, checked gradients."""
    size, kernel = window.pop("size"), window.pop("kernel")
    x = data.draw(draw.laid_out(draw.values((n, *size, groups * inputs), seed)))
    w = data.draw(draw.laid_out(draw.values((*kernel, inputs, groups * filters), seed + 1)))
    b = draw.values((groups * filters,), seed + 2)
    y = ops.conv2d(tn.tensor(x), tn.tensor(w), tn.tensor(b), groups=groups, **window)
    expected = references.conv2d(x, w, b, groups=groups, **window)
    assert y.shape == expected.shape
    assert_allclose(y.numpy(), expected, rtol=1e-10, atol=1e-12)
    tn.gradcheck(lambda *xs: ops.conv2d(*xs, groups=groups, **window), [x, w, b], **STRICT)


@pytest.mark.parametrize("name", ["im2col", "taps", "winograd", "lines"])
def test_every_algorithm(name):
    """Values and gradients of all cases, each algorithm forced, in large tiles and in the smallest."""
    for case in checks.CONVOLUTIONS:
        with checks.poisoned():
            checks.algorithm(name, case)


@pytest.mark.parametrize("case", checks.CONVOLUTIONS, ids=str)
def test_the_reference(case):
    checks.reference(case)


@pytest.mark.parametrize("pool", [True, False])
def test_the_fused_step_is_the_three(pool):
    shapes = (2, 7, 6, 3), (3, 3, 3, 4), (4,)
    x, w, b = (tn.tensor(draw.values(shape, i), requires_grad=True) for i, shape in enumerate(shapes))
    fused = ops.conv_relu_pool(x, w, b, padding=1, pool=pool)
    g = draw.values(fused.shape, 9)
    ours = [t.numpy() for t in tn.grad(fused, [x, w, b], g)]
    y = ops.relu(ops.conv2d(x, w, b, padding=1))
    y = ops.max_pool2d(y, 2) if pool else y
    assert_allclose(fused.numpy(), y.numpy(), rtol=1e-12, atol=1e-13)
    for a, e in zip(ours, tn.grad(y, [x, w, b], g), strict=True):
        assert_allclose(a, e.numpy(), rtol=1e-10, atol=1e-11)


def test_same_is_keras_same():
    """ceil(size / stride) outputs; an odd surplus of padding goes below and to the right."""
    x = tn.tensor(np.arange(4.0).reshape(1, 4, 1, 1))
    w = tn.tensor(np.ones((2, 1, 1, 1)))
    assert ops.conv2d(x, w, padding="same").numpy().ravel().tolist() == [1, 3, 5, 3]
    assert ops.conv2d(x, w, padding="same", stride=3).shape == (1, 2, 1, 1)


def test_batches_of_none_and_one():
    w = tn.tensor(np.ones((3, 3, 2, 4)), requires_grad=True)
    for n in (0, 1):
        x = tn.tensor(np.ones((n, 5, 5, 2)), requires_grad=True)
        y = ops.conv2d(x, w)
        assert y.shape == (n, 3, 3, 4)
        y.backward(np.ones(y.shape))
        assert x.grad.shape == x.shape
    assert_array_equal(w.grad.numpy(), np.full(w.shape, 9))


def conv(x=(1, 5, 5, 3), w=(3, 3, 3, 4), b=None, **options):
    bias = None if b is None else tn.tensor(np.ones(b))
    return ops.conv2d(tn.tensor(np.ones(x)), tn.tensor(np.ones(w)), bias, **options)


MISTAKES = [
    (lambda: conv(w=(3, 3, 1, 32)), r"conv2d: input has 3 channels, the weight \(3, 3, 1, 32\) expects 1"),
    (lambda: conv(x=(1, 2, 5, 3)), r"the kernel \(3, 3\) covers 3×3, more than the image of 2×5 with padding 0"),
    (lambda: conv(dilation=3), r"kernel \(3, 3\) with dilation \(3, 3\) covers 7×7, more than the image of 5×5"),
    (lambda: conv(x=(5, 5, 3)), r"input \(5, 5, 3\) must be \(N, H, W, C\); one image needs x\[None\]"),
    (lambda: conv(w=(3, 3, 3)), r"weight \(3, 3, 3\) must be \(KH, KW, C // groups, F\)"),
    (lambda: conv(groups=2), "groups=2 must divide the input's 3 channels and the 4 filters"),
    (lambda: conv(b=(3,)), r"bias \(3,\) must be \(4,\), one value a filter"),
    (lambda: conv(stride=0), "stride=0 must be an int >= 1 or a"),
    (lambda: conv(stride=(1, 2, 3)), r"stride=\(1, 2, 3\) must be"),
    (lambda: conv(padding="full"), 'padding=\'full\' must be an int, a pair of ints, "same" or "valid"'),
    (lambda: conv(padding=-1), "padding=-1 must be an int >= 0"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_messages(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
