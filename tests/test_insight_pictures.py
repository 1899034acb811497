"""The pictures of insight: drawn, of a sensible size, and with their landmarks where they belong."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import tinynet as tn
from tests.insight_models import picture_net
from tinynet import insight, nn
from tinynet.insight import pictures as parts

pytestmark = pytest.mark.skipif(not insight.can_plot(), reason="needs matplotlib: pip install '.[plot]'")


def pixels(figure):
    """(H, W, 3), 0 to 1, as it is drawn."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def inside(figure, axes):
    """The pixels within one of its axes."""
    drawn = pixels(figure)
    left, bottom, right, top = axes.get_window_extent().extents
    return drawn[len(drawn) - round(top) : len(drawn) - round(bottom), round(left) : round(right)]


def pictures(n=2):
    return np.random.default_rng(1).random((n, 12, 12, 3)).astype(np.float32)


SHOWN = {
    "attribution": lambda m, x: insight.show_attribution(x, insight.lrp(m, x), titles=["$one$", "two"]),
    "cam": lambda m, x: insight.show_attribution(x, insight.grad_cam(m, x)),
    "augmented": lambda m, x: insight.show_augmented(x, tn.data.random_affine(rotate=20), times=3),
    "mixed": lambda m, x: insight.show_augmented(x, tn.data.mixup(classes=3), y=np.arange(len(x)) % 3, times=2),
    "feature_maps": lambda m, x: insight.show_feature_maps(insight.feature_maps(m, x)),
    "filters": lambda m, x: insight.show_filters(insight.filters(m)),
    "activations": lambda m, x: insight.show_statistics(insight.activation_statistics(m, x)),
    "gradients": lambda m, x: insight.show_statistics(insight.gradient_statistics(m, x, np.array([0, 1]))),
    "pca": lambda m, x: insight.show_pca(np.eye(4), np.array([0, 1, 1, 2]), classes=["a", "b", "$"]),
    "loss_plane": lambda m, x: insight.show_loss_plane(
        np.linspace(-1, 1, 3), np.array([[4, 2, 4], [1, 0.1, 1], [np.inf, 2, 4]])
    ),
    "attention": lambda m, x: insight.show_attention({"a": np.eye(5)[None, None]}),
}


@pytest.mark.parametrize("name", SHOWN)
def test_every_picture_is_drawn(name, tmp_path):
    figure = SHOWN[name](picture_net("relu"), pictures())
    drawn = pixels(figure)
    assert 80 < drawn.shape[0] < 3000 and 150 < drawn.shape[1] < 2500
    assert drawn[:2].min() > 0.9, "the paper is white to its edge"
    assert 0.01 < (drawn < 0.9).any(-1).mean() < 0.95
    figure.savefig(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(SHOWN[name](picture_net("relu"), pictures())), drawn)


def test_heat_lies_where_the_values_are():
    x, found = np.full((1, 12, 12, 1), 0.5), np.zeros((1, 12, 12))
    found[0, 2:4, 8:10] = 1
    figure = insight.show_attribution(x, found)
    right = inside(figure, figure.axes[1])
    h, w = right.shape[:2]
    coloured = np.ptp(right, axis=-1) > 0.2
    rows, columns = np.nonzero(coloured[2:-2, 2:-2])
    assert abs(rows.mean() / h * 12 - 3) < 0.5 and abs(columns.mean() / w * 12 - 9) < 0.5
    found[0, 9:11, 1:3] = -1
    figure = insight.show_attribution(x, found)
    right = inside(figure, figure.axes[1])
    for (row, column), (most, least) in {(3, 9): (0, 2), (10, 2): (2, 0)}.items():  # red for, blue against
        pixel = right[int(row / 12 * h), int(column / 12 * w)]
        assert pixel[most] > pixel[least] + 0.3


def test_the_strongest_channels_come_first_and_sheets_have_gaps():
    maps = np.stack([np.full((3, 3), v) for v in (1.0, -5.0, 0.0, 2.0)], -1)
    assert [m[0, 0] for m in parts.strongest(maps, 3)] == [-5, 2, 1]
    sheet = parts.tiled(np.arange(1, 4)[:, None, None] * np.ones((3, 2, 2)), 2)
    want = [[1, 1, np.nan, 2, 2], [1, 1, np.nan, 2, 2], [np.nan] * 5, *[[3, 3, np.nan, np.nan, np.nan]] * 2]
    np.testing.assert_array_equal(sheet, want)


def test_bytes_and_other_ranges_look_like_floats():
    image = np.random.default_rng(0).random((6, 6, 3))
    image[0, 0], image[0, 1] = 0, 1
    shown = []
    for given in (image, (image * 255).astype(np.uint8), image * 8 - 3):
        figure = insight.show_attribution(given[None], np.zeros((1, 6, 6)))
        shown.append(inside(figure, figure.axes[0]))
    for other in shown[1:]:
        assert abs(other - shown[0]).max() < 0.02


def test_what_cannot_be_shown_is_said(monkeypatch):
    with pytest.raises(ValueError, match=r"images \(2, 12\) must be"):
        insight.show_attribution(np.zeros((2, 12)), np.zeros((2, 12)))
    with pytest.raises(ValueError, match="no layer's output is maps"):
        insight.show_feature_maps({"0": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="there are no filters"):
        insight.show_filters(insight.filters(nn.Sequential(nn.Dense(2), input_shape=3)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tinynet\[plot\]'"):
        insight.show_pca(np.eye(2))
    assert tn.insight.can_plot() is False
