"""The CPU's convolution and pooling kernels against loops: every algorithm, any window, any strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tests import oracles
from tests.checks import poisoned
from tinynet.backends.cpu import columns, conv, images, lines, memory, pool, taps, winograd

NEED = (True, True, True)
NO_PADS = ((0, 0), (0, 0))
TOLERANCE = {"float64": 1e-11, "float32": 2e-5}

sizes = st.tuples(st.integers(5, 11), st.integers(5, 11))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)
layouts = st.sampled_from(["contiguous", "reversed", "transposed", "broadcast"])
seeds = st.integers(0, 2**16)


def array(rng: np.random.Generator, shape: tuple, dtype: str = "float64", layout: str = "contiguous") -> np.ndarray:
    """Normal values in some memory layout; a broadcast one repeats the first image."""
    x = rng.standard_normal(shape).astype(dtype)
    if layout == "reversed":
        return x[:, ::-1, ::-1][..., ::-1]
    if layout == "transposed":
        return np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    return np.broadcast_to(x[:1], shape) if layout == "broadcast" else x


def close(ours: np.ndarray, expected: np.ndarray, dtype: str = "float64") -> None:
    assert ours.shape == expected.shape and ours.dtype == dtype
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    assert_allclose(ours, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@poisoned()
def check(
    x: np.ndarray,
    w: np.ndarray,
    b: Any,
    at: tuple,
    fused: bool,
    pooled: bool,
    g_layout: str = "contiguous",
    seed: int = 0,
) -> None:
    """Values and gradients against the loops; all of them are written, and nobody writes to what they were given."""
    dtype, copies = str(x.dtype), [a.copy() for a in (x, w, b)]
    y, saved = conv.conv_relu_pool(x, w, b, *at, pooled) if fused else conv.conv2d(x, w, b, *at)
    g = array(np.random.default_rng(seed + 99), y.shape, dtype, g_layout)
    g_copy = g.copy()
    if fused:
        expected, gradients = oracles.conv_relu_pool(x, w, b, at, pooled, g)
    else:
        expected, gradients = oracles.conv2d(x, w, b, *at), oracles.conv2d_grad(g, x, w, *at)
    close(y, expected, dtype)
    grad = conv.conv_relu_pool_grad if fused else conv.conv2d_grad
    for ours, theirs in zip(grad(g, saved, NEED), gradients, strict=True):
        close(ours, theirs, dtype)
    for index in range(3):
        alone = grad(g, saved, tuple(i == index for i in range(3)))
        assert [a is None for a in alone] == [i != index for i in range(3)]
        close(alone[index], gradients[index], dtype)
    for a, before in zip((x, w, b, g), (*copies, g_copy), strict=True):
        assert_array_equal(a, before)


@settings(max_examples=25)
@given(
    sizes,
    pairs,
    pairs,
    pads,
    pairs,
    st.sampled_from([1, 2, 3, 6]),
    st.booleans(),
    layouts,
    layouts,
    seeds,
    st.sampled_from(["float64", "float32"]),
)
def test_im2col_any_window(size, kernel, stride, padding, dilation, groups, fused, x_layout, g_layout, seed, dtype):
    rng = np.random.default_rng(seed)
    x = array(rng, (2, *size, 6), dtype, x_layout)
    w, b = array(rng, (*kernel, 6 // groups, 6), dtype, x_layout), array(rng, (6,), dtype)
    at = (stride, padding, dilation, groups)
    outputs = oracles.output_size(size, kernel, stride, padding, dilation)
    if 0 not in outputs:
        check(x, w, b, at, fused, fused and min(outputs) >= 2, g_layout, seed)


@pytest.mark.parametrize("algorithm", ["auto", "winograd", "lines", "taps", "exact"])
@settings(max_examples=15)
@given(
    sizes,
    pads,
    st.sampled_from([(False, False), (True, False), (True, True)]),
    layouts,
    layouts,
    seeds,
    st.sampled_from(["float64", "float32"]),
    st.sampled_from([1, 3, 5]),
)
def test_algorithms(algorithm, size, padding, steps, x_layout, g_layout, seed, dtype, channels):
    rng = np.random.default_rng(seed)
    x, w, b = (
        array(rng, s, dtype, k)
        for s, k in [((3, *size, channels), x_layout), ((3, 3, channels, 4), g_layout), ((4,), "contiguous")]
    )
    with conv.set_conv_algorithm(algorithm):
        check(x, w, b, ((1, 1), padding, (1, 1), 1), *steps, g_layout, seed)


@settings(max_examples=15)
@given(sizes, pairs, pairs, pads, pairs, st.booleans(), layouts, layouts, seeds)
def test_depthwise(size, kernel, stride, padding, dilation, fused, x_layout, g_layout, seed):
    """One filter a channel has a way of its own."""
    rng = np.random.default_rng(seed)
    x, w, b = array(rng, (3, *size, 4), layout=x_layout), array(rng, (*kernel, 1, 4)), array(rng, (4,))
    outputs = oracles.output_size(size, kernel, stride, padding, dilation)
    if 0 not in outputs:
        at = conv.Geometry(stride, padding, dilation, 4)
        assert conv._choose(x, w, b, at, outputs) == "depthwise"
        check(x, w, b, at, fused, fused and min(outputs) >= 2, g_layout, seed)


EVERY_TILE = {f"F{tile.m} of {k}×{k}": tile for (k, _), tiles in winograd.TILES.items() for tile in tiles}
TILES = pytest.mark.parametrize("tile", EVERY_TILE.values(), ids=EVERY_TILE)
EVERY_WAY = EVERY_TILE | {f"lines, {name}": lines.Lines(tile) for name, tile in EVERY_TILE.items()}
WAYS = pytest.mark.parametrize("way", EVERY_WAY.values(), ids=EVERY_WAY)


@TILES
def test_winograd_by_groups(monkeypatch, tile):
    monkeypatch.setattr(conv, "_choose", lambda *_: tile)
    rng = np.random.default_rng(1)
    for groups in (2, 3, 6):
        x, w, b = array(rng, (3, 9, 10, 6)), array(rng, (tile.k, tile.k, 6 // groups, 12)), array(rng, (12,))
        for pooled in (True, False):
            check(x, w, b, ((1, 1), ((1, 0), (1, 1)), (1, 1), groups), True, pooled)


@settings(max_examples=15)
@given(sizes, st.sampled_from([(1, 1), (2, 3), (5, 4), (4, 1)]), pads, st.booleans(), st.integers(1, 3), seeds)
def test_taps_of_any_kernel(size, kernel, padding, pooled, channels, seed):
    rng = np.random.default_rng(seed)
    x, w, b = array(rng, (2, *size, channels)), array(rng, (*kernel, channels, 3)), array(rng, (3,))
    if min(oracles.output_size(size, kernel, (1, 1), padding)) >= 2:
        with conv.set_conv_algorithm("taps"):
            check(x, w, b, ((1, 1), padding, (1, 1), 1), pooled, pooled, seed=seed)


@WAYS
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("part_bytes", [1, 9000, 1 << 22])
def test_winograd_in_parts(monkeypatch, way, pooled, part_bytes):
    """Lines of tiles, images, or all at once: overlaps between parts add up too."""
    for module in (winograd, lines):
        monkeypatch.setattr(module, "PART_BYTES", part_bytes)
    monkeypatch.setattr(conv, "_choose", lambda *_: way)
    k = getattr(way, "tile", way).k
    rng = np.random.default_rng(1)
    for padding in (NO_PADS, ((1, 1), (1, 1)), ((2, 0), (0, 1))):
        x, w, b = array(rng, (3, 13, 10, 2)), array(rng, (k, k, 2, 3)), array(rng, (3,))
        check(x, w, b, ((1, 1), padding, (1, 1), 1), True, pooled)


@pytest.mark.parametrize("limit", [1, 3000, 1 << 22])
def test_direct_in_parts(monkeypatch, limit):
    monkeypatch.setattr(columns, "COLUMNS_BYTES", limit)
    monkeypatch.setattr(taps, "COLUMNS_BYTES", limit)
    monkeypatch.setattr(taps, "SMALL_PRODUCT", 2000)
    rng = np.random.default_rng(1)
    x, w, b = array(rng, (3, 11, 8, 2)), array(rng, (3, 2, 2, 3)), array(rng, (3,))
    for algorithm in ("im2col", "taps"):
        with conv.set_conv_algorithm(algorithm):
            for pooled in (True, False):
                check(x, w, b, ((1, 1), ((1, 0), (2, 1)), (1, 1), 1), True, pooled)
    check(x, w, b, ((2, 3), ((1, 0), (2, 1)), (2, 1), 1), True, False)
    check(x, w, b, ((2, 1), ((1, 2), (2, 1)), (1, 2), 1), True, True)


@pytest.mark.parametrize("limit", [1, 500, 1 << 22])
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_one_pixel_kernels(monkeypatch, limit, size):
    """Their input gradient is a product alone, but where a pool drops lines, or there is padding or a stride."""
    monkeypatch.setattr(columns, "COLUMNS_BYTES", limit)
    rng = np.random.default_rng(1)
    x, b = array(rng, (3, *size, 4)), array(rng, (6,))
    for pooled in (True, False):
        for stride, padding, groups in (
            ((1, 1), NO_PADS, 1),
            ((1, 1), NO_PADS, 2),
            ((2, 1), NO_PADS, 1),
            ((1, 1), ((0, 1), (1, 0)), 1),
        ):
            with conv.set_conv_algorithm("im2col"):
                check(x, array(rng, (1, 1, 4 // groups, 6)), b, (stride, padding, (1, 1), groups), True, pooled)


@pytest.mark.parametrize("algorithm", ["im2col", "taps"])
@given(seeds)
@settings(max_examples=10)
def test_fused_ties(algorithm, seed):
    """Small whole numbers: nearly every window has a tie, and only the first maximum gets the gradient."""
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-1, 2, (2, 7, 8, 2)).astype(float), rng.integers(-1, 2, (2, 2, 2, 3)).astype(float)
    b = np.array([0.0, 1.0, 5.0])
    with conv.set_conv_algorithm(algorithm):
        check(x, w, b, ((1, 1), ((1, 1), (0, 1)), (1, 1), 1), True, True)


@pytest.mark.parametrize("algorithm", ["im2col", "taps"])
def test_fused_nan(algorithm):
    """A NaN shows in every output that sees it, as it does unfused, and no gradient flows back from there."""
    rng = np.random.default_rng(0)
    x, w, b = array(rng, (1, 8, 8, 2)), array(rng, (3, 3, 2, 3)), np.ones(3)
    x[0, 3, 4, 1] = np.nan
    at = ((1, 1), NO_PADS, (1, 1), 1)
    with conv.set_conv_algorithm(algorithm):
        y, saved = conv.conv_relu_pool(x, w, b, *at, True)
        g = array(rng, y.shape)
        expected, (dx, _, db) = oracles.conv_relu_pool(x, w, b, at, True, g)
        ours = conv.conv_relu_pool_grad(g, saved, NEED)
    assert_allclose(y, expected, atol=1e-12)
    assert_allclose(ours[0], dx, atol=1e-12)
    assert_allclose(ours[2], db, atol=1e-12)


def test_references_agree_with_loops():
    rng = np.random.default_rng(2)
    x, w, b = array(rng, (2, 7, 8, 4)), array(rng, (3, 2, 2, 6)), array(rng, (6,))
    at = conv.Geometry((2, 1), ((1, 0), (0, 2)), (1, 2), 2)
    y, saved = conv.reference_conv_relu_pool(x, w, b, at, True)
    g = array(rng, y.shape)
    expected, gradients = oracles.conv_relu_pool(x, w, b, at, True, g)
    close(y, expected)
    for ours, theirs in zip(conv.reference_conv_relu_pool_grad(g, saved), gradients, strict=True):
        close(ours, theirs)


@settings(max_examples=20)
@given(sizes, pairs, pairs, pads, pairs, layouts, seeds)
def test_im2col_and_col2im_are_adjoint(size, kernel, stride, padding, dilation, layout, seed):
    rng = np.random.default_rng(seed)
    x = array(rng, (2, *size, 3), layout=layout)
    if 0 in oracles.output_size(size, kernel, stride, padding, dilation):
        return
    columns = conv.im2col(x, kernel, stride, padding, dilation)
    c = array(rng, columns.shape)
    image = conv.col2im(c, x.shape, stride, padding, dilation)
    assert_allclose(np.vdot(columns, c), np.vdot(x, image), rtol=1e-10, atol=1e-10)
    for ours, out in ((columns, np.full_like(columns, np.nan)), (image, np.full(x.shape, np.nan))):
        args = (x, kernel) if ours is columns else (c, x.shape)
        again = (conv.im2col if ours is columns else conv.col2im)(*args, stride, padding, dilation, out=out)
        assert again is out
        assert_array_equal(out, ours)


@given(st.integers(1, 5), st.integers(1, 5), st.data(), seeds)
def test_crop(h, w, data, seed):
    """A part of an image that is padded without end; a view of it where nothing lies outside."""
    x = array(np.random.default_rng(seed), (2, h, w, 3))
    starts = [data.draw(st.integers(-7, 7)) for _ in range(2)]
    ends = [data.draw(st.integers(start, 9)) for start in starts]
    found = images.crop(x, (starts[0], ends[0]), (starts[1], ends[1]))
    endless = np.pad(x, ((0, 0), (9, 9), (9, 9), (0, 0)))
    assert_array_equal(found, endless[:, starts[0] + 9 : ends[0] + 9, starts[1] + 9 : ends[1] + 9])
    if min(starts) >= 0 and ends[0] <= h and ends[1] <= w:
        assert found.base is x


@pytest.mark.parametrize("kernel", [(3, 1), (3, 2), (5, 4)])
def test_lines_of_any_width(kernel):
    """A kernel of 3 or 5 lines may have any number of columns."""
    rng = np.random.default_rng(6)
    x, w, b = array(rng, (3, 9, 8, 2)), array(rng, (*kernel, 2, 3)), array(rng, (3,))
    at = ((1, 1), ((1, 2), (0, 2)), (1, 1), 1)
    with conv.set_conv_algorithm("lines"):
        assert isinstance(conv._choose(x, w, b, conv.Geometry(*at), (10, 9)), lines.Lines)
        check(x, w, b, at, True, False)


@pytest.mark.parametrize("algorithm", ["im2col", "winograd", "lines"])
@pytest.mark.parametrize("height", [60, 240])
def test_a_tall_image_is_not_padded_again_for_each_part(monkeypatch, algorithm, height):
    """Work grows with the image, not with its square: a part pads the lines that it sees."""
    x, w = np.ones((1, height, 8, 4), np.float32), np.ones((3, 3, 4, 4), np.float32)
    padded: list[int] = []
    pad = images.pad
    monkeypatch.setattr(images, "pad", lambda x, pads: padded.append(x.shape[1]) or pad(x, pads))
    monkeypatch.setattr(columns, "COLUMNS_BYTES", 1 << 14)
    monkeypatch.setattr(winograd, "PART_BYTES", 1 << 12)
    monkeypatch.setattr(lines, "PART_BYTES", 1 << 12)
    with conv.set_conv_algorithm(algorithm):
        _, saved = conv.conv2d(x, w, None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
        assert len(padded) > height / 16 and sum(padded) < 2 * height
        conv.conv2d_grad(np.ones((1, height, 8, 4), np.float32), saved, NEED)
    assert sum(padded) < 4 * height


@pytest.mark.parametrize("n, size, kept", [(2, 12, True), (1, 600, False)])
def test_columns_are_kept_of_small_batches_only(n, size, kept):
    x, w = np.ones((n, size, size, 1), np.float32), np.ones((3, 3, 1, 2), np.float32)
    with conv.set_conv_algorithm("taps"):
        _, (_, saved) = conv.conv2d(x, w, None, (1, 1), NO_PADS, (1, 1), 1)
    assert all((columns is not None) == kept for _, columns in saved[-1])


@pytest.mark.parametrize("algorithm", ["im2col", "winograd", "lines", "taps"])
def test_convolution_is_linear_in_both(algorithm):
    """⟨conv(x, w), g⟩ = ⟨x, dx⟩ = ⟨w, dw⟩: a layer as large as real ones, in float32."""
    rng = np.random.default_rng(3)
    x, w = array(rng, (4, 20, 17, 6), "float32"), array(rng, (3, 3, 6, 8), "float32")
    with conv.set_conv_algorithm(algorithm):
        y, saved = conv.conv2d(x, w, None, (1, 1), ((1, 1), (0, 2)), (1, 1), 1)
    g = array(rng, y.shape, "float32")
    dx, dw, db = conv.conv2d_grad(g, saved, NEED)
    assert db is None
    expected = np.vdot(y.astype(float), g)
    scale = np.linalg.norm(y) * np.linalg.norm(g)
    assert abs(np.vdot(x.astype(float), dx) - expected) < 1e-6 * scale
    assert abs(np.vdot(w.astype(float), dw) - expected) < 1e-6 * scale


@pytest.mark.parametrize(
    "algorithm, bound",
    [
        ("im2col", 1e-6),
        ("taps", 1e-6),
        ("F2 of 3×3", 2e-6),
        ("F4 of 3×3", 1e-5),
        ("F6 of 3×3", 1e-5),
        ("F2 of 5×5", 2e-5),
        ("F4 of 5×5", 2e-5),
        ("lines, F4 of 3×3", 4e-6),
        ("lines, F6 of 3×3", 5e-6),
    ],
)
def test_errors_against_float64(monkeypatch, algorithm, bound):
    """What the documentation of `conv.py` states: relative to the largest element."""
    rng = np.random.default_rng(4)
    k = 5 if "5×5" in algorithm else 3
    x, w, b = array(rng, (2, 22, 22, 32)), array(rng, (k, k, 32, 64)), array(rng, (64,))
    at = ((1, 1), NO_PADS, (1, 1), 1)
    y, saved = conv.conv_relu_pool(x, w, b, *at, False)
    g = array(rng, y.shape)
    exact = y, *conv.conv_relu_pool_grad(g, saved, NEED)
    how = EVERY_WAY.get(algorithm, algorithm)
    monkeypatch.setattr(conv, "_choose", lambda *_: how)
    y, saved = conv.conv_relu_pool(*(a.astype("float32") for a in (x, w, b)), *at, False)
    for ours, theirs in zip((y, *conv.conv_relu_pool_grad(g.astype("float32"), saved, NEED)), exact, strict=True):
        assert np.abs(ours - theirs).max() < bound * np.abs(theirs).max()


def chosen(n: int, size: int, kernel: int, c: int, f: int, dtype: str = "float32", stride: int = 1) -> str:
    x, w = np.empty((n, size, size, c), dtype), np.empty((kernel, kernel, c, f), dtype)
    at = conv.Geometry((stride, stride), NO_PADS, (1, 1), 1)
    how = conv._choose(x, w, None, at, oracles.output_size((size, size), w.shape[:2], at.stride, at.padding))
    if isinstance(how, lines.Lines):
        return f"lines of F{how.tile.m}"
    return how if isinstance(how, str) else f"F{how.m}"


def test_auto_chooses_from_shapes():
    assert chosen(32, 28, 3, 1, 32) == chosen(16, 128, 3, 3, 32) == "taps"
    assert chosen(16, 62, 3, 32, 64) == chosen(16, 24, 3, 32, 64) == "F6"
    assert chosen(64, 34, 3, 16, 16) == "lines of F4" and chosen(32, 12, 3, 32, 64) == "lines of F6"
    assert chosen(16, 30, 3, 64, 128) == "F4" and chosen(32, 4, 3, 64, 64) == "F2"
    assert chosen(1, 5, 3, 64, 128) == chosen(16, 14, 4, 32, 64) == chosen(16, 30, 3, 64, 64, stride=2) == "im2col"
    assert chosen(32, 12, 5, 32, 64) == "F4" and chosen(32, 10, 5, 16, 32) == "F2"
    assert chosen(16, 62, 3, 32, 64, "float64") == "im2col"
    with conv.set_conv_algorithm("exact"):
        assert chosen(16, 62, 3, 32, 64) == "im2col" and chosen(32, 28, 3, 1, 32) == "taps"
    with conv.set_conv_algorithm("im2col"):
        assert chosen(16, 62, 3, 32, 64) == chosen(32, 28, 3, 1, 32) == "im2col"


def test_exact_keeps_zeros():
    """A filter that gets no gradient has a gradient of zeros, not of rounding errors."""
    rng = np.random.default_rng(5)
    x, w, g = (array(rng, s, "float32") for s in ((2, 14, 14, 16), (3, 3, 16, 8), (2, 12, 12, 8)))
    x[..., 3], g[..., 5] = 0, 0
    with conv.set_conv_algorithm("exact"):
        _, saved = conv.conv2d(x, w, None, (1, 1), NO_PADS, (1, 1), 1)
        _, dw, _ = conv.conv2d_grad(g, saved, NEED)
    assert not dw[..., 5].any() and not dw[:, :, 3].any() and dw[:, :, 4, 4].all()


def test_set_conv_algorithm():
    assert conv.set_conv_algorithm.now == "auto"
    with conv.set_conv_algorithm("taps"), pytest.raises(RuntimeError), conv.set_conv_algorithm("winograd"):
        assert conv.set_conv_algorithm.now == "winograd"
        raise RuntimeError
    assert conv.set_conv_algorithm.now == "auto"
    conv.set_conv_algorithm("exact")
    assert conv.set_conv_algorithm.now == "exact"
    conv.set_conv_algorithm("auto")
    with pytest.raises(ValueError, match="'fft' is none of auto, im2col"):
        conv.set_conv_algorithm("fft")


@pytest.mark.parametrize("algorithm", ["im2col", "winograd", "lines", "taps"])
def test_no_images(algorithm):
    with conv.set_conv_algorithm(algorithm):
        for pooled in (True, False):
            w = np.ones((3, 3, 2, 4), np.float32)
            y, saved = conv.conv_relu_pool(
                np.ones((0, 8, 8, 2), np.float32), w, np.ones(4, np.float32), (1, 1), NO_PADS, (1, 1), 1, pooled
            )
            dx, dw, db = conv.conv_relu_pool_grad(np.ones_like(y), saved, NEED)
            assert y.shape == ((0, 3, 3, 4) if pooled else (0, 6, 6, 4)) and dx.shape == (0, 8, 8, 2)
            assert not dw.any() and not db.any()


def test_windows_that_do_not_fit():
    x, w = np.ones((1, 4, 9, 1)), np.ones((5, 3, 1, 1))
    with pytest.raises(ValueError, match="5×3 does not fit a padded image of 4×9"):
        conv.conv2d(x, w, None, (1, 1), NO_PADS, (1, 1), 1)
    with pytest.raises(ValueError, match="2×2 does not fit"):
        conv.conv_relu_pool(x, w, None, (1, 1), ((1, 0), (0, 0)), (1, 1), 1, True)
    with pytest.raises(ValueError, match="does not fit"):
        pool.max_pool2d(x, (5, 1), (1, 1), NO_PADS)


def test_a_step_in_steady_state_takes_no_memory():
    """The second of two equal steps finds everything in the pool; and what the first gave is unchanged by it."""
    rng = np.random.default_rng(6)
    layers = [((8, 30, 30, 3), 32), ((8, 30, 30, 16), 32), ((8, 30, 30, 16), 16)]
    data = [(array(rng, s, "float32"), array(rng, (3, 3, s[3], f), "float32")) for s, f in layers]
    stride = [(1, 1), (1, 1), (2, 2)]

    def step() -> list[np.ndarray]:
        kept = []
        for (x, w), by in zip(data, stride, strict=True):
            y, saved = conv.conv_relu_pool(x, w, None, by, NO_PADS, (1, 1), 1, True)
            kept += [y, *conv.conv_relu_pool_grad(y, saved, (True, True, False))[:2]]
        return kept

    first = step()
    copies = [a.copy() for a in first]
    step()
    misses = memory.stats()["misses"]
    for _ in range(3):
        step()
    assert memory.stats()["misses"] == misses
    for a, b in zip(first, copies, strict=True):
        assert_array_equal(a, b)


# ---- pooling ------------------------------------------------------------------------------------------------


def check_max_pool(x: np.ndarray, kernel: tuple, stride: tuple, padding: tuple, g_layout: str = "contiguous") -> None:
    before = x.copy()
    y, saved = pool.max_pool2d(x, kernel, stride, padding)
    expected, winners = oracles.max_pool2d(x, kernel, stride, padding)
    assert_array_equal(y, expected)
    g = array(np.random.default_rng(7), y.shape, str(x.dtype), g_layout)
    g_before = g.copy()
    out = np.full(x.shape, np.nan, x.dtype)
    assert pool.max_pool2d_grad(g, saved, out=out) is out
    dx = pool.max_pool2d_grad(g, saved)
    assert_array_equal(dx, out)
    assert_allclose(dx, oracles.max_pool2d_grad(g, winners, x.shape), atol=1e-6)
    assert_array_equal(x, before)
    assert_array_equal(g, g_before)


def pads_below(kernel: tuple, padding: tuple) -> tuple:
    """Padding of at most half a window, so that each window holds a pixel."""
    return tuple((min(a, k // 2), min(b, k // 2)) for k, (a, b) in zip(kernel, padding, strict=True))


@settings(max_examples=40)
@given(sizes, pairs, pairs, pads, layouts, layouts, seeds, st.sampled_from(["normal", "ties", "-inf", "nan"]))
def test_max_pool_any_window(size, kernel, stride, padding, x_layout, g_layout, seed, values):
    x = array(np.random.default_rng(seed), (2, *size, 3), layout=x_layout)
    if values == "ties":
        x = np.round(x)
    elif values != "normal":
        x = np.where(x < 0.4, -np.inf if values == "-inf" else np.nan, x)
    check_max_pool(x, kernel, stride, pads_below(kernel, padding), g_layout)


@settings(max_examples=30)
@given(sizes, layouts, seeds, st.sampled_from(["normal", "ties", "-inf", "nan"]), st.sampled_from(["f4", "f8"]))
def test_max_pool_2x2(size, layout, seed, values, dtype):
    """The fast path: odd sizes, ties, infinities and NaN."""
    x = array(np.random.default_rng(seed), (2, *size, 3), layout=layout)
    if values == "ties":
        x = np.round(x)
    elif values != "normal":
        x = np.where(x < 0.4, -np.inf if values == "-inf" else np.nan, x)
    check_max_pool(x.astype(np.dtype(dtype).name), (2, 2), (2, 2), NO_PADS)


def test_padding_never_wins():
    for x in (np.full((1, 5, 5, 2), -3.0), np.full((1, 5, 5, 2), -np.inf)):
        y, saved = pool.max_pool2d(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        assert_array_equal(y, np.full((1, 3, 3, 2), x[0, 0, 0, 0]))
        assert pool.max_pool2d_grad(np.ones_like(y), saved).sum() == y.size  # no gradient is lost, none doubled
    y, _ = pool.max_pool2d(np.full((1, 4, 4, 1), -7), (3, 3), (2, 2), ((1, 1), (1, 1)))
    assert y.dtype.kind == "i" and (y == -7).all()


@settings(max_examples=30)
@given(sizes, pairs, pairs, pads, st.booleans(), layouts, layouts, seeds)
def test_avg_pool(size, kernel, stride, padding, count_include_pad, x_layout, g_layout, seed):
    rng = np.random.default_rng(seed)
    x = array(rng, (2, *size, 3), layout=x_layout)
    at = (kernel, stride, pads_below(kernel, padding), count_include_pad)
    y = pool.avg_pool2d(x, *at)
    close(y, oracles.avg_pool2d(x, *at))
    g = array(rng, y.shape, layout=g_layout)
    dx = pool.avg_pool2d_grad(g, x.shape, *at)
    assert_allclose(np.vdot(y, g), np.vdot(x, dx), rtol=1e-9, atol=1e-9)
    for made, again in (
        (y, pool.avg_pool2d(x, *at, out=np.full_like(y, np.nan))),
        (dx, pool.avg_pool2d_grad(g, x.shape, *at, out=np.full(x.shape, np.nan))),
    ):
        assert_array_equal(made, again)
    unit = pool.avg_pool2d_grad(np.ones_like(y), x.shape, *at)
    if not count_include_pad:
        assert_allclose(unit.sum(), y.size)
