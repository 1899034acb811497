"""The drawn digits: the same every time, in range, all ten, centred as MNIST's."""

from __future__ import annotations

import numpy as np
import pytest

from tinynet.data import synthetic_digits
from tinynet.data.digits import CHUNK, PEN_POINTS, _parse
from tinynet.data.skeletons import SKELETONS


@pytest.fixture(scope="module")
def digits():
    return synthetic_digits(3000, seed=1)


def test_shapes_types_and_range(digits):
    x, y = digits
    assert x.shape == (3000, 28, 28, 1) and x.dtype == np.float32 and x.flags.c_contiguous
    assert y.shape == (3000,) and y.dtype == np.int64
    assert x.min() == 0 and x.max() == 1
    np.testing.assert_array_equal(np.rint(x * 255) / np.float32(255), x)


def test_every_label_about_as_often(digits):
    counts = np.bincount(digits[1], minlength=10)
    assert len(counts) == 10 and counts.min() > 200 and counts.max() < 400


def test_same_seed_same_images_whatever_n():
    x, y = synthetic_digits(CHUNK + 9, seed=7)
    for n in (0, 1, CHUNK, CHUNK + 3):
        part, labels = synthetic_digits(n, seed=7)
        np.testing.assert_array_equal(part, x[:n])
        np.testing.assert_array_equal(labels, y[:n])


def test_another_seed_and_another_chunk_differ():
    x, _ = synthetic_digits(2 * CHUNK, seed=0)
    assert not np.array_equal(x[:CHUNK], x[CHUNK:])
    assert not np.array_equal(x, synthetic_digits(2 * CHUNK, seed=1)[0])


def test_no_two_images_are_equal(digits):
    assert len({image.tobytes() for image in digits[0]}) == 3000


def test_centre_of_mass_and_size(digits):
    ink = digits[0][..., 0].astype(np.float64)
    pixel = np.arange(28)
    total = ink.sum(axis=(1, 2))
    for axis in (1, 2):
        centre = ink.sum(axis=3 - axis) @ pixel / total
        assert np.abs(centre - 14).max() <= 0.51
    tall = np.array([np.ptp(np.flatnonzero(image.max(axis=1) > 0.5)) + 1 for image in ink])
    wide = np.array([np.ptp(np.flatnonzero(image.max(axis=0) > 0.5)) + 1 for image in ink])
    assert np.abs(np.maximum(tall, wide) - 20).max() <= 4
    assert 0.10 < ink.mean() < 0.18  # MNIST: 0.13


@pytest.mark.parametrize("digit", range(10))
def test_skeletons_are_well_formed(digit):
    assert len(set(SKELETONS[digit])) == len(SKELETONS[digit]) >= 9
    for line in SKELETONS[digit]:
        points, matrix = _parse(line)
        assert matrix.shape == (PEN_POINTS, len(points))
        np.testing.assert_allclose(matrix.sum(axis=1), 1)  # moves with its points
        assert points.min() >= 0 and points.max() <= 20


def test_pen_steps_are_equal_and_a_lifted_pen_draws_nothing():
    points, matrix = _parse("0,0 0,10 ; 10,10 10,0")
    way = matrix @ points
    np.testing.assert_allclose(way[:28, 0], 0)
    np.testing.assert_allclose(way[28:, 0], 10)
    np.testing.assert_allclose(np.diff(way[:28, 1]), 20 / PEN_POINTS)


@pytest.mark.parametrize(("n", "seed", "error"), [(-1, 0, ValueError), (1, -1, ValueError), (1.5, 0, TypeError)])
def test_bad_arguments(n, seed, error):
    with pytest.raises(error):
        synthetic_digits(n, seed)
